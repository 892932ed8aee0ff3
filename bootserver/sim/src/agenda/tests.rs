use super::*;

const STEP: Duration = Duration::from_secs(60);

fn timing() -> Timing {
    Timing {
        step: STEP,
        ..Timing::default()
    }
}

fn fleet(hosts: u64) -> Vec<Uuid> {
    let mut random = Random::new(7);
    (0..hosts)
        .map(|_| Uuid::from_u64_pair(random.next(), random.next()))
        .collect()
}

/// Runs an agenda until `end`, answering each call after `took`; returns when
/// each host called.
fn run(
    agenda: &mut Agenda,
    hosts: usize,
    end: Uptime,
    outcome: impl Fn(Due) -> Event,
) -> Vec<Vec<Uptime>> {
    let mut calls = vec![Vec::new(); hosts];
    while let Some(now) = agenda.deadline().filter(|at| *at < end) {
        let due = agenda.take(now).expect("it is due");
        assert_eq!(due.at, now);
        calls[due.host as usize].push(now);
        agenda.tell(due.host, outcome(due), now);
    }
    calls
}

#[test]
fn a_steady_fleet_calls_once_a_step_when_the_schedule_of_each_host_says() {
    let fleet = fleet(500);
    let mut agenda = Agenda::new(
        fleet.iter().copied(),
        timing(),
        Beginning::Steady,
        Duration::ZERO,
        1,
    );
    let begin = agenda.begin();
    let end = begin + STEP * 3;
    let answered = |_| Event::Answered { next: None };
    let calls = run(&mut agenda, fleet.len(), end, answered);
    for (agentsn, calls) in fleet.iter().zip(calls) {
        let at_once = Timing {
            first_within: Duration::ZERO,
            ..timing()
        };
        let name = agentsn.to_string();
        let mut own = Schedule::new(&name, at_once, Standing::Registered, begin, 0);
        assert_eq!(own.handle(Event::Tick, begin, 0), Some(Call::Status));
        own.handle(Event::Answered { next: None }, begin, 0);
        for at in &calls {
            assert_eq!(own.deadline(), Some(*at), "{agentsn}");
            own.handle(Event::Tick, *at, 0);
            own.handle(Event::Answered { next: None }, *at, 0);
        }
        assert_eq!(calls.len(), 3, "{agentsn}");
    }
}

#[test]
fn one_that_begins_later_begins_with_whose_turn_it_is_then() {
    let fleet = fleet(500);
    let answered = |_| Event::Answered { next: None };
    let first = |later| {
        let beginning = Beginning::Steady;
        let mut agenda = Agenda::new(fleet.iter().copied(), timing(), beginning, later, 1);
        let end = agenda.begin() + STEP / 2;
        let calls = run(&mut agenda, fleet.len(), end, answered);
        let called = calls.iter().map(|calls| !calls.is_empty());
        called.collect::<Vec<_>>()
    };
    let (now, later) = (first(Duration::ZERO), first(STEP / 2));
    assert!(now.iter().zip(&later).all(|(now, later)| now != later));
    assert_eq!(first(STEP), now);
}

#[test]
fn what_a_server_says_and_urgent_news_move_a_call_as_the_schedule_has_it() {
    let fleet = fleet(50);
    let mut agenda = Agenda::new(
        fleet.iter().copied(),
        timing(),
        Beginning::Steady,
        Duration::ZERO,
        1,
    );
    let end = agenda.begin() + STEP * 10;
    let next = Some(Duration::from_secs(7));
    let calls = run(&mut agenda, fleet.len(), end, |_| Event::Answered { next });
    for calls in calls {
        for pair in calls.windows(2) {
            assert_eq!(pair[1] - pair[0], Duration::from_secs(7));
        }
    }
    // Urgent: the deadline that was noted before is not taken a second time.
    let due = agenda.deadline().expect("all wait");
    agenda.tell(3, Event::Urgent, end);
    let first = agenda.take(end).expect("news are due");
    assert_eq!((first.host, first.call), (3, Call::Status));
    agenda.tell(3, Event::Answered { next: None }, end);
    assert!(agenda.deadline() >= Some(due.min(end)));
    let later = end + Duration::from_secs(7);
    let mut taken = Vec::new();
    while let Some(due) = agenda.take(later) {
        taken.push(due.host);
    }
    taken.sort_unstable();
    let mut once = taken.clone();
    once.dedup();
    assert_eq!(taken, once);
}

#[test]
fn hosts_that_failed_in_an_outage_come_back_when_their_backoff_says() {
    let fleet = fleet(2000);
    let outage = Duration::from_secs(120);
    let beginning = Beginning::AfterOutage(outage);
    let mut agenda = Agenda::new(
        fleet.iter().copied(),
        timing(),
        beginning,
        Duration::ZERO,
        1,
    );
    let begin = agenda.begin();
    assert_eq!(begin, UP_FOR + outage);
    assert!(agenda.schedules.iter().all(|one| one.failures() > 0));
    assert!(agenda.deadline() >= Some(begin));
    let answered = |_| Event::Answered { next: None };
    let back = timing().step * 3 / 2;
    let calls = run(&mut agenda, fleet.len(), begin + back, answered);
    assert!(calls.iter().all(|calls| !calls.is_empty()));
    assert!(agenda.schedules.iter().all(|one| one.failures() == 0));
}

#[test]
fn hosts_that_got_power_all_call_within_ten_seconds() {
    let fleet = fleet(1000);
    let mut agenda = Agenda::new(
        fleet.iter().copied(),
        timing(),
        Beginning::PowerOn,
        Duration::ZERO,
        1,
    );
    let end = agenda.begin() + Duration::from_secs(10) + Duration::from_nanos(1);
    let calls = run(&mut agenda, fleet.len(), end, |_| Event::Failed);
    assert!(calls.iter().all(|calls| !calls.is_empty()));
}
