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
/// Pause before a logger that ended is started again.
const RETRY: Duration = Duration::from_secs(1);
/// How long systemd may take to make the scope.
const SCOPE_DEADLINE: Duration = Duration::from_secs(10);

/// The logger process.
#[derive(Default)]
pub(super) struct Logger {
    process: Option<(Handle, bool)>,
    /// When it is started again.
    pub(super) retry_at: Option<Uptime>,
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
        self.process = None;
        self.retry_at = Some(now() + RETRY);
    }

    /// Ends it, when no child is left that could print.
    pub(super) fn end(&self) {
        if let Some((handle, _)) = &self.process {
            let _ = handle.signal(Signal::SIGTERM);
        }
    }
}

impl Engine {
    /// Finds the logger of an earlier BootAgent or starts one.
    pub(super) fn start_logger(&mut self) {
        self.logger.retry_at = None;
        if let Err(error) = self.try_start_logger() {
            log::error!("the logger could not be started: {error:#}");
            self.logger.ended();
        }
    }

    fn try_start_logger(&mut self) -> anyhow::Result<()> {
        let host = &self.host;
        let records = host.paths.records();
        let known = RunRecord::read(&records, RECORD, &host.boot_id)
            .and_then(|record| Handle::open(&record.identity?, &host.boot_id));
        if let Some(handle) = known {
            let pid = handle.identity().pid;
            let is_ours = crate::process::stat(pid)
                .is_some_and(|stat| u32::try_from(stat.parent) == Ok(std::process::id()));
            if !is_ours && let Some(pidfd) = handle.pidfd() {
                self.poller.add(pidfd, Source::Process(pid))?;
            }
            self.logger.process = Some((handle, is_ours));
            self.use_scope(pid);
            return Ok(());
        }
        let args = LoggerArgs {
            outputs: host.paths.outputs(),
            logs: host.paths.agent_logs(),
            max_bytes: host.config.logs.max_bytes,
            keep: host.config.logs.keep,
            rate: host.config.logs.rate,
        };
        // A scope outlives its logger while a child is in it.
        let scope = host.uses_scope().then(scope::existing_folder);
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
        self.logger.process = Some((spawned.handle, true));
        if scope == Some(None) {
            self.await_scope(pid);
        }
        self.use_scope(pid);
        Ok(())
    }

    /// Waits until systemd has moved the logger, or it has given up. That is
    /// at the start, before there are children, or when all of them are gone.
    fn await_scope(&self, logger: i32) {
        let deadline = Instant::now() + SCOPE_DEADLINE;
        let runs = || crate::process::stat(logger).is_some_and(|stat| stat.state != b'Z');
        while scope::folder_of(logger).is_none() && runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Puts children's groups into the scope the logger is in.
    fn use_scope(&mut self, logger: i32) {
        if !self.host.uses_scope() {
            return;
        }
        let Some(folder) = scope::folder_of(logger) else {
            let reason = format!("systemd made no {} in time", scope::SCOPE);
            log::error!("limits: {reason}");
            self.host.cgroups = Cgroups::Unavailable(reason);
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
    let program = std::env::current_exe().context("finding our own program")?;
    // After an upgrade the running file is " (deleted)"; the new one is meant.
    let text = program.to_string_lossy();
    let program = PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(&text));
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
