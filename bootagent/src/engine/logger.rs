//! Keeping the logger process alive.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use bootagent_core::time::Uptime;
use nix::sys::signal::Signal;

use super::{Engine, Source, now};
use crate::args::LoggerArgs;
use crate::cgroup::{Cgroups, scope};
use crate::process::Handle;
use crate::record::RunRecord;
use crate::spawn::{self, Program};

/// Name of its run record and cgroup; no agent can have it, a name never has a dot.
pub(super) const RECORD: &str = "logger.process";
/// Pause before a logger that ended is started again; it doubles while none
/// lives long, up to [`LONGEST_RETRY`].
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How often systemd is asked for the scope before we do without it.
const SCOPE_TRIES: u32 = 3;
/// How long systemd may take to make the scope: on a slow host that is just
/// booting 10 s were not enough.
const SCOPE_DEADLINE: Duration = Duration::from_secs(30);

/// The logger process.
#[derive(Default)]
pub(super) struct Logger {
    process: Option<(Handle, bool)>,
    /// When it is started again.
    pub(super) retry_at: Option<Uptime>,
    started_at: Uptime,
    pause: Duration,
    /// How often systemd made no scope.
    scope_failures: u32,
}

impl Logger {
    /// Its pid, while it runs.
    pub(super) fn pid(&self) -> Option<i32> {
        self.process
            .as_ref()
            .map(|(handle, _)| handle.identity().pid)
    }

    /// Whether `pid` is a logger of an earlier BootAgent that has ended.
    pub(super) fn is_adopted(&self, pid: i32) -> bool {
        self.process.as_ref().is_some_and(|(handle, is_ours)| {
            handle.identity().pid == pid && !is_ours && !handle.is_alive()
        })
    }

    /// Whether its end has to be looked for, because nothing tells it.
    pub(super) fn is_unwatched(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|(handle, is_ours)| !is_ours && handle.pidfd().is_none())
    }

    /// It ended; the next one is started after a pause.
    pub(super) fn ended(&mut self) {
        let now = now();
        let is_brief = self.process.take().is_none() || now.since(self.started_at) < LONGEST_RETRY;
        self.pause = match is_brief {
            true => (self.pause * 2).clamp(RETRY, LONGEST_RETRY),
            false => RETRY,
        };
        self.retry_at = Some(now + self.pause);
    }

    /// Ends it, when no child is left that could print.
    pub(super) fn end(&self) {
        if let Some((handle, _)) = &self.process {
            let _ = handle.signal(Signal::SIGTERM);
        }
    }
}

/// What came of starting the logger.
enum Start {
    /// It runs.
    Done,
    /// systemd made no scope, and nothing runs.
    NoScope,
}

impl Engine {
    /// Finds the logger of an earlier BootAgent or starts one.
    ///
    /// Where systemd makes no scope it is asked again at once, and after some
    /// times no more: a place for groups has to be there before a child is.
    pub(super) fn start_logger(&mut self) {
        self.logger.retry_at = None;
        for _ in 0..=SCOPE_TRIES {
            match self.try_start_logger() {
                Ok(Start::Done) => return,
                Ok(Start::NoScope) => self.logger.scope_failures += 1,
                Err(error) => {
                    log::error!("the logger could not be started: {error:#}");
                    self.logger.ended();
                    return;
                }
            }
        }
    }

    fn try_start_logger(&mut self) -> anyhow::Result<Start> {
        let host = &self.host;
        let records = host.paths.records();
        let known = RunRecord::read(&records, RECORD, &host.boot_id)
            .and_then(|record| record.identity)
            // Its record may be lost or damaged; who holds the lock is known.
            .or_else(|| crate::logger::holder(&host.paths.outputs()))
            .and_then(|identity| Handle::open(&identity, &host.boot_id));
        self.logger.started_at = now();
        if let Some(handle) = known {
            let pid = handle.identity().pid;
            let is_ours = handle.is_child();
            if !is_ours && let Some(pidfd) = handle.pidfd() {
                self.poller.add(pidfd, Source::Process(pid))?;
            }
            self.logger.process = Some((handle, is_ours));
            self.place_groups(pid);
            return Ok(Start::Done);
        }
        let args = LoggerArgs {
            outputs: host.paths.outputs(),
            logs: host.paths.agent_logs(),
            max_bytes: host.config.logs.max_bytes,
            keep: host.config.logs.keep,
            rate: host.config.logs.rate,
        };
        // A scope outlives its logger while a child is in it.
        let scope = self.wants_scope().then(scope::existing_folder);
        let program = Program {
            argv: logger_argv(&args, scope == Some(None))?,
            envs: std::collections::BTreeMap::new(),
            directory: PathBuf::from("/"),
            account: None,
            files: None,
            output: std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/null")?
                .into(),
            errors: None,
        };
        let spawned = spawn::spawn(&program, &host.boot_id, |identity| {
            if let Some(Some(folder)) = &scope {
                join(folder, identity.pid).context("joining the scope of the children")?;
            }
            let record = bootagent_core::restart::Record::default();
            RunRecord::new(&host.boot_id, Some(identity.clone()), record, "")
                .write(&records, RECORD)?;
            Ok(())
        })?;
        let pid = spawned.handle.identity().pid;
        if scope == Some(None) && !self.await_scope(pid) {
            let _ = spawned.handle.signal(Signal::SIGKILL);
            // Until it is reaped, the next try would take it for the logger.
            RunRecord::remove(&self.host.paths.records(), RECORD);
            return Ok(Start::NoScope);
        }
        self.logger.process = Some((spawned.handle, true));
        self.place_groups(pid);
        Ok(Start::Done)
    }

    /// Whether systemd is asked for a scope: unless it failed too often, or
    /// children already run at the top because it did so before.
    fn wants_scope(&self) -> bool {
        self.host.uses_scope()
            && self.logger.scope_failures < SCOPE_TRIES
            && !scope::is_populated(&scope::top_folder(&self.host.config.cgroup_name()))
    }

    /// Waits until systemd has moved the logger, or it has given up. That is
    /// at the start, before there are children, or when all of them are gone.
    fn await_scope(&mut self, logger: i32) -> bool {
        let deadline = Instant::now() + SCOPE_DEADLINE;
        let runs = || crate::process::stat(logger).is_some_and(|stat| stat.state != b'Z');
        while scope::folder_of(logger).is_none() && runs() {
            if Instant::now() > deadline {
                // One such wait is enough.
                self.logger.scope_failures = SCOPE_TRIES;
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        scope::folder_of(logger).is_some()
    }

    /// Puts children's groups into the scope the logger is in, or, where
    /// systemd made none, at the top.
    fn place_groups(&mut self, logger: i32) {
        if !self.host.uses_scope() {
            return;
        }
        let Some(folder) = scope::folder_of(logger) else {
            log::error!(
                "systemd made no {}: the agents' groups are at the top of the hierarchy",
                scope::SCOPE
            );
            self.host.cgroups = Cgroups::open(&self.host.config.cgroup_name());
            return;
        };
        if let Err(error) = join(&folder, logger) {
            log::error!(
                "the logger could not be moved in {}: {error}",
                folder.display()
            );
        }
        self.host.cgroups = Cgroups::open_version2_at(&folder);
    }
}

/// Moves the logger into a leaf of its own: processes live in leaves only,
/// and controllers are handed down from a folder without any.
fn join(scope: &Path, logger: i32) -> io::Result<()> {
    let leaf = scope.join(RECORD);
    std::fs::create_dir_all(&leaf)?;
    std::fs::write(leaf.join("cgroup.procs"), logger.to_string())
}

fn logger_argv(args: &LoggerArgs, is_scoped: bool) -> anyhow::Result<Vec<OsString>> {
    let program = crate::handover::program().context("finding our own program")?;
    let mut argv: Vec<OsString> = Vec::new();
    if is_scoped {
        argv.extend(scope::run_in_scope().into_iter().map(OsString::from));
        argv[0] = find_program("systemd-run")
            .context("systemd-run is not installed")?
            .into();
    }
    argv.push(program.into());
    argv.extend(args.to_words());
    Ok(argv)
}

/// A program in the usual places: our own PATH is not trusted.
fn find_program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    places
        .iter()
        .map(|place| PathBuf::from(place).join(name))
        .find(|path| path.is_file())
}
