//! Which simulated host calls when: a bootagent-core schedule for each, and a
//! heap of their deadlines.
//!
//! The one rule: nothing here decides a time. Every deadline is one that the
//! schedule of that host gave, so a simulated fleet comes as a real one would.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use bootagent_core::schedule::{Call, Event, Schedule, Standing, Timing};
use bootagent_core::time::Uptime;
use uuid::Uuid;

use crate::random::Random;

/// How long the hosts have been up when a simulation begins that does not begin later.
const UP_FOR: Uptime = Uptime::from_secs(86_400);

/// How a fleet stands when the simulation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Every host has been answered and waits for its turn.
    Steady,
    /// The server has been away for so long; every host that had its turn
    /// failed, and backs off.
    AfterOutage(Duration),
    /// The hosts had lost their power and all started this moment.
    PowerOn,
}

/// A call that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Whose.
    pub(crate) host: u32,
    /// What it says.
    pub(crate) call: Call,
    /// Since when.
    pub(crate) at: Uptime,
}

/// The schedules of all hosts.
pub(crate) struct Agenda {
    schedules: Vec<Schedule>,
    /// May hold deadlines that were replaced since; the schedule knows.
    deadlines: BinaryHeap<Reverse<(Uptime, u32)>>,
    /// Calls that an outcome brought on at once.
    at_once: VecDeque<Due>,
    timing: Timing,
    random: Random,
    begin: Uptime,
}

impl Agenda {
    pub(crate) fn new(
        agentsns: impl Iterator<Item = Uuid>,
        timing: Timing,
        beginning: Beginning,
        later: Duration,
        seed: u64,
    ) -> Self {
        let mut random = Random::new(seed);
        let begin = match beginning {
            Beginning::AfterOutage(outage) => UP_FOR + later + outage,
            Beginning::Steady | Beginning::PowerOn => UP_FOR + later,
        };
        let schedules: Vec<Schedule> = agentsns
            .map(|agentsn| started(agentsn, timing, beginning, begin, &mut random))
            .collect();
        let mut agenda = Self {
            deadlines: BinaryHeap::with_capacity(schedules.len()),
            schedules,
            at_once: VecDeque::new(),
            timing,
            random,
            begin,
        };
        for index in 0..agenda.schedules.len() {
            agenda.note(u32::try_from(index).expect("hosts are counted in 32 bits"));
        }
        agenda
    }

    /// The moment at which the simulation begins.
    pub(crate) const fn begin(&self) -> Uptime {
        self.begin
    }

    /// When something is due.
    pub(crate) fn deadline(&mut self) -> Option<Uptime> {
        if let Some(due) = self.at_once.front() {
            return Some(due.at);
        }
        while let Some(Reverse((at, host))) = self.deadlines.peek().copied() {
            if self.schedules[host as usize].deadline() == Some(at) {
                return Some(at);
            }
            self.deadlines.pop();
        }
        None
    }

    /// The next call that is due by now; it is out from then on.
    pub(crate) fn take(&mut self, now: Uptime) -> Option<Due> {
        if let Some(due) = self.at_once.pop_front() {
            return Some(due);
        }
        let at = self.deadline().filter(|at| *at <= now)?;
        let Reverse((_, host)) = self.deadlines.pop()?;
        let random = self.random.half();
        let call = self.schedules[host as usize].handle(Event::Tick, now, random)?;
        Some(Due { host, call, at })
    }

    /// Tells a host's schedule what happened.
    pub(crate) fn tell(&mut self, host: u32, event: Event, now: Uptime) {
        let random = self.random.half();
        match self.schedules[host as usize].handle(event, now, random) {
            Some(call) => {
                let at = now;
                self.at_once.push_back(Due { host, call, at });
            }
            None => self.note(host),
        }
    }

    /// A host begins anew, as after a reboot.
    pub(crate) fn restart(&mut self, host: u32, agentsn: Uuid, now: Uptime) {
        let beginning = Beginning::PowerOn;
        self.schedules[host as usize] =
            started(agentsn, self.timing, beginning, now, &mut self.random);
        self.note(host);
    }

    /// The server gave a host another identity.
    pub(crate) fn rename(&mut self, host: u32, agentsn: Uuid) {
        self.schedules[host as usize].rename(&agentsn.hyphenated().to_string());
    }

    fn note(&mut self, host: u32) {
        if let Some(at) = self.schedules[host as usize].deadline() {
            self.deadlines.push(Reverse((at, host)));
        }
    }
}

/// A schedule in the state that its past brought it into: it is led through
/// that past, not put there.
fn started(
    agentsn: Uuid,
    timing: Timing,
    beginning: Beginning,
    begin: Uptime,
    random: &mut Random,
) -> Schedule {
    let mut text = Uuid::encode_buffer();
    let agentsn = &*agentsn.hyphenated().encode_lower(&mut text);
    let new = |timing, now, random: &mut Random| {
        Schedule::new(agentsn, timing, Standing::Registered, now, random.half())
    };
    let since = match beginning {
        Beginning::PowerOn => return new(timing, begin, random),
        Beginning::Steady => begin,
        Beginning::AfterOutage(outage) => begin - outage,
    };
    // It was answered at `since`, the moment it had begun.
    let at_once = Timing {
        first_within: Duration::ZERO,
        ..timing
    };
    let mut schedule = new(at_once, since, random);
    schedule.handle(Event::Tick, since, random.half());
    schedule.handle(Event::Answered { next: None }, since, random.half());
    // And every call after that failed.
    while let Some(at) = schedule.deadline().filter(|at| *at < begin) {
        schedule.handle(Event::Tick, at, random.half());
        schedule.handle(Event::Failed, at, random.half());
    }
    schedule
}

#[cfg(test)]
mod tests;
