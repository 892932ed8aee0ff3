//! The job worker: one thread that does one job after the other.
//!
//! It may wait for servers, package managers and children as long as their
//! deadlines allow; supervision and the push go on meanwhile. Every step can
//! be done again: after a crash the job is taken up from the journal and ends
//! in one result.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use bootagent_kit::clock;
use bootagent_protocol::{Action, AgentName, ErrorCode, JobResult, truncate};

use crate::config::Config;
use crate::download::Failure;
use crate::engine::waiter::Settled;
use crate::engine::{JobRequest, Message, WantedChange};
use crate::host::Inbox;
use crate::journal::TakenJob;
use crate::journal::thread::JournalHandle;
use crate::paths::Paths;
use crate::spawn::Privilege;

mod install;
mod keep;
mod own;
mod packaged;
mod program;
mod rollback;
mod trial;
mod trust;
mod uninstall;
mod upgrade;

#[cfg(test)]
mod tests;

/// Longest cause of a result, in bytes.
const MAX_CAUSE_BYTES: usize = 4096;

/// What the worker needs of the host.
pub struct Worker {
    /// The configuration.
    pub config: Config,
    /// Where it was read.
    pub config_path: PathBuf,
    /// The layout.
    pub paths: Paths,
    /// How checks get their account.
    pub privilege: Privilege,
    /// The journal.
    pub journal: JournalHandle,
    /// The engine.
    pub inbox: Inbox,
}

/// What the worker is told.
#[derive(Debug)]
pub enum Order {
    /// Do this.
    Job(Box<TakenJob>),
    /// From now on by this configuration.
    Config(Box<Config>),
}

/// What a job says that went well, or that left the host on another version
/// than the one it tried.
#[derive(Debug)]
struct Outcome {
    code: ErrorCode,
    message: String,
    tried: Option<String>,
    running: Option<String>,
    cause: Option<String>,
}

impl Outcome {
    fn success(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::SUCCESS, message)
    }

    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            tried: None,
            running: None,
            cause: None,
        }
    }

    fn into_result(self, id: &str) -> JobResult {
        let mut result = JobResult::new(id, self.code, &self.message);
        result.tried = self.tried;
        result.running = self.running;
        let cause = self.cause.map(|text| text.replace('\0', "\u{fffd}"));
        result.cause = cause.map(|text| truncate(&text, MAX_CAUSE_BYTES).to_owned());
        result
    }
}

impl Worker {
    /// Starts the thread; jobs that a crash interrupted come first.
    pub fn start(mut self, interrupted: Vec<TakenJob>) -> io::Result<Sender<Order>> {
        let (jobs, orders) = channel();
        bootagent_kit::thread::spawn("jobs", move || self.run(interrupted, &orders))?;
        Ok(jobs)
    }

    fn run(&mut self, interrupted: Vec<TakenJob>, orders: &Receiver<Order>) {
        self.discard_others(&interrupted);
        for job in interrupted {
            log::info!("job {}: taken up again", job.job.id);
            self.process(&job);
        }
        while let Ok(order) = orders.recv() {
            match order {
                Order::Job(job) => self.process(&job),
                Order::Config(config) => self.config = *config,
            }
        }
    }

    fn process(&self, taken: &TakenJob) {
        let id = taken.job.id.clone();
        let result = match self.begin(taken) {
            Ok(true) => self.perform(taken),
            Ok(false) => return,
            Err(failure) => Err(failure),
        };
        let result = match result {
            Ok(outcome) => outcome.into_result(&id),
            Err(failure) => JobResult::new(&id, failure.code, &failure.describe()),
        };
        log::info!("job {id}: {} {}", result.errcode, result.message);
        let message = match result.errcode {
            ErrorCode::SUCCESS => None,
            code => Some(format!(
                "{} ({code}): {}",
                taken.job.action.as_str(),
                result.message
            )),
        };
        let subject = taken
            .job
            .terms
            .name
            .as_ref()
            .map(AgentName::to_string)
            .unwrap_or_default();
        self.journal.wait(move |journal| {
            if let Err(error) = journal.finish(result) {
                log::error!("{:#}", anyhow::Error::from(error));
            }
            if let Some(message) = message
                && let Err(error) = journal.event(crate::host::new_event("job", &subject, message))
            {
                log::error!("{:#}", anyhow::Error::from(error));
            }
        });
        // The first time at once.
        self.inbox.send(Message::News);
    }

    /// Whether the job may begin; noted before its first side effect.
    fn begin(&self, taken: &TakenJob) -> Result<bool, Failure> {
        let now = i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX);
        if taken.steps.is_empty() && taken.job.terms.expires.is_some_and(|expires| expires < now) {
            return Err(Failure::new(
                ErrorCode::EXPIRED,
                "the job expired before it began",
            ));
        }
        let id = taken.job.id.clone();
        self.journal
            .wait(move |journal| journal.begin(&id))
            .map_err(not_persisted)
    }

    fn step(&self, taken: &TakenJob, step: &str) -> Result<(), Failure> {
        let (id, step) = (taken.job.id.clone(), step.to_owned());
        self.journal
            .wait(move |journal| journal.step(&id, &step))
            .map_err(not_persisted)
    }

    fn perform(&self, taken: &TakenJob) -> Result<Outcome, Failure> {
        match taken.job.action {
            Action::Install | Action::Upgrade => self.install(taken),
            Action::Uninstall => self.uninstall(taken),
            Action::Start => self.want(taken, WantedChange::Start),
            Action::Stop => self.want(taken, WantedChange::Stop),
            Action::Restart => self.want(taken, WantedChange::Restart),
            Action::Config => match taken.job.terms.name {
                Some(_) => self.configure_agent(taken),
                None => self.configure_self(taken),
            },
            // Only after a crash: otherwise the push has done it.
            Action::Cancel => Err(Failure::new(
                ErrorCode::EXPIRED,
                "the job to cancel has begun or has ended",
            )),
        }
    }

    fn want(&self, taken: &TakenJob, change: WantedChange) -> Result<Outcome, Failure> {
        let name = name(taken)?;
        let settled = self.ask(|reply| JobRequest::Want {
            name: name.clone(),
            change,
            reply,
        });
        let settled = settled.ok_or_else(|| unknown(&name))?;
        match (change, settled) {
            (WantedChange::Stop, Settled::Killed) => Err(Failure::new(
                ErrorCode::STOP_KILLED,
                format!("{name} did not stop in time and was killed"),
            )),
            (_, settled) => self.once_kept(settled_result(&name, settled)?),
        }
    }

    /// What is wanted from now on is on disk, or the next start would undo it.
    fn once_kept(&self, outcome: Outcome) -> Result<Outcome, Failure> {
        match self.journal.wait_for(|keeper| keeper.metafile_kept()) {
            Ok(()) => Ok(outcome),
            Err(why) => Err(Failure::new(
                ErrorCode::NOT_PERSISTED,
                format!(
                    "{}, but only until bootagent starts anew: {why}",
                    outcome.message
                ),
            )),
        }
    }

    fn configure_agent(&self, taken: &TakenJob) -> Result<Outcome, Failure> {
        let (name, terms) = (name(taken)?, &taken.job.terms);
        let settled = self.ask(|reply| JobRequest::Configure {
            name: name.clone(),
            envs: terms.envs.clone(),
            limits: terms.limits.clone(),
            reply,
        });
        let settled = settled.ok_or_else(|| unknown(&name))?;
        self.once_kept(settled_result(&name, settled)?)
    }

    fn configure_self(&self, taken: &TakenJob) -> Result<Outcome, Failure> {
        let terms = &taken.job.terms;
        let done = self.ask(|reply| JobRequest::ConfigureSelf {
            svrlist: terms.svrlist.clone(),
            step: terms.step,
            reply,
        });
        done.map_err(|error| {
            let code = match error.starts_with("step:") || error.starts_with("svrlist:") {
                true => ErrorCode::CONFIGURATION_INVALID,
                false => ErrorCode::NOT_PERSISTED,
            };
            Failure::new(code, error)
        })?;
        Ok(Outcome::success("success"))
    }

    /// Asks the engine and waits for its answer, which every deadline of a
    /// child bounds.
    fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> JobRequest) -> T {
        let (reply, answer) = channel();
        self.inbox.send(Message::Job(request(reply)));
        next(&answer)
    }

    /// The folder for what a job writes on its way.
    fn tmp(&self, name: &str) -> PathBuf {
        self.paths.tmp().join(name)
    }
}

/// The engine's next answer. It answers every request; it goes away only when
/// the process ends, and then the job is taken up again by the next BootAgent.
fn next<T>(answers: &Receiver<T>) -> T {
    answers.recv().unwrap_or_else(|_| {
        loop {
            std::thread::park();
        }
    })
}

fn name(taken: &TakenJob) -> Result<AgentName, Failure> {
    taken
        .job
        .terms
        .name
        .clone()
        .ok_or_else(|| Failure::new(ErrorCode::MALFORMED_JOB, "name: missing"))
}

fn unknown(name: &AgentName) -> Failure {
    Failure::new(
        ErrorCode::UNKNOWN_AGENT,
        format!("there is no agent {name} on this host"),
    )
}

fn not_persisted(error: crate::journal::JournalError) -> Failure {
    Failure::new(ErrorCode::NOT_PERSISTED, "the job cannot be journalled").because(error)
}

fn settled_result(name: &AgentName, settled: Settled) -> Result<Outcome, Failure> {
    match settled {
        Settled::Up => Ok(Outcome::success("success")),
        Settled::Stopped | Settled::Killed => {
            Ok(Outcome::success(format!("success: {name} is stopped")))
        }
        Settled::UpWithoutLimits(why) => Err(Failure::new(
            ErrorCode::LIMIT_NOT_ENFORCED,
            format!("{name} runs, but {}", truncate(&why, 1000)),
        )),
        Settled::Failed(why) => Err(Failure::new(
            ErrorCode::DID_NOT_START,
            format!("{name} {}", truncate(&why, 1000)),
        )),
    }
}
