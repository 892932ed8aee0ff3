//! One call on its way: sent as a host would, or as one in trouble would.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bootagent_core::schedule::Call;
use tokio::sync::mpsc;

use crate::http::{Broken, Connection, Reply, Reuse, Target};
use crate::machine::{Copy, Pending};

/// How long a slow host takes for its body.
const SLOWNESS: Duration = Duration::from_secs(2);
/// In how many pieces.
const PIECES: usize = 8;

/// What goes wrong with a call, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nothing.
    Plain,
    /// The host is gone in the middle of its request.
    CutRequest,
    /// The host is gone before the reply: the server may have stored it.
    CutReply,
    /// The body comes in pieces.
    Slow,
    /// The same request twice at once.
    Twice,
    /// Bytes that are no request.
    Garbage,
}

/// A call to be made.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) host: u32,
    pub(crate) call: Call,
    pub(crate) copy: Copy,
    pub(crate) manner: Manner,
    /// What it carries that wants to be acknowledged.
    pub(crate) carried: Pending,
    /// The whole request.
    pub(crate) request: Vec<u8>,
    /// Since when it should be under way.
    pub(crate) due: Instant,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) post: Post,
    /// When it really went.
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) replied: Result<Reply, Broken>,
    /// The reply to the second of two.
    pub(crate) second: Option<Result<Reply, Broken>>,
}

/// Makes a call on a connection of its own.
pub(crate) async fn alone(target: &Target, post: Post) -> Posted {
    let began = Instant::now();
    let mut second = None;
    let request = &post.request;
    let replied = match post.manner {
        Manner::Plain => once(target, request).await,
        Manner::CutRequest => {
            cut(target, &request[..request.len() / 2]).await;
            Err(Broken::Injected)
        }
        Manner::CutReply => {
            cut(target, request).await;
            Err(Broken::Injected)
        }
        Manner::Slow => slowly(target, request).await,
        Manner::Twice => {
            let (one, other) = tokio::join!(once(target, request), once(target, request));
            second = Some(other);
            one
        }
        Manner::Garbage => {
            // It is another's connection; the host itself says what it has to say.
            second = Some(once(target, b"\x16\x03\x01 no request\r\n\r\n").await);
            once(target, request).await
        }
    };
    Posted {
        post,
        began,
        ended: Instant::now(),
        replied,
        second,
    }
}

/// Makes calls one after the other, on one connection if they may share it,
/// as long as `done` wants to hear of them.
pub(crate) async fn in_turn(
    target: Arc<Target>,
    reuse: Reuse,
    mut posts: mpsc::Receiver<Post>,
    done: impl Fn(Posted) -> bool,
) {
    let mut kept: Option<Connection> = None;
    while let Some(post) = posts.recv().await {
        let posted = match (reuse, post.manner) {
            (Reuse::Always, Manner::Plain) => {
                let began = Instant::now();
                let was_kept = kept.is_some();
                let replied = match reusing(&target, &mut kept, &post.request).await {
                    // A server may close what was idle; that is no failure.
                    Err(Broken::Cut) if was_kept => {
                        reusing(&target, &mut kept, &post.request).await
                    }
                    other => other,
                };
                Posted {
                    post,
                    began,
                    ended: Instant::now(),
                    replied,
                    second: None,
                }
            }
            _ => alone(&target, post).await,
        };
        if !done(posted) {
            return;
        }
    }
}

async fn reusing(
    target: &Target,
    kept: &mut Option<Connection>,
    request: &[u8],
) -> Result<Reply, Broken> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => target.connect().await?,
    };
    let (reply, open) = connection.exchange(request).await?;
    if open {
        *kept = Some(connection);
    }
    Ok(reply)
}

async fn once(target: &Target, request: &[u8]) -> Result<Reply, Broken> {
    let mut connection = target.connect().await?;
    let (reply, _) = connection.exchange(request).await?;
    Ok(reply)
}

async fn cut(target: &Target, part: &[u8]) {
    if let Ok(mut connection) = target.connect().await {
        // Whether it arrives is what nobody knows.
        let _ = connection.send(part).await;
    }
}

async fn slowly(target: &Target, request: &[u8]) -> Result<Reply, Broken> {
    let mut connection = target.connect().await?;
    for piece in request.chunks(request.len().div_ceil(PIECES)) {
        connection.send(piece).await?;
        tokio::time::sleep(SLOWNESS / u32::try_from(PIECES).expect("a few")).await;
    }
    tokio::time::timeout(crate::http::TOTAL_TIMEOUT, connection.reply())
        .await
        .unwrap_or(Err(Broken::TimedOut))
}
