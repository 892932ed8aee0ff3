//! What happens next in the rollout an assignment goes on with. It has no end, and
//! hosts come to it again, so its limits look at what ended lately.
//!
//! The one rule: nothing is handed out once a limit is exceeded, outside of the
//! window, beyond the released stages, or to more hosts at once than allowed. A
//! limit pauses it; an operator who goes on begins with fresh counts.

use serde::{Deserialize, Serialize};

use super::plan::{Amount, Contention, Plan, Terms};
use super::stand::{Command, Phase, Refusal, Stand};
use super::step::{
    Course, GIVE_UP_MILLIS, Patience, Recall, Step, Waiting, advance, begin_before, hand_out,
};
use super::tally::{Counts, Tally};
use super::target::TargetState;

/// For how many hours what ended counts for the limits.
pub const RECENT_HOURS: i64 = 24;

/// The hour a time is in.
pub const fn hour_of(millis: i64) -> i64 {
    millis.div_euclid(3_600_000)
}

/// Why a plan is none for an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NotStanding {
    /// An assignment takes nothing over.
    #[error("contention: rollouts come before assignments, so leave it out")]
    Contention,
}

/// Looks whether a plan can go on without an end.
pub fn can_stand(terms: &Terms) -> Result<(), NotStanding> {
    match terms.contention {
        Contention::Wait => Ok(()),
        Contention::Supersede => Err(NotStanding::Contention),
    }
}

/// The terms of one that begins over a group of so many hosts. Hosts come and go, and
/// who has proved a version must not be asked again, so what a percentage is of them is
/// said once; each stage has a host at least, without which it would have no end.
pub fn settled(mut terms: Terms, hosts: u64) -> Terms {
    let mut before = 0;
    let last = terms.stages.len().saturating_sub(1);
    for (place, stage) in terms.stages.iter_mut().enumerate() {
        stage.hosts = None;
        if place == last {
            break;
        }
        let end = match stage.upto {
            Amount::Hosts(upto) => upto,
            part @ Amount::Percent(_) => part.of(hosts),
        };
        before = end.max(before + 1);
        stage.hosts = (stage.upto != Amount::Hosts(before)).then_some(before);
    }
    terms
}

/// How one stands that begins.
pub fn begin(plan: &Plan) -> Result<Stand, Refusal> {
    let stand = Stand {
        expires: i64::MAX,
        ..Stand::new(plan, 0)
    };
    stand.take(plan, Command::Frozen)
}

/// The next step, by what ended lately and how many hosts the assignment has. It says
/// the same to whoever asks with the same.
pub fn step(
    plan: &Plan,
    stand: &Stand,
    counts: &Counts,
    recent: &Tally,
    hosts: u64,
    now: i64,
) -> Step {
    let total = counts.total();
    // Those who left are still its targets.
    let hosts = hosts.max(total.open());
    let mut next = stand.clone();
    if next.phase == Phase::Running {
        match plan.exceeded(recent, hosts) {
            Some(limit) => next.phase = Phase::Paused(limit.into()),
            None => advance(plan, &mut next, counts, Course::Standing, now),
        }
    }
    if let Phase::Stopping(end) = next.phase
        && total.open() == 0
    {
        next.phase = Phase::Ended(end);
    }
    let expires = plan.expires(now);
    let (recall, waiting, hand_out) = match next.phase {
        Phase::Freezing | Phase::Unconfirmed | Phase::Ended(_) => {
            (Recall::None, Waiting::Stay, None)
        }
        Phase::Paused(_) => (Recall::All, Waiting::Stay, None),
        Phase::Stopping(_) => (Recall::All, Waiting::Skip, None),
        Phase::Running => match begin_before(plan, expires, now) {
            None => (Recall::All, Waiting::Stay, None),
            Some(begin_before) => {
                let hand_out = hand_out(plan, &next, counts, hosts, begin_before);
                (Recall::OfOffline, Waiting::Stay, hand_out)
            }
        },
    };
    Step {
        stand: next,
        recall,
        // Each by its own time; see `given_up_before`.
        patience: Patience::Wait,
        waiting,
        hand_out,
    }
}

/// Who has been under way since before this is not waited for any longer: its job has
/// expired, and a day more is over.
pub fn given_up_before(plan: &Plan, now: i64) -> i64 {
    let age = plan.expires(now).saturating_sub(now);
    now.saturating_sub(age).saturating_sub(GIVE_UP_MILLIS)
}

/// What a move of a target adds to what ended lately: an end is one more, and a
/// correction takes the end before it away.
pub fn ends(from: TargetState, to: TargetState) -> impl Iterator<Item = (TargetState, i64)> {
    let is_end = |state: TargetState| !state.is_open() && state != TargetState::Skipped;
    let added = is_end(to).then_some((to, 1));
    let taken = (is_end(from) && is_end(to)).then_some((from, -1));
    added.into_iter().chain(taken)
}

/// Whether a move of a target is an attempt that is over.
pub fn is_attempt(from: TargetState, to: TargetState) -> bool {
    from.is_open() && !to.is_open() && to != TargetState::Skipped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rollout::stand::{End, Pause};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn plan(terms: Value) -> Plan {
        serde_json::from_value(terms).expect("a plan")
    }

    fn counts(states: &[TargetState]) -> Counts {
        let mut counts = Counts::default();
        for state in states {
            counts.add(0, *state, 1);
        }
        counts
    }

    #[test]
    fn it_begins_at_once_and_has_no_end() {
        let plan = plan(json!({ "parallel": 2 }));
        let stand = begin(&plan).expect("it begins");
        assert_eq!(stand.phase, Phase::Running);
        let none = Tally::default();
        for states in [&[][..], &[TargetState::Succeeded; 3]] {
            let step = step(&plan, &stand, &counts(states), &none, 3, 1000);
            assert_eq!((step.stand.phase, step.hand_out), (Phase::Running, None));
        }
        let stopping = Stand {
            phase: Phase::Stopping(End::Aborted),
            ..stand
        };
        let step = step(&plan, &stopping, &Counts::default(), &none, 3, 0);
        assert_eq!(step.stand.phase, Phase::Ended(End::Aborted));
    }

    #[test]
    fn what_failed_long_ago_stops_nothing_and_what_failed_lately_does() {
        let plan = plan(json!({ "parallel": 2, "fail_count": 1 }));
        let stand = begin(&plan).expect("it begins");
        let all = counts(&[
            TargetState::Failed,
            TargetState::Failed,
            TargetState::Waiting,
        ]);
        let quiet = step(&plan, &stand, &all, &Tally::default(), 3, 0);
        assert!(quiet.hand_out.is_some());
        let mut recent = Tally::default();
        recent.add(TargetState::Failed, 2);
        let stopped = step(&plan, &stand, &all, &recent, 3, 0);
        assert_eq!(stopped.stand.phase, Phase::Paused(Pause::FailCount));
        assert_eq!((stopped.hand_out, stopped.recall), (None, Recall::All));
        let next = stopped.stand.take(&plan, Command::Resume);
        assert_eq!(next.expect("it goes on").phase, Phase::Running);
    }

    #[test]
    fn its_first_hosts_prove_it_whenever_they_come() {
        let plan = plan(json!({
            "parallel": 5, "stages": [{"upto": 1, "soak": 10}, {"upto": "all"}],
        }));
        let none = Tally::default();
        let begun = begin(&plan).expect("it begins");
        let empty = step(&plan, &begun, &Counts::default(), &none, 0, 0);
        assert_eq!(empty.stand.stage, 0, "nobody has proved anything");
        let mut all = Counts::default();
        all.add(0, TargetState::Succeeded, 1);
        let held = step(&plan, &empty.stand, &all, &none, 9, 1_000);
        assert_eq!(held.stand.stage, 0);
        let open = step(&plan, &held.stand, &all, &none, 9, 11_000);
        assert_eq!(open.stand.stage, 1);
        all.add(1, TargetState::Waiting, 8);
        let next = step(&plan, &open.stand, &all, &none, 9, 12_000);
        assert_eq!(next.hand_out.map(|it| (it.most, it.stage)), Some((5, 1)));
    }

    #[test]
    fn a_plan_that_takes_something_over_cannot_stand() {
        let terms = |terms: Value| serde_json::from_value::<Terms>(terms).expect("terms");
        let check = |value| can_stand(&terms(value));
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(
            check(json!({ "contention": "supersede" })),
            Err(NotStanding::Contention)
        );
    }

    #[test]
    fn percentages_are_of_the_hosts_there_are_when_it_begins() {
        let ends = |stages: &[&str], hosts| {
            let stages: Vec<Value> = stages
                .iter()
                .map(|upto| match upto.parse::<u64>() {
                    Ok(number) => json!({ "upto": number }),
                    Err(_) => json!({ "upto": upto, "hosts": 7 }),
                })
                .collect();
            let terms = serde_json::from_value(json!({ "stages": stages })).expect("terms");
            let plan = Plan::try_from(settled(terms, hosts)).expect("a plan");
            // Stored and read again it says the same, and so it does when the group grows.
            let plan: Plan = serde_json::from_value(json!(plan)).expect("a plan");
            plan.stage_ends(1_000_000)
        };
        assert_eq!(ends(&["10%", "all"], 250), [25, 1_000_000]);
        assert_eq!(ends(&["1", "10%", "all"], 250), [1, 25, 1_000_000]);
        assert_eq!(ends(&["1", "20", "all"], 3), [1, 20, 1_000_000]);
        assert_eq!(ends(&["all"], 3), [1_000_000]);
        assert_eq!(ends(&[], 3), [1_000_000]);
        // Where that would be nobody, it is one host more.
        assert_eq!(ends(&["1", "10%", "20%", "all"], 3), [1, 2, 3, 1_000_000]);
        assert_eq!(ends(&["10%", "all"], 0), [1, 1_000_000]);
        assert_eq!(ends(&["50%", "2", "all"], 100), [50, 51, 1_000_000]);
    }

    #[test]
    fn a_correction_takes_the_end_before_it_away() {
        use TargetState::{Lost, Running, Skipped, Succeeded, Waiting};
        let ends = |from, to| ends(from, to).collect::<Vec<_>>();
        assert_eq!(ends(Running, Lost), [(Lost, 1)]);
        assert_eq!(ends(Lost, Succeeded), [(Succeeded, 1), (Lost, -1)]);
        assert_eq!(ends(Succeeded, Waiting), []);
        assert_eq!(ends(Waiting, Skipped), []);
        assert!(is_attempt(Running, Lost) && !is_attempt(Lost, Succeeded));
        assert!(!is_attempt(Waiting, Skipped));
    }

    #[derive(Debug, Clone)]
    enum Doing {
        Comes,
        Drifts(usize),
        Ends(usize, TargetState),
        Resume,
        Later(i64),
    }

    fn doing() -> impl Strategy<Value = Doing> {
        let state = prop_oneof![
            4 => Just(TargetState::Succeeded),
            1 => Just(TargetState::Failed),
            1 => Just(TargetState::Lost),
        ];
        prop_oneof![
            Just(Doing::Comes),
            any::<usize>().prop_map(Doing::Drifts),
            (any::<usize>(), state).prop_map(|(place, state)| Doing::Ends(place, state)),
            Just(Doing::Resume),
            (1..7_200_000_i64).prop_map(Doing::Later),
        ]
    }

    proptest! {
        /// Whoever comes, drifts or fails: no more are under way than may be, nothing is
        /// ordered after a limit, and the failures beyond it were under way before it.
        #[test]
        fn no_more_are_ordered_than_the_limits_allow(
            parallel in 1..5_u64,
            fail_count in 0..4_i64,
            doings in vec(doing(), 1..200),
        ) {
            let plan = plan(json!({ "parallel": parallel, "fail_count": fail_count }));
            let mut stand = begin(&plan).expect("it begins");
            let mut targets: Vec<TargetState> = Vec::new();
            let mut ended: Vec<(i64, TargetState)> = Vec::new();
            let mut now = 0;
            let mut fresh_since = 0;
            for doing in doings {
                match doing {
                    Doing::Comes => targets.push(TargetState::Waiting),
                    Doing::Drifts(place) if !targets.is_empty() => {
                        let place = place % targets.len();
                        if !targets[place].is_open() {
                            targets[place] = TargetState::Waiting;
                        }
                    }
                    Doing::Ends(place, state) if !targets.is_empty() => {
                        let place = place % targets.len();
                        if targets[place] == TargetState::Running {
                            targets[place] = state;
                            ended.push((now, state));
                        }
                    }
                    Doing::Resume => {
                        if let Ok(next) = stand.take(&plan, Command::Resume) {
                            stand = next;
                            fresh_since = ended.len();
                        }
                    }
                    Doing::Later(millis) => now += millis,
                    Doing::Drifts(_) | Doing::Ends(..) => {}
                }
                let mut recent = Tally::default();
                for (_, state) in ended[fresh_since..]
                    .iter()
                    .filter(|(at, _)| hour_of(*at) > hour_of(now) - RECENT_HOURS)
                {
                    recent.add(*state, 1);
                }
                let hosts = targets.len() as u64;
                let next = step(&plan, &stand, &counts(&targets), &recent, hosts, now);
                // Asked again, after a restart, it says the same.
                let again = step(&plan, &stand, &counts(&targets), &recent, hosts, now);
                prop_assert_eq!(&next, &again);
                stand = next.stand;
                let failures = plan.failures(&recent);
                let limit = u64::try_from(fail_count).unwrap_or_default();
                prop_assert!(failures <= limit + parallel);
                if failures > limit {
                    prop_assert!(next.hand_out.is_none());
                }
                let mut left = next.hand_out.map_or(0, |it| it.most);
                for target in targets.iter_mut().filter(|it| **it == TargetState::Waiting) {
                    if left > 0 {
                        *target = TargetState::Running;
                        left -= 1;
                    }
                }
                let running = targets.iter().filter(|it| **it == TargetState::Running).count();
                prop_assert!(running as u64 <= parallel);
            }
        }
    }
}
