//! Files of reports that a disk has damaged or somebody has made: a part of the input that begins with `A` or `R` is
//! a frame with its right CRC, so that what nobody would write is tried as well.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mtr_prober::archive::query::Query;
use mtr_prober::archive::{Archive, Lookup, Options, Write};
use mtr_prober::report::{Instant, Report};
use uuid::Uuid;

/// A moment on the day the files are of.
const NOW: Instant = Instant {
    unix_ms: 1_795_000_000_000,
    offset: 0,
};
const DAY: &str = "2026-11-18";

fn id(number: u128) -> Uuid {
    Uuid::from_u128(u128::try_from(NOW.unix_ms).expect("after 1970") << 80 | 7 << 76 | number)
}

fn report(number: u128) -> Report {
    let json = serde_json::json!({
        "id": id(number), "state": "finished", "cause": "api", "tool": "t", "node": "n",
        "target": {"asked": "192.0.2.1"}, "source": {}, "accepted_at": NOW, "ended_at": NOW,
        "parameters": {"count": 1, "interval_ms": 1000, "size": 64}, "parts": []
    });
    serde_json::from_value(json).expect("a report")
}

fn frame(kind: u8, head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut counted = vec![kind];
    counted.extend(u16::try_from(head.len()).unwrap_or(u16::MAX).to_le_bytes());
    counted.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    let crc = crc32fast::hash(&[&counted, head, body].concat());
    [b"MTRa", &counted[..], &crc.to_le_bytes(), head, body].concat()
}

fn of_report(number: u128) -> Vec<u8> {
    let report = report(number);
    let head = serde_json::json!({
        "id": report.id, "state": "finished", "cause": "api", "target": "192.0.2.1",
        "accepted_ms": NOW.unix_ms
    });
    let body = serde_json::to_vec(&report).expect("JSON");
    frame(2, head.to_string().as_bytes(), &body)
}

fn open(state: &Path) -> Archive {
    let opened = Archive::open(state, Options::default(), NOW);
    opened.expect("damage is no reason to give up").0
}

fuzz_target!(|data: &[u8]| {
    let mut content = of_report(1);
    for part in data.split(|byte| *byte == b'\n') {
        match part {
            [b'A', body @ ..] => content.extend(frame(1, b"", body)),
            [b'R', rest @ ..] => {
                let tab = rest.iter().position(|byte| *byte == b'\t');
                let (head, body) = rest.split_at(tab.unwrap_or(rest.len()));
                content.extend(frame(2, head, body));
            }
            part => content.extend([part, b"\n"].concat()),
        }
    }
    content.extend(of_report(2));
    let state = fuzz::folder().join("archive");
    let folder = state.join("reports").join(DAY);
    let _ = std::fs::remove_dir_all(&state);
    std::fs::create_dir_all(&folder).expect("makeable");
    let file = folder.join("0000000001.seg");
    std::fs::write(&file, content).expect("writable");
    // One that was complete, whose index is anything.
    let complete = data.first().is_some_and(|first| first % 2 == 1);
    if complete {
        std::fs::write(folder.join("0000000001.idx"), data).expect("writable");
    }

    let known = |archive: &Archive, number| {
        let found = archive.lookup(&id(number)).expect("readable");
        assert!(matches!(found, Lookup::Report(_)), "{number}: {found:?}");
    };
    let mut archive = open(&state);
    if !complete {
        known(&archive, 1);
        known(&archive, 2);
    }
    let later = report(3);
    let written = archive.commit(&[Write::Ended(&later)], NOW.unix_ms);
    written.expect("the disk takes it");
    let damaged = archive.status().kept;
    drop(archive);
    let mut archive = open(&state);
    let kept = archive.status().kept;
    assert_eq!(
        kept.torn_bytes, damaged.torn_bytes,
        "a torn end is cut off once"
    );
    known(&archive, 3);
    let query = Query {
        limit: 10,
        ..Query::default()
    };
    let page = archive.query(&query).expect("readable");
    assert!(page.items.iter().any(|it| it.id == later.id) || page.items.len() == 10);
    for upload in archive.uploads(10).expect("readable") {
        archive.acknowledge(&[upload.id]).expect("noted");
    }
    assert!(archive.remove(&id(3)).expect("noted"));
    assert_eq!(archive.lookup(&id(3)).expect("readable"), Lookup::Gone);
});
