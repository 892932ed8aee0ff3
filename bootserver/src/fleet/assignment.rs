//! Assignments: which version of an agent the hosts of a group shall have, and what
//! that means for one host.
//!
//! The one rule: a host is looked at as it is now. Of several assignments of one
//! agent that mean it, one has it, whether that one goes on or not; who leaves the
//! group keeps what it has.

use std::cmp::Reverse;

use super::presence::Presence;
use super::rollout::target::TargetState;

/// How long a success must have held so that what was tried before it does not count any
/// more, in milliseconds.
const HELD_MILLIS: i64 = 86_400_000;
/// How often a version is ordered of a host before somebody has to look.
pub const MAX_ATTEMPTS: i64 = 5;
/// How long nothing is ordered of a host after its first attempt; four times as long
/// after each further one. In milliseconds.
const BACK_OFF_MILLIS: i64 = 900_000;
/// The pause between two looks at all hosts: at least this, in milliseconds, and so many
/// times as long as the look took.
const SWEEP_PAUSE_MILLIS: i64 = 10_000;
const SWEEP_PAUSE_TIMES: i64 = 20;
/// Most assignments.
pub const MAX_ASSIGNMENTS: i64 = 1000;

/// By which of two assignments of one agent a host goes: the smaller key has it. The
/// higher priority first, then the older one, whose id is smaller.
pub fn precedence(priority: i64, id: &str) -> (Reverse<i64>, &str) {
    (Reverse(priority), id)
}

/// Who has a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// This assignment.
    Own,
    /// One that comes before it.
    Another,
}

/// What became of what was ordered of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// Where its target stands.
    pub state: TargetState,
    /// How often it was tried since it was last right for long.
    pub attempts: i64,
    /// Since when it stands there.
    pub since: i64,
}

/// A host of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Whose it is.
    pub claim: Claim,
    /// Whether it is there.
    pub presence: Presence,
    /// When it was last heard.
    pub seen: Option<i64>,
    /// The version it says it has.
    pub has: Option<&'a str>,
    /// Its target, if it was one.
    pub tried: Option<Tried>,
}

/// What is to be done about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it has the version, is not ours, or its order is under way.
    Leave,
    /// It becomes a target.
    Add,
    /// Its target waits again.
    Again {
        /// Whether what was tried before counts.
        attempts: Attempts,
    },
    /// Its target need not wait any more.
    Drop(&'static str),
}

/// Whether attempts go on being counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// They do.
    Kept,
    /// They begin anew.
    Forgotten,
}

/// When a version is ordered of a host again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is under way.
    UnderWay,
    /// Now.
    Now(Attempts),
    /// Then, in unix milliseconds.
    At(i64),
    /// When an operator says so.
    Never,
}

/// When a host that does not have the version is next ordered it:
/// 1. what was withdrawn, or tried [`MAX_ATTEMPTS`] times, not by itself;
/// 2. who had it for a day, at once, and as if for the first time;
/// 3. who had it for less: at once the first time, then as after a failure, for
///    somebody may be taking it away;
/// 4. after a failure later and later.
pub fn next(tried: Tried, now: i64) -> Next {
    let Tried {
        state,
        attempts,
        since,
    } = tried;
    let failed = match state {
        TargetState::Waiting | TargetState::Ordered | TargetState::Running => {
            return Next::UnderWay;
        }
        TargetState::Succeeded if now.saturating_sub(since) >= HELD_MILLIS => {
            return Next::Now(Attempts::Forgotten);
        }
        TargetState::Cancelled if attempts > 0 => return Next::Never,
        TargetState::Succeeded => attempts - 1,
        TargetState::Cancelled | TargetState::Skipped => 0,
        TargetState::Failed
        | TargetState::TimedOut
        | TargetState::RolledBack
        | TargetState::CrashLooped
        | TargetState::Lost
        | TargetState::Expired => attempts,
    };
    if attempts >= MAX_ATTEMPTS {
        return Next::Never;
    }
    let Ok(times @ 1..) = u32::try_from(failed) else {
        return Next::Now(Attempts::Kept);
    };
    let wait = BACK_OFF_MILLIS.saturating_mul(4_i64.saturating_pow(times - 1));
    match since.saturating_add(wait) {
        at if at <= now => Next::Now(Attempts::Kept),
        at => Next::At(at),
    }
}

/// What is to be done about a host of the group:
/// 1. one that belongs to another assignment, or has the version, waits for nothing;
/// 2. one that was never heard, or not since it succeeded, has not said what it has;
/// 3. any other gets the version, when [`next`] says so.
pub fn verdict(wanted: &str, member: Member<'_>, now: i64) -> Verdict {
    let waits = matches!(member.tried, Some(tried) if tried.state == TargetState::Waiting);
    if member.claim == Claim::Another {
        return if waits {
            Verdict::Drop("other-assignment")
        } else {
            Verdict::Leave
        };
    }
    if member.has == Some(wanted) {
        return if waits {
            Verdict::Drop("right")
        } else {
            Verdict::Leave
        };
    }
    match member.presence {
        Presence::Online | Presence::Late | Presence::Offline => {}
        Presence::New | Presence::Revoked | Presence::Deleted => return Verdict::Leave,
    }
    let Some(tried) = member.tried else {
        return Verdict::Add;
    };
    let is_heard = member.seen.is_some_and(|seen| seen > tried.since);
    if tried.state == TargetState::Succeeded && !is_heard {
        return Verdict::Leave;
    }
    match next(tried, now) {
        Next::Now(attempts) => Verdict::Again { attempts },
        Next::UnderWay | Next::At(_) | Next::Never => Verdict::Leave,
    }
}

/// When the next look at all hosts begins, after one that began and ended then.
pub fn next_sweep(begun: i64, ended: i64) -> i64 {
    let took = ended.saturating_sub(begun).max(0);
    let pause = took.saturating_mul(SWEEP_PAUSE_TIMES);
    ended.saturating_add(pause.max(SWEEP_PAUSE_MILLIS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: i64 = 60_000;

    fn tried(state: TargetState, attempts: i64) -> Tried {
        Tried {
            state,
            attempts,
            since: 0,
        }
    }

    fn member(has: Option<&str>, tried: Option<Tried>) -> Member<'_> {
        Member {
            claim: Claim::Own,
            presence: Presence::Online,
            seen: Some(1),
            has,
            tried,
        }
    }

    #[test]
    fn the_higher_priority_has_a_host_and_then_the_older_assignment() {
        assert!(precedence(5, "b") < precedence(0, "a"));
        assert!(precedence(0, "a") < precedence(0, "b"));
    }

    #[test]
    fn who_has_another_version_or_none_becomes_a_target() {
        assert_eq!(verdict("2", member(Some("1"), None), 9), Verdict::Add);
        assert_eq!(verdict("2", member(None, None), 9), Verdict::Add);
        assert_eq!(verdict("2", member(Some("2"), None), 9), Verdict::Leave);
        let unheard = Member {
            presence: Presence::New,
            ..member(None, None)
        };
        assert_eq!(verdict("2", unheard, 9), Verdict::Leave);
        let taken = Member {
            claim: Claim::Another,
            ..member(None, None)
        };
        assert_eq!(verdict("2", taken, 9), Verdict::Leave);
    }

    #[test]
    fn who_waits_for_what_it_has_or_is_not_ours_waits_no_longer() {
        let waits = Some(tried(TargetState::Waiting, 0));
        let right = member(Some("2"), waits);
        assert_eq!(verdict("2", right, 9), Verdict::Drop("right"));
        let taken = Member {
            claim: Claim::Another,
            ..member(None, waits)
        };
        assert_eq!(verdict("2", taken, 9), Verdict::Drop("other-assignment"));
    }

    #[test]
    fn a_success_is_believed_until_the_host_says_otherwise() {
        let done = member(Some("1"), Some(tried(TargetState::Succeeded, 1)));
        let not_heard = Member {
            seen: Some(0),
            ..done
        };
        assert_eq!(verdict("2", not_heard, 9), Verdict::Leave);
        let attempts = Attempts::Kept;
        assert_eq!(verdict("2", done, 9), Verdict::Again { attempts });
    }

    #[test]
    fn failures_are_tried_again_later_and_later_and_not_for_ever() {
        let failed = |attempts, now| next(tried(TargetState::Failed, attempts), now);
        let now = Next::Now(Attempts::Kept);
        assert_eq!(failed(1, 0), Next::At(15 * MINUTE));
        assert_eq!(failed(1, 15 * MINUTE), now);
        assert_eq!(failed(2, 0), Next::At(60 * MINUTE));
        assert_eq!(failed(4, 0), Next::At(16 * 60 * MINUTE));
        assert_eq!(failed(5, i64::MAX), Next::Never);
        // An operator has forgotten them.
        assert_eq!(failed(0, 0), now);
        assert_eq!(next(tried(TargetState::Cancelled, 1), 0), Next::Never);
        assert_eq!(next(tried(TargetState::Cancelled, 0), 0), now);
    }

    #[test]
    fn who_changes_it_back_each_time_wins_in_the_end() {
        let drifted = |attempts, now| next(tried(TargetState::Succeeded, attempts), now);
        assert_eq!(drifted(1, 1), Next::Now(Attempts::Kept));
        assert_eq!(drifted(2, 1), Next::At(15 * MINUTE));
        assert_eq!(drifted(5, 1), Next::Never);
        // One that held is another matter.
        assert_eq!(drifted(5, HELD_MILLIS), Next::Now(Attempts::Forgotten));
    }

    #[test]
    fn looking_takes_a_twentieth_of_the_time_at_most() {
        assert_eq!(next_sweep(0, 100), 10_100);
        assert_eq!(next_sweep(1000, 6000), 106_000);
    }

    proptest! {
        /// Whatever becomes of each attempt, a host is ordered a version at most so often,
        /// unless it holds for a day.
        #[test]
        fn no_host_is_ordered_a_version_for_ever(
            ends in proptest::collection::vec(0..5_usize, 50),
            waits in proptest::collection::vec(0..HELD_MILLIS, 50),
        ) {
            let states = [
                TargetState::Succeeded,
                TargetState::Failed,
                TargetState::CrashLooped,
                TargetState::Lost,
                TargetState::Expired,
            ];
            let mut host = member(Some("1"), None);
            let (mut now, mut orders) = (0, 0);
            for (end, wait) in ends.into_iter().zip(waits) {
                now += wait.min(HELD_MILLIS - 1);
                host.seen = Some(now + 1);
                let attempts = match verdict("2", host, now) {
                    Verdict::Add => 0,
                    Verdict::Again { attempts: Attempts::Kept } => {
                        host.tried.map_or(0, |tried| tried.attempts)
                    }
                    // It was right for a day, waits included.
                    Verdict::Again { attempts: Attempts::Forgotten } => return Ok(()),
                    Verdict::Leave | Verdict::Drop(_) => continue,
                };
                orders += 1;
                host.tried = Some(Tried { state: states[end], attempts: attempts + 1, since: now });
            }
            prop_assert!(orders <= MAX_ATTEMPTS);
        }
    }
}
