//! A journal of which the middle is anything: lines that begin with `{` get
//! their right CRC, so that records nobody would write are tried as well.
#![no_main]

use bootagent::journal::Journal;
use bootagent_protocol::Event;
use libfuzzer_sys::fuzz_target;

fn line(json: &[u8]) -> Vec<u8> {
    let crc = format!("{:08x} ", crc32fast::hash(json));
    [crc.as_bytes(), json, b"\n"].concat()
}

fn job(id: &str) -> Vec<u8> {
    let job = format!(r#"{{"id":"{id}","action":"stop","name":"a"}}"#);
    line(format!(r#"{{"job":{{"id":"{id}","digest":"d","job":{job},"server":"s"}}}}"#).as_bytes())
}

fuzz_target!(|data: &[u8]| {
    let mut content = job("before");
    for part in data.split(|byte| *byte == b'\n') {
        match part.first() {
            Some(b'{') => content.extend(line(part)),
            _ => content.extend([part, b"\n"].concat()),
        }
    }
    content.extend(job("after"));
    let folder = fuzz::folder().join("journal");
    std::fs::create_dir_all(&folder).expect("makeable");
    std::fs::write(folder.join("journal"), content).expect("writable");

    let (mut journal, _) = Journal::open(&folder, "boot").expect("damage is no reason to give up");
    assert_eq!(journal.trouble(), None);
    let ids: Vec<_> = journal
        .recent(10_000)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    for known in ["before", "after"] {
        let count = ids.iter().filter(|id| *id == known).count();
        assert_eq!(count, 1, "{known} of {ids:?}");
    }
    let number = |journal: &Journal| {
        let own = journal.waiting_events(10_000).into_iter();
        let own = own.filter(|event| event.boot_id.as_deref() == Some("boot"));
        own.map(|event| event.seq).max()
    };
    let former = number(&journal);
    journal.event(Event::default()).expect("stored");
    if let Some(former) = former.filter(|former| *former < u64::MAX) {
        assert!(number(&journal) > Some(former), "a number is given twice");
    }
    let unsent = journal.unsent();
    drop(journal);
    let (mut journal, damage) = Journal::open(&folder, "boot").expect("opens");
    assert_eq!(damage, None, "damage is said once");
    assert!(
        journal.unsent() == unsent,
        "what is read is what was written"
    );
    journal.acknowledge(&unsent).expect("noted");
});
