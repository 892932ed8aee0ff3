//! Two machines with one identity: a disk that was copied.
//!
//! Each machine names itself and its boot in every status. One machine changes
//! its boot and never goes back; two of them alternate. The rule: one return is
//! nothing, because a snapshot may have been restored; the second one within
//! two steps proves it.

use serde::{Deserialize, Serialize};

/// How many changes are remembered: A, B, A, B.
const REMEMBERED: usize = 4;
/// Steps within which the returns must come.
const STEPS: i64 = 2;
/// What a push may be late without meaning anything, in milliseconds.
const SLACK_MILLIS: i64 = 30_000;

/// A machine in one boot, as a status names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pusher {
    /// /etc/machine-id.
    pub machine_id: Option<String>,
    /// The boot.
    pub boot_id: Option<String>,
}

/// Who pushed with one identity lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sightings {
    /// Changes of the pusher, oldest first, with the time of the change.
    recent: Vec<(Pusher, i64)>,
    /// The one that was found to be a copy.
    copy: Option<Pusher>,
}

/// Whose status it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The host's, as far as anybody can tell.
    Own,
    /// The copy's: it shall register again and get an identity of its own.
    Copy,
}

impl Sightings {
    /// Takes note of who pushes at `now`, in milliseconds. `owner` is the
    /// machine the identity was given to, `step` the seconds between two pushes.
    ///
    /// 1. Who names neither machine nor boot cannot be told apart.
    /// 2. Who was found to be a copy is one.
    /// 3. Of two that alternate, the copy is the machine that is not the owner;
    ///    on one machine (both disks have its id) the one that came second.
    pub fn observe(
        &mut self,
        pusher: &Pusher,
        owner: Option<&str>,
        now: i64,
        step: u64,
    ) -> Verdict {
        if *pusher == Pusher::default() {
            return Verdict::Own;
        }
        if self.recent.last().map(|(last, _)| last) != Some(pusher) {
            self.recent.push((pusher.clone(), now));
            let surplus = self.recent.len().saturating_sub(REMEMBERED);
            self.recent.drain(..surplus);
            if let Some(copy) = self.alternating(owner, step) {
                self.copy = Some(copy);
            }
        }
        match self.copy.as_ref() == Some(pusher) {
            true => Verdict::Copy,
            false => Verdict::Own,
        }
    }

    /// Whether this pusher may keep the identity when it registers.
    pub fn may_keep(&self, pusher: &Pusher) -> bool {
        let Some(copy) = &self.copy else { return true };
        let original = self.recent.iter().rev().find(|(other, _)| other != copy);
        // A copy that has rebooted meanwhile is no longer known by its boot, the
        // original is.
        pusher != copy && original.is_none_or(|(original, _)| original == pusher)
    }

    /// The copy, when the last changes are A, B, A, B.
    fn alternating(&self, owner: Option<&str>, step: u64) -> Option<Pusher> {
        let [(a, _), (b, first_return), (a_again, _), (b_again, now)] = self.recent.as_slice()
        else {
            return None;
        };
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let window = step
            .saturating_mul(STEPS * 1000)
            .saturating_add(SLACK_MILLIS);
        let is_proof = a == a_again && b == b_again && now.saturating_sub(*first_return) <= window;
        if !is_proof {
            return None;
        }
        // Found before: what alternates with it is the original.
        if self
            .copy
            .as_ref()
            .is_some_and(|copy| copy == a || copy == b)
        {
            return self.copy.clone();
        }
        let b_is_owner = owner.is_some() && b.machine_id.as_deref() == owner;
        let a_is_owner = owner.is_some() && a.machine_id.as_deref() == owner;
        let copy = if b_is_owner && !a_is_owner { a } else { b };
        Some(copy.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `m1/b1` is machine m1 in boot b1.
    fn pusher(text: &str) -> Pusher {
        let (machine, boot) = text.split_once('/').expect("machine/boot");
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Pusher {
            machine_id: some(machine),
            boot_id: some(boot),
        }
    }

    /// Observes pushes of `(seconds, who)`; says which were found to be a copy's.
    fn check(pushes: &[(i64, &str)]) -> Vec<usize> {
        let mut sightings = Sightings::default();
        let verdicts = pushes
            .iter()
            .map(|(at, who)| sightings.observe(&pusher(who), Some("m1"), at * 1000, 600));
        let verdicts: Vec<_> = verdicts.collect();
        let copies = (0..verdicts.len()).filter(|at| verdicts[*at] == Verdict::Copy);
        copies.collect()
    }

    #[test]
    fn a_host_that_reboots_is_one_host() {
        let reboots = [(0, "m1/b1"), (600, "m1/b2"), (650, "m1/b3"), (700, "m1/b4")];
        assert_eq!(check(&reboots), [0_usize; 0]);
    }

    #[test]
    fn a_snapshot_that_was_restored_is_one_host() {
        let restored = [
            (0, "m1/b1"),
            (600, "m1/b2"),
            (900, "m1/b1"),
            (1500, "m1/b1"),
        ];
        assert_eq!(check(&restored), [0_usize; 0]);
        let again = [restored.as_slice(), &[(1600, "m1/b3")]].concat();
        assert_eq!(check(&again), [0_usize; 0]);
    }

    #[test]
    fn a_copy_with_the_same_machine_id_is_the_one_that_came_second() {
        let pushes = [
            (-86_400, "m1/b1"),
            (0, "m1/b1"),
            (300, "m1/b2"),
            (600, "m1/b1"),
            (900, "m1/b2"),
            (1200, "m1/b1"),
            (1500, "m1/b2"),
        ];
        assert_eq!(check(&pushes), [4, 6]);
    }

    #[test]
    fn of_two_machines_the_one_the_identity_was_given_to_keeps_it() {
        let first = [(0, "m2/b2"), (300, "m1/b1"), (600, "m2/b2"), (900, "m1/b1")];
        let pushes = [first.as_slice(), &[(1200, "m2/b2")]].concat();
        assert_eq!(check(&pushes), [4]);
    }

    #[test]
    fn returns_that_are_far_apart_prove_nothing() {
        let rare = [
            (0, "m1/b1"),
            (600, "m1/b2"),
            (1200, "m1/b1"),
            (1831, "m1/b2"),
        ];
        assert_eq!(check(&rare), [0_usize; 0]);
        let just = [
            (0, "m1/b1"),
            (600, "m1/b2"),
            (1200, "m1/b1"),
            (1830, "m1/b2"),
        ];
        assert_eq!(check(&just), [3]);
    }

    #[test]
    fn who_names_neither_machine_nor_boot_cannot_be_told_apart() {
        assert_eq!(
            check(&[(0, "m1/b1"), (1, "/"), (2, "m1/b1"), (3, "/")]),
            [0_usize; 0]
        );
    }

    #[test]
    fn only_the_original_keeps_the_identity_when_it_registers() {
        let mut sightings = Sightings::default();
        assert!(sightings.may_keep(&pusher("m1/b7")));
        for (at, who) in [(0, "m1/b1"), (300, "m1/b2"), (600, "m1/b1"), (900, "m1/b2")] {
            sightings.observe(&pusher(who), Some("m1"), at * 1000, 600);
        }
        assert!(sightings.may_keep(&pusher("m1/b1")));
        assert!(!sightings.may_keep(&pusher("m1/b2")), "the copy");
        assert!(
            !sightings.may_keep(&pusher("m1/b9")),
            "the copy in its next boot"
        );
    }
}
