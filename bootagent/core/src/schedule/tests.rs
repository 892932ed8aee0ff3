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
    let most = [1, 2, 3, 4, 5, 6, 7, 8, u32::MAX].map(|n| backoff(n, u32::MAX).as_secs());
    assert_eq!(most, [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
    let half = backoff(40, u32::MAX / 2);
    assert_eq!(half, Duration::from_secs(900), "spread also at the cap");
    assert_eq!(backoff(40, 0), Duration::from_secs(1), "never at once");
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
