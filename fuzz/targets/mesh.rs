//! What another node's ping says: nothing is believed before its seal, and what is sealed is read as it was meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtr_prober::mesh::both_ends::Arrived;
use mtr_prober::mesh::message::{BYTES, GroupKey, Message, NodeId, Seen};

fn number(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    let there = bytes.len().saturating_sub(at).min(4);
    word[..there].copy_from_slice(&bytes[bytes.len().min(at)..bytes.len().min(at) + there]);
    u32::from_be_bytes(word)
}

fuzz_target!(|data: &[u8]| {
    let key = GroupKey::new(b"a key of this group").expect("long enough");
    let other = GroupKey::new(b"the key of another").expect("long enough");
    let keys = [other, key.clone()];
    // Nobody makes up a seal.
    assert!(Message::open(data, &keys).is_err());

    let mut arrived = Arrived::default();
    for part in data.chunks(16) {
        let message = Message {
            from: NodeId(u64::from(number(part, 0)) << 32 | 7),
            to: NodeId(1),
            line: part[0].into(),
            epoch: number(part, 4),
            sequence: number(part, 8),
            seen: (part[0] % 2 == 1).then(|| Seen {
                epoch: number(part, 1),
                sequence: number(part, 5),
                count: number(part, 12),
            }),
        };
        let mut sealed = message.seal(&key);
        assert_eq!(Message::open(&sealed, &keys), Ok(message));
        let at = usize::from(part[part.len() - 1]) % BYTES;
        sealed[at] ^= 1 << (part[0] % 8);
        assert!(Message::open(&sealed, &keys).is_err(), "one bit is another");
        arrived.note(&message);
        if let Some(seen) = arrived.seen() {
            assert!(seen.count <= seen.sequence, "more than were sent: {seen:?}");
            assert!(!arrived.note(&message), "a copy counts once");
        }
    }
});
