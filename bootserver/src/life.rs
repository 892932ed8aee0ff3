//! How far the end of the process is: what /readyz tells, what lets streams
//! end, and when no new connections are taken.

use tokio::sync::watch;

/// Where in its life the server is; it only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// All is well.
    Serving,
    /// It shall end: /readyz says so and connections are closed with their
    /// replies, but new ones are still taken.
    Draining,
    /// No new connections are taken.
    Closing,
}

/// Tells the phase; cheap to clone.
#[derive(Debug, Clone)]
pub struct Life(watch::Receiver<Phase>);

impl Life {
    /// A life that begins, and what moves it on.
    pub fn begin() -> (watch::Sender<Phase>, Self) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (sender, Self(receiver))
    }

    /// Where it is now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Returns once this phase has been reached, or nobody can move it on.
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
