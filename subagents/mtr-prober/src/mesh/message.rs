//! What a mesh ping says besides "are you there": who sends it, and what came of yours.
//!
//! 64 bytes of the ping's payload, sealed with HMAC-SHA256 by a key that the whole group has. An
//! echo brings them back unchanged, so that they are read twice: by the peer, from the request, and
//! by ourselves, from the reply.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `MTRm` |
//! | 1 | version, 1 |
//! | 1 | 1 where something was seen of the other, else 0 |
//! | 2 | the sender's line |
//! | 8 | the sender |
//! | 8 | whom it is for |
//! | 4 | when the sender began to count, unix seconds |
//! | 4 | the number of this ping, from 1 |
//! | 12 | of the other's pings seen: when he began to count, the greatest number, how many |
//! | 4 | zero |
//! | 16 | the first half of the HMAC of all before |
//!
//! The one rule: nothing of a message is believed before its seal.

use std::fmt;

use ring::{digest, hmac};

/// Bytes of a message.
pub const BYTES: usize = 64;
const SEAL: usize = 16;
const MARK: [u8; 4] = *b"MTRm";
const VERSION: u8 = 1;
/// Shortest key, in bytes.
const SHORTEST_KEY: usize = 16;

/// A node, by the beginning of its name's SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The node of this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        let first = digest.as_ref().first_chunk().expect("it has 32 bytes");
        Self(u64::from_be_bytes(*first))
    }
}

/// What a group has in common.
#[derive(Clone)]
pub struct GroupKey(hmac::Key);

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A key that could be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the group's key has {0} bytes, at least {SHORTEST_KEY} are needed; make one with `openssl rand -hex 32`"
)]
pub struct KeyError(usize);

impl GroupKey {
    /// A key of these bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() < SHORTEST_KEY {
            return Err(KeyError(bytes.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }
}

/// What was seen of the other's pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When he began to count.
    pub epoch: u32,
    /// The greatest number.
    pub sequence: u32,
    /// How many up to that one came.
    pub count: u32,
}

/// What one ping says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Who sends it.
    pub from: NodeId,
    /// To whom, so that it cannot be shown to somebody else.
    pub to: NodeId,
    /// By which of the sender's lines.
    pub line: u16,
    /// When the sender began to count, unix seconds.
    pub epoch: u32,
    /// The number of this ping.
    pub sequence: u32,
    /// What came of the other's.
    pub seen: Option<Seen>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Any other ping.
    #[error("this is no mesh ping")]
    Foreign,
    /// Of a version we do not speak.
    #[error(
        "the mesh ping has version {0}, we speak {VERSION}; upgrade the older of the two nodes"
    )]
    Version(u8),
    /// Of somebody without the key, or changed on the way.
    #[error("the seal of the mesh ping is wrong; do both nodes have the group's key?")]
    Forged,
}

impl Message {
    /// The bytes of it.
    #[must_use]
    pub fn seal(&self, key: &GroupKey) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&MARK);
        bytes[4] = VERSION;
        bytes[5] = u8::from(self.seen.is_some());
        bytes[6..8].copy_from_slice(&self.line.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.from.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.to.0.to_be_bytes());
        let seen = self
            .seen
            .map_or([0; 3], |it| [it.epoch, it.sequence, it.count]);
        let numbers = [self.epoch, self.sequence, seen[0], seen[1], seen[2]];
        for (place, number) in bytes[24..44].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        let seal = hmac::sign(&key.0, &bytes[..BYTES - SEAL]);
        bytes[BYTES - SEAL..].copy_from_slice(&seal.as_ref()[..SEAL]);
        bytes
    }

    /// Reads one that was sealed with one of these keys; several while a key is being changed.
    pub fn open(bytes: &[u8], keys: &[GroupKey]) -> Result<Self, MessageError> {
        let Some(bytes) = bytes.first_chunk::<BYTES>() else {
            return Err(MessageError::Foreign);
        };
        if bytes[..4] != MARK {
            return Err(MessageError::Foreign);
        }
        if bytes[4] != VERSION {
            return Err(MessageError::Version(bytes[4]));
        }
        let (said, seal) = bytes.split_at(BYTES - SEAL);
        if !keys.iter().any(|key| is_sealed(key, said, seal)) {
            return Err(MessageError::Forged);
        }
        let number = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let node = |at: usize| NodeId(u64::from(number(at)) << 32 | u64::from(number(at + 4)));
        let seen = Seen {
            epoch: number(32),
            sequence: number(36),
            count: number(40),
        };
        Ok(Self {
            from: node(8),
            to: node(16),
            line: u16::from_be_bytes([bytes[6], bytes[7]]),
            epoch: number(24),
            sequence: number(28),
            seen: (bytes[5] == 1).then_some(seen),
        })
    }
}

/// Compares without telling by its duration how much agreed.
fn is_sealed(key: &GroupKey, said: &[u8], seal: &[u8]) -> bool {
    let right = hmac::sign(&key.0, said);
    let differing = right
        .as_ref()
        .iter()
        .zip(seal)
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> GroupKey {
        GroupKey::new(text.as_bytes()).expect("long enough")
    }

    fn message() -> Message {
        Message {
            from: NodeId::of("cn-gz-3"),
            to: NodeId::of("de-fra-1"),
            line: 2,
            epoch: 1_795_326_148,
            sequence: 77,
            seen: Some(Seen {
                epoch: 1_795_000_000,
                sequence: 5000,
                count: 4999,
            }),
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_sealed() {
        let key = key("a key of the group");
        for seen in [message().seen, None] {
            let said = Message { seen, ..message() };
            let bytes = said.seal(&key);
            assert_eq!(Message::open(&bytes, std::slice::from_ref(&key)), Ok(said));
            // What pads the ping behind it does not matter.
            let longer = [&bytes[..], &[7; 30]].concat();
            assert_eq!(
                Message::open(
                    &longer,
                    &[super::tests::key("the new key of it"), key.clone()]
                ),
                Ok(said)
            );
        }
    }

    #[test]
    fn no_byte_can_be_changed_and_no_other_key_opens_it() {
        let key = key("a key of the group");
        let bytes = message().seal(&key);
        for at in 0..BYTES {
            for bit in 0..8 {
                let mut changed = bytes;
                changed[at] ^= 1 << bit;
                let read = Message::open(&changed, std::slice::from_ref(&key));
                match at {
                    0..4 => assert_eq!(read, Err(MessageError::Foreign)),
                    4 => assert_eq!(read, Err(MessageError::Version(changed[4]))),
                    _ => assert_eq!(read, Err(MessageError::Forged), "byte {at}"),
                }
            }
        }
        let other = super::tests::key("some other key of it");
        assert_eq!(Message::open(&bytes, &[other]), Err(MessageError::Forged));
        assert_eq!(Message::open(&bytes, &[]), Err(MessageError::Forged));
        for length in 0..BYTES {
            let read = Message::open(&bytes[..length], std::slice::from_ref(&key));
            assert_eq!(read, Err(MessageError::Foreign));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_table() {
        let bytes = message().seal(&key("a key of the group"));
        assert_eq!(bytes[..8], *b"MTRm\x01\x01\0\x02");
        assert_eq!(bytes[28..32], 77_u32.to_be_bytes());
        assert_eq!(bytes[40..44], 4999_u32.to_be_bytes());
        assert_eq!(bytes[44..48], [0; 4]);
    }

    #[test]
    fn a_short_key_is_refused_and_none_is_printed() {
        assert_eq!(GroupKey::new(b"fifteen bytes..").err(), Some(KeyError(15)));
        assert_eq!(format!("{:?}", key("a key of the group")), "***");
    }
}
