//! SIGINT and SIGTERM end a run early, with the report so far.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Whether somebody wants it to end.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    was_asked: bool,
}

impl Stop {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
            was_asked: false,
        })
    }

    /// Returns when somebody asks; at once if somebody has.
    pub(crate) async fn asked(&mut self) {
        if self.was_asked {
            return;
        }
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.was_asked = true;
    }

    pub(crate) fn was_asked(&self) -> bool {
        self.was_asked
    }
}
