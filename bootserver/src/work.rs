//! Work that goes on although nobody waits for its answer any more. The one rule:
//! the server ends after it, not in its middle.

use std::sync::Arc;

use tokio::sync::watch;

/// All of it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Work(Arc<watch::Sender<()>>);

/// One piece, until it is dropped.
#[derive(Debug, Clone)]
pub struct Piece {
    _counted: watch::Receiver<()>,
}

impl Default for Work {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }
}

impl Work {
    /// A piece more.
    pub fn begin(&self) -> Piece {
        Piece {
            _counted: self.0.subscribe(),
        }
    }

    /// Returns once there is none.
    pub async fn done(&self) {
        self.0.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_done_when_no_piece_is_left() {
        let work = Work::default();
        work.done().await;
        let piece = work.begin();
        let again = piece.clone();
        drop(piece);
        let early = timeout(Duration::from_secs(60), work.done()).await;
        assert!(early.is_err(), "a piece is left");
        drop(again);
        work.done().await;
    }
}
