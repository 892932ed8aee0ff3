//! Promise: a fleet whose servers are away for a day asks less and not more,
//! keeps what its journals have room for, and is heard again, spread out, with
//! every event and result once and every gap to be seen by the numbers.
//!
//! The schedule and the journals are the product's, the day is simulated: time
//! goes from one moment at which something happens to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bootagent::journal::{Journal, Offer};
use bootagent_core::schedule::{self, Call, Schedule, Standing, Timing};
use bootagent_core::time::Uptime;
use bootagent_protocol::{ErrorCode, Event, Job, JobResult};
use serde_json::json;

const HOUR: u64 = 3600;
/// When the servers go, and come back.
const GONE: u64 = HOUR;
const BACK: u64 = GONE + 24 * HOUR;
/// When the story ends.
const END: u64 = BACK + 2 * HOUR;
/// The step of these hosts, in seconds.
const STEP: u64 = 600;
/// How many there are. The first has more to say than a journal keeps.
const HOSTS: usize = 40;
/// Seconds between two events of the first host, and of the others.
const BUSY: u64 = 60;
const CALM: u64 = 2 * HOUR;
/// What a journal keeps of events while no server takes them.
const KEPT: u64 = 1000;

/// What the servers have heard of one host.
#[derive(Default)]
struct Heard {
    /// Second and number of each event, in the order in which they came.
    events: Vec<(u64, u64)>,
    results: Vec<String>,
    /// The seconds in which it asked, in vain or not.
    asked: Vec<u64>,
}

struct Host {
    number: usize,
    journal: Journal,
    schedule: Schedule,
    /// When its next event happens, and how many have.
    next_event: u64,
    happened: u64,
    heard: Heard,
    random: u64,
    _folder: tempfile::TempDir,
}

impl Host {
    fn new(number: usize) -> Self {
        // Thousands of records, each of which is synced.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a temporary folder");
        let (journal, damage) = Journal::open(folder.path(), "boot").expect("opens");
        assert_eq!(damage, None);
        let agentsn = format!("dcb886e9-04ed-41bb-9c12-{number:012x}");
        let mut host = Self {
            number,
            journal,
            schedule: Schedule::new(
                &agentsn,
                Timing::default(),
                Standing::Registered,
                Uptime::ZERO,
                0,
            ),
            next_event: 0,
            happened: 0,
            heard: Heard::default(),
            random: number as u64,
            _folder: folder,
        };
        host.next_event = host.pause();
        host
    }

    fn pause(&self) -> u64 {
        if self.number == 0 { BUSY } else { CALM }
    }

    /// Anything, from the one before it.
    fn chance(&mut self) -> u32 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.random >> 32).expect("32 bits")
    }

    /// The next moment at which something happens.
    fn next(&self) -> Uptime {
        let event = Uptime::ZERO + Duration::from_secs(self.next_event);
        match self.schedule.deadline() {
            Some(call) if call < event => call,
            _ => event,
        }
    }

    fn live_until_the_end(&mut self) {
        let end = Uptime::ZERO + Duration::from_secs(END);
        loop {
            let now = self.next();
            if now >= end {
                return;
            }
            if now == Uptime::ZERO + Duration::from_secs(self.next_event) {
                self.happen();
                self.next_event += self.pause();
                let call = self.handle(schedule::Event::Urgent, now);
                self.ask(call, now);
            } else {
                let call = self.handle(schedule::Event::Tick, now);
                self.ask(call, now);
            }
        }
    }

    fn handle(&mut self, event: schedule::Event, now: Uptime) -> Option<Call> {
        let chance = self.chance();
        self.schedule.handle(event, now, chance)
    }

    /// A child crashes; and an hour after the servers went, a job that they gave
    /// before is done.
    fn happen(&mut self) {
        self.happened += 1;
        let event = Event {
            category: "crash".into(),
            subject: "worker".into(),
            message: format!("crash {}", self.happened),
            tail: vec!["no such line".into(); 20],
            ..Event::default()
        };
        self.journal.event(event).expect("stored");
        if self.next_event >= GONE + HOUR && self.journal.unfinished().next().is_some() {
            let result = JobResult::new("job", ErrorCode::SUCCESS, "success");
            self.journal.finish(result).expect("noted");
        }
    }

    /// What the daemon does when a call is due, and what the servers do.
    fn ask(&mut self, call: Option<Call>, now: Uptime) {
        let Some(call) = call else { return };
        assert_eq!(call, Call::Status);
        let second = now.as_nanos() / 1_000_000_000;
        self.heard.asked.push(second);
        let unsent = self.journal.unsent();
        if (GONE..BACK).contains(&second) {
            self.handle(schedule::Event::Failed, now);
            return;
        }
        let numbers = unsent.events.iter().map(|event| (second, event.seq));
        self.heard.events.extend(numbers);
        let results = unsent.results.iter().map(|result| result.id.clone());
        self.heard.results.extend(results);
        self.journal.acknowledge(&unsent).expect("noted");
        if self.heard.asked.len() == 1 {
            let value = json!({ "id": "job", "action": "stop", "name": "worker" });
            let job = Job::parse(&value).expect("valid");
            let offer = self.journal.offer(&value, &job, "http://server");
            assert!(matches!(offer, Ok(Offer::Taken(_))));
        }
        self.handle(schedule::Event::Answered { next: None }, now);
        if self.journal.has_unsent() {
            self.handle(schedule::Event::Urgent, now);
        }
    }
}

#[test]
fn a_day_without_a_server_loses_only_what_shows_and_ends_without_a_rush() {
    let mut hosts: Vec<Host> = (0..HOSTS).map(Host::new).collect();
    for host in &mut hosts {
        host.live_until_the_end();
    }
    for host in &hosts {
        let heard = &host.heard;
        let name = format!("host {}", host.number);
        // Each of them once, in their order, and nothing is left.
        let numbers: Vec<u64> = heard.events.iter().map(|(_, number)| *number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{name}: {numbers:?}");
        assert_eq!(heard.results, ["job"], "{name}");
        assert!(!host.journal.has_unsent(), "{name}");
        assert_eq!(host.journal.unfinished().count(), 0, "{name}");
        assert_eq!(numbers.last(), Some(&host.happened), "{name}");
        // What is lost are the oldest ones of the day, as many as the journal
        // had no room for; the gap in the numbers is exactly them.
        let known: BTreeSet<u64> = numbers.iter().copied().collect();
        let lost: Vec<u64> = (1..=host.happened)
            .filter(|number| !known.contains(number))
            .collect();
        let first = heard.asked.iter().find(|second| **second >= BACK);
        let first = *first.expect("it came back");
        let before = GONE.div_ceil(host.pause()) - 1;
        let waiting = first / host.pause() - before;
        assert_eq!(lost.len() as u64, waiting.saturating_sub(KEPT), "{name}");
        let range = lost.first().zip(lost.last());
        if let Some((from, to)) = range {
            assert_eq!(to - from + 1, lost.len() as u64, "{name}: one gap");
            assert_eq!(*from, before + 1, "{name}: the oldest ones");
        }
        // What waited is told within minutes of the first answer.
        let caught_up = heard
            .events
            .iter()
            .filter(|(second, _)| *second >= BACK)
            .nth(usize::try_from(waiting.min(KEPT)).expect("fits") - 1);
        let (second, _) = caught_up.expect("all of them came");
        assert!(second - first <= 60, "{name}: {first} to {second}");
        // It asked at most half as often again while nobody answered.
        let in_vain = heard.asked.iter().filter(|at| (GONE..BACK).contains(at));
        let in_vain = in_vain.count() as u64;
        assert!(
            in_vain > 24 && in_vain < 24 * HOUR / STEP * 7 / 4,
            "{name}: {in_vain}"
        );
    }
    assert!(hosts[0].happened > KEPT + 600, "the first one lost some");
    // The first calls after the return: within a step and a half, and no
    // minute has more than a few times its share.
    let mut minutes: BTreeMap<u64, usize> = BTreeMap::new();
    for host in &hosts {
        let first = host.heard.asked.iter().find(|second| **second >= BACK);
        let after = first.expect("it came back") - BACK;
        assert!(after <= 900, "{after} s");
        *minutes.entry(after / 60).or_default() += 1;
    }
    let most = minutes.values().max().copied().unwrap_or(0);
    assert!(minutes.len() >= 10 && most <= HOSTS / 4, "{minutes:?}");
}
