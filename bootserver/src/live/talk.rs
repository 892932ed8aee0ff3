//! One stream: what was missed, then what comes, and a sign of life in between.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, timeout};

use super::message::{Message, MessageId};
use super::pass::Pass;
use super::{Following, Live, Seat, visible};
use crate::access::scope::Scope;
use crate::life::{Life, Phase};
use crate::problem::chain;
use crate::store::change::Topic;

/// Between signs of life: proxies give up a silent connection after 30 s or more.
const ALIVE_EVERY: Duration = Duration::from_secs(20);
/// How long a listener may take nothing until it is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// When a listener whose stream ended comes back, in milliseconds: at least, and
/// so much later at random.
const RETRY: u32 = 2000;
const RETRY_SPREAD: u32 = 4000;

/// What somebody wants to hear.
pub struct Wish {
    /// Of which topics.
    pub topics: Vec<Topic>,
    /// Of which hosts.
    pub scope: Scope,
    /// The last message they had.
    pub after: Option<MessageId>,
    /// Who they are.
    pub who: String,
    /// By what they listen; local root needs nothing.
    pub pass: Option<Pass>,
}

impl Live {
    /// A stream of what is wished; nothing when this operator has as many as one
    /// may have. It ends when the server does, or what it is listened by.
    pub fn stream(&self, wish: Wish, most: usize, life: Life) -> Option<Stream> {
        let seat = self.seat(&wish.who, most)?;
        let (frames, receiver) = mpsc::channel(1);
        let pass = wish.pass.clone().map(|pass| self.passes.hold(pass));
        let talk = Talk {
            live: self.clone(),
            wish,
            frames,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = talk.all() => {}
                () = over(life, pass) => {}
            }
        });
        Some(Stream {
            frames: receiver,
            _seat: seat,
        })
    }
}

/// The body of an answer that has no end of its own.
pub struct Stream {
    frames: mpsc::Receiver<Bytes>,
    _seat: Seat,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.poll_recv(context);
        frame.map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Returns when nobody may listen by this any more, or the server ends.
async fn over(mut life: Life, pass: Option<watch::Receiver<()>>) {
    let revoked = async {
        match pass {
            Some(mut pass) => while pass.changed().await.is_ok() {},
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = life.reached(Phase::Draining) => {}
        () = revoked => {}
    }
}

/// The listener is gone, or as good as.
struct Gone;

struct Talk {
    live: Live,
    wish: Wish,
    frames: mpsc::Sender<Bytes>,
}

impl Talk {
    async fn all(&self) {
        // Its end is the listener's.
        let Gone = match self.begin().await {
            Ok(following) => self.go_on(following).await,
            Err(gone) => gone,
        };
    }

    /// Says what was missed, or that it is not known.
    async fn begin(&self) -> Result<Following, Gone> {
        let spread = crate::auth::random() % RETRY_SPREAD;
        self.send(format!("retry: {}\n\n", RETRY + spread).into())
            .await?;
        let mut following = self.live.follow(&self.wish.scope, self.wish.after);
        let Some(missed) = following.missed.take() else {
            self.reset(following.id).await?;
            return Ok(following);
        };
        let (ids, changes): (Vec<_>, Vec<_>) = missed.into_iter().unzip();
        let store = self.live.store.as_ref();
        match visible(store, &self.wish.scope, &changes).await {
            Ok(seen) => {
                for (id, seen) in ids.into_iter().zip(seen) {
                    if let Some(change) = seen {
                        self.pass_on(Message::change(id, change)).await?;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "what was missed is not known");
                self.reset(following.id).await?;
            }
        }
        Ok(following)
    }

    async fn go_on(&self, mut following: Following) -> Gone {
        let mut alive = interval(ALIVE_EVERY);
        loop {
            let done = tokio::select! {
                () = self.frames.closed() => return Gone,
                _ = alive.tick() => self.send(Bytes::from_static(b":\n\n")).await,
                message = following.receiver.recv() => match message {
                    Ok(message) => self.pass_on(message).await,
                    Err(RecvError::Lagged(_)) => {
                        // Too slow for what came: from here on it is up to date again.
                        following = self.live.follow(&self.wish.scope, None);
                        self.reset(following.id).await
                    }
                    Err(RecvError::Closed) => return Gone,
                },
            };
            if let Err(gone) = done {
                return gone;
            }
        }
    }

    async fn reset(&self, id: MessageId) -> Result<(), Gone> {
        self.pass_on(Message::reset(id)).await
    }

    async fn pass_on(&self, message: Message) -> Result<(), Gone> {
        match message.topic {
            Some(topic) if !self.wish.topics.contains(&topic) => return Ok(()),
            Some(_) => {
                self.live.metrics.messages.inc();
            }
            None => {
                self.live.metrics.resets.inc();
            }
        }
        self.send(message.frame).await
    }

    async fn send(&self, frame: Bytes) -> Result<(), Gone> {
        match timeout(PATIENCE, self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}
