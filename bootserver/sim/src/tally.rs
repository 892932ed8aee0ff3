//! What is counted while a simulation runs.
//!
//! The one rule: latency counts from the moment a call was due, not from the
//! moment it went, so that neither a slow server nor a slow simulator hides
//! how long a host waited.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::http::{Broken, Reply};
use crate::latency::Histogram;
use crate::post::{Manner, Posted};

/// Counts of a run.
pub(crate) struct Tally {
    /// Since when it counts.
    pub(crate) since: Instant,
    /// From due to answered.
    pub(crate) latency: Histogram,
    /// From due to begun: this program's own slowness.
    pub(crate) lag: Histogram,
    /// Calls whose outcome is known.
    pub(crate) posts: u64,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Calls without one.
    pub(crate) broken: BTreeMap<Broken, u64>,
    /// Answers that nobody should get.
    pub(crate) wrong: u64,
    /// 2xx with a body, or a job, that cannot be read.
    pub(crate) unreadable: u64,
    /// Statuses that said something else than the one before.
    pub(crate) changed: u64,
    /// Statuses of clones, and orders to register again.
    pub(crate) clones: u64,
    pub(crate) register_again: u64,
    /// Hosts that booted.
    pub(crate) reboots: u64,
    /// New secrets that came in replies.
    pub(crate) rotations: u64,
    /// Of all statuses together.
    pub(crate) body_bytes: u64,
    pub(crate) bodies: u64,
    /// Calls that were due in each second.
    pub(crate) by_second: Vec<u32>,
    /// Until every host had an answer.
    pub(crate) all_answered: Option<Duration>,
    answered: Vec<bool>,
    unanswered: usize,
}

impl Tally {
    pub(crate) fn new(hosts: usize) -> Self {
        Self {
            since: Instant::now(),
            latency: Histogram::new(),
            lag: Histogram::new(),
            posts: 0,
            statuses: BTreeMap::new(),
            broken: BTreeMap::new(),
            wrong: 0,
            unreadable: 0,
            changed: 0,
            clones: 0,
            register_again: 0,
            reboots: 0,
            rotations: 0,
            body_bytes: 0,
            bodies: 0,
            by_second: Vec::new(),
            all_answered: None,
            answered: vec![false; hosts],
            unanswered: hosts,
        }
    }

    /// Forgets what was counted so far, as after a warm-up. What was wrong
    /// stays wrong.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self {
            wrong: self.wrong,
            unreadable: self.unreadable,
            ..Self::new(self.answered.len())
        };
    }

    pub(crate) fn count(&mut self, posted: &Posted) {
        let due = posted.post.due;
        self.posts += 1;
        self.lag.add(posted.began.saturating_duration_since(due));
        let took = posted.ended.saturating_duration_since(due);
        match (&posted.replied, posted.post.manner) {
            // The slowness of a slow host is its own.
            (Ok(_), Manner::Slow) => {}
            (Ok(_) | Err(Broken::TimedOut), _) => self.latency.add(took),
            (Err(_), _) => {}
        }
        self.count_reply(&posted.replied);
        match (&posted.second, posted.post.manner) {
            (Some(second), Manner::Twice) => self.count_reply(second),
            // Bytes that are no request are refused or cut off, nothing else.
            (Some(Ok(reply)), _) => self.wrong += u64::from(reply.status / 100 != 4),
            (Some(Err(Broken::TimedOut)), _) => self.wrong += 1,
            (Some(Err(_)) | None, _) => {}
        }
        let second = due.saturating_duration_since(self.since).as_secs();
        let second = usize::try_from(second).unwrap_or(usize::MAX);
        if self.by_second.len() <= second {
            self.by_second.resize(second + 1, 0);
        }
        self.by_second[second] += 1;
    }

    fn count_reply(&mut self, replied: &Result<Reply, Broken>) {
        match replied {
            Ok(reply) => {
                *self.statuses.entry(reply.status).or_default() += 1;
                // Later is an answer; everything else means that one side is wrong.
                let is_fine = matches!(reply.status, 200..=299 | 429)
                    || (reply.status == 503 && reply.retry_after.is_some());
                self.wrong += u64::from(!is_fine);
            }
            Err(broken) => *self.broken.entry(*broken).or_default() += 1,
        }
    }

    /// A host's status was answered.
    pub(crate) fn answered_host(&mut self, host: u32) {
        if !std::mem::replace(&mut self.answered[host as usize], true) {
            self.unanswered -= 1;
            if self.unanswered == 0 {
                self.all_answered = Some(self.since.elapsed());
            }
        }
    }

    /// 2xx answers.
    pub(crate) fn answers(&self) -> u64 {
        self.statuses.range(200..300).map(|(_, count)| count).sum()
    }
}
