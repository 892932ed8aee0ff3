//! What holds whatever hosts and operators do, over made-up histories.

use super::*;

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
