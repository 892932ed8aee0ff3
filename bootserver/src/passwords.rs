//! Hashing passwords without holding up anything else: each takes a thread
//! for tens of milliseconds and 19 MiB.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::access::password::{Password, PasswordHash};
use crate::problem::Problem;

/// Passwords looked at at once.
const PLACES: usize = 2;
/// How long one waits for a place.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where passwords are hashed; cheap to clone.
#[derive(Debug, Clone)]
pub struct Passwords(Arc<Semaphore>);

impl Default for Passwords {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }
}

impl Passwords {
    /// What is kept of a password.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Problem> {
        self.run(move || password.hash()).await
    }

    /// Whether it is the password that is kept; takes as long for none.
    pub async fn check(
        &self,
        password: Password,
        kept: Option<PasswordHash>,
    ) -> Result<bool, Problem> {
        self.run(move || password.is(kept.as_ref())).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let place = self.place().await?;
        // The place goes with the work: a caller that hangs up does not make
        // room for another before its own is done.
        let work = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        work.await.map_err(|_| Problem::internal())
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        match timeout(PATIENCE, self.0.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Problem::unavailable("too many sign-ins are under way")),
        }
    }
}
