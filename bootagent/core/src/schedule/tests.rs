//! What scenarios cannot say well: the numbers behind the schedule.

use alloc::format;
use alloc::vec;

use super::*;

#[test]
fn the_hash_is_fnv_1a_and_never_changes() {
    assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    assert_eq!(
        phase(
            fnv1a(b"bfdcc18c-b6b9-4725-9c47-37fd93dba5b6"),
            Duration::from_secs(600)
        ),
        Duration::from_millis(129_725)
    );
}

#[test]
fn phases_of_a_fleet_spread_over_the_step() {
    let step = Duration::from_secs(600);
    let hosts = 60_000_u32;
    let mut minutes = vec![0_u32; 10];
    for host in 0..hosts {
        // Ids that differ in few places only are the hard case.
        let agentsn = format!("dcb886e9-04ed-41bb-9c12-{host:012x}");
        let minute = phase(fnv1a(agentsn.as_bytes()), step).as_secs() / 60;
        minutes[usize::try_from(minute).expect("a minute of ten")] += 1;
    }
    let mean = hosts / 10;
    for count in minutes {
        assert!(count.abs_diff(mean) < mean / 20, "{count} of {mean}");
    }
}

#[test]
fn a_backoff_doubles_up_to_its_cap_and_is_jittered_after_it() {
    let most = |step| {
        let step = Duration::from_secs(step);
        [1, 2, 3, 4, 5, 6, 7, 8, u32::MAX].map(|n| backoff(n, step, u32::MAX).as_secs())
    };
    assert_eq!(most(3600), [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
    assert_eq!(most(600), [30, 60, 120, 240, 480, 800, 800, 800, 800]);
    assert_eq!(most(60), [30, 60, 80, 80, 80, 80, 80, 80, 80]);
    assert_eq!(most(1), [30; 9]);
    let step = Duration::from_secs(600);
    let half = backoff(40, step, u32::MAX / 2);
    assert_eq!(half, Duration::from_secs(400), "spread also at the cap");
    assert_eq!(
        backoff(40, step, 0),
        Duration::from_secs(1),
        "never at once"
    );
}

#[test]
fn a_part_is_never_more_than_the_whole_and_never_nothing() {
    let whole = Duration::from_secs(10);
    assert_eq!(part_of(whole, u32::MAX), whole);
    assert_eq!(part_of(whole, 0), Duration::from_nanos(3));
    assert_eq!(part_of(Duration::ZERO, u32::MAX), Duration::ZERO);
    assert_eq!(
        part_of(Duration::MAX, u32::MAX),
        Duration::from_nanos(u64::MAX)
    );
}

/// Anything, from the one before it.
fn next_random(random: &mut u64) -> u32 {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    u32::try_from(*random >> 32).expect("32 bits")
}

/// What a fleet of this size asks in each second up to `end`. The answer to a
/// call at a second is `answer`.
fn fleet(hosts: u32, end: u64, answer: impl Fn(u64) -> Event) -> alloc::vec::Vec<u32> {
    let mut seconds = vec![0_u32; usize::try_from(end).expect("fits")];
    let mut random = 1;
    for host in 0..hosts {
        let agentsn = format!("dcb886e9-04ed-41bb-9c12-{host:012x}");
        let timing = Timing::default();
        let start = next_random(&mut random);
        let mut schedule =
            Schedule::new(&agentsn, timing, Standing::Registered, Uptime::ZERO, start);
        while let Some(at) = schedule.deadline() {
            let second = at.as_nanos() / 1_000_000_000;
            if second >= end {
                break;
            }
            let call = schedule.handle(Event::Tick, at, next_random(&mut random));
            assert_eq!(call, Some(Call::Status));
            seconds[usize::try_from(second).expect("fits")] += 1;
            let _ = schedule.handle(answer(second), at, next_random(&mut random));
        }
    }
    seconds
}

/// The most calls in any `width` seconds in a row.
fn peak(seconds: &[u32], width: usize) -> u32 {
    let sums = seconds.windows(width).map(|window| window.iter().sum());
    sums.max().unwrap_or(0)
}

#[test]
fn a_fleet_comes_back_spread_after_its_server_was_away_for_a_day() {
    const HOSTS: u32 = 2_000;
    const DAY: usize = 24 * 3600;
    let back_at = 3600 + DAY as u64;
    let seconds = fleet(HOSTS, back_at + 2 * 3600, |second| match second {
        3600.. if second < back_at => Event::Failed,
        _ => Event::Answered { next: None },
    });
    let minute = |from: usize, length: usize| peak(&seconds[from..from + length], 60);
    // Each host once per 600 s: 200 a minute on average.
    let calm = minute(1200, 2400);
    assert!(calm < 200 * 13 / 10, "{calm} in a minute of a calm hour");
    // A server that is away is asked half as often again: once per 400 s on
    // average, once the backoff is at its cap.
    let away = minute(3600 + 2 * 3600, DAY - 2 * 3600);
    assert!(away < 300 * 13 / 10, "{away} in a minute while it is away");
    // Its return: those whose backoff ends, and those that are in their phase
    // again. Everybody within one step and a half.
    let back = 3600 + DAY;
    let returning = minute(back, 900);
    assert!(returning < 200 * 2, "{returning} in a minute of its return");
    let first: u32 = seconds[back..back + 900].iter().sum();
    assert!(
        first >= HOSTS,
        "{first} calls in the first quarter of an hour"
    );
    let calm = minute(back + 3600, 3600);
    assert!(calm < 200 * 13 / 10, "{calm} in a minute after an hour");
}

#[test]
fn a_fleet_that_is_told_to_come_later_does_not_come_at_once() {
    const HOSTS: u32 = 2_000;
    // All of them ask within the first 10 s and are told the same.
    let later = Duration::from_secs(120);
    let seconds = fleet(HOSTS, 600, |second| match second {
        0..=10 => Event::RetryAfter(later),
        _ => Event::Answered { next: None },
    });
    let returning = peak(&seconds[60..300], 1);
    // 2,000 over 10 s of starting and 30 s of spreading.
    assert!(returning < HOSTS / 20, "{returning} in one second");
    let all: u32 = seconds[120..=161].iter().sum();
    assert!(all >= HOSTS, "{all} came");
}
