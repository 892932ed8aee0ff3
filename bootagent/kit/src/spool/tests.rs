use std::io::Write;

use super::*;

fn small() -> SpoolOptions {
    SpoolOptions {
        max_bytes: 1000,
        segment_bytes: 100,
        max_record_bytes: 50,
    }
}

fn open(dir: &tempfile::TempDir) -> Spool {
    Spool::open(dir.path(), small()).expect("opened")
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn record(number: u64) -> Vec<u8> {
    format!("record {number}").into_bytes()
}

fn numbers(spool: &mut Spool, max: usize) -> Vec<u64> {
    let entries = spool.peek(max).expect("peeked");
    for entry in &entries {
        assert_eq!(entry.bytes, record(entry.number));
    }
    entries.iter().map(|entry| entry.number).collect()
}

fn push(spool: &mut Spool, range: std::ops::RangeInclusive<u64>) {
    for number in range {
        assert_eq!(spool.push(&record(number)).expect("pushed"), number);
    }
}

fn segment_files(dir: &tempfile::TempDir) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.path())
        .expect("readable")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    files.sort();
    files
}

#[test]
fn records_come_out_in_order_and_stay_until_acknowledged() {
    let dir = scratch();
    let mut spool = open(&dir);
    assert!(spool.is_empty());
    push(&mut spool, 1..=20);
    assert_eq!(numbers(&mut spool, 3), [1, 2, 3]);
    assert_eq!(numbers(&mut spool, 3), [1, 2, 3]);
    spool.ack(2).expect("acknowledged");
    assert_eq!(numbers(&mut spool, 100), (3..=20).collect::<Vec<_>>());
    assert_eq!(spool.len(), 18);
    spool
        .ack(1)
        .expect("an old acknowledgement changes nothing");
    spool.ack(u64::MAX).expect("acknowledged");
    assert_eq!((spool.len(), spool.dropped()), (0, 0));
    assert_eq!(segment_files(&dir).len(), 1);
    push(&mut spool, 21..=21);
    assert_eq!(numbers(&mut spool, 9), [21]);
}

#[test]
fn everything_is_there_after_a_reopen() {
    let dir = scratch();
    let mut spool = open(&dir);
    push(&mut spool, 1..=20);
    spool.sync().expect("synced");
    spool.ack(7).expect("acknowledged");
    drop(spool);
    let mut spool = open(&dir);
    assert_eq!(numbers(&mut spool, 100), (8..=20).collect::<Vec<_>>());
    push(&mut spool, 21..=21);
    spool.ack(21).expect("acknowledged");
    drop(spool);
    let mut spool = open(&dir);
    assert!(spool.is_empty());
    push(&mut spool, 22..=22);
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_torn_record() {
    let dir = scratch();
    let mut spool = open(&dir);
    push(&mut spool, 1..=3);
    drop(spool);
    let path = segment_files(&dir).remove(0);
    let whole = std::fs::read(&path).expect("read");
    let stored = usize::try_from(segment::stored_bytes(record(1).len())).expect("small");
    assert_eq!(whole.len(), 3 * stored);
    for length in 0..=whole.len() {
        std::fs::write(&path, &whole[..length]).expect("cut");
        let kept = (length / stored) as u64;
        let mut spool = open(&dir);
        assert_eq!(
            numbers(&mut spool, 9),
            (1..=kept).collect::<Vec<_>>(),
            "cut at {length}"
        );
        // And the queue goes on where it stands.
        push(&mut spool, kept + 1..=kept + 1);
        assert_eq!(spool.len(), kept + 1);
    }
}

#[test]
fn a_tail_of_zeros_or_garbage_is_no_record() {
    for tail in [vec![0; 64], vec![0xff; 64], b"\x05\0\0\0abcdhello".to_vec()] {
        let dir = scratch();
        let mut spool = open(&dir);
        push(&mut spool, 1..=2);
        drop(spool);
        let path = segment_files(&dir).remove(0);
        let mut file = File::options().append(true).open(&path).expect("opened");
        file.write_all(&tail).expect("written");
        let mut spool = open(&dir);
        assert_eq!(numbers(&mut spool, 9), [1, 2]);
        push(&mut spool, 3..=3);
        drop(spool);
        assert_eq!(numbers(&mut open(&dir), 9), [1, 2, 3]);
    }
}

#[test]
fn beyond_the_cap_the_oldest_go_and_are_counted() {
    let dir = scratch();
    let mut spool = open(&dir);
    push(&mut spool, 1..=500);
    assert!(spool.bytes() <= small().max_bytes, "{}", spool.bytes());
    let waiting = numbers(&mut spool, 1000);
    assert_eq!(waiting.last(), Some(&500));
    assert_eq!(spool.len() + spool.dropped(), 500);
    assert_eq!(waiting[0], spool.dropped() + 1);
    let (len, dropped) = (spool.len(), spool.dropped());
    drop(spool);
    let spool = open(&dir);
    assert_eq!((spool.len(), spool.dropped()), (len, dropped));
}

#[test]
fn a_cap_smaller_than_a_segment_still_holds() {
    let dir = scratch();
    let options = SpoolOptions {
        max_bytes: 60,
        segment_bytes: 1000,
        max_record_bytes: 50,
    };
    let mut spool = Spool::open(dir.path(), options).expect("opened");
    push(&mut spool, 1..=50);
    assert!(spool.bytes() <= 60, "{}", spool.bytes());
    assert_eq!(spool.len() + spool.dropped(), 50);
}

#[test]
fn a_damaged_record_in_the_middle_is_dropped_and_counted_once() {
    let dir = scratch();
    let mut spool = open(&dir);
    push(&mut spool, 1..=20);
    drop(spool);
    let files = segment_files(&dir);
    assert!(files.len() > 2, "{files:?}");
    let mut bytes = std::fs::read(&files[1]).expect("read");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&files[1], &bytes).expect("written");
    let mut spool = open(&dir);
    let waiting = numbers(&mut spool, 100);
    assert_eq!(waiting.len(), 19);
    assert_eq!(numbers(&mut spool, 100), waiting);
    assert_eq!((spool.dropped(), spool.len()), (1, 19));
    drop(spool);
    let mut spool = open(&dir);
    assert_eq!(numbers(&mut spool, 100), waiting);
    assert_eq!((spool.dropped(), spool.len()), (1, 19));
    spool.ack(20).expect("acknowledged");
    assert_eq!((spool.dropped(), spool.len()), (1, 0));
}

#[test]
fn a_lost_segment_is_a_counted_gap() {
    let dir = scratch();
    let mut spool = open(&dir);
    push(&mut spool, 1..=20);
    drop(spool);
    let files = segment_files(&dir);
    let removed = 6; // a segment of 100 bytes holds six records of 8 + 8
    std::fs::remove_file(&files[0]).expect("removed");
    let mut spool = open(&dir);
    assert_eq!(spool.dropped(), removed);
    assert_eq!(
        numbers(&mut spool, 100),
        (removed + 1..=20).collect::<Vec<_>>()
    );
}

#[test]
fn numbers_do_not_go_back_when_the_segments_are_gone() {
    let dir = scratch();
    let mut spool = open(&dir);
    push(&mut spool, 1..=9);
    spool.ack(9).expect("acknowledged");
    drop(spool);
    for file in segment_files(&dir) {
        std::fs::remove_file(file).expect("removed");
    }
    let mut spool = open(&dir);
    push(&mut spool, 10..=10);
    assert_eq!(numbers(&mut spool, 9), [10]);
}

#[test]
fn a_damaged_state_repeats_records_and_loses_none() {
    let dir = scratch();
    let mut spool = open(&dir);
    push(&mut spool, 1..=3);
    spool.ack(2).expect("acknowledged");
    drop(spool);
    for text in ["", "{", "{\"head\":-1}"] {
        std::fs::write(dir.path().join(STATE_FILE), text).expect("written");
        assert_eq!(numbers(&mut open(&dir), 9), [1, 2, 3], "{text:?}");
    }
}

#[test]
fn a_second_opener_is_refused() {
    let dir = scratch();
    let spool = open(&dir);
    let refused = Spool::open(dir.path(), small());
    assert!(matches!(refused, Err(SpoolError::Locked(_))), "{refused:?}");
    drop(spool);
    open(&dir);
}

#[test]
fn a_record_that_does_not_fit_is_refused() {
    let dir = scratch();
    let mut spool = open(&dir);
    assert!(matches!(spool.push(&[]), Err(SpoolError::Record { .. })));
    assert!(matches!(
        spool.push(&[1; 51]),
        Err(SpoolError::Record { .. })
    ));
    spool.push(&[1; 50]).expect("fits");
}

#[test]
fn a_peek_is_bounded_in_bytes() {
    let dir = scratch();
    let options = SpoolOptions {
        max_record_bytes: 2 * 1024 * 1024,
        ..SpoolOptions::default()
    };
    let mut spool = Spool::open(dir.path(), options).expect("opened");
    for _ in 0..4 {
        spool.push(&vec![7; 600 * 1024]).expect("pushed");
    }
    assert_eq!(spool.peek(100).expect("peeked").len(), 1);
    spool.push(&vec![7; 2 * 1024 * 1024]).expect("pushed");
    spool.ack(4).expect("acknowledged");
    assert_eq!(spool.peek(100).expect("peeked").len(), 1);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = scratch();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let error = Spool::open(&file.join("spool"), small()).expect_err("refused");
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(cause.contains("file"), "{cause}");
}

/// Names the spool of a copy of this test program.
const SPOOL_OF_COPY: &str = "KIT_TEST_SPOOL";

#[test]
fn a_kill_at_any_moment_loses_no_record_that_was_pushed() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    if let Some(dir) = std::env::var_os(SPOOL_OF_COPY) {
        let mut spool = Spool::open(Path::new(&dir), SpoolOptions::default()).expect("opened");
        loop {
            let number = spool.push(&record(spool.len() + 1)).expect("pushed");
            println!("pushed {number}");
        }
    }
    let dir = scratch();
    let mut reached = 0;
    for lines in [1, 10, 100, 1000] {
        let mut copy = Command::new(std::env::current_exe().expect("our path"))
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("spool::tests::a_kill_at_any_moment_loses_no_record_that_was_pushed")
            .env(SPOOL_OF_COPY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("our test program runs");
        // Kept until after the kill: a closed pipe would end the copy first.
        let mut told = BufReader::new(copy.stdout.take().expect("piped"))
            .lines()
            .map_while(Result::ok)
            // libtest begins the first line itself: `test NAME ... pushed 1`.
            .filter_map(|line| line.rsplit_once("pushed ")?.1.parse::<u64>().ok());
        for number in told.by_ref().take(lines) {
            reached = number;
        }
        copy.kill().expect("killed");
        copy.wait().expect("reaped");
        let mut spool = Spool::open(dir.path(), SpoolOptions::default()).expect("opened");
        assert!(spool.len() >= reached, "{} of {reached}", spool.len());
        let waiting = numbers(&mut spool, usize::MAX);
        assert_eq!(waiting, (1..=spool.len()).collect::<Vec<_>>());
    }
    assert!(reached > 1000, "{reached}");
}

#[test]
fn a_write_that_fails_half_way_leaves_the_spool_as_it_was() {
    if let Some(dir) = std::env::var_os(SPOOL_OF_COPY) {
        let mut spool = Spool::open(Path::new(&dir), SpoolOptions::default()).expect("opened");
        let last = loop {
            match spool.push(&[7; 100]) {
                Ok(number) => assert!(number < 10_000, "no limit was met"),
                Err(SpoolError::File(_)) => break spool.len(),
                Err(other) => panic!("{other}"),
            }
        };
        assert!(last > 1, "{last}");
        // Again, and something smaller that still has room.
        assert!(spool.push(&[7; 100]).is_err());
        assert_eq!(spool.push(&[8; 1]).expect("room for one byte"), last + 1);
        assert_eq!(spool.peek(10_000).expect("peeked").len() as u64, last + 1);
        println!("done");
        return;
    }
    // The size limit of a file stands for the full disk: the write that
    // reaches it is cut short, the next one fails.
    let dir = scratch();
    let test = "spool::tests::a_write_that_fails_half_way_leaves_the_spool_as_it_was";
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 8 && trap '' XFSZ && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("our path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SPOOL_OF_COPY, dir.path())
        .output()
        .expect("our test program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("done"),
        "{output:?}"
    );
}
