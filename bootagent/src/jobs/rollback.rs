//! Going back to the version before.
//!
//! The rule: that we go back, and why, is in the journal before anything is
//! put back. From then on every BootAgent goes on with it, and the result says
//! what really runs. Only where the journal cannot be written do we go back
//! without it: a full disk must not keep a broken version in place.

use bootagent_protocol::{AgentName, ErrorCode, truncate};

use super::packaged::Again;
use super::trial::runs;
use super::upgrade::{Back, Before, Place};
use super::{Outcome, Worker};
use crate::download::Failure;
use crate::engine::JobRequest;
use crate::engine::waiter::Settled;
use crate::journal::TakenJob;
use crate::package::Kind;

impl Worker {
    /// Notes that we go back, and does it.
    pub(super) fn go_back(
        &self,
        taken: &TakenJob,
        name: &AgentName,
        before: &Before,
        mut back: Back,
    ) -> Outcome {
        back.cause = truncate(&back.cause, 3000).to_owned();
        log::warn!("{name} {}: going back: {}", back.tried, back.cause);
        let json = serde_json::to_string(&back).expect("keys are strings");
        if let Err(failure) = self.step(taken, &format!("back {json}")) {
            log::error!("{name}: {}", failure.describe());
        }
        self.go_on_back(taken, name, before, &back)
    }

    /// Does it, again or for the first time.
    pub(super) fn go_on_back(
        &self,
        taken: &TakenJob,
        name: &AgentName,
        before: &Before,
        back: &Back,
    ) -> Outcome {
        let put = self
            .put_files_back(taken, name, before, back)
            .map_err(|failure| format!("could not be put back: {}", failure.describe()));
        let settled = put.and_then(|()| {
            let settled = self.ask(|reply| JobRequest::PutBack {
                name: name.clone(),
                given: before.given(),
                run: back.run(),
                reply,
            });
            settled.map_err(|why| format!("was put back and cannot be used: {why}"))
        });
        self.discard(name);
        let (old, tried) = (&before.version, &back.tried);
        let (running, then) = match &settled {
            Ok(settled) => {
                if matches!(before.place, Place::Bundle(_))
                    && let Err(failure) = self.bundles().forget_previous(name)
                {
                    log::warn!("{name} {tried} is left: {}", failure.describe());
                }
                let running = runs(settled).then(|| old.clone());
                match settled {
                    Settled::Up => (running, format!("{old} runs again")),
                    Settled::UpWithoutLimits(why) => {
                        (running, format!("{old} runs again, but {why}"))
                    }
                    Settled::Stopped | Settled::Killed => {
                        (running, format!("{old} is back and not wanted running"))
                    }
                    Settled::Failed(why) => (
                        running,
                        format!("{old} is back, and did not come up either: {why}"),
                    ),
                }
            }
            Err(why) => (self.running(name), format!("{old} {why}")),
        };
        let failed = match &settled {
            Ok(settled) => matches!(settled, Settled::Failed(_)),
            Err(_) => true,
        };
        let mut outcome = Outcome::new(back.code, message(name, back, &then));
        outcome.tried = Some(tried.clone());
        outcome.running = running;
        outcome.cause = Some(match failed {
            true => format!("{}\n{then}", back.cause),
            false => back.cause.clone(),
        });
        outcome
    }

    fn put_files_back(
        &self,
        taken: &TakenJob,
        name: &AgentName,
        before: &Before,
        back: &Back,
    ) -> Result<(), Failure> {
        let sum = match &before.place {
            Place::Bundle(folder) => {
                let folder = self.paths.bundles().join(name.as_str()).join(folder);
                return self.bundles().switch(name, &folder);
            }
            Place::Package(sum) => sum.as_deref().unwrap_or_default(),
        };
        let package = self.kept_with(name, sum).ok_or_else(|| {
            let text = format!("its package is not in {}", self.paths.packages().display());
            Failure::new(ErrorCode::INSTALLER_FAILED, text)
        })?;
        // An installer that was stopped half way may have left files the
        // database knows nothing of.
        let again = match back.was_started {
            true => Again::WhenMissing,
            false => Again::Always,
        };
        self.put_package_back(taken, Kind::of(&package)?, &package, again)
    }
}

/// The whole story in one line.
fn message(name: &AgentName, back: &Back, then: &str) -> String {
    let (tried, cause) = (&back.tried, back.cause.lines().next().unwrap_or_default());
    match back.code {
        ErrorCode::ROLLED_BACK => format!("{name} {tried} was rolled back: {cause}; {then}"),
        _ => format!("{cause}; {then}"),
    }
}
