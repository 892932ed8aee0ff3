//! A body that is made while it is sent.
//!
//! Whoever makes it is never more than one part ahead, and gives up when the client
//! takes none for a while. The one rule: a body that was given up does not look whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What comes through.
#[derive(Debug)]
enum Part {
    Bytes(Bytes),
    /// All of it was there.
    End,
}

/// Where the parts of a body go.
#[derive(Debug)]
pub(super) struct Sink {
    sender: mpsc::Sender<Part>,
    patience: Duration,
}

/// Nobody takes any more.
#[derive(Debug)]
pub(super) struct GivenUp;

/// A body, and where its parts go.
pub(super) fn body(patience: Duration) -> (Sink, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = Receiver {
        receiver,
        is_whole: false,
    };
    (Sink { sender, patience }, Body::new(receiver))
}

impl Sink {
    /// Sends a part, when the client has taken what came before.
    pub(super) async fn send(&self, bytes: Vec<u8>) -> Result<(), GivenUp> {
        self.put(Part::Bytes(bytes.into())).await
    }

    /// Says that this was all.
    pub(super) async fn end(self) -> Result<(), GivenUp> {
        self.put(Part::End).await
    }

    async fn put(&self, part: Part) -> Result<(), GivenUp> {
        match timeout(self.patience, self.sender.send(part)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(GivenUp),
        }
    }
}

struct Receiver {
    receiver: mpsc::Receiver<Part>,
    is_whole: bool,
}

impl HttpBody for Receiver {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.is_whole {
            return Poll::Ready(None);
        }
        match ready!(self.receiver.poll_recv(context)) {
            Some(Part::Bytes(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Part::End) => {
                self.is_whole = true;
                Poll::Ready(None)
            }
            // The connection must break, so that nobody takes this for all.
            None => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_body_is_whole_when_it_was_ended() {
        let (sink, body) = body(PATIENCE);
        let made = tokio::spawn(async move {
            for part in ["a", "b", "c"] {
                sink.send(part.into()).await?;
            }
            sink.end().await
        });
        let whole = body.collect().await.expect("a whole body");
        assert_eq!(whole.to_bytes(), "abc");
        assert!(made.await.expect("no panic").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_does_not_get_a_whole_body() {
        let (sink, body) = body(PATIENCE);
        sink.send("a".into()).await.expect("there is room for one");
        assert!(sink.send("b".into()).await.is_err());
        drop(sink);
        assert!(body.collect().await.is_err());
        let (sink, body) = super::body(PATIENCE);
        drop(body);
        assert!(sink.send("a".into()).await.is_err());
    }
}
