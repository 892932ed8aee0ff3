//! Registration and status: when they are due, which server is asked, and
//! what its answer changes.

use std::sync::mpsc::Sender;
use std::time::Duration;

use bootagent_core::failover::{Failover, Step};
use bootagent_core::schedule::{self, Enrolment, Schedule, Standing, Timing};
use bootagent_core::time::Uptime;
use bootagent_kit::fs::FsError;
use bootagent_kit::servers::{Server, ServerList};
use bootagent_kit::{Secret, clock};
use bootagent_protocol::{RegisterReply, RegisterRequest, StatusRequest, Uplink};

use super::{Engine, now};
use crate::host;
use crate::jobs::Order;
use crate::metafile::Metafile;
use crate::uplink::{Answer, Attempt, Attempted, Call, client_options};

/// Longest identity a server may give.
const MAX_AGENTSN_BYTES: usize = 64;

/// The way to the servers.
pub(super) struct Push {
    schedule: Schedule,
    failover: Failover,
    servers: ServerList,
    attempts: Sender<Attempt>,
    enrolment_token: Option<Secret>,
    /// The server said to register again: the old secret authorises it.
    registers_again: bool,
    /// The secret in use while the metafile with its successor is written.
    replaced_secret: Option<Secret>,
    /// When a server answered a status last.
    pub(super) answered_at: Option<Uptime>,
    /// What went wrong last, until something goes well.
    pub(super) problem: Option<String>,
    /// Who waits until a server has answered a status of this program.
    checked_in: Vec<Sender<()>>,
    /// systemd's watchdog: how often it is fed, and when next.
    pub(super) watchdog: Option<(Duration, Uptime)>,
}

/// The metafile's servers, then the compiled-in ones.
pub(crate) fn server_list(svrlist: &str) -> ServerList {
    let own = ServerList::parse(svrlist).unwrap_or_else(|error| {
        log::error!("svrlist of the metafile is left out: {error}");
        ServerList::default()
    });
    own.followed_by(&host::compiled_servers())
}

impl Push {
    pub(super) fn new(
        metafile: &Metafile,
        attempts: Sender<Attempt>,
        enrolment_token: Option<Secret>,
        now: Uptime,
    ) -> Self {
        let servers = server_list(&metafile.svrlist);
        if servers.is_empty() {
            log::warn!("no server is known: give one with -S, or build with BOOT_SERVER_ADDR");
        }
        let timing = Timing {
            step: Duration::from_secs(metafile.step),
            ..Timing::default()
        };
        // With a secret a status says more than another registration.
        let standing = match metafile.confirmed || metafile.token.is_some() {
            true => Standing::Registered,
            false => Standing::Unregistered,
        };
        let first_within = if metafile.confirmed {
            timing.first_within
        } else {
            Duration::ZERO
        };
        let timing = Timing {
            first_within,
            ..timing
        };
        let watchdog = watchdog_interval().map(|interval| (interval, now + interval));
        Self {
            schedule: Schedule::new(&metafile.agentsn, timing, standing, now, host::random()),
            failover: Failover::new(servers.len()),
            servers,
            attempts,
            enrolment_token,
            registers_again: false,
            replaced_secret: None,
            answered_at: None,
            problem: None,
            checked_in: Vec::new(),
            watchdog,
        }
    }

    pub(super) fn deadline(&self) -> Option<Uptime> {
        // Without a server nothing is due, whatever the schedule says.
        self.schedule
            .deadline()
            .filter(|_| !self.servers.is_empty())
    }

    pub(super) fn server(&self) -> Option<&Server> {
        self.servers.iter().nth(self.failover.current()?)
    }

    /// All servers, for the downloads' question whom the token may go to.
    pub(super) fn servers(&self) -> &ServerList {
        &self.servers
    }
}

/// Half of what systemd allows; `None` when it does not watch us.
fn watchdog_interval() -> Option<Duration> {
    let allowed: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (allowed > 0).then(|| Duration::from_micros(allowed / 2))
}

impl Engine {
    /// Hands an event to the schedule, and calls when it says so.
    pub(super) fn on_schedule(&mut self, event: schedule::Event) {
        let now = now();
        if self.push.servers.is_empty() && event == schedule::Event::Tick {
            return;
        }
        if let Some(call) = self.push.schedule.handle(event, now, host::random()) {
            if self.push.servers.is_empty() {
                let _ = self
                    .push
                    .schedule
                    .handle(schedule::Event::Failed, now, host::random());
                return;
            }
            self.attempt(call);
        }
    }

    fn attempt(&mut self, call: schedule::Call) {
        let Some(server) = self.push.server().cloned() else {
            return;
        };
        let secret = self.secret();
        let (call, token) = match call {
            schedule::Call::Register => {
                let own = self.push.registers_again.then_some(secret).flatten();
                let token = own.or_else(|| self.push.enrolment_token.clone());
                (Call::Register(Box::new(self.register_request())), token)
            }
            schedule::Call::Status => {
                self.look_at_forks();
                (Call::Status(Box::new(self.status_request())), secret)
            }
        };
        log::debug!("asking {}", server.base_url());
        // The thread ends only with the process.
        let _ = self.push.attempts.send(Attempt {
            server,
            call,
            token,
            options: client_options(&self.host.config),
        });
    }

    pub(super) fn on_attempted(&mut self, attempted: Attempted) {
        let asked = self.push.server().map(Server::base_url).unwrap_or_default();
        if attempted.answer.is_none() {
            log::warn!("{asked}: {}", attempted.problem);
            self.push.problem = Some(format!("{asked}: {}", attempted.problem));
        }
        match self.push.failover.handle(attempted.outcome) {
            Step::Try(_) => self.attempt(self.push.schedule.call()),
            Step::Failed => self.on_schedule(schedule::Event::Failed),
            Step::Later(Some(delay)) => self.on_schedule(schedule::Event::RetryAfter(delay)),
            Step::Later(None) => self.on_schedule(schedule::Event::Failed),
            Step::Done => match attempted.answer {
                Some(answer) => self.on_answer(&asked, answer),
                None => {
                    let enrolment = match self.push.enrolment_token {
                        Some(_) => Enrolment::Present,
                        None => Enrolment::Absent,
                    };
                    self.push.registers_again = false;
                    self.on_schedule(schedule::Event::Unauthorized(enrolment));
                }
            },
        }
    }

    fn on_answer(&mut self, server: &str, answer: Answer) {
        match answer {
            Answer::Registered(reply) => self.on_registered(server, reply),
            Answer::Status {
                next,
                registers_again,
                token,
                taken,
                has_more,
            } => {
                self.push.problem = None;
                self.push.answered_at = Some(now());
                for waiting in self.push.checked_in.drain(..) {
                    let _ = waiting.send(());
                }
                if !self.metafile.confirmed {
                    log::info!("{server} confirmed this host as {}", self.metafile.agentsn);
                    self.metafile.confirmed = true;
                    self.save_metafile();
                }
                let is_busy = !taken.is_empty();
                for job in taken {
                    log::info!("job {}: {} taken", job.job.id, job.job.action.as_str());
                    let _ = self.jobs.send(Order::Job(Box::new(job)));
                }
                let event = if registers_again {
                    log::warn!("{server} wants this host to register again");
                    self.push.registers_again = true;
                    schedule::Event::RegisterAgain
                } else {
                    let next = next.map(Duration::from_secs);
                    schedule::Event::Answered { next }
                };
                match token {
                    Some(token) => self.replace_secret(&token, event),
                    None => self.on_schedule(event),
                }
                if is_busy || has_more {
                    // Says which jobs were accepted, without waiting for a result;
                    // and what this status had no room for.
                    self.on_schedule(schedule::Event::Urgent);
                }
            }
        }
    }

    /// The secret that may be used: never one that is not on disk yet. The
    /// server drops the old one when it sees the new one, and a crash in between
    /// would leave a host with a secret nobody takes.
    pub(super) fn secret(&self) -> Option<Secret> {
        let token = || self.metafile.token.clone().map(Secret::new);
        self.push.replaced_secret.clone().or_else(token)
    }

    /// Writes a new secret down. Until that is done the schedule does not hear
    /// of the answer, so that no call goes out meanwhile.
    fn replace_secret(&mut self, token: &Secret, event: schedule::Event) {
        // Whatever else is saved from now on must hold the new one.
        let replaced = self.metafile.token.replace(token.expose().to_owned());
        self.push.replaced_secret = replaced.map(Secret::new);
        let inbox = self.host.inbox.clone();
        let (path, content) = (self.host.paths.metafile(), self.metafile.to_bytes());
        self.host.journal.save(path, content, move |written| {
            inbox.send(super::Message::SecretSaved(written, event));
        });
    }

    /// A secret that could not be written is given up: the old one holds until
    /// a new one is used, and the server offers another one later.
    pub(super) fn on_secret_saved(&mut self, written: Result<(), FsError>, event: schedule::Event) {
        let replaced = self.push.replaced_secret.take();
        match (written, replaced) {
            (Err(error), Some(replaced)) => {
                let error = anyhow::Error::from(error);
                log::error!("the new secret is not taken: {error:#}");
                self.metafile.token = Some(replaced.expose().to_owned());
                self.save_metafile();
            }
            (Err(error), None) => log::error!("the metafile: {:#}", anyhow::Error::from(error)),
            (Ok(()), _) => log::info!("this host has a new secret"),
        }
        self.write_uplink();
        self.on_schedule(event);
    }

    fn on_registered(&mut self, server: &str, reply: RegisterReply) {
        if reply.status != 0 {
            let why = reply.message.unwrap_or_default();
            log::warn!(
                "{server} does not accept this host: status {} {why}",
                reply.status
            );
            self.push.problem = Some(format!("{server}: not accepted, status {}", reply.status));
            self.on_schedule(schedule::Event::Failed);
            return;
        }
        let valid = |sn: &String| {
            (1..=MAX_AGENTSN_BYTES).contains(&sn.len()) && uuid::Uuid::parse_str(sn).is_ok()
        };
        if let Some(agentsn) = reply.agentsn.filter(valid)
            && agentsn != self.metafile.agentsn
        {
            log::warn!("{server} gave this host another identity: {agentsn}");
            self.push.schedule.rename(&agentsn);
            self.metafile.agentsn = agentsn;
        }
        if let Some(token) = reply.token {
            self.metafile.token = Some(token);
        }
        if let Some(tags) = reply.tags {
            self.metafile.tags = tags;
        }
        self.push.registers_again = false;
        log::info!("registered with {server} as {}", self.metafile.agentsn);
        self.write_uplink();
        // The identity is on disk before anything is said with it.
        let inbox = self.host.inbox.clone();
        let (path, content) = (self.host.paths.metafile(), self.metafile.to_bytes());
        self.host.journal.save(path, content, move |written| {
            if let Err(error) = written {
                log::error!("the metafile: {:#}", anyhow::Error::from(error));
            }
            inbox.send(super::Message::RegistrationSaved);
        });
    }

    fn register_request(&self) -> RegisterRequest {
        RegisterRequest {
            hostname: host::hostname(),
            agentsn: self.metafile.agentsn.clone(),
            ip: host::addresses(),
            version: Some(host::wire_version()),
            os: host::os(),
            arch: Some(bootagent_protocol::ARCH.to_owned()),
            machine_id: host::machine_id(),
            boot_id: Some(self.host.boot_id.clone()),
        }
    }

    pub(super) fn status_request(&self) -> StatusRequest {
        let now = now();
        let agents = self
            .children
            .values()
            .map(|child| child.report(&self.host, now))
            .collect();
        StatusRequest {
            hostname: host::hostname(),
            agentsn: self.metafile.agentsn.clone(),
            version: host::wire_version(),
            uptime: now.since(self.started_at).as_secs(),
            timestamp: i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX),
            step: self.metafile.step,
            agents,
            machine_id: host::machine_id(),
            boot_id: Some(self.host.boot_id.clone()),
            notices: self.notices(),
            ..StatusRequest::default()
        }
    }

    /// What an operator should know about the supervisor itself.
    fn notices(&self) -> Vec<String> {
        let mut notices = self.host.journal.troubles();
        notices.extend(self.config_trouble.clone());
        if let crate::cgroup::Cgroups::Unavailable(reason) = &self.host.cgroups {
            notices.push(format!(
                "no cgroups: memory and pids are kept by a look every 2 s, CPU is not limited: {reason}"
            ));
        }
        match self.host.privilege {
            crate::spawn::Privilege::Ourselves => {
                notices.push("not root: every child runs as BootAgent's own user".into());
            }
            crate::spawn::Privilege::Root {
                has_ambient: false, ..
            } => {
                notices
                    .push("no ambient capabilities: children that need some run as uid 0".into());
            }
            crate::spawn::Privilege::Root {
                has_ambient: true, ..
            } => {}
        }
        notices.extend(
            self.invalid
                .iter()
                .map(|(path, text)| format!("{path}: {text}")),
        );
        for child in self.children.values() {
            notices.extend(
                child
                    .limit_errors
                    .iter()
                    .map(|e| format!("{}: {e}", child.name())),
            );
        }
        notices.truncate(50);
        notices
    }

    /// Tells `reply` once a server has answered a status of this program.
    pub(super) fn tell_checked_in(&mut self, reply: Sender<()>) {
        match self.push.answered_at {
            Some(_) => drop(reply.send(())),
            None => self.push.checked_in.push(reply),
        }
    }

    /// Other servers or another step, by a `config` job.
    pub(super) fn servers_changed(&mut self) {
        let servers = server_list(&self.metafile.svrlist);
        // From the top: the operator put the new ones first for a reason.
        self.push.failover.replace(servers.len(), None);
        self.push.servers = servers;
        self.write_uplink();
        self.on_schedule(schedule::Event::Changed);
    }

    pub(super) fn step_changed(&mut self) {
        let step = Duration::from_secs(self.metafile.step);
        self.on_schedule(schedule::Event::Step(step));
    }

    /// Tells sub-agents who we are and where the platform is.
    pub(super) fn write_uplink(&self) {
        let servers: Vec<String> = self.push.servers.iter().map(ToString::to_string).collect();
        let uplink = Uplink {
            agentsn: self.metafile.agentsn.clone(),
            svrlist: servers.join(","),
            token: self.secret().map(|token| token.expose().to_owned()),
            ca_file: self
                .host
                .config
                .ca_file
                .as_ref()
                .map(|path| path.display().to_string()),
        };
        let path = self.host.paths.uplink();
        let bytes = serde_json::to_vec_pretty(&uplink).expect("keys are strings");
        let written = bootagent_kit::fs::write_atomic(&path, &bytes, 0o640);
        // Only a packaged host has that group.
        if self.host.paths.is_system()
            && nix::unistd::geteuid().is_root()
            && let Some(group) = crate::account::group("bootagent")
        {
            let _ = std::os::unix::fs::chown(&path, None, Some(group));
        }
        if let Err(error) = written {
            log::error!("{:#}", anyhow::Error::from(error));
        }
    }
}
