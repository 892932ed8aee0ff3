//! What must hold whatever happens, tried with random histories.
//!
//! Two kinds: histories that no daemon would produce, under which nothing may
//! ever go wrong, and histories of a world that obeys, under which things must
//! also come to a good end.

use std::time::Duration;

use bootagent_core::failover::{Failover, Outcome, Step};
use bootagent_core::restart::{
    Change, Child, Detail, Effect, End, Event, Found, Kind, Limit, Policy, Report, Spec, State,
    Wanted,
};
use bootagent_core::schedule::{
    BACKOFF_CAP, Call, Enrolment, Event as News, RETRY_AFTER, Schedule, Standing, Timing, backoff,
};
use bootagent_core::time::Uptime;
use proptest::collection::vec;
use proptest::prelude::*;

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Normal(0)),
        Just(End::Code(1)),
        Just(End::Signal(9)),
        Just(End::Limit(Limit::Memory)),
        Just(End::Unknown),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => Just(Event::Wanted(Wanted::Running)),
        1 => Just(Event::Wanted(Wanted::Stopped)),
        1 => Just(Event::Restart),
        1 => Just(Event::NewVersion),
        1 => Just(Event::NewConfig),
        3 => Just(Event::Spawned),
        1 => Just(Event::SpawnFailed),
        1 => Just(Event::Ready),
        1 => Just(Event::WatchdogPing),
        3 => end().prop_map(Event::Exited),
        3 => Just(Event::Gone),
        5 => Just(Event::Tick),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let kind = prop_oneof![Just(Kind::Simple), Just(Kind::Notify), Just(Kind::Oneshot)];
    let seconds = |range: std::ops::RangeInclusive<u64>| range.prop_map(Duration::from_secs);
    (
        kind,
        (
            seconds(1..=120),
            seconds(0..=400),
            seconds(1..=2000),
            0..5_u32,
        ),
        // As a manifest may have them: a time to start of 0 s would leave nobody the time to be ready.
        (seconds(1..=90), seconds(0..=10), seconds(0..=30)),
        proptest::option::of(seconds(0..=60)),
    )
        .prop_map(
            |(kind, (check, holdoff, stable, max), times, watchdog)| Spec {
                kind,
                policy: Policy::new(check, holdoff, stable, max).expect("within the bounds"),
                start_timeout: times.0,
                up_after: times.1,
                stop_timeout: times.2,
                watchdog,
            },
        )
}

/// Steps of time: mostly short, sometimes a night.
fn step() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => Just(Duration::ZERO),
        4 => (0..20_000_u64).prop_map(Duration::from_millis),
        2 => (0..1_000_u64).prop_map(Duration::from_secs),
        1 => (0..40_000_u64).prop_map(Duration::from_secs),
    ]
}

/// What can be known about a run by looking at events and effects only.
#[derive(Debug, PartialEq, Eq)]
enum Run {
    None,
    Asked,
    Alive,
    Ended,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_two_runs_are_never_beside_each_other_nor_is_one_unwanted(
        spec in spec(),
        history in vec((event(), step()), 1..80),
    ) {
        let mut child = Child::new(spec);
        let mut now = Uptime::ZERO;
        let mut run = Run::None;
        let mut wanted = Wanted::Stopped;
        for (event, step) in history {
            now = now + step;
            match event {
                Event::Wanted(order) => wanted = order,
                Event::Restart => wanted = Wanted::Running,
                Event::Spawned if run == Run::Asked => run = Run::Alive,
                Event::SpawnFailed if run == Run::Asked => run = Run::None,
                Event::Exited(_) if run == Run::Alive => run = Run::Ended,
                Event::Gone if run == Run::Ended => run = Run::None,
                _ => {}
            }
            let before = child.record();
            let effects = child.handle(event, now);
            prop_assert_eq!(child.wanted(), wanted, "only an order changes what is wanted");

            let starts = effects.iter().filter(|effect| **effect == Effect::Start).count();
            prop_assert!(starts <= 1);
            if starts == 1 {
                prop_assert_eq!(&run, &Run::None, "a start beside a run");
                prop_assert_eq!(wanted, Wanted::Running, "a start nobody wants");
                run = Run::Asked;
            }
            if event == Event::Tick && let Some(deadline) = child.deadline() {
                prop_assert!(deadline > now, "a loop that never sleeps");
            }
            let kept = effects.contains(&Effect::Persist(Change::Record(child.record())));
            prop_assert_eq!(kept, before != child.record(), "what changed is kept");
            if let Some(kept) = effects.iter().rposition(|e| matches!(e, Effect::Persist(_))) {
                let done = effects.iter().position(|e| !matches!(e, Effect::Persist(_)));
                prop_assert!(done.is_none_or(|done| kept < done), "kept before done");
            }
            if child.state() == State::Fatal {
                prop_assert!(child.anomalies() > spec.policy.max_anomalies());
                prop_assert_eq!(child.deadline(), None);
            }
            if child.started_at().is_none() {
                prop_assert!(matches!(run, Run::None | Run::Asked), "a run out of sight");
            }
        }
    }

    #[test]
    fn in_a_world_that_obeys_what_is_wanted_comes_true(
        spec in spec(),
        life in vec((end(), 0..2_000_u64, any::<bool>()), 0..12),
        polite in any::<bool>(),
    ) {
        let mut world = World { child: Child::new(spec), now: Uptime::from_secs(1), polite, starts: 0 };
        world.tell(Event::Wanted(Wanted::Running));
        for (end, seconds, ready) in life {
            if ready {
                world.tell(Event::Ready);
            }
            world.pass(Duration::from_secs(seconds));
            if world.child.state() == State::Running && world.child.detail().is_none() {
                world.tell(Event::Exited(end));
                world.tell(Event::Gone);
            }
        }
        // Whatever became of it, an operator's restart brings it up...
        world.tell(Event::Restart);
        while world.child.detail() == Some(Detail::Stopping) {
            let at = world.child.deadline().expect("a stop has an end");
            world.pass(at.since(world.now));
        }
        world.tell(Event::Ready);
        if spec.kind == Kind::Simple {
            world.pass(spec.up_after);
        }
        prop_assert!(world.child.is_up());
        // ...and a stop is one, after the time to stop at the latest.
        world.tell(Event::Wanted(Wanted::Stopped));
        world.pass(spec.stop_timeout);
        prop_assert_eq!(world.child.state(), State::Stoped);
        prop_assert_eq!(world.child.deadline(), None);
        let starts = world.starts;
        world.pass(Duration::from_secs(100_000));
        prop_assert_eq!(world.starts, starts);
    }

    #[test]
    fn a_restart_of_bootagent_changes_nothing_for_a_child_that_is_well_or_waits(
        spec in spec(),
        history in vec((event(), step()), 1..60),
    ) {
        let mut child = Child::new(spec);
        let mut now = Uptime::ZERO;
        for (event, step) in history {
            now = now + step;
            child.handle(event, now);
            child.handle(Event::Tick, now);
        }
        let found = match child.started_at() {
            Some(started_at) => Found::Main { started_at },
            None => Found::Nothing,
        };
        let (adopted, effects) = Child::adopt(spec, child.wanted(), child.record(), found, End::Unknown, now);
        prop_assert_eq!(adopted.wanted(), child.wanted());
        if child.is_up() || child.retry_in(now).is_some() || child.state() == State::Fatal {
            prop_assert_eq!(effects, []);
            prop_assert_eq!(adopted.record(), child.record());
            prop_assert_eq!(adopted.state(), child.state());
            prop_assert_eq!(adopted.retry_in(now), child.retry_in(now));
        }
    }

    #[test]
    fn a_fatal_child_had_one_anomaly_more_than_is_forgiven(
        max in 0..6_u32,
        runs in vec((end(), 0..1_800_u64), 1..40),
    ) {
        let [check, holdoff, stable] = [60, 180, 900].map(Duration::from_secs);
        let policy = Policy::new(check, holdoff, stable, max).expect("within the bounds");
        let spec = Spec::new(Kind::Simple, policy);
        let mut world = World { child: Child::new(spec), now: Uptime::ZERO, polite: true, starts: 0 };
        world.tell(Event::Wanted(Wanted::Running));
        // The sentence of document 002, counted once more and differently.
        let mut row = 0;
        for (end, seconds) in runs {
            let started_at = world.child.started_at().expect("it was started");
            world.pass(Duration::from_secs(seconds));
            let short = world.now.since(started_at) < stable;
            let normal = matches!(end, End::Normal(_));
            row = if short && !normal { row + 1 } else { 0 };
            let ended_at = world.now;
            world.tell(Event::Exited(end));
            world.tell(Event::Gone);
            prop_assert_eq!(world.child.anomalies(), row);
            prop_assert_eq!(world.child.state() == State::Fatal, row > max);
            if row > max {
                break;
            }
            let next = world.child.deadline().expect("it is started again");
            let least = if normal { Duration::ZERO } else { holdoff };
            prop_assert!(next.since(ended_at) >= least);
            prop_assert!(next.since(ended_at) <= least + check);
            prop_assert_eq!(next.on_grid(check, Duration::ZERO), next, "at a look");
            world.pass(next.since(ended_at));
        }
    }

    #[test]
    fn a_schedule_never_spins_never_overlaps_and_never_falls_asleep(
        step in 1..4_000_u64,
        unregistered in any::<bool>(),
        history in vec((0..10_usize, step(), any::<u32>(), 0..200_000_u64), 1..100),
    ) {
        let timing = Timing { step: Duration::from_secs(step), ..Timing::default() };
        let standing = if unregistered { Standing::Unregistered } else { Standing::Registered };
        let mut now = Uptime::from_secs(3);
        let mut schedule = Schedule::new("some-host", timing, standing, now, 7);
        let mut out: Option<Call> = None;
        for (which, step, random, seconds) in history {
            now = now + step;
            let delay = Duration::from_secs(seconds);
            let event = match which {
                0 | 1 => News::Tick,
                2 => News::Urgent,
                3 => News::Registered,
                4 => News::Answered { next: Some(delay) },
                5 => News::Answered { next: None },
                6 => News::Failed,
                7 => News::RetryAfter(delay),
                8 => News::Unauthorized(Enrolment::Present),
                _ => News::RegisterAgain,
            };
            let call = schedule.handle(event, now, random);
            if call.is_some() && out.is_some() {
                prop_assert!(
                    !matches!(event, News::Tick | News::Urgent),
                    "two calls at once"
                );
            }
            if call.is_some() {
                out = call;
            } else if !matches!(event, News::Tick | News::Urgent) {
                out = None;
            }
            match schedule.deadline() {
                Some(at) => {
                    prop_assert!(at > now, "a loop that never sleeps");
                    prop_assert!(at.since(now) <= RETRY_AFTER.1, "asleep for ever");
                    prop_assert!(out.is_none());
                }
                None => prop_assert!(out.is_some(), "nothing out and nothing due"),
            }
        }
    }

    #[test]
    fn a_backoff_keeps_its_bounds(
        failures in any::<u32>(), step in 1_u64..7200, random in any::<u32>(),
    ) {
        let step = Duration::from_secs(step);
        let delay = backoff(failures, step, random);
        prop_assert!(delay >= Duration::from_secs(1));
        prop_assert!(delay <= BACKOFF_CAP);
        let most = |failures| backoff(failures, step, u32::MAX);
        prop_assert!(delay <= most(failures));
        prop_assert!(most(failures) <= most(failures.saturating_add(1)));
    }

    #[test]
    fn a_round_asks_every_server_once_and_ends(
        servers in 0..8_usize,
        history in vec(0..7_usize, 1..100),
    ) {
        let mut failover = Failover::new(servers);
        let mut asked = vec![];
        for which in history {
            let Some(current) = failover.current() else {
                prop_assert_eq!(servers, 0);
                break;
            };
            prop_assert!(current < servers);
            prop_assert!(!asked.contains(&current), "asked twice in a round");
            asked.push(current);
            let outcome = [
                Outcome::Refused,
                Outcome::TimedOut,
                Outcome::Garbage,
                Outcome::ServerError,
                Outcome::Answered,
                Outcome::Unauthorized,
                Outcome::Busy(None),
            ][which];
            match failover.handle(outcome) {
                Step::Try(next) => prop_assert_eq!(failover.current(), Some(next)),
                Step::Failed => {
                    prop_assert_eq!(asked.len(), servers, "gave up too early");
                    prop_assert_eq!(failover.current(), Some(asked[0]));
                    asked.clear();
                }
                Step::Done | Step::Later(_) => {
                    prop_assert_eq!(failover.current(), Some(current));
                    asked.clear();
                }
            }
        }
    }
}

/// A daemon and a kernel that do what they are told.
struct World {
    child: Child,
    now: Uptime,
    /// Whether the child obeys a stop signal, or has to be killed.
    polite: bool,
    starts: usize,
}

impl World {
    fn tell(&mut self, event: Event) {
        let mut todo = vec![event];
        while !todo.is_empty() {
            for effect in self.child.handle(todo.remove(0), self.now) {
                match effect {
                    Effect::Start => {
                        self.starts += 1;
                        todo.push(Event::Spawned);
                    }
                    Effect::SendStopSignal if self.polite => {
                        todo.extend([Event::Exited(End::Signal(15)), Event::Gone]);
                    }
                    Effect::Kill => todo.extend([Event::Exited(End::Signal(9)), Event::Gone]),
                    Effect::Report(Report::Stuck) => panic!("nothing is stuck in this world"),
                    Effect::SendStopSignal
                    | Effect::Persist(_)
                    | Effect::Report(_)
                    | Effect::Unexpected(_) => {}
                }
            }
        }
    }

    /// Lets time pass, waking at each deadline.
    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut wakes = 0;
        while let Some(at) = self.child.deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.tell(Event::Tick);
            wakes += 1;
            assert!(wakes < 200_000, "a loop that never sleeps");
        }
        self.now = until;
    }
}
