//! Short programs a job runs: an installer, a query, a sub-agent's own check.
//!
//! They go the way of every child: cgroup, run record, output to a file, one
//! loop that reaps. They have a deadline and no restart.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context;
use bootagent_core::restart::Record;
use bootagent_core::time::Uptime;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::reap::Exit;
use super::{Engine, now};
use crate::cgroup::Group;
use crate::process::Handle;
use crate::record::RunRecord;
use crate::spawn::{self, Program};
use crate::sys::{self, Account};

/// Pause between two kills of one that is overdue and still there: on cgroup
/// v1 a fork can outrun the loop that kills.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// Kills after which nobody waits any more: it is in the kernel's hands.
const KILLS_AWAITED: u32 = 4;

/// A program to be run once.
pub struct OneshotOrder {
    /// Name of its cgroup and run record.
    pub name: String,
    /// argv, the program's path first.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub envs: BTreeMap<OsString, OsString>,
    /// Where it starts.
    pub directory: PathBuf,
    /// Whom it runs as.
    pub account: Option<Account>,
    /// File its standard output goes to.
    pub output: PathBuf,
    /// File its standard error goes to; `None` means the same.
    pub errors: Option<PathBuf>,
    /// How long it may take before it is killed.
    pub deadline: Duration,
    /// What becomes of processes it leaves behind.
    pub leftovers: Leftovers,
    /// Who waits.
    pub reply: Sender<OneshotEnd>,
}

/// What becomes of processes a oneshot leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They are killed: a check starts nothing that should stay.
    Kill,
    /// They stay: a package's scriptlet may start a daemon.
    Keep,
}

/// How a oneshot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneshotEnd {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It took too long and was killed.
    TimedOut,
    /// It could not be started; the text says why.
    NotStarted(String),
    /// It was started by an earlier BootAgent and has ended; nobody knows how.
    Unknown,
}

/// A oneshot that runs.
pub(super) struct Oneshot {
    name: String,
    handle: Handle,
    is_ours: bool,
    failure: Option<OwnedFd>,
    group: Option<Group>,
    deadline: Uptime,
    is_overdue: bool,
    kills: u32,
    leftovers: Leftovers,
    reply: Option<Sender<OneshotEnd>>,
}

impl Oneshot {
    /// When it is killed, or killed again.
    pub(super) fn deadline(&self) -> Option<Uptime> {
        Some(self.deadline)
    }

    pub(super) fn is_adopted(&self, pid: i32) -> bool {
        self.handle.identity().pid == pid && !self.is_ours && !self.handle.is_alive()
    }

    /// Whether `pid` is its, and what it leaves behind is killed by session,
    /// which has to be done before it is reaped.
    pub(super) fn is_killed_by_session(&self, pid: i32) -> bool {
        let is_it = self.handle.identity().pid == pid;
        is_it && self.group.is_none() && self.leftovers == Leftovers::Kill
    }

    /// Its pid, if its end has to be looked for, because nothing tells it.
    pub(super) fn unwatched(&self) -> Option<i32> {
        let is_unwatched = !self.is_ours && self.handle.pidfd().is_none();
        is_unwatched.then(|| self.handle.identity().pid)
    }

    fn kill(&self) {
        match &self.group {
            Some(group) => group.kill(),
            None => drop(killpg(
                Pid::from_raw(self.handle.identity().pid),
                Signal::SIGKILL,
            )),
        }
    }
}

/// What a package's scriptlet has started and left running, for an event.
fn describe(pids: &[i32]) -> String {
    let name = |pid: &i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid} ({})", name.trim())
    };
    let first: Vec<String> = pids.iter().take(5).map(name).collect();
    format!(
        "a scriptlet left {} processes running, which are left alone: {}",
        pids.len(),
        first.join(", ")
    )
}

fn create(path: &Path) -> anyhow::Result<OwnedFd> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let file = options
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    Ok(file.into())
}

impl Engine {
    /// Starts a oneshot; its end goes to whoever ordered it.
    pub(super) fn run_oneshot(&mut self, order: OneshotOrder) {
        let reply = order.reply.clone();
        if let Err(error) = self.try_run_oneshot(order) {
            let _ = reply.send(OneshotEnd::NotStarted(format!("{error:#}")));
        }
    }

    fn try_run_oneshot(&mut self, order: OneshotOrder) -> anyhow::Result<()> {
        let host = &self.host;
        let output = create(&order.output)?;
        let errors = order.errors.as_deref().map(create).transpose()?;
        let program = Program {
            argv: order.argv,
            envs: order.envs,
            directory: order.directory,
            account: order.account,
            files: None,
            output,
            errors,
        };
        let group = host
            .cgroups
            .group(&order.name)
            .context("making the cgroup")?;
        let spawned = spawn::spawn(&program, &host.boot_id, |identity| {
            if let Some(group) = &group {
                group
                    .attach(identity.pid)
                    .context("moving it into its cgroup")?;
            }
            RunRecord::new(&host.boot_id, Some(identity.clone()), Record::default(), "")
                .write(&host.paths.records(), &order.name)?;
            Ok(())
        })?;
        let oneshot = Oneshot {
            name: order.name,
            handle: spawned.handle,
            is_ours: true,
            failure: Some(spawned.failure),
            group,
            deadline: now() + order.deadline,
            is_overdue: false,
            kills: 0,
            leftovers: order.leftovers,
            reply: Some(order.reply),
        };
        let number = self.free_number();
        self.oneshots.insert(number, oneshot);
        Ok(())
    }

    /// Waits for a oneshot that an earlier BootAgent started; `Unknown` at
    /// once if it is gone.
    pub(super) fn await_oneshot(&mut self, name: &str, limit: Duration, reply: Sender<OneshotEnd>) {
        let records = self.host.paths.records();
        let handle = RunRecord::read(&records, name, &self.host.boot_id)
            .and_then(|record| Handle::open(&record.identity?, &self.host.boot_id));
        let Some(handle) = handle else {
            RunRecord::remove(&records, name);
            let _ = reply.send(OneshotEnd::Unknown);
            return;
        };
        let pid = handle.identity().pid;
        let is_ours = handle.is_child();
        if !is_ours && let Some(pidfd) = handle.pidfd() {
            let _ = self.poller.add(pidfd, super::Source::Process(pid));
        }
        log::info!("{name}: an earlier BootAgent started it, pid {pid}; waiting for its end");
        let group = self.host.cgroups.group(name).ok().flatten();
        let oneshot = Oneshot {
            name: name.to_owned(),
            handle,
            is_ours,
            failure: None,
            group,
            deadline: now() + limit,
            is_overdue: false,
            kills: 0,
            leftovers: Leftovers::Keep,
            reply: Some(reply),
        };
        let number = self.free_number();
        self.oneshots.insert(number, oneshot);
    }

    /// Kills what is overdue; its end is told when it came.
    pub(super) fn tick_oneshots(&mut self, now: Uptime) {
        for oneshot in self.oneshots.values_mut() {
            if oneshot.deadline().is_some_and(|at| at <= now) {
                if !oneshot.is_overdue {
                    log::warn!("{}: took too long and is killed", oneshot.name);
                }
                oneshot.is_overdue = true;
                oneshot.deadline = now + KILL_AGAIN;
                oneshot.kill();
                oneshot.kills = oneshot.kills.saturating_add(1);
                if oneshot.kills == KILLS_AWAITED
                    && let Some(reply) = oneshot.reply.take()
                {
                    log::error!("{}: was killed and is still there", oneshot.name);
                    let _ = reply.send(OneshotEnd::TimedOut);
                }
            }
        }
    }

    pub(super) fn on_oneshot_exit(&mut self, pid: i32, exit: Exit) -> bool {
        let found = self
            .oneshots
            .iter()
            .find(|(_, o)| o.handle.identity().pid == pid);
        let Some((&number, _)) = found else {
            return false;
        };
        let Some(mut oneshot) = self.oneshots.remove(&number) else {
            return false;
        };
        if let Some(group) = &oneshot.group {
            if oneshot.leftovers == Leftovers::Kill || oneshot.is_overdue {
                group.kill();
            }
            // What stays in it keeps it; it is removed at a later start.
            let _ = group.remove();
            let left = match oneshot.leftovers {
                Leftovers::Keep if !oneshot.is_overdue => group.processes(),
                Leftovers::Keep | Leftovers::Kill => Vec::new(),
            };
            if !left.is_empty() {
                self.host.event("leftover", &oneshot.name, describe(&left));
            }
        }
        RunRecord::remove(&self.host.paths.records(), &oneshot.name);
        let failure = oneshot.failure.as_ref().and_then(sys::exec_failure);
        let end = match (failure, exit) {
            _ if oneshot.is_overdue => OneshotEnd::TimedOut,
            (Some(failure), _) => OneshotEnd::NotStarted(failure.to_string()),
            (None, Exit::Code(code)) => OneshotEnd::Code(code),
            (None, Exit::Signal(signal)) => OneshotEnd::Signal(signal),
            (None, Exit::Unknown) => OneshotEnd::Unknown,
        };
        if let Some(reply) = oneshot.reply.take() {
            let _ = reply.send(end);
        }
        true
    }
}
