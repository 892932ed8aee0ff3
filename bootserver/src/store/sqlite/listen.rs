//! Hearing of changes on SQLite: only this process writes, so it tells itself.

use sqlx::Transaction;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;

use super::{Db, Ears};
use crate::store::change::{Change, Heard};

/// Transactions a listener may be behind.
const BEHIND: usize = 1024;

pub(super) fn ears() -> Ears {
    broadcast::channel(BEHIND).0
}

/// Commits, and tells. In a task of its own: who asked for it may go away in
/// the middle, and what is committed then is told all the same.
pub(super) async fn commit_and_tell(
    transaction: Transaction<'static, Db>,
    ears: Ears,
    changes: Vec<Change>,
) -> Result<(), sqlx::Error> {
    let told = tokio::spawn(async move {
        transaction.commit().await?;
        // Nobody may be listening.
        let _ = ears.send(changes);
        Ok(())
    });
    told.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// Passes on what is told, until nobody takes it any more.
pub(super) async fn hear(ears: &Ears, listener: mpsc::Sender<Heard>) {
    let mut told = ears.subscribe();
    let mut heard = Heard::Gap;
    while listener.send(heard).await.is_ok() {
        heard = match told.recv().await {
            Ok(changes) => Heard::Changes(changes),
            Err(RecvError::Lagged(_)) => Heard::Gap,
            Err(RecvError::Closed) => return,
        };
    }
}
