use super::*;
use crate::series::{Interface, Mark};

/// 2024-07-10 12:00:00 UTC.
const NOON: u64 = 1_720_612_800;

fn point(number: u64, unix_seconds: u64) -> Point {
    Point {
        number,
        grid: Some(unix_seconds),
        wall_ms: unix_seconds * 1000,
        boot_ms: 1000 * number,
        boot_id: "boot".to_owned(),
        interface: Interface {
            name: "eth0".to_owned(),
            index: 2,
            mac: "00:0c:29:80:25:45".to_owned(),
        },
        rx: u64::MAX,
        tx: number,
        rx_delta: None,
        tx_delta: Some(1),
        span_ms: None,
        marks: vec![Mark::Late(3)],
    }
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(dir.path(), 3).expect("opened")
}

fn day_file(dir: &tempfile::TempDir, name: &str) -> PathBuf {
    dir.path().join(DIRECTORY).join(name)
}

fn last_number(dir: &tempfile::TempDir) -> Option<u64> {
    open(dir).last().map(|point| point.number)
}

#[test]
fn a_point_is_there_after_a_reopen() {
    let dir = scratch();
    let mut store = open(&dir);
    assert_eq!(store.last(), None);
    store.append(point(1, NOON)).expect("appended");
    store.append(point(2, NOON + 300)).expect("appended");
    drop(store);
    assert_eq!(open(&dir).last(), Some(&point(2, NOON + 300)));
    let text = std::fs::read_to_string(day_file(&dir, "2024-07-10.points")).expect("read");
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn a_file_is_named_after_its_utc_day() {
    for (seconds, name) in [
        (0, "1970-01-01.points"),
        (951_782_399, "2000-02-28.points"),
        (951_782_400, "2000-02-29.points"),
        (1_709_251_199, "2024-02-29.points"),
        (1_709_251_200, "2024-03-01.points"),
        (1_735_689_599, "2024-12-31.points"),
        (1_735_689_600, "2025-01-01.points"),
        (4_102_444_800, "2100-01-01.points"),
        (4_107_542_400, "2100-03-01.points"),
    ] {
        assert_eq!(file_name(seconds), name, "{seconds}");
    }
}

#[test]
fn a_line_torn_at_any_byte_is_cut_off_and_the_series_goes_on() {
    let dir = scratch();
    let mut store = open(&dir);
    store.append(point(1, NOON)).expect("appended");
    let path = day_file(&dir, "2024-07-10.points");
    let first = std::fs::read(&path).expect("read").len();
    store.append(point(2, NOON + 300)).expect("appended");
    drop(store);
    let whole = std::fs::read(&path).expect("read");
    for length in first..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("cut");
        let mut store = open(&dir);
        assert_eq!(store.last().map(|p| p.number), Some(1), "cut at {length}");
        store.append(point(2, NOON + 300)).expect("appended");
        drop(store);
        assert_eq!(
            std::fs::read(&path).expect("read"),
            whole,
            "cut at {length}"
        );
    }
}

#[test]
fn zeros_and_garbage_at_the_end_are_no_points() {
    for tail in [
        vec![0; 5000],
        b"{}\n".to_vec(),
        b"00000000 {}\n\n".to_vec(),
        vec![0xff; 9],
    ] {
        let dir = scratch();
        open(&dir).append(point(1, NOON)).expect("appended");
        let path = day_file(&dir, "2024-07-10.points");
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.extend_from_slice(&tail);
        std::fs::write(&path, bytes).expect("written");
        let mut store = open(&dir);
        assert_eq!(store.last().map(|p| p.number), Some(1));
        store.append(point(2, NOON + 300)).expect("appended");
        drop(store);
        assert_eq!(last_number(&dir), Some(2));
        let text = std::fs::read_to_string(&path).expect("text again");
        assert_eq!(text.lines().count(), 2);
    }
}

#[test]
fn a_changed_digit_is_noticed() {
    let line = line_of(&point(1, NOON));
    assert_eq!(point_of(line.as_bytes()), Some(point(1, NOON)));
    let changed = line.replace("\"tx\":1", "\"tx\":9");
    assert_ne!(changed, line);
    assert_eq!(point_of(changed.as_bytes()), None);
}

#[test]
fn a_clock_that_went_back_a_day_does_not_take_numbers_back() {
    let dir = scratch();
    let mut store = open(&dir);
    store.append(point(1, NOON)).expect("appended");
    store.append(point(2, NOON + 86_400)).expect("appended");
    store.append(point(3, NOON + 300)).expect("appended");
    drop(store);
    assert_eq!(last_number(&dir), Some(3));
}

#[test]
fn only_the_days_that_are_kept_stay() {
    let dir = scratch();
    let mut store = open(&dir);
    for day in 0..6 {
        store
            .append(point(day + 1, NOON + day * 86_400))
            .expect("appended");
    }
    let kept = files(&dir.path().join(DIRECTORY)).expect("listed");
    assert_eq!(kept.len(), 3);
    assert!(kept[0].ends_with("2024-07-13.points"), "{kept:?}");
}

#[test]
fn a_second_flux_push_is_refused() {
    let dir = scratch();
    let _store = open(&dir);
    let refused = Store::open(dir.path(), 3);
    assert!(matches!(refused, Err(StoreError::Locked(_))), "{refused:?}");
}

#[test]
fn a_long_file_is_not_read_as_a_whole() {
    let dir = scratch();
    let mut store = open(&dir);
    store.append(point(1, NOON)).expect("appended");
    drop(store);
    let path = day_file(&dir, "2024-07-10.points");
    let line = std::fs::read(&path).expect("read");
    let many = line.repeat(usize::try_from(TAIL_BYTES).expect("small") / line.len() + 10);
    std::fs::write(&path, &many).expect("written");
    assert!(many.len() as u64 > TAIL_BYTES);
    let found = tail(&path).expect("read");
    assert_eq!(
        (found.last, found.end),
        (Some(point(1, NOON)), many.len() as u64)
    );
}
