//! All hosts: what each says next, and what an answer means for it.
//!
//! The one rule: what happened is said until it is acknowledged, as BootAgent
//! does, so that whatever the server acknowledged can be asked for in the end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bootagent_core::failover::{Body, Failover, Outcome, Step};
use bootagent_core::schedule::{Call, Enrolment, Event};
use bootagent_protocol::{ErrorCode, Job, RegisterReply, StatusReply};
use uuid::Uuid;

use crate::http::{Broken, Reply, Reuse, Target};
use crate::install::{Ended, Errand, Fetched, Installs};
use crate::ledger::Ledger;
use crate::machine::{self, Copy, Kind, Machine, Moment, Pending, Secret};
use crate::post::{Manner, Post, Posted};
use crate::random::Random;
use crate::tally::Tally;

/// Which share of all statuses is special.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Mix {
    /// Says something else than the one before.
    pub(crate) changed: f64,
    /// Carries a new event.
    pub(crate) events: f64,
    /// Comes from a host that has booted.
    pub(crate) reboot: f64,
    /// Comes from a clone of the host.
    pub(crate) clone: f64,
    /// Is cut off, half of them before the end of the request.
    pub(crate) abort: f64,
    /// Comes slowly.
    pub(crate) slow: f64,
    /// Comes twice.
    pub(crate) twice: f64,
    /// Has garbage beside it.
    pub(crate) garbage: f64,
}

/// The fleet, and all that is known of how it fares.
pub(crate) struct World {
    pub(crate) target: Arc<Target>,
    pub(crate) kind: Kind,
    pub(crate) machines: Vec<Machine>,
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
    pub(crate) random: Random,
    pub(crate) installs: Installs,
    /// Packages that somebody has to fetch.
    pub(crate) errands: Vec<Errand>,
    pending: HashMap<u32, Pending>,
    mix: Mix,
    reuse: Reuse,
    began: Instant,
}

/// What an answer means for its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// For its schedule.
    pub(crate) event: Event,
    /// Whether it has something to say at once.
    pub(crate) is_urgent: bool,
    /// Another identity.
    pub(crate) agentsn: Option<Uuid>,
}

impl World {
    pub(crate) fn new(
        target: Arc<Target>,
        kind: Kind,
        machines: Vec<Machine>,
        mix: Mix,
        reuse: Reuse,
        installs: Installs,
        random: Random,
    ) -> Self {
        Self {
            target,
            kind,
            ledger: Ledger::default(),
            tally: Tally::new(machines.len()),
            machines,
            random,
            installs,
            errands: Vec::new(),
            pending: HashMap::new(),
            mix,
            reuse,
            began: Instant::now(),
        }
    }

    /// Whether this host boots now, instead of calling.
    pub(crate) fn reboots(&mut self, host: u32) -> bool {
        let reboots = self.random.happens(self.mix.reboot);
        if reboots {
            self.tally.reboots += 1;
            self.machines[host as usize].reboot();
        }
        reboots
    }

    /// What a host says that calls now.
    pub(crate) fn say(&mut self, host: u32, call: Call, due: Instant) -> Post {
        match call {
            Call::Status => self.status(host, due),
            Call::Register => self.register(host, due),
        }
    }

    fn status(&mut self, host: u32, due: Instant) -> Post {
        let mix = self.mix;
        let machine = &mut self.machines[host as usize];
        if self.random.happens(mix.changed) {
            machine.changes = machine.changes.wrapping_add(1);
            self.tally.changed += 1;
        }
        if self.random.happens(mix.events) {
            let key = machine.next_event(host);
            self.pending.entry(host).or_default().events.push(key);
        }
        let copy = match self.random.happens(mix.clone) {
            true => Copy::Clone,
            false => Copy::Original,
        };
        let manner = self.manner();
        let machine = self.machines[host as usize];
        // A clone knows nothing of what its original has to say.
        let pending = self.pending.get(&host).filter(|_| copy == Copy::Original);
        let carried = pending.map(Pending::first).unwrap_or_default();
        let status = machine::status_request(
            &self.kind,
            &machine,
            host,
            copy,
            &carried,
            &self.installs,
            Moment {
                now: unix_seconds(),
                uptime: machine::UPTIME + self.began.elapsed().as_secs(),
            },
        );
        for key in &carried.events {
            self.ledger.event_sent(*key);
        }
        self.tally.clones += u64::from(copy == Copy::Clone);
        let body = serde_json::to_vec(&status).expect("keys are strings");
        self.tally.body_bytes += body.len() as u64;
        self.tally.bodies += 1;
        self.post(host, Call::Status, "/agent/status", &body, due)
            .with(copy, manner, carried)
    }

    fn register(&mut self, host: u32, due: Instant) -> Post {
        let machine = self.machines[host as usize];
        let request = machine::register_request(&self.kind, &machine, host, Copy::Original);
        let body = serde_json::to_vec(&request).expect("keys are strings");
        self.post(host, Call::Register, "/agent/register", &body, due)
    }

    fn post(&mut self, host: u32, call: Call, path: &str, body: &[u8], due: Instant) -> Post {
        let secret = self.machines[host as usize].secret;
        let bearer = |bytes: &mut Vec<u8>| secret.write_to(bytes);
        Post {
            host,
            call,
            copy: Copy::Original,
            manner: Manner::Plain,
            carried: Pending::default(),
            request: self.target.request("POST", path, bearer, body, self.reuse),
            due,
        }
    }

    fn manner(&mut self) -> Manner {
        let mix = self.mix;
        for (share, manner) in [
            (mix.abort / 2.0, Manner::CutRequest),
            (mix.abort / 2.0, Manner::CutReply),
            (mix.slow, Manner::Slow),
            (mix.twice, Manner::Twice),
            (mix.garbage, Manner::Garbage),
        ] {
            if self.random.happens(share) {
                return manner;
            }
        }
        Manner::Plain
    }

    /// What came of a call.
    pub(crate) fn hear(&mut self, posted: Posted) -> Heard {
        self.tally.count(&posted);
        let Posted { post, replied, .. } = posted;
        let (outcome, heard) = match &replied {
            Err(broken) => (outcome_of(*broken), None),
            Ok(reply) => self.read(&post, reply),
        };
        // One server: a fail-over over a list of one says what follows.
        let event = match (Failover::new(1).handle(outcome), heard) {
            (Step::Done, Some(heard)) => return heard,
            (Step::Done, None) => Event::Unauthorized(Enrolment::Absent),
            (Step::Later(Some(delay)), _) => Event::RetryAfter(delay),
            (Step::Later(None) | Step::Failed | Step::Try(_), _) => Event::Failed,
        };
        Heard {
            event,
            is_urgent: false,
            agentsn: None,
        }
    }

    fn read(&mut self, post: &Post, reply: &Reply) -> (Outcome, Option<Heard>) {
        let is_2xx = (200..300).contains(&reply.status);
        let heard = match post.call {
            _ if !is_2xx => None,
            Call::Status => serde_json::from_slice(&reply.body)
                .ok()
                .map(|reply| self.answered(post, &reply)),
            Call::Register => serde_json::from_slice(&reply.body)
                .ok()
                .map(|reply| self.registered(post.host, reply)),
        };
        if is_2xx && heard.is_none() {
            self.tally.unreadable += 1;
        }
        let body = match heard {
            Some(_) => Body::Valid,
            None => Body::Garbage,
        };
        (Outcome::of(reply.status, reply.retry_after, body), heard)
    }

    fn answered(&mut self, post: &Post, reply: &StatusReply) -> Heard {
        let host = post.host;
        let mut is_urgent = self.acknowledge(host, &post.carried);
        self.tally.answered_host(host);
        if let Some(secret) = reply.token.as_deref().and_then(Secret::parse) {
            self.tally.rotations += 1;
            self.machines[host as usize].secret = secret;
        }
        if post.copy == Copy::Original {
            for job in &reply.jobs {
                match Job::parse(job) {
                    Ok(job) if self.ledger.offered(&job.id, host) => {
                        is_urgent |= self.take(host, job);
                    }
                    Ok(_) => {}
                    Err(_) => self.tally.unreadable += 1,
                }
            }
        }
        let again = reply.register == Some(true);
        self.tally.register_again += u64::from(again);
        let event = match (again, post.copy) {
            // The clone goes its own way, which is not followed here.
            (true, Copy::Original) => Event::RegisterAgain,
            (true, Copy::Clone) | (false, _) => Event::Answered {
                next: reply.next.map(Duration::from_secs),
            },
        };
        Heard {
            event,
            is_urgent,
            agentsn: None,
        }
    }

    /// Does a job; true if it ended at once.
    fn take(&mut self, host: u32, job: Job) -> bool {
        let secret = self.machines[host as usize].secret;
        let at_once = !self.installs.take(host, &job, secret);
        if at_once {
            self.ended(Ended {
                host,
                job: job.id,
                errcode: ErrorCode::SUCCESS,
            });
        }
        self.errands.extend(self.installs.next(host));
        at_once
    }

    /// A package is there, or is not.
    pub(crate) fn fetched(&mut self, fetched: Fetched) {
        let ended = self.installs.end(fetched, &mut self.random);
        self.errands.extend(self.installs.next(ended.host));
        self.ended(ended);
    }

    fn ended(&mut self, ended: Ended) {
        self.ledger.ended(&ended.job, ended.errcode.0);
        let pending = self.pending.entry(ended.host).or_default();
        pending.results.push(ended);
    }

    fn registered(&mut self, host: u32, reply: RegisterReply) -> Heard {
        let secret = reply.token.as_deref().and_then(Secret::parse);
        let agentsn = reply.agentsn.and_then(|text| Uuid::try_parse(&text).ok());
        let machine = &mut self.machines[host as usize];
        let agentsn = agentsn.filter(|agentsn| *agentsn != machine.agentsn);
        machine.secret = secret.unwrap_or(machine.secret);
        machine.agentsn = agentsn.unwrap_or(machine.agentsn);
        Heard {
            event: match reply.status {
                0 => Event::Registered,
                _ => Event::Failed,
            },
            is_urgent: false,
            agentsn,
        }
    }

    /// True if there is something new to say of it.
    fn acknowledge(&mut self, host: u32, carried: &Pending) -> bool {
        if carried.is_empty() {
            return false;
        }
        for key in &carried.events {
            self.ledger.event_acknowledged(*key);
            self.installs.forget(key);
        }
        let mut crashed = false;
        for ended in &carried.results {
            self.ledger.result_acknowledged(&ended.job);
            if let Some(software) = self.installs.crashes_after(&ended.job) {
                let key = self.machines[host as usize].next_event(host);
                self.installs.crashed(key, software);
                self.pending.entry(host).or_default().events.push(key);
                crashed = true;
            }
        }
        if let Some(pending) = self.pending.get_mut(&host) {
            let events: HashSet<_> = carried.events.iter().collect();
            pending.events.retain(|key| !events.contains(key));
            pending.results.retain(|it| !carried.results.contains(it));
            if pending.is_empty() {
                self.pending.remove(&host);
            }
        }
        crashed
    }
}

impl Post {
    fn with(self, copy: Copy, manner: Manner, carried: Pending) -> Self {
        Self {
            copy,
            manner,
            carried,
            ..self
        }
    }
}

fn outcome_of(broken: Broken) -> Outcome {
    match broken {
        Broken::Refused | Broken::Cut | Broken::Injected => Outcome::Refused,
        Broken::TimedOut => Outcome::TimedOut,
        Broken::Unreadable => Outcome::Garbage,
    }
}

/// Now.
pub(crate) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
