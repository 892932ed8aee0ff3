use super::*;

/// 2024-07-10 06:00:00 UTC, a grid time of every interval used here.
const NOON: u64 = 1_720_591_200;

/// A reading `seconds` after [`NOON`] on both clocks.
fn reading(seconds: f64, tx: u64) -> Reading {
    let ms = (seconds * 1000.0) as u64;
    Reading {
        at: Moment {
            wall_ms: NOON * 1000 + ms,
            boot_ms: 1_000_000 + ms,
        },
        boot_id: "boot-a".to_owned(),
        interface: Interface {
            name: "eth0".to_owned(),
            index: 2,
            mac: "00:0c:29:80:25:45".to_owned(),
        },
        rx: tx * 10,
        tx,
    }
}

/// The points of readings on a grid of 300 s.
fn points(readings: Vec<Reading>) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for reading in readings {
        let next = point(points.last(), reading, Occasion::Grid, 300);
        points.push(next);
    }
    points
}

/// The last point of readings on a grid of 300 s.
fn last(readings: Vec<Reading>) -> Point {
    points(readings).pop().expect("a point")
}

fn deltas(point: &Point) -> (Option<u64>, Option<u64>) {
    (point.rx_delta, point.tx_delta)
}

#[test]
fn the_next_grid_time_is_always_in_the_future() {
    for (wall_ms, interval, next) in [
        (NOON * 1000, 300, NOON + 300),
        (NOON * 1000 + 1, 300, NOON + 300),
        (NOON * 1000 + 299_999, 300, NOON + 300),
        (NOON * 1000 - 1, 300, NOON),
        (NOON * 1000, 1, NOON + 1),
        (0, 300, 300),
        (5, 0, 1),
    ] {
        assert_eq!(next_grid(wall_ms, interval), next, "{wall_ms} {interval}");
    }
}

#[test]
fn a_plain_series_has_differences_and_no_marks() {
    let points = points(vec![
        reading(0.1, 100),
        reading(300.1, 150),
        reading(600.2, 150),
    ]);
    assert_eq!(deltas(&points[0]), (None, None));
    assert_eq!(deltas(&points[1]), (Some(500), Some(50)));
    assert_eq!(deltas(&points[2]), (Some(0), Some(0)));
    assert_eq!(points[2].span_ms, Some(300_100));
    for (index, point) in points.iter().enumerate() {
        assert_eq!(point.grid, Some(NOON + 300 * index as u64));
        assert_eq!(point.number, index as u64 + 1);
        assert_eq!(point.marks, []);
    }
}

#[test]
fn a_start_is_not_on_the_grid_and_goes_on_with_the_series() {
    let first = point(None, reading(10.0, 100), Occasion::Start, 300);
    assert_eq!(
        (first.grid, first.marks.as_slice()),
        (None, &[Mark::Start][..])
    );
    let on_grid = point(Some(&first), reading(300.0, 130), Occasion::Grid, 300);
    assert_eq!(
        (deltas(&on_grid), on_grid.marks.as_slice()),
        ((Some(300), Some(30)), &[][..])
    );
    // The program was restarted: nothing of the traffic is lost.
    let again = point(Some(&on_grid), reading(400.0, 140), Occasion::Start, 300);
    assert_eq!(
        (deltas(&again), again.marks),
        ((Some(100), Some(10)), vec![Mark::Start])
    );
}

#[test]
fn a_late_wake_up_belongs_to_the_last_grid_time_and_is_marked() {
    let late = last(vec![reading(0.0, 1), reading(302.5, 2)]);
    assert_eq!(late.grid, Some(NOON + 300));
    assert_eq!(late.marks, [Mark::Late(2500)]);
    let in_time = last(vec![reading(0.0, 1), reading(302.0, 2)]);
    assert_eq!(in_time.marks, []);
}

#[test]
fn missed_grid_times_are_counted_and_their_traffic_is_kept() {
    // Suspended for 17 minutes.
    let woken = last(vec![reading(0.0, 100), reading(1020.0, 900)]);
    assert_eq!(woken.grid, Some(NOON + 900));
    assert_eq!(woken.marks, [Mark::Late(120_000), Mark::Missed(2)]);
    assert_eq!(deltas(&woken), (Some(8000), Some(800)));
    assert_eq!(woken.span_ms, Some(1_020_000));
    // After a start between two grid times only whole ones count.
    let started = point(None, reading(10.0, 1), Occasion::Start, 300);
    let next = point(Some(&started), reading(900.0, 2), Occasion::Grid, 300);
    assert_eq!(next.marks, [Mark::Missed(2)]);
}

#[test]
fn a_clock_step_is_marked_and_nothing_is_missed_or_lost() {
    for (step_ms, label) in [
        (3_600_000, 3900),
        (-3_600_000, -3300),
        (120_000, 300),
        (-400_000, -300),
        (i64::from(i32::MAX), 0),
    ] {
        let mut after = reading(300.0, 200);
        after.at.wall_ms = after
            .at
            .wall_ms
            .checked_add_signed(step_ms)
            .expect("in range");
        let point = last(vec![reading(0.0, 100), after]);
        assert!(
            point.marks.contains(&Mark::ClockStep(step_ms)),
            "{:?}",
            point.marks
        );
        assert!(
            !point.marks.iter().any(|m| matches!(m, Mark::Missed(_))),
            "{:?}",
            point.marks
        );
        assert_eq!(deltas(&point), (Some(1000), Some(100)));
        assert_eq!(point.span_ms, Some(300_000));
        if label != 0 {
            assert_eq!(point.grid, NOON.checked_add_signed(label), "{step_ms}");
        }
    }
}

#[test]
fn slewing_is_no_step() {
    for drift in [-1_299_i64, -500, 500, 1_299] {
        let mut after = reading(300.0, 200);
        after.at.wall_ms = after
            .at
            .wall_ms
            .checked_add_signed(drift)
            .expect("in range");
        let point = last(vec![reading(0.0, 100), after]);
        assert!(
            !point.marks.iter().any(|m| matches!(m, Mark::ClockStep(_))),
            "{drift}"
        );
    }
}

#[test]
fn a_lower_counter_is_a_reset_and_never_a_negative_difference() {
    let mut one_direction = reading(300.0, 150);
    one_direction.rx = 5;
    for after in [reading(300.0, 7), one_direction] {
        let point = last(vec![reading(0.0, 100), after.clone()]);
        assert_eq!(deltas(&point), (None, None));
        assert_eq!(point.marks, [Mark::CounterReset]);
        // From there on it counts again.
        let mut next = after;
        next.at.boot_ms += 300_000;
        next.at.wall_ms += 300_000;
        next.tx += 3;
        let next = super::point(Some(&point), next, Occasion::Grid, 300);
        assert_eq!((deltas(&next), next.marks), ((Some(0), Some(3)), vec![]));
    }
}

#[test]
fn a_reboot_is_marked_as_such_even_when_the_counter_is_higher() {
    for tx in [7, 100, 5000] {
        let mut after = reading(300.0, tx);
        after.boot_id = "boot-b".to_owned();
        after.at.boot_ms = 20_000;
        // The kernel may number its interfaces in another order.
        after.interface.index = 3;
        let point = last(vec![reading(0.0, 100), after]);
        assert_eq!(deltas(&point), (None, None));
        assert_eq!(
            (point.marks.as_slice(), point.span_ms),
            (&[Mark::Reboot][..], None)
        );
    }
}

#[test]
fn another_interface_address_or_instance_has_no_difference() {
    let name = |r: &mut Reading| r.interface.name = "eth1".to_owned();
    let mac = |r: &mut Reading| r.interface.mac = "00:0c:29:80:25:46".to_owned();
    let index = |r: &mut Reading| r.interface.index = 9;
    for change in [name, mac, index] {
        let mut after = reading(300.0, 5000);
        change(&mut after);
        let point = last(vec![reading(0.0, 100), after]);
        assert_eq!(deltas(&point), (None, None));
        assert_eq!(point.marks, [Mark::InterfaceChanged]);
    }
}

#[test]
fn a_reboot_into_another_card_says_both() {
    let mut after = reading(300.0, 5000);
    after.boot_id = "boot-b".to_owned();
    after.interface.mac = "00:0c:29:80:25:46".to_owned();
    let point = last(vec![reading(0.0, 100), after]);
    assert_eq!(point.marks, [Mark::Reboot, Mark::InterfaceChanged]);
}

#[test]
fn counters_and_clocks_at_their_ends_do_not_overflow() {
    let mut far = reading(0.0, 0);
    (far.rx, far.tx) = (u64::MAX, u64::MAX);
    far.at.wall_ms = u64::MAX;
    far.at.boot_ms = u64::MAX;
    let point = last(vec![reading(0.0, 0), far.clone(), reading(0.0, 0), far]);
    assert_eq!(deltas(&point), (Some(u64::MAX), Some(u64::MAX)));
    assert_eq!(next_grid(u64::MAX, 300) % 300, 0);
}

#[test]
fn a_point_survives_its_json() {
    let mut after = reading(1020.0, 7);
    after.interface.mac = String::new();
    let point = last(vec![reading(0.0, 100), after]);
    let json = serde_json::to_string(&point).expect("serializable");
    assert_eq!(serde_json::from_str::<Point>(&json).expect("valid"), point);
    assert!(json.contains("\"missed\":2"), "{json}");
}
