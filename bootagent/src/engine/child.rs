//! One supervised child: the machine of `bootagent-core`, and the process it
//! speaks of. Behaviour lives in the machine; here its effects are done.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bootagent_core::restart::{self, Kind, Policy, Record, Spec};
use bootagent_kit::clock;
use bootagent_kit::fs::{ensure_dir_unsynced, parent_of, sync_dir};
use bootagent_protocol::{AgentName, AgentReport, AgentState, AgentType, Limits, Manifest};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::cgroup::Group;
use crate::family::Family;
use crate::host::Host;
use crate::journal::tail::OutputPlace;
use crate::metafile::ChildIntent;
use crate::paths::Paths;
use crate::process::{Handle, Identity};
use crate::record::RunRecord;
use crate::spawn::{self, Program};
use crate::sys;

use super::forks::Refusals;
use super::waiter::Waiters;

/// A child's process while it runs.
pub struct Running {
    /// Who it is.
    pub handle: Handle,
    /// Whether waitpid tells how it ended.
    pub is_ours: bool,
    /// Says why exec failed.
    failure: Option<OwnedFd>,
    /// OOM kills of its group when it was started.
    pub oom_kills_before: u64,
}

impl Running {
    /// Its pid, if its end has to be looked for, because nothing tells it.
    pub fn unwatched(&self) -> Option<i32> {
        let is_unwatched = !self.is_ours && self.handle.pidfd().is_none();
        is_unwatched.then(|| self.handle.identity().pid)
    }
}

/// One child.
pub struct Child {
    /// Its manifest.
    pub manifest: Manifest,
    /// The folder of the manifest.
    pub folder: PathBuf,
    /// What is decided.
    pub machine: restart::Child,
    /// What an operator gave it.
    pub intent: ChildIntent,
    /// Its process.
    pub running: Option<Running>,
    /// The version that was started last: not that of the manifest while the
    /// old one has not ended yet.
    pub started_version: Option<String>,
    /// Its cgroup, once it was started.
    pub group: Option<Group>,
    /// Its processes, where there is no cgroup.
    pub family: Family,
    /// Whether the end of everything it started is awaited.
    pub awaits_gone: bool,
    /// What its last STATUS= said.
    pub status: String,
    /// Why exec failed, if that is how the last run ended.
    pub exec_failure: Option<sys::ExecFailure>,
    /// Processes the out-of-memory killer took in the run that ended.
    pub lost_to_memory: u64,
    /// What it could not start at its limit of processes.
    pub refusals: Refusals,
    /// Limits that could not be set.
    pub limit_errors: Vec<String>,
    /// Where it says READY=1, and that socket's number in the poller.
    pub notify: Option<(UnixDatagram, u32)>,
    /// Who waits for what becomes of it.
    pub waiters: Waiters,
}

/// The numbers of a manifest, as the policy takes them.
pub fn spec(manifest: &Manifest, policy: Policy) -> Spec {
    let kind = match manifest.agent_type {
        AgentType::Simple => Kind::Simple,
        AgentType::Notify => Kind::Notify,
        AgentType::Oneshot => Kind::Oneshot,
    };
    let restart = manifest.restart.clone().unwrap_or_default();
    let policy = Policy::new(
        policy.check(),
        restart
            .holdoff
            .map_or(policy.holdoff(), Duration::from_secs),
        restart.stable.map_or(policy.stable(), Duration::from_secs),
        restart.max_anomalies.unwrap_or(policy.max_anomalies()),
    )
    .unwrap_or(policy);
    Spec {
        start_timeout: Duration::from_secs(manifest.start_timeout),
        stop_timeout: Duration::from_secs(manifest.stop_timeout),
        watchdog: manifest.watchdog.map(Duration::from_secs),
        ..Spec::new(kind, policy)
    }
}

impl Child {
    /// A child whose machine is known.
    pub fn new(
        manifest: Manifest,
        folder: PathBuf,
        machine: restart::Child,
        intent: ChildIntent,
    ) -> Self {
        Self {
            manifest,
            folder,
            machine,
            intent,
            running: None,
            started_version: None,
            group: None,
            family: Family::default(),
            awaits_gone: false,
            status: String::new(),
            exec_failure: None,
            lost_to_memory: 0,
            refusals: Refusals::default(),
            limit_errors: Vec::new(),
            notify: None,
            waiters: Waiters::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &AgentName {
        &self.manifest.name
    }

    /// The version that runs, or that ran last, or that will be the first.
    pub fn version(&self) -> &str {
        let manifest = self.manifest.version.as_str();
        self.started_version.as_deref().unwrap_or(manifest)
    }

    /// The limits in force: a job's whole map, or the manifest's.
    pub fn limits(&self) -> &Limits {
        self.intent.limits.as_ref().unwrap_or(&self.manifest.limits)
    }

    /// Where its output goes.
    pub fn output_place(&self, host: &Host) -> OutputPlace {
        OutputPlace {
            log: host.paths.agent_log(self.name().as_str()),
            fifo: host.paths.outputs().join(self.name().as_str()),
        }
    }

    /// Starts it. `number` is a free number for its notify socket.
    pub fn start(&mut self, host: &Host, number: u32) -> anyhow::Result<()> {
        self.started_version = Some(self.manifest.version.to_string());
        let account = host
            .privilege
            .account(&self.manifest)
            .map_err(anyhow::Error::msg)?;
        let owner = account.as_ref().map(|account| (account.uid, account.gid));
        let state = host.paths.agent_state(self.name());
        let is_new = !state.is_dir();
        make_folders(&host.paths, self.name(), owner)?;
        if is_new {
            // What the agent keeps there is on the disk with it; nobody waits.
            host.journal.later(move |_| {
                if let Err(error) = sync_dir(parent_of(&state)) {
                    log::error!("{:#}", anyhow::Error::from(error));
                }
            });
        }
        let output = self.open_output(host, owner)?;
        self.listen(host, owner, number)?;
        let group = host
            .cgroups
            .group(self.name().as_str())
            .context("making the cgroup")?;
        if let Some(group) = &group {
            let errors = group.limit(self.limits());
            self.limit_errors = errors
                .into_iter()
                .map(|error| format!("{:#}", anyhow::Error::from(error)))
                .collect();
        }
        let oom_kills_before = group.as_ref().map_or(0, Group::oom_kills);
        let program = Program {
            argv: spawn::resolve(&self.manifest.exec, &self.folder),
            envs: self.environment(host),
            directory: self.folder.clone(),
            account,
            files: self.limits().files,
            output,
            errors: None,
        };
        self.group = group;
        self.status.clear();
        let (record, version) = (self.machine.record(), self.version().to_owned());
        let (group, name) = (self.group.as_ref(), self.name().clone());
        let refused_before = self.refusals.counted();
        let spawned = spawn::spawn(&program, &host.boot_id, |identity| {
            if let Some(group) = group {
                group
                    .attach(identity.pid)
                    .context("moving it into its cgroup")?;
            }
            RunRecord::new(&host.boot_id, Some(identity.clone()), record, &version)
                .counting_from(oom_kills_before, refused_before)
                .write(&host.paths.records(), name.as_str())?;
            Ok(())
        })?;
        self.family = Family::of(spawned.handle.identity());
        self.running = Some(Running {
            handle: spawned.handle,
            is_ours: true,
            failure: Some(spawned.failure),
            oom_kills_before,
        });
        Ok(())
    }

    /// Takes over a process that an earlier BootAgent started, with what that
    /// noted of it.
    pub fn adopt_process(&mut self, handle: Handle, record: &RunRecord) {
        let is_ours = handle.is_child();
        let version = Some(record.version.clone());
        self.started_version = version.filter(|version| !version.is_empty());
        let oom_kills_before = record.oom_kills;
        self.family = Family::of(handle.identity());
        self.running = Some(Running {
            handle,
            is_ours,
            failure: None,
            oom_kills_before,
        });
    }

    /// The FIFO, opened for reading and writing: the child never gets SIGPIPE.
    fn open_output(&self, host: &Host, owner: Option<(u32, u32)>) -> anyhow::Result<OwnedFd> {
        open_fifo(&host.paths.outputs().join(self.name().as_str()), owner)
    }

    /// A notify socket that only the child's own account can write to.
    pub fn listen(
        &mut self,
        host: &Host,
        owner: Option<(u32, u32)>,
        number: u32,
    ) -> anyhow::Result<()> {
        if self.notify.is_some() {
            return Ok(());
        }
        let path = self.notify_path(host);
        // Made beside it and renamed: a child that runs already, and speaks at
        // this very moment, finds the old socket or the new one.
        let new = host.paths.notify_sockets().join(".new");
        let _ = std::fs::remove_file(&new);
        let socket = UnixDatagram::bind(&new).with_context(|| {
            format!(
                "binding {} (a socket's path has at most 107 bytes)",
                new.display()
            )
        })?;
        socket.set_nonblocking(true)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&new, Some(uid), Some(gid))?;
        }
        std::fs::rename(&new, &path)
            .with_context(|| format!("renaming {} to {}", new.display(), path.display()))?;
        self.notify = Some((socket, number));
        Ok(())
    }

    /// The notify socket an earlier program of this process had, with what was
    /// said to it meanwhile.
    pub fn inherit_socket(&mut self, socket: OwnedFd, number: u32) {
        self.notify = Some((UnixDatagram::from(socket), number));
    }

    fn environment(&self, host: &Host) -> BTreeMap<OsString, OsString> {
        let mut envs = environment(&host.paths, &self.manifest, self.intent.envs.as_ref());
        envs.insert("NOTIFY_SOCKET".into(), self.notify_path(host).into());
        if let Some(seconds) = self.manifest.watchdog {
            envs.insert(
                "WATCHDOG_USEC".into(),
                (seconds * 1_000_000).to_string().into(),
            );
        }
        envs
    }

    pub(super) fn notify_path(&self, host: &Host) -> PathBuf {
        host.paths.notify_sockets().join(self.name().as_str())
    }

    /// Asks its main process to stop; once that has ended, everything it left
    /// behind.
    pub fn send_stop_signal(&mut self, host: &Host) {
        let name = self.manifest.stop_signal.trim_start_matches("SIG");
        let signal = format!("SIG{name}").parse().unwrap_or(Signal::SIGTERM);
        match (&self.running, &self.group) {
            (Some(running), _) => {
                if let Err(errno) = running.handle.signal(signal) {
                    log::warn!("{}: {signal} could not be sent: {errno}", self.name());
                }
            }
            (None, Some(group)) => group.signal(signal),
            (None, None) => {
                self.look(host);
                self.family.signal(signal);
            }
        }
    }

    /// Kills everything it started.
    pub fn kill(&mut self, host: &Host) {
        match &self.group {
            Some(group) => group.kill(),
            None => {
                self.look(host);
                self.family.signal(Signal::SIGKILL);
            }
        }
        if let Some(running) = &self.running {
            let _ = running.handle.signal(Signal::SIGKILL);
        }
    }

    /// Whether its main process and all others have ended.
    pub fn is_gone(&mut self, host: &Host) -> bool {
        if self.running.is_some() {
            return false;
        }
        match &self.group {
            Some(group) => group.is_empty(),
            None => {
                // Who ended may have left others behind.
                self.family.is_gone() && {
                    self.look(host);
                    self.family.is_gone()
                }
            }
        }
    }

    /// Keeps what the policy must know after a restart of ours.
    pub fn persist(&self, host: &Host, record: Record) {
        let running = self.running.as_ref();
        let identity: Option<Identity> = running.map(|r| r.handle.identity().clone());
        let written = RunRecord::new(&host.boot_id, identity, record, self.version())
            .counting_from(
                running.map_or(0, |running| running.oom_kills_before),
                self.refusals.counted(),
            )
            .write(&host.paths.records(), self.name().as_str());
        if let Err(error) = written {
            log::error!(
                "run record of {}: {:#}",
                self.name(),
                anyhow::Error::from(error)
            );
        }
    }

    /// Its main process has ended and was reaped: its pid means nothing now.
    pub fn end_process(&mut self) {
        let running = self.running.take();
        self.exec_failure = running.and_then(|running| sys::exec_failure(&running.failure?));
    }

    /// Its line in a status.
    pub fn report(&self, host: &Host, now: bootagent_core::time::Uptime) -> AgentReport {
        let state = |state: restart::State| match state {
            restart::State::Stoped => AgentState::Stoped,
            restart::State::Running => AgentState::Running,
            restart::State::Fatal => AgentState::Fatal,
            restart::State::Killed => AgentState::Killed,
        };
        let wanted = match self.machine.wanted() {
            restart::Wanted::Running => AgentState::Running,
            restart::Wanted::Stopped => AgentState::Stoped,
        };
        AgentReport {
            name: self.name().to_string(),
            version: match self.running.is_some() || self.awaits_gone {
                true => self.version().to_owned(),
                false => self.manifest.version.to_string(),
            },
            status: state(self.machine.state()),
            uptime: self
                .machine
                .started_at()
                .map_or(0, |start| now.since(start).as_secs()),
            wanted: Some(wanted),
            detail: self
                .machine
                .detail()
                .map(|detail| detail.as_str().to_owned()),
            retry_in: self.machine.retry_in(now).map(|wait| wait.as_secs()),
            anomalies: Some(self.machine.anomalies()),
            message: (!self.status.is_empty()).then(|| self.status.clone()),
            pid: self
                .running
                .as_ref()
                .map(|running| running.handle.identity().pid),
            limits: self.limits_report(host),
        }
    }
}

/// A cleared environment plus what every sub-agent is promised: `envs` of a
/// job, or the manifest's, and systemd's names for its folders.
pub fn environment(
    paths: &Paths,
    manifest: &Manifest,
    envs: Option<&BTreeMap<String, String>>,
) -> BTreeMap<OsString, OsString> {
    let envs = envs.unwrap_or(&manifest.envs);
    let mut all: BTreeMap<OsString, OsString> = envs
        .iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let name = &manifest.name;
    for (key, path) in [
        ("STATE_DIRECTORY", paths.agent_state(name)),
        ("RUNTIME_DIRECTORY", paths.agent_run(name)),
        ("LOGS_DIRECTORY", paths.agent_log_folder(name)),
        ("CONFIGURATION_DIRECTORY", paths.agent_config(name)),
        ("BOOTAGENT_UPLINK", paths.uplink()),
    ] {
        all.insert(key.into(), path.into());
    }
    all
}

/// The folders an agent may write to, made and given to `owner`.
pub fn make_folders(
    paths: &Paths,
    name: &AgentName,
    owner: Option<(u32, u32)>,
) -> anyhow::Result<()> {
    for folder in [
        paths.agent_state(name),
        paths.agent_run(name),
        paths.agent_log_folder(name),
    ] {
        ensure_dir_unsynced(&folder, 0o750)?;
        let is_its_own = |(uid, gid)| {
            std::fs::metadata(&folder)
                .is_ok_and(|folder| (folder.uid(), folder.gid()) == (uid, gid))
        };
        // Written only where something changes: a root that has become
        // read-only must not keep an agent from being started again.
        if let Some((uid, gid)) = owner.filter(|owner| !is_its_own(*owner)) {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid))
                .with_context(|| format!("giving {} to its agent", folder.display()))?;
        }
    }
    Ok(())
}

/// Makes the FIFO `path` if it is missing, and opens it.
pub fn open_fifo(path: &Path, owner: Option<(u32, u32)>) -> anyhow::Result<OwnedFd> {
    match nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(errno) => return Err(errno).with_context(|| format!("making {}", path.display())),
    }
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .with_context(|| format!("giving {} to its agent", path.display()))?;
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    Ok(file.into())
}

/// Now, on the clock that decides.
pub fn now() -> bootagent_core::time::Uptime {
    let nanos = clock::boottime().as_nanos();
    bootagent_core::time::Uptime::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
