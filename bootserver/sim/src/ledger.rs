//! What was said to the server and what it acknowledged, to be compared with
//! what it has in the end.
//!
//! The one rule: only what was acknowledged can be lost. What was sent and not
//! acknowledged may be there or not, but not twice.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use uuid::Uuid;

/// An event of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EventKey {
    pub(crate) host: u32,
    /// Which boot of its host, from 1.
    pub(crate) boot: u16,
    pub(crate) seq: u32,
}

impl EventKey {
    /// The boot's id, from which [`EventKey::read`] finds the event again.
    pub(crate) fn boot_id(self, run: u64) -> Uuid {
        boot_id(run, self.host, self.boot)
    }

    /// The event that a stored one is, if it is one of this run.
    pub(crate) fn read(run: u64, boot_id: &str, seq: u64) -> Option<Self> {
        let (of_run, rest) = Uuid::try_parse(boot_id).ok()?.as_u64_pair();
        let host = u32::try_from(rest >> 32).ok()?;
        let boot = u16::try_from((rest >> 16) & 0xffff).ok()?;
        let seq = u32::try_from(seq).ok()?;
        (of_run == run).then_some(Self { host, boot, seq })
    }
}

/// The id of one boot of one host in one run.
pub(crate) fn boot_id(run: u64, host: u32, boot: u16) -> Uuid {
    Uuid::from_u64_pair(run, u64::from(host) << 32 | u64::from(boot) << 16)
}

/// How far something that was sent has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Sent,
    Acknowledged,
}

/// Events and results of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    events: HashMap<EventKey, Standing>,
    results: HashMap<String, (u32, Standing)>,
    /// How jobs ended that did not simply succeed.
    failed: HashMap<String, u16>,
    /// Ordered jobs and their hosts.
    ordered: HashMap<String, u32>,
    /// Jobs that were handed to a host they were not for, or again after their
    /// result was acknowledged.
    wrong_jobs: u64,
}

/// A result as the server has it.
#[derive(Debug, Clone)]
pub(crate) struct StoredResult {
    pub(crate) job: String,
    /// None if it is none of ours.
    pub(crate) host: Option<u32>,
    pub(crate) errcode: u16,
}

/// What became of one kind of thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Account {
    /// Sent at least once.
    pub(crate) sent: u64,
    /// And answered with a 2xx.
    pub(crate) acknowledged: u64,
    /// Acknowledged, and not there.
    pub(crate) lost: u64,
    /// There more than once.
    pub(crate) doubled: u64,
    /// There, and never sent in this shape.
    pub(crate) invented: u64,
}

impl Account {
    /// Whether nothing is wrong with it.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.invented == 0
    }
}

impl Ledger {
    pub(crate) fn event_sent(&mut self, key: EventKey) {
        self.events.entry(key).or_insert(Standing::Sent);
    }

    pub(crate) fn event_acknowledged(&mut self, key: EventKey) {
        self.events.insert(key, Standing::Acknowledged);
    }

    pub(crate) fn ordered(&mut self, job: String, host: u32) {
        self.ordered.insert(job, host);
    }

    /// A job came to a host; true if it shall do it.
    pub(crate) fn offered(&mut self, job: &str, host: u32) -> bool {
        let elsewhere = self.ordered.get(job).is_some_and(|owner| *owner != host);
        match self.results.get(job) {
            Some((owner, Standing::Acknowledged)) => {
                // Somebody else's, or done with: both must not happen.
                self.wrong_jobs += 1;
                let _ = owner;
                false
            }
            Some((owner, Standing::Sent)) => {
                self.wrong_jobs += u64::from(*owner != host);
                false
            }
            None => {
                self.wrong_jobs += u64::from(elsewhere);
                self.results.insert(job.to_owned(), (host, Standing::Sent));
                true
            }
        }
    }

    /// A job has its result.
    pub(crate) fn ended(&mut self, job: &str, errcode: u16) {
        if errcode != 0 {
            self.failed.insert(job.to_owned(), errcode);
        }
    }

    pub(crate) fn result_acknowledged(&mut self, job: &str) {
        if let Some((_, standing)) = self.results.get_mut(job) {
            *standing = Standing::Acknowledged;
        }
    }

    /// Jobs that were ordered.
    pub(crate) fn orders(&self) -> u64 {
        self.ordered.len() as u64
    }

    /// Jobs handed to the wrong host, or again after their end.
    pub(crate) fn wrong_jobs(&self) -> u64 {
        self.wrong_jobs
    }

    /// Compares with the events that the server has.
    pub(crate) fn compare_events(&self, stored: &[EventKey]) -> Account {
        let mut account = count(self.events.values());
        let mut times: HashMap<&EventKey, u64> = HashMap::new();
        for key in stored {
            *times.entry(key).or_default() += 1;
        }
        account.doubled = times.values().filter(|times| **times > 1).count() as u64;
        let unknown = times.keys().filter(|key| !self.events.contains_key(key));
        account.invented = unknown.count() as u64;
        let acknowledged = self.events.iter();
        let acknowledged = acknowledged.filter(|(_, it)| **it == Standing::Acknowledged);
        let lost = acknowledged.filter(|(key, _)| !times.contains_key(key));
        account.lost = lost.count() as u64;
        account
    }

    /// Compares with the results that the server has.
    pub(crate) fn compare_results(&self, stored: &[StoredResult]) -> Account {
        let mut account = count(self.results.values().map(|(_, standing)| standing));
        let mut times: BTreeMap<&str, u64> = BTreeMap::new();
        let mut of_others = HashSet::new();
        for StoredResult { job, host, errcode } in stored {
            *times.entry(job).or_default() += 1;
            let ours = self.results.get(job);
            let said = self.failed.get(job).copied().unwrap_or_default();
            if ours.is_some_and(|(owner, _)| Some(*owner) != *host || said != *errcode) {
                of_others.insert(job);
            }
        }
        account.doubled = times.values().filter(|times| **times > 1).count() as u64;
        account.invented = of_others.len() as u64;
        let acknowledged = self.results.iter();
        let acknowledged = acknowledged.filter(|(_, (_, it))| *it == Standing::Acknowledged);
        let lost = acknowledged.filter(|(job, _)| !times.contains_key(job.as_str()));
        account.lost = lost.count() as u64;
        account
    }
}

fn count<'a>(standings: impl Iterator<Item = &'a Standing>) -> Account {
    let mut account = Account::default();
    for standing in standings {
        account.sent += 1;
        account.acknowledged += u64::from(*standing == Standing::Acknowledged);
    }
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: EventKey = EventKey {
        host: 999_999,
        boot: 3,
        seq: 7,
    };

    #[test]
    fn an_event_is_found_again_by_what_the_server_shows_of_it() {
        let id = KEY.boot_id(42).to_string();
        assert_eq!(EventKey::read(42, &id, 7), Some(KEY));
        assert_eq!(EventKey::read(43, &id, 7), None, "another run's");
        assert_eq!(EventKey::read(42, "x", 7), None);
    }

    #[test]
    fn only_what_was_acknowledged_is_lost_and_twice_is_doubled() {
        let mut ledger = Ledger::default();
        let other = EventKey { seq: 8, ..KEY };
        ledger.event_sent(KEY);
        ledger.event_sent(other);
        assert!(ledger.compare_events(&[]).is_clean());
        ledger.event_acknowledged(KEY);
        ledger.event_sent(KEY);
        let account = ledger.compare_events(&[other, other]);
        let expected = Account {
            sent: 2,
            acknowledged: 1,
            lost: 1,
            doubled: 1,
            invented: 0,
        };
        assert_eq!(account, expected);
        let never = EventKey { seq: 9, ..KEY };
        assert_eq!(ledger.compare_events(&[KEY, never]).invented, 1);
    }

    #[test]
    fn a_job_is_done_once_and_only_by_its_host() {
        let mut ledger = Ledger::default();
        ledger.ordered("a".into(), 1);
        ledger.ordered("b".into(), 1);
        assert!(ledger.offered("a", 1));
        assert!(!ledger.offered("a", 1), "it is under way");
        assert_eq!(ledger.wrong_jobs(), 0);
        ledger.result_acknowledged("a");
        assert_eq!(ledger.compare_results(&[]).lost, 1);
        let of = |host, errcode| StoredResult {
            job: "a".into(),
            host: Some(host),
            errcode,
        };
        assert!(ledger.compare_results(&[of(1, 0)]).is_clean());
        assert_eq!(ledger.compare_results(&[of(1, 0), of(1, 0)]).doubled, 1);
        assert_eq!(ledger.compare_results(&[of(2, 0)]).invented, 1);
        assert_eq!(ledger.compare_results(&[of(1, 4006)]).invented, 1);
        ledger.ended("a", 4006);
        assert!(ledger.compare_results(&[of(1, 4006)]).is_clean());
        assert!(!ledger.offered("a", 1));
        assert_eq!(ledger.wrong_jobs(), 1, "it was acknowledged");
        assert!(ledger.offered("b", 2));
        assert_eq!(ledger.wrong_jobs(), 2, "another host's");
    }
}
