//! What must hold in every rollout, whatever hosts and operators do.

use std::collections::BTreeSet;

use bootagent_protocol::ErrorCode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::plan::Plan;
use super::stand::{Command, End, Gate, Phase, Stand};
use super::step::{GIVE_UP_MILLIS, HandOut, Patience, Recall, Step, Waiting, gate, step};
use super::tally::Counts;
use super::target::{JobEnd, News, TargetState, after};
use super::window::Opening;

const HOUR: i64 = 3_600_000;

/// A host in a rollout, as a store would keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    stage: usize,
    state: TargetState,
    is_online: bool,
    begin_before: i64,
}

/// A rollout with its hosts, at a time.
struct World {
    plan: Plan,
    stand: Stand,
    targets: Vec<Target>,
    now: i64,
    /// How often a target was ordered.
    ordered: usize,
}

impl World {
    fn new(plan: Plan, hosts: usize) -> Self {
        let ends = plan.stage_ends(hosts as u64);
        let stage = |place: u64| ends.iter().position(|end| place < *end).expect("a stage");
        let target = |place| Target {
            stage: stage(place),
            state: TargetState::Waiting,
            is_online: true,
            begin_before: 0,
        };
        let stand = Stand::new(&plan, 0).take(&plan, Command::Frozen);
        Self {
            stand: stand.expect("a new one can be frozen"),
            plan,
            targets: (0..hosts as u64).map(target).collect(),
            now: 0,
            ordered: 0,
        }
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for target in &self.targets {
            counts.add(target.stage, target.state, 1);
        }
        counts
    }

    /// The places of the targets in a state.
    fn places(&self, state: TargetState) -> Vec<usize> {
        let places = (0..self.targets.len()).filter(|place| self.targets[*place].state == state);
        places.collect()
    }

    fn hear(&mut self, place: usize, news: News) {
        let target = &mut self.targets[place];
        if let Some(state) = after(target.state, news) {
            target.state = state;
        }
    }

    fn result(&mut self, place: usize, code: u16) {
        let end = JobEnd {
            errcode: ErrorCode(code),
            at: self.now,
            begin_before: self.targets[place].begin_before,
            expires: self.stand.expires,
        };
        self.hear(place, News::Result(end));
    }

    /// One step, done.
    fn step(&mut self) -> Step {
        let step = step(&self.plan, &self.stand, &self.counts(), self.now);
        self.stand = step.stand.clone();
        for place in 0..self.targets.len() {
            match (step.recall, self.targets[place].is_online) {
                (Recall::All, _) | (Recall::OfOffline, false) => self.hear(place, News::Recalled),
                (Recall::None, _) | (Recall::OfOffline, true) => {}
            }
            match step.patience {
                Patience::GiveUp => self.hear(place, News::GivenUp),
                Patience::Wait => {}
            }
            match step.waiting {
                Waiting::Stay => {}
                Waiting::Skip if self.targets[place].state == TargetState::Waiting => {
                    self.hear(place, News::Passed);
                }
                Waiting::Skip => {}
                Waiting::Expire => self.hear(place, News::Expired),
            }
        }
        if let Some(hand_out) = step.hand_out {
            self.hand_out(hand_out);
        }
        step
    }

    fn hand_out(&mut self, hand_out: HandOut) {
        let fitting = |target: &&mut Target| {
            target.state == TargetState::Waiting
                && target.is_online
                && target.stage <= hand_out.stage
        };
        let most = usize::try_from(hand_out.most).expect("few");
        for target in self.targets.iter_mut().filter(fitting).take(most) {
            target.state = after(target.state, News::Ordered).expect("it waited");
            target.begin_before = hand_out.begin_before;
            self.ordered += 1;
        }
    }
}

/// What happens between two steps.
#[derive(Debug, Clone)]
enum Move {
    /// A host has its job.
    Send(Index),
    /// A host answers.
    Answer(Index, u16),
    /// A child does not stay up.
    Crash(Index),
    /// A host goes away, or comes back.
    Away(Index),
    /// A host leaves the fleet.
    Gone(Index),
    /// Operators.
    Pause,
    Resume,
    Abort,
    /// Nothing.
    Tick,
}

fn movement() -> impl Strategy<Value = Move> {
    let code = prop_oneof![
        8 => Just(0),
        2 => prop_oneof![Just(3001), Just(4002), Just(4006), Just(1006), Just(1008)],
        1 => Just(1005),
    ];
    prop_oneof![
        20 => any::<Index>().prop_map(Move::Send),
        30 => (any::<Index>(), code).prop_map(|(place, code)| Move::Answer(place, code)),
        2 => any::<Index>().prop_map(Move::Crash),
        4 => any::<Index>().prop_map(Move::Away),
        1 => any::<Index>().prop_map(Move::Gone),
        1 => Just(Move::Pause),
        3 => Just(Move::Resume),
        1 => Just(Move::Abort),
        10 => Just(Move::Tick),
    ]
}

/// Time between two steps: mostly a little, sometimes a night.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 0..5_000_i64, 3 => 0..600_000_i64, 1 => 0..(12 * HOUR)]
}

fn plan() -> impl Strategy<Value = Plan> {
    let parallel = prop_oneof![
        (1..8_u64).prop_map(|hosts| json!(hosts)),
        (1..=100_u64).prop_map(|percent| json!(format!("{percent}%"))),
    ];
    let stages = prop_oneof![
        Just(json!([])),
        (0..600_u64, 1..=100_u64).prop_map(|(soak, success)| json!([
            {"upto": 1, "soak": soak, "success": success},
            {"upto": "30%", "soak": soak},
            {"upto": "all", "soak": soak},
        ])),
    ];
    let limits = (-1..6_i64, 0..60_u64, any::<bool>());
    let window = prop_oneof![
        2 => Just(None),
        1 => Just(Some(json!({"zone": "Asia/Shanghai", "from": "22:00", "until": "06:00"}))),
    ];
    (parallel, stages, limits, window).prop_map(|(parallel, stages, limits, window)| {
        let (fail_count, fail_rate, expired) = limits;
        let mut terms = json!({
            "parallel": parallel, "stages": stages, "fail_count": fail_count,
            "fail_rate": fail_rate, "expires_in": 2 * 86_400,
        });
        if expired && fail_count >= 0 {
            terms["count_as_failed"] = json!(["lost", "expired"]);
        }
        if let Some(window) = window {
            terms["window"] = window;
        }
        serde_json::from_value(terms).expect("a plan")
    })
}

fn happen(world: &mut World, movement: &Move) {
    let hosts = world.targets.len();
    let command = |world: &mut World, command| {
        // Refused where it does not fit.
        if let Ok(stand) = world.stand.take(&world.plan, command) {
            world.stand = stand;
        }
    };
    match movement {
        Move::Send(place) => {
            let place = place.index(hosts);
            if world.targets[place].is_online {
                world.hear(place, News::Sent);
            }
        }
        Move::Answer(place, code) => world.result(place.index(hosts), *code),
        Move::Crash(place) => world.hear(place.index(hosts), News::CrashLoop),
        Move::Away(place) => {
            let target = &mut world.targets[place.index(hosts)];
            target.is_online = !target.is_online;
        }
        Move::Gone(place) => world.hear(place.index(hosts), News::HostGone),
        Move::Pause => command(world, Command::Pause),
        Move::Resume => command(world, Command::Resume),
        Move::Abort => command(world, Command::Abort),
        Move::Tick => {}
    }
}

/// Forgets everything but what a database keeps.
fn restart(world: &mut World) {
    fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        let text: Value = serde_json::to_value(value).expect("JSON");
        serde_json::from_value(text).expect("what was written")
    }
    world.plan = again(&world.plan);
    world.stand = again(&world.stand);
    for target in &mut world.targets {
        target.state = again(&target.state);
    }
}

/// Steps on until everything must have ended.
fn wait_for_the_end(world: &mut World) {
    let last = world.stand.expires + GIVE_UP_MILLIS + 10 * HOUR;
    while world.now < last {
        world.now += 5 * HOUR;
        world.step();
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn no_more_is_handed_out_than_limits_places_stages_and_window_allow(
        plan in plan(),
        hosts in 1..40_usize,
        history in vec((movement(), pause()), 1..80),
    ) {
        let mut world = World::new(plan, hosts);
        let most = world.plan.terms().parallel.of(hosts as u64);
        // How many were ordered when it stopped.
        let mut stopped: Option<usize> = None;
        for (movement, pause) in &history {
            happen(&mut world, movement);
            world.now += pause;
            let before = world.counts().total();
            let ordered = world.ordered;
            let step = world.step();
            let total = world.counts().total();
            if world.ordered > ordered {
                prop_assert!(stopped.is_none(), "handed out after it stopped");
                prop_assert_eq!(step.stand.phase, Phase::Running);
                prop_assert!(world.plan.exceeded(&before, before.all()).is_none());
                prop_assert!(total.under_way() <= most);
                let window = world.plan.window().map(|window| window.at(world.now));
                let is_open = !matches!(window, Some(Opening::Closed { .. }));
                prop_assert!(is_open && world.now < world.stand.expires);
            }
            let (_, later) = world.counts().split_after(world.stand.stage);
            prop_assert_eq!(later.under_way() + later.of(TargetState::Succeeded), 0);
            if matches!(world.stand.phase, Phase::Stopping(_) | Phase::Ended(_)) {
                stopped = stopped.or(Some(world.ordered));
            }
        }
        if let Some(ordered) = stopped {
            wait_for_the_end(&mut world);
            prop_assert_eq!(world.ordered, ordered);
        }
    }

    #[test]
    fn failures_are_at_most_the_limit_and_those_under_way(
        hosts in 1..60_usize,
        parallel in 1..10_u64,
        fail_count in 0..10_i64,
        answers in vec(any::<Index>(), 200),
    ) {
        let terms = json!({"parallel": parallel, "fail_count": fail_count});
        let mut world = World::new(serde_json::from_value(terms).expect("a plan"), hosts);
        for answer in answers {
            world.step();
            let ordered = world.places(TargetState::Ordered);
            if ordered.is_empty() {
                break;
            }
            world.result(*answer.get(&ordered), 5001);
        }
        let failures = world.counts().total().of(TargetState::Failed);
        let limit = u64::try_from(fail_count).expect("positive");
        prop_assert!(failures <= limit + parallel, "{} of {} + {}", failures, limit, parallel);
        // All there are, or the limit was exceeded.
        prop_assert!(failures == hosts as u64 || failures > limit);
    }

    #[test]
    fn every_target_ends(
        plan in plan(),
        hosts in 1..40_usize,
        history in vec((movement(), pause()), 0..60),
    ) {
        let mut world = World::new(plan, hosts);
        for (movement, pause) in &history {
            happen(&mut world, movement);
            world.now += pause;
            world.step();
        }
        wait_for_the_end(&mut world);
        prop_assert_eq!(world.counts().total().open(), 0);
        prop_assert!(matches!(world.stand.phase, Phase::Ended(_)), "{:?}", world.stand);
    }

    #[test]
    fn a_restart_at_any_step_changes_nothing(
        plan in plan(),
        hosts in 1..40_usize,
        history in vec((movement(), pause(), any::<bool>()), 1..80),
    ) {
        let mut first = World::new(plan.clone(), hosts);
        let mut second = World::new(plan, hosts);
        for (movement, pause, is_restarted) in &history {
            for world in [&mut first, &mut second] {
                happen(world, movement);
                world.now += pause;
            }
            if *is_restarted {
                restart(&mut second);
            }
            prop_assert_eq!(first.step(), second.step());
            prop_assert_eq!(&first.targets, &second.targets);
        }
    }

    #[test]
    fn a_stage_comes_only_after_the_one_before_was_good_for_its_soak(
        plan in plan(),
        hosts in 1..40_usize,
        history in vec((movement(), pause()), 1..100),
    ) {
        let mut world = World::new(plan, hosts);
        let mut good_since: Option<i64> = None;
        for (movement, pause) in &history {
            let waived = world.stand.gate == Gate::Waived;
            happen(&mut world, movement);
            let waived = waived || world.stand.gate == Gate::Waived;
            world.now += pause;
            let (stage, phase) = (world.stand.stage, world.stand.phase);
            let tally = world.counts().stage(stage);
            let (succeeded, needed, _) = gate(&world.plan, &tally, stage);
            // Gates are looked at while it goes on.
            good_since = match (phase, succeeded >= needed) {
                (_, false) => None,
                (Phase::Running, true) => good_since.or(Some(world.now)),
                (_, true) => good_since,
            };
            world.step();
            prop_assert!(world.stand.stage >= stage, "a stage comes once");
            if world.stand.stage > stage && !waived {
                let good_for = good_since.map(|since| world.now - since);
                let is_good = good_for.is_some_and(|it| it >= world.plan.soak(stage));
                prop_assert!(is_good, "stage {} was good for {:?}", stage, good_for);
            }
            if world.stand.stage > stage {
                good_since = None;
            }
        }
    }

    #[test]
    fn the_order_of_results_does_not_matter_for_the_end(
        fates in vec(prop_oneof![Just(0_u16), Just(3001), Just(4006), Just(1006), Just(1008)], 1..40),
        parallel in 1..10_u64,
        orders in (vec(any::<Index>(), 100), vec(any::<Index>(), 100)),
    ) {
        let run = |order: &[Index]| {
            let terms = json!({"parallel": parallel, "fail_count": -1});
            let plan = serde_json::from_value(terms).expect("a plan");
            let mut world = World::new(plan, fates.len());
            let mut order = order.iter();
            loop {
                world.step();
                let ordered = world.places(TargetState::Ordered);
                if ordered.is_empty() {
                    return (world.stand, world.targets.iter().map(|target| target.state).collect::<Vec<_>>());
                }
                let place = *order.next().expect("one per host").get(&ordered);
                world.result(place, fates[place]);
            }
        };
        let (first, second) = (run(&orders.0), run(&orders.1));
        prop_assert_eq!(first.0.phase, Phase::Ended(End::Done));
        prop_assert_eq!(first, second);
    }
}

/// Every host that was ordered something answers this.
fn answer_all(world: &mut World, code: u16) {
    for place in world.places(TargetState::Ordered) {
        world.result(place, code);
    }
}

fn world(terms: Value, hosts: usize) -> World {
    World::new(serde_json::from_value(terms).expect("a plan"), hosts)
}

#[test]
fn a_good_rollout_goes_through_its_stages() {
    let stages = json!([{"upto": 1, "soak": 60}, {"upto": "30%"}, {"upto": "all"}]);
    let mut world = world(json!({"stages": stages}), 10);
    let mut ordered = Vec::new();
    for _ in 0..8 {
        world.step();
        ordered.push(world.ordered);
        answer_all(&mut world, 0);
        world.now += 31_000;
    }
    // The second step finds the first host good, the soak is over two later.
    assert_eq!(ordered, [1, 1, 1, 3, 10, 10, 10, 10]);
    assert_eq!(world.stand.phase, Phase::Ended(End::Done));
}

#[test]
fn a_bad_canary_pauses_and_an_operator_may_go_on() {
    let stages = json!([{"upto": 1}, {"upto": "all"}]);
    let mut world = world(json!({"stages": stages, "fail_count": 3}), 10);
    world.step();
    answer_all(&mut world, 4006);
    world.step();
    assert_eq!(
        world.stand.phase,
        Phase::Paused(super::stand::Pause::GateMissed)
    );
    assert_eq!(world.ordered, 1);
    world.stand = world
        .stand
        .take(&world.plan, Command::Resume)
        .expect("it goes on");
    world.step();
    assert_eq!((world.stand.stage, world.ordered), (1, 10));
}

#[test]
fn a_version_that_crash_loops_after_its_success_stops_the_rollout() {
    let mut world = world(json!({"parallel": 2, "fail_count": 1}), 10);
    world.step();
    answer_all(&mut world, 0);
    world.hear(0, News::CrashLoop);
    world.step();
    assert_eq!((world.stand.phase, world.ordered), (Phase::Running, 4));
    world.hear(1, News::CrashLoop);
    let step = world.step();
    let stopped = End::Stopped(super::plan::Limit::FailCount);
    assert_eq!(step.stand.phase, Phase::Stopping(stopped));
    assert_eq!(world.ordered, 4);
    // Those that were not sent are taken back at once.
    world.step();
    assert_eq!(world.stand.phase, Phase::Ended(stopped));
    assert_eq!(world.counts().total().of(TargetState::Skipped), 8);
}

#[test]
fn a_crash_loop_that_shows_after_the_end_makes_it_no_good_end() {
    let mut world = world(json!({"fail_count": 1}), 3);
    world.step();
    answer_all(&mut world, 0);
    world.step();
    assert_eq!(world.stand.phase, Phase::Ended(End::Done));
    world.hear(0, News::CrashLoop);
    world.step();
    assert_eq!(world.stand.phase, Phase::Ended(End::Done));
    world.hear(1, News::CrashLoop);
    let stopped = Phase::Ended(End::Stopped(super::plan::Limit::FailCount));
    // And stays so.
    for _ in 0..2 {
        assert_eq!(world.step().stand.phase, stopped);
    }
    assert_eq!(world.ordered, 3);
}

/// What the histories of the properties come to: each must be among them, or a
/// property would hold for want of cases.
#[test]
fn the_histories_that_are_tried_come_to_every_kind_of_end() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        let tree = (plan(), 1..40_usize, vec((movement(), pause()), 1..80));
        let tree = tree.new_tree(&mut runner).expect("a history");
        let (plan, hosts, history) = tree.current();
        let mut world = World::new(plan, hosts);
        for (movement, pause) in &history {
            happen(&mut world, movement);
            world.now += pause;
            let (stage, ordered) = (world.stand.stage, world.ordered);
            let step = world.step();
            if world.ordered > ordered && stage > 0 {
                seen.insert("a later stage is ordered".to_owned());
            }
            if step.recall == Recall::All && step.stand.phase == Phase::Running {
                seen.insert("a window closes".to_owned());
            }
            seen.insert(format!("{:?}", step.stand.phase));
        }
        wait_for_the_end(&mut world);
        seen.insert(format!("{:?}", world.stand.phase));
    }
    for what in [
        "a later stage is ordered",
        "a window closes",
        "Paused(Operator)",
        "Paused(GateMissed)",
        "Stopping(Aborted)",
        "Ended(Done)",
        "Ended(Aborted)",
        "Ended(Expired)",
        "Ended(Stopped(FailCount))",
        "Ended(Stopped(FailRate))",
    ] {
        assert!(seen.contains(what), "{what} is not among {seen:?}");
    }
}

#[test]
fn hosts_that_are_offline_hold_no_place_and_are_ordered_when_they_are_back() {
    let mut world = world(json!({"parallel": 1}), 2);
    world.step();
    assert_eq!(world.targets[0].state, TargetState::Ordered);
    world.targets[0].is_online = false;
    world.step();
    world.step();
    let states = |world: &World| (world.targets[0].state, world.targets[1].state);
    assert_eq!(states(&world), (TargetState::Waiting, TargetState::Ordered));
    world.result(1, 0);
    world.targets[0].is_online = true;
    world.step();
    assert_eq!(
        states(&world),
        (TargetState::Ordered, TargetState::Succeeded)
    );
}

#[test]
fn outside_of_its_window_nothing_begins_and_what_was_not_sent_is_taken_back() {
    let window = json!({"zone": "UTC", "from": "00:00", "until": "01:00"});
    let mut world = world(json!({"parallel": 1, "window": window}), 2);
    world.step();
    assert_eq!(world.targets[0].begin_before, HOUR);
    world.now = HOUR;
    world.step();
    assert_eq!(world.counts().total().of(TargetState::Waiting), 2);
    world.now = 24 * HOUR;
    world.step();
    assert_eq!(
        (world.ordered, world.targets[0].begin_before),
        (2, 25 * HOUR)
    );
    // Sent, and not begun when the window closed: it has another chance.
    world.hear(0, News::Sent);
    world.now = 25 * HOUR;
    world.result(0, 1005);
    assert_eq!(world.targets[0].state, TargetState::Waiting);
}

#[test]
fn a_silent_host_ends_with_the_rollouts_patience_and_may_still_succeed() {
    let mut world = world(json!({"expires_in": 3600, "fail_count": -1}), 2);
    world.step();
    world.hear(0, News::Sent);
    world.hear(1, News::Sent);
    world.result(1, 0);
    world.targets[0].is_online = false;
    world.now = world.stand.expires + GIVE_UP_MILLIS - 1;
    world.step();
    assert_eq!(world.stand.phase, Phase::Running);
    world.now += 1;
    world.step();
    assert_eq!(world.targets[0].state, TargetState::Lost);
    world.step();
    assert_eq!(world.stand.phase, Phase::Ended(End::Done));
    world.result(0, 0);
    assert_eq!(world.targets[0].state, TargetState::Succeeded);
}

#[test]
fn one_whose_hosts_are_all_gone_is_done() {
    let mut world = world(json!({"stages": [{"upto": 1}, {"upto": "all"}]}), 0);
    world.step();
    assert_eq!(world.stand.phase, Phase::Ended(End::Done));
}

#[test]
fn one_nobody_confirms_expires() {
    let mut world = world(json!({"confirmation": "second_user", "expires_in": 60}), 3);
    world.step();
    assert_eq!((world.stand.phase, world.ordered), (Phase::Unconfirmed, 0));
    world.now = 60_000;
    world.step();
    world.step();
    assert_eq!(world.stand.phase, Phase::Ended(End::Expired));
    assert_eq!(world.counts().total().of(TargetState::Expired), 3);
}
