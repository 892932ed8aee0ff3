//! A version that was put in place is taken by the engine and watched; what
//! became of it is the job's result.
//!
//! The rule: the result comes after the verdict, and a version that was up
//! before BootAgent restarted is not started again for being watched.

use std::sync::mpsc::channel;
use std::time::Duration;

use bootagent_protocol::{AgentName, ErrorCode};

use super::upgrade::{Back, Before, Place};
use super::{Outcome, Worker, next, settled_result};
use crate::download::Failure;
use crate::engine::waiter::Settled;
use crate::engine::{Given, JobRequest, Message, Sighting};
use crate::journal::TakenJob;
use crate::journal::tail::{self, OutputPlace};

/// How long a version is on trial when the job does not say.
const WINDOW: Duration = Duration::from_secs(60);
/// How many of the last lines go into a cause, and how many bytes of them.
const CAUSE_LINES: usize = 8;
const CAUSE_LINE_BYTES: usize = 1600;

/// Where a trial begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The version is started for it.
    Now,
    /// It was up before BootAgent restarted.
    Resumed,
}

impl Worker {
    /// Lets the engine take `tried`, and waits for the verdict.
    pub(super) fn try_out(
        &self,
        taken: &TakenJob,
        name: &AgentName,
        before: Option<&Before>,
        tried: &str,
        start: Start,
    ) -> Result<Outcome, Failure> {
        let terms = &taken.job.terms;
        let window = terms.watch.map_or(WINDOW, Duration::from_secs);
        let mark = match start {
            Start::Now => self.printed(name),
            Start::Resumed => 0,
        };
        let (sightings, told) = channel();
        let name = name.clone();
        let request = match start {
            Start::Now => JobRequest::Installed {
                name: name.clone(),
                given: Given {
                    envs: terms.envs.clone(),
                    limits: terms.limits.clone(),
                },
                window: before.map(|_| window),
                sightings,
            },
            Start::Resumed => JobRequest::ResumeTrial {
                name: name.clone(),
                window,
                sightings,
            },
        };
        self.inbox.send(Message::Job(request));
        let settled = loop {
            match next(&told) {
                Sighting::CameUp => {
                    // A crash before this is on disk only starts it once more.
                    if let Err(failure) = self.step(taken, &format!("up {tried}")) {
                        log::error!("{name} {tried} is up: {}", failure.describe());
                    }
                }
                Sighting::Passed(settled) => break settled,
                Sighting::Failed(why) => {
                    let cause = self.with_last_words(&name, &why, mark);
                    return self.give_up(taken, &name, before, tried, cause);
                }
                Sighting::Refused(why) => {
                    let Some(before) = before else {
                        return Err(Failure::new(ErrorCode::MANIFEST_INVALID, why));
                    };
                    let back = Back {
                        code: ErrorCode::MANIFEST_INVALID,
                        cause: why,
                        tried: tried.to_owned(),
                        was_started: true,
                    };
                    return Ok(self.go_back(taken, &name, before, back));
                }
            }
        };
        self.keep(&name);
        if let Err(failure) = self.bundles().prune(&name) {
            log::warn!("{name}: old versions are left: {}", failure.describe());
        }
        let mut outcome = outcome(&name, &settled);
        outcome.tried = Some(tried.to_owned());
        outcome.running = runs(&settled).then(|| tried.to_owned());
        Ok(outcome)
    }

    /// Goes back if there is a way.
    fn give_up(
        &self,
        taken: &TakenJob,
        name: &AgentName,
        before: Option<&Before>,
        tried: &str,
        cause: String,
    ) -> Result<Outcome, Failure> {
        let no_way = match before.map(|before| (&before.place, before)) {
            Some((Place::Bundle(_) | Place::Package(Some(_)), before)) => {
                let back = Back {
                    code: ErrorCode::ROLLED_BACK,
                    cause,
                    tried: tried.to_owned(),
                    was_started: true,
                };
                return Ok(self.go_back(taken, name, before, back));
            }
            Some((Place::Package(None), before)) => format!(
                "; {} was not installed by a job, so there is no package of it here to put back",
                before.version
            ),
            None => String::new(),
        };
        self.keep(name);
        let mut outcome = Outcome::new(
            ErrorCode::DID_NOT_START,
            format!("{name} {tried} {cause}{no_way}; it stays installed and is tried again"),
        );
        outcome.tried = Some(tried.to_owned());
        outcome.running = self.running(name);
        outcome.cause = Some(format!("{cause}{no_way}"));
        Ok(outcome)
    }

    /// The version of `name` that runs now.
    pub(super) fn running(&self, name: &AgentName) -> Option<String> {
        let known = self.ask(|reply| JobRequest::Known {
            name: name.clone(),
            reply,
        });
        known.filter(|known| known.is_up).map(|known| known.version)
    }

    fn output(&self, name: &AgentName) -> OutputPlace {
        OutputPlace {
            log: self.paths.agent_log(name.as_str()),
            fifo: self.paths.outputs().join(name.as_str()),
        }
    }

    /// How much it has printed so far.
    fn printed(&self, name: &AgentName) -> u64 {
        let log = std::fs::metadata(self.output(name).log);
        log.map_or(0, |metadata| metadata.len())
    }

    fn with_last_words(&self, name: &AgentName, why: &str, mark: u64) -> String {
        let lines = tail::read_after(&self.output(name), mark);
        let mut kept: Vec<&str> = Vec::new();
        let mut bytes = 0;
        for line in lines.iter().rev().take(CAUSE_LINES) {
            bytes += line.len();
            if bytes > CAUSE_LINE_BYTES {
                break;
            }
            kept.insert(0, line);
        }
        match kept.is_empty() {
            true => why.to_owned(),
            false => format!("{why}; it printed last:\n{}", kept.join("\n")),
        }
    }
}

/// Whether a settled child runs.
pub(super) fn runs(settled: &Settled) -> bool {
    match settled {
        Settled::Up | Settled::UpWithoutLimits(_) => true,
        Settled::Stopped | Settled::Killed | Settled::Failed(_) => false,
    }
}

fn outcome(name: &AgentName, settled: &Settled) -> Outcome {
    if matches!(settled, Settled::Stopped | Settled::Killed) {
        return Outcome::success("success: installed, and not wanted running");
    }
    match settled_result(name, settled.clone()) {
        Ok(outcome) => outcome,
        Err(failure) => Outcome::new(failure.code, failure.describe()),
    }
}
