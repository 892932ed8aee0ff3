//! When a job that was handed out is lost: its host lives and does not know it.
//!
//! The one rule: a host that is silent loses nothing. What it has it may still do,
//! and say so when it is back.

/// How soon an overdue job is looked at again, in milliseconds: sooner than most
/// hosts push twice, and ever more seldom while a host is silent.
const LOOK_MILLIS: (i64, i64) = (60_000, 3_600_000);

/// A job that was handed out, has no result, and must not begin any more. Times
/// are unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// When its time was over.
    pub expires: i64,
    /// When its host last said that it has it, as far as that was after `expires`.
    pub named: Option<i64>,
    /// The first push after `expires` that was seen not to name it.
    pub missed: Option<i64>,
    /// Its host's last push.
    pub seen: Option<i64>,
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing new: look again at this time.
    Nothing(i64),
    /// The host has pushed once without naming it.
    Missed {
        /// That push.
        push: i64,
        /// When to look again.
        again: i64,
    },
    /// And another time: it is lost.
    Lost,
}

/// Looks at an overdue job at `now`:
/// 1. only pushes after its time count, and only those that do not name it;
/// 2. it is lost with the second one that is seen since the host last named it. The
///    reply to the first one offered it again, in vain.
pub fn look(job: Overdue, now: i64) -> Found {
    let since = job.expires.max(job.named.unwrap_or(job.expires));
    let age = now.saturating_sub(since) / 2;
    let again = now.saturating_add(age.clamp(LOOK_MILLIS.0, LOOK_MILLIS.1));
    let Some(push) = job.seen.filter(|seen| *seen > since) else {
        return Found::Nothing(again);
    };
    // The host is there: its next push tells.
    let again = now.saturating_add(LOOK_MILLIS.0);
    match job.missed.filter(|missed| *missed > since) {
        None => Found::Missed { push, again },
        Some(missed) if missed < push => Found::Lost,
        Some(_) => Found::Nothing(again),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;
    const SOON: i64 = NOW + 60_000;

    fn check(named: Option<i64>, missed: Option<i64>, seen: Option<i64>) -> Found {
        let expires = NOW - 1000;
        let since = |time: Option<i64>| time.map(|time| expires + time);
        let job = Overdue {
            expires,
            named: since(named),
            missed: since(missed),
            seen: since(seen),
        };
        look(job, NOW)
    }

    #[test]
    fn a_job_is_lost_with_the_second_push_that_does_not_name_it() {
        let missed = Found::Missed {
            push: NOW - 1000 + 5,
            again: SOON,
        };
        assert_eq!(check(None, None, Some(5)), missed);
        assert_eq!(check(None, Some(5), Some(5)), Found::Nothing(SOON));
        assert_eq!(check(None, Some(5), Some(6)), Found::Lost);
    }

    #[test]
    fn pushes_before_its_time_was_over_do_not_count() {
        assert_eq!(check(None, None, Some(0)), Found::Nothing(SOON));
        assert_eq!(check(None, None, Some(-9)), Found::Nothing(SOON));
        assert_eq!(check(None, None, None), Found::Nothing(SOON));
    }

    #[test]
    fn a_host_that_names_it_has_it() {
        assert_eq!(check(Some(5), None, Some(5)), Found::Nothing(SOON));
        assert_eq!(check(Some(6), Some(5), Some(6)), Found::Nothing(SOON));
        // Two are needed from then on.
        let push = NOW - 1000 + 7;
        let missed = Found::Missed { push, again: SOON };
        assert_eq!(check(Some(6), Some(5), Some(7)), missed);
    }

    #[test]
    fn a_silent_host_is_looked_at_ever_more_seldom() {
        let again = |age: i64| {
            let job = Overdue {
                expires: NOW - age,
                named: None,
                missed: None,
                seen: None,
            };
            look(job, NOW)
        };
        assert_eq!(again(600_000), Found::Nothing(NOW + 300_000));
        assert_eq!(again(NOW * 100), Found::Nothing(NOW + 3_600_000));
        // One that names it is not.
        let job = Overdue {
            expires: 0,
            named: Some(NOW),
            missed: None,
            seen: Some(NOW),
        };
        assert_eq!(look(job, NOW), Found::Nothing(SOON));
    }
}
