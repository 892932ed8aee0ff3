//! What must hold in every rollout: a made-up world, and what happens in some of its days.

mod properties;

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
