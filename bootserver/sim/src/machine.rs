//! One simulated host: who it is, and what it says.
//!
//! As little as possible is kept of each, because there are a million of
//! them: what can be derived from its number is.

use std::io::Write as _;

use bootagent_protocol::{
    AgentReport, AgentState, ErrorCode, Event, JobResult, LimitsReport, RegisterRequest,
    StatusRequest,
};
use uuid::Uuid;

use crate::install::{Ended, Installs};
use crate::ledger::{EventKey, boot_id};
use crate::random::mix;

/// How the server writes a host's secret.
const SECRET_PREFIX: &str = "host-";
/// Most events, and most results, of one status.
const MOST_PER_STATUS: usize = 100;
/// What its sub-agents are called.
const AGENTS: [&str; 5] = [
    "flux-push",
    "network-init",
    "route-keeper",
    "mtr-prober",
    "task-runner",
];

/// The version of each.
const VERSION: &str = "0.1.0-1";

/// Seconds for which a host's BootAgent ran before the simulation began.
pub(crate) const UPTIME: u64 = 86_400;

/// What is kept of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its identity.
    pub(crate) agentsn: Uuid,
    /// Its secret.
    pub(crate) secret: Secret,
    /// The number of its last event in this boot.
    pub(crate) seq: u32,
    /// How often its content has changed.
    pub(crate) changes: u32,
    /// Which boot it is in, from 1.
    pub(crate) boot: u16,
}

/// A host's secret: the 256 bits that the server writes in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Secret {
    /// Reads what the server gave; none if it is not of its form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(SECRET_PREFIX)?.as_bytes();
        let mut bytes = [0; 32];
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let digit = |it: u8| {
                char::from(it)
                    .to_digit(16)
                    .filter(|_| !it.is_ascii_uppercase())
            };
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        Some(Self(bytes))
    }

    /// As the server wrote it.
    pub(crate) fn write_to(self, text: &mut Vec<u8>) {
        text.extend_from_slice(SECRET_PREFIX.as_bytes());
        for byte in self.0 {
            write!(text, "{byte:02x}").expect("memory takes it");
        }
    }
}

/// What all hosts of a run have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// This run; in the boot id of every event, so that it is found again.
    pub(crate) run: u64,
    /// Of which machine ids and boots are made; the same for the same fleet, so
    /// that another run finds it as it was.
    pub(crate) seed: u64,
    /// Sub-agents of each.
    pub(crate) agents: u32,
    /// Seconds between two statuses.
    pub(crate) step: u64,
}

/// Which of the machines that share an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    Original,
    Clone,
}

/// What a host wants to be acknowledged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    pub(crate) events: Vec<EventKey>,
    pub(crate) results: Vec<Ended>,
}

/// When something is said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Unix seconds.
    pub(crate) now: i64,
    /// Seconds since its BootAgent began.
    pub(crate) uptime: u64,
}

impl Pending {
    /// What one status takes of it; the rest follows.
    pub(crate) fn first(&self) -> Self {
        Self {
            events: self.events.iter().take(MOST_PER_STATUS).copied().collect(),
            results: self.results.iter().take(MOST_PER_STATUS).cloned().collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.results.is_empty()
    }
}

impl Machine {
    pub(crate) fn new(agentsn: Uuid, secret: Secret) -> Self {
        Self {
            agentsn,
            secret,
            seq: 0,
            changes: 0,
            boot: 1,
        }
    }

    /// Its next event.
    pub(crate) fn next_event(&mut self, host: u32) -> EventKey {
        self.seq += 1;
        EventKey {
            host,
            boot: self.boot,
            seq: self.seq,
        }
    }

    /// It boots again: events count from 1.
    pub(crate) fn reboot(&mut self) {
        self.boot = self.boot.saturating_add(1);
        self.seq = 0;
    }
}

fn hostname(host: u32) -> String {
    format!("sim-{host:07}")
}

fn version() -> String {
    format!(
        "bootagent-{}-{}",
        env!("CARGO_PKG_VERSION"),
        bootagent_protocol::ARCH
    )
}

fn machine_id(kind: &Kind, host: u32, copy: Copy) -> String {
    let which = match copy {
        Copy::Original => 0,
        Copy::Clone => 1 << 40,
    };
    let bits = mix(kind.seed ^ (u64::from(host) | which));
    format!("{bits:016x}{:016x}", mix(bits))
}

/// The registration of a host.
pub(crate) fn register_request(
    kind: &Kind,
    machine: &Machine,
    host: u32,
    copy: Copy,
) -> RegisterRequest {
    let [_, a, b, c] = host.to_be_bytes();
    RegisterRequest {
        hostname: hostname(host),
        agentsn: machine.agentsn.hyphenated().to_string(),
        ip: vec![format!("10.{a}.{b}.{c}")],
        version: Some(version()),
        os: Some("debian 12".into()),
        arch: Some(bootagent_protocol::ARCH.into()),
        machine_id: Some(machine_id(kind, host, copy)),
        boot_id: Some(boot_id(kind.seed, host, machine.boot).to_string()),
    }
}

/// The status of a host. A copy has no jobs.
pub(crate) fn status_request(
    kind: &Kind,
    machine: &Machine,
    host: u32,
    copy: Copy,
    carried: &Pending,
    installs: &Installs,
    moment: Moment,
) -> StatusRequest {
    let Moment { now, uptime } = moment;
    let boot = match copy {
        Copy::Original => machine.boot,
        // A clone booted by itself.
        Copy::Clone => u16::MAX,
    };
    let mut agents = (0..kind.agents)
        .map(|number| agent(machine, number, moment))
        .collect();
    installs.amend(host, &mut agents);
    StatusRequest {
        hostname: hostname(host),
        agentsn: machine.agentsn.hyphenated().to_string(),
        version: version(),
        uptime,
        timestamp: now,
        step: kind.step,
        agents,
        jobs: carried
            .results
            .iter()
            .map(|ended| JobResult::new(&ended.job, ended.errcode, said_of(ended.errcode)))
            .collect(),
        machine_id: Some(machine_id(kind, host, copy)),
        boot_id: Some(boot_id(kind.seed, host, boot).to_string()),
        events: carried
            .events
            .iter()
            .map(|key| event(kind, *key, installs, now))
            .collect(),
        accepted: match copy {
            Copy::Original => installs.accepted(host),
            Copy::Clone => Vec::new(),
        },
        ..StatusRequest::default()
    }
}

fn said_of(errcode: ErrorCode) -> &'static str {
    match errcode {
        ErrorCode::SUCCESS => "done",
        other => other.meaning().unwrap_or("failed"),
    }
}

fn event(kind: &Kind, key: EventKey, installs: &Installs, now: i64) -> Event {
    let crash = installs.crash(&key);
    let (subject, version) = match crash {
        Some(software) => (&*software.name, &*software.version),
        None => (AGENTS[0], VERSION),
    };
    Event {
        seq: u64::from(key.seq),
        timestamp: now,
        category: "crash".into(),
        subject: subject.into(),
        version: Some(version.into()),
        message: "ended with exit code 1 after 12 s".into(),
        tail: vec![
            "reading counters".into(),
            "nobody listens on the other side".into(),
        ],
        boot_id: Some(key.boot_id(kind.run).to_string()),
    }
}

/// An agent that was installed and of which nothing is measured.
pub(crate) fn plain_agent(name: &str) -> AgentReport {
    AgentReport {
        name: name.to_owned(),
        version: VERSION.into(),
        status: AgentState::Running,
        uptime: 0,
        wanted: Some(AgentState::Running),
        detail: None,
        retry_in: None,
        anomalies: None,
        message: None,
        pid: None,
        limits: None,
    }
}

fn agent(machine: &Machine, number: u32, moment: Moment) -> AgentReport {
    let Moment { now, uptime } = moment;
    let name = AGENTS
        .get(number as usize)
        .map_or_else(|| format!("agent-{number}"), |name| (*name).to_owned());
    // What changes is the first agent: it runs in another process.
    let restarts = if number == 0 { machine.changes } else { 0 };
    AgentReport {
        uptime,
        message: Some(format!(
            "last point {:02}:{:02}",
            now / 3600 % 24,
            now / 60 % 60
        )),
        pid: i32::try_from(1000 + number + restarts % 30_000).ok(),
        limits: Some(LimitsReport {
            enforced_by: "cgroup2".into(),
            cpu: Some("10%".into()),
            memory: Some("20M".into()),
            pids: Some(50),
            files: Some(256),
            memory_used: Some(1 << 20 | uptime << 12),
            pids_used: Some(3),
            cpu_seconds: Some(uptime as f64 / 1000.0),
            ..LimitsReport::default()
        }),
        ..plain_agent(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        run: 1,
        seed: 2,
        agents: 2,
        step: 600,
    };

    #[test]
    fn a_secret_is_written_as_it_was_read() {
        let text = format!("host-{}", "0f".repeat(32));
        let mut written = Vec::new();
        Secret::parse(&text).expect("valid").write_to(&mut written);
        assert_eq!(written, text.as_bytes());
        for bad in [
            "",
            "host-",
            "api-00",
            &text[..60],
            &text.to_uppercase(),
            &format!("{text}0"),
        ] {
            assert_eq!(Secret::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_change_is_seen_in_the_content_and_time_alone_is_not() {
        let machine = Machine::new(Uuid::from_u128(5), Secret([0; 32]));
        let say = |machine: &Machine, copy, now| {
            let moment = Moment { now, uptime: 100 };
            let (nothing, none) = (Pending::default(), Installs::default());
            let said = status_request(&KIND, machine, 9, copy, &nothing, &none, moment);
            (
                said.agents[0].pid,
                said.machine_id,
                said.boot_id,
                said.hostname,
            )
        };
        let first = say(&machine, Copy::Original, 1000);
        assert_eq!(first, say(&machine, Copy::Original, 9000));
        let changed = Machine {
            changes: 1,
            ..machine
        };
        assert_ne!(first.0, say(&changed, Copy::Original, 1000).0);
        let cloned = say(&machine, Copy::Clone, 1000);
        assert_ne!(first.1, cloned.1);
        assert_ne!(first.2, cloned.2);
    }

    #[test]
    fn an_event_says_in_which_boot_of_which_run_it_was() {
        let mut machine = Machine::new(Uuid::from_u128(5), Secret([0; 32]));
        let early = machine.next_event(9);
        machine.reboot();
        let late = machine.next_event(9);
        assert_eq!((early.seq, late.seq), (1, 1));
        let pending = Pending {
            events: vec![early, late],
            results: vec![Ended {
                host: 9,
                job: "j".into(),
                errcode: ErrorCode::ROLLED_BACK,
            }],
        };
        let (none, moment) = (Installs::default(), Moment { now: 0, uptime: 0 });
        let said = status_request(&KIND, &machine, 9, Copy::Original, &pending, &none, moment);
        assert_eq!(said.events[0].boot_id, Some(early.boot_id(1).to_string()));
        assert_eq!(said.events[1].boot_id, Some(late.boot_id(1).to_string()));
        assert_eq!(said.boot_id, Some(late.boot_id(KIND.seed).to_string()));
        assert_eq!(said.jobs[0].id, "j");
        assert_eq!(said.jobs[0].errcode, ErrorCode::ROLLED_BACK);
    }
}
