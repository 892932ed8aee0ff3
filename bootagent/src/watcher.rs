//! The watcher of BootAgent's own upgrade: the saved program of the old
//! version, in a unit of its own.
//!
//! It looks at the daemon until the new version has reported to a server.
//! What it makes of what it sees is decided by `bootagent-core`; here it is
//! looked and done. It may wait, for it does nothing else. The rule: it ends
//! only when the new version is confirmed or the old one is back.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bootagent_core::failover::{Body, Outcome};
use bootagent_core::takeover::{self, Cause, Daemon, Effect, Event, Patience, Reach};
use bootagent_kit::http::Client;
use bootagent_kit::{Secret, clock};
use bootagent_protocol::{ARCH, MAX_REPLY_BYTES, StatusReply, StatusRequest};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use crate::config::Config;
use crate::control::Request;
use crate::control::client::{AskError, ask};
use crate::engine::{now, server_list};
use crate::host;
use crate::metafile::Metafile;
use crate::paths::Paths;
use crate::takeover::{Phase, Standing, Takeover, Upgrade};

mod holder;
mod program;
mod restore;
mod start;

pub use start::start;

/// Between two looks at the daemon.
const LOOK: Duration = Duration::from_secs(2);
/// How long the daemon may take to answer a look.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How long a daemon may be gone or silent.
const ALIVE: Duration = Duration::from_secs(30);
/// How many times it may be started anew.
const STARTS: u32 = 3;
/// Until what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Watches the upgrade that is under way, if there is one.
pub fn run(level: log::LevelFilter) -> anyhow::Result<()> {
    let paths = Paths::new(Path::new("/"));
    let takeover = Takeover::new(&paths.takeover());
    let Some(standing) = takeover.standing() else {
        return Ok(());
    };
    bootagent_kit::log::init(level, Some(&paths.logs().join("watcher.log")))?;
    let Some(_lock) = lock(&paths)? else {
        return Ok(());
    };
    let upgrade = standing.upgrade();
    log::info!(
        "watching the upgrade from {} to {}",
        upgrade.from,
        upgrade.to
    );
    let config = Config::load(&upgrade.config).unwrap_or_else(|error| {
        log::error!("{:#}", anyhow::Error::from(error));
        Config::default()
    });
    let watcher = Watcher {
        paths,
        takeover,
        config,
    };
    while let Err(error) = watcher.watch() {
        // systemd starts it anew; elsewhere nobody would.
        if has_systemd() {
            return Err(error);
        }
        log::error!("{error:#}; tried again in {} s", RETRY.as_secs());
        std::thread::sleep(RETRY);
    }
    Ok(())
}

/// There is one watcher.
fn lock(paths: &Paths) -> anyhow::Result<Option<Flock<File>>> {
    let path = paths.watcher_lock();
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).with_context(|| format!("locking {}", path.display())),
    }
}

/// Whether a watcher runs.
pub fn is_watching(paths: &Paths) -> bool {
    matches!(lock(paths), Ok(None))
}

/// Whether systemd starts and restarts the daemon.
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

struct Watcher {
    paths: Paths,
    takeover: Takeover,
    config: Config,
}

impl Watcher {
    fn watch(&self) -> anyhow::Result<()> {
        let confirm = Duration::from_secs(self.config.jobs.confirm_timeout);
        let patience = Patience {
            confirm,
            alive: ALIVE.min(confirm),
            starts: STARTS,
        };
        let mut mind = takeover::Takeover::new(patience);
        let mut job = None;
        loop {
            let upgrade = match self.takeover.standing() {
                Some(Standing::Open(upgrade)) => upgrade,
                Some(Standing::GoingBack(upgrade)) => return self.go_back(&upgrade),
                Some(Standing::WentBack(upgrade)) if self.takeover.is_going_back() => {
                    return self.bring_back(&upgrade);
                }
                Some(Standing::Confirmed(_) | Standing::WentBack(_)) | None => return Ok(()),
            };
            if job.as_ref() != Some(&upgrade.job) {
                // The next upgrade began before we saw the end of this one.
                mind = takeover::Takeover::new(patience);
                job = Some(upgrade.job.clone());
            }
            let (daemon, status) = self.look();
            let phase = match upgrade.phase {
                // The old one is still trying the new one before it becomes it,
                // and has deadlines of its own for that.
                Phase::Executed if is_version(&status, &upgrade.from) => {
                    takeover::Phase::Installing
                }
                Phase::Executed => takeover::Phase::Executed,
                Phase::Installing => takeover::Phase::Installing,
            };
            let mut effect = mind.handle(Event::Looked(phase, daemon), now());
            while let Some(doing) = effect.take() {
                match doing {
                    Effect::Ask => {
                        let reach = self.ask_servers(&status);
                        log::info!("no status of the new one was answered yet; asked: {reach:?}");
                        effect = mind.handle(Event::Asked(reach), now());
                    }
                    Effect::Hurry => drop(self.order(&Request::Call)),
                    Effect::RollBack(cause) => {
                        let cause = match cause {
                            Cause::Crashes => "it ended again and again, or did not come up",
                            Cause::Hangs => "it did not answer",
                            Cause::NoServer => "it reached no server, and the old version did",
                        };
                        log::error!("{} is put back: {} {cause}", upgrade.from, upgrade.to);
                        // Too late when it has reported meanwhile.
                        self.takeover.go_back(&upgrade, cause)?;
                    }
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The daemon, and what it says about the host.
    fn look(&self) -> (Daemon, Value) {
        match self.order(&Request::Status) {
            // It has too many others to answer, or does not know the question.
            Ok(reply) if !reply["status"].is_object() => (Daemon::Silent, Value::Null),
            Ok(reply) => {
                let status = reply["status"].clone();
                let pid = status["pid"]
                    .as_i64()
                    .and_then(|pid| i32::try_from(pid).ok());
                (Daemon::Answers(pid.unwrap_or(0)), status)
            }
            Err(AskError::Unreachable { .. } | AskError::Ended) => {
                let daemon = match self.is_stopped() {
                    true => Daemon::Stopped,
                    false => Daemon::Gone,
                };
                (daemon, Value::Null)
            }
            Err(AskError::Silent(_) | AskError::Endless | AskError::Broken(_)) => {
                (Daemon::Silent, Value::Null)
            }
        }
    }

    fn order(&self, request: &Request) -> Result<Value, AskError> {
        self.order_within(request, ANSWER_DEADLINE)
    }

    /// An answer of another version may have other fields: nothing but JSON is
    /// expected.
    fn order_within(&self, request: &Request, deadline: Duration) -> Result<Value, AskError> {
        let answer = ask(&self.paths.socket(), request, deadline)?;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// Sends a status as the old program would, with what the daemon says
    /// about the host, so that nothing else than the truth arrives. It carries
    /// no results and takes no jobs.
    fn ask_servers(&self, status: &Value) -> Reach {
        let options = crate::uplink::client_options(&self.config);
        let (Ok(client), Ok((Some(metafile), _))) = (
            Client::new(&options),
            Metafile::load(&self.paths.metafile()),
        ) else {
            return Reach::Nobody;
        };
        let request = StatusRequest {
            hostname: host::hostname(),
            agentsn: metafile.agentsn.clone(),
            version: status["version"].as_str().unwrap_or_default().to_owned(),
            uptime: status["uptime"].as_u64().unwrap_or_default(),
            timestamp: i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX),
            step: metafile.step,
            agents: serde_json::from_value(status["agents"].clone()).unwrap_or_default(),
            machine_id: host::machine_id(),
            boot_id: clock::boot_id().ok(),
            ..StatusRequest::default()
        };
        let body = serde_json::to_vec(&request).expect("keys are strings");
        let token = metafile.token.map(Secret::new);
        let mut reach = Reach::Nobody;
        for server in server_list(&metafile.svrlist).iter() {
            let url = format!("{}/agent/status", server.base_url());
            let replied = client.post_json(&url, token.as_ref(), &body, MAX_REPLY_BYTES as u64);
            let Ok(reply) = replied else { continue };
            let body = match serde_json::from_slice::<StatusReply>(&reply.body) {
                Ok(_) => Body::Valid,
                Err(_) => Body::Garbage,
            };
            match Outcome::of(reply.status, reply.retry_after, body) {
                Outcome::Answered => return Reach::Answered,
                _ => reach = Reach::Refused,
            }
        }
        reach
    }

    /// Whether the daemon that answers is of the old version.
    fn is_back(&self, upgrade: &Upgrade) -> bool {
        let (_, status) = self.look();
        is_version(&status, &upgrade.from)
    }
}

fn is_version(status: &Value, version: &str) -> bool {
    status["version"] == format!("bootagent-{version}-{ARCH}")
}
