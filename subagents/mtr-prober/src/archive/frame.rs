//! How records lie in a file of the archive, one after another.
//!
//! A frame is a mark, a kind, the lengths of head and body, a CRC-32 over all of it, and both texts.
//! The head is what the index needs, so that the body is read only when somebody wants it.
//!
//! The one rule: a frame is taken whole or not at all, and damage costs only what it hit: reading goes
//! on at the next mark whose frame is whole.

/// What each frame begins with.
const MARK: [u8; 4] = *b"MTRa";
/// Bytes before the head.
const HEADER: usize = 15;
/// Longest head; a length beyond it is damage.
const MAX_HEAD: usize = 4 * 1024;
/// Longest body; a length beyond it is damage.
pub(super) const MAX_BODY: usize = 1024 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A measurement was accepted; the body is its report so far.
    Accepted = 1,
    /// It ended; the head is its summary, the body its report.
    Report = 2,
    /// In an index: the head is a summary, the body says where the report lies.
    Index = 3,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Accepted, Self::Report, Self::Index]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One frame, as it lies in what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
}

impl Frame<'_> {
    /// Bytes it takes in a file.
    pub(super) fn stored(&self) -> usize {
        HEADER + self.head.len() + self.body.len()
    }

    /// Appends it. Lengths beyond the bounds are the caller's mistake: `None`, and nothing appended.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) -> Option<()> {
        if self.head.len() > MAX_HEAD || self.body.len() > MAX_BODY {
            return None;
        }
        let mut counted = [0; 7];
        counted[0] = self.kind as u8;
        counted[1..3].copy_from_slice(&u16::try_from(self.head.len()).ok()?.to_le_bytes());
        counted[3..7].copy_from_slice(&u32::try_from(self.body.len()).ok()?.to_le_bytes());
        out.extend(MARK);
        out.extend(counted);
        out.extend(sum(&counted, self.head, self.body).to_le_bytes());
        out.extend(self.head);
        out.extend(self.body);
        Some(())
    }
}

/// The frame that begins where `bytes` begin, if a whole one does.
pub(super) fn decode(bytes: &[u8]) -> Option<Frame<'_>> {
    let header = bytes.get(..HEADER)?;
    if header[..4] != MARK {
        return None;
    }
    let kind = Kind::of(header[4])?;
    let head_length = usize::from(u16::from_le_bytes([header[5], header[6]]));
    let body_length = u32::from_le_bytes([header[7], header[8], header[9], header[10]]);
    let body_length = usize::try_from(body_length).ok()?;
    if head_length > MAX_HEAD || body_length > MAX_BODY {
        return None;
    }
    let head = bytes.get(HEADER..HEADER + head_length)?;
    let body = bytes.get(HEADER + head_length..HEADER + head_length + body_length)?;
    let expected = u32::from_le_bytes([header[11], header[12], header[13], header[14]]);
    let whole = sum(&header[4..11], head, body) == expected;
    whole.then_some(Frame { kind, head, body })
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    /// Each whole frame with where it begins.
    pub(super) frames: Vec<(usize, Frame<'a>)>,
    /// Where the last of them ends: what follows is torn.
    pub(super) end: usize,
    /// Places between them that are damaged.
    pub(super) damaged: u64,
}

/// Reads all frames of a file.
pub(super) fn scan(bytes: &[u8]) -> Scan<'_> {
    let mut scan = Scan {
        frames: Vec::new(),
        end: 0,
        damaged: 0,
    };
    let mut at = 0;
    while at < bytes.len() {
        let Some(found) = next(bytes, at) else {
            break;
        };
        scan.damaged += u64::from(found > at);
        let frame = decode(&bytes[found..]).expect("it was just found whole");
        at = found + frame.stored();
        scan.frames.push((found, frame));
        scan.end = at;
    }
    scan
}

/// Where the next whole frame begins, from `at` on.
fn next(bytes: &[u8], at: usize) -> Option<usize> {
    if decode(&bytes[at..]).is_some() {
        return Some(at);
    }
    let marks = bytes[at..].windows(MARK.len()).enumerate();
    let mut marks = marks
        .filter(|(_, window)| *window == MARK)
        .map(|(offset, _)| at + offset);
    marks.find(|&offset| decode(&bytes[offset..]).is_some())
}

fn sum(counted: &[u8], head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    [counted, head, body]
        .iter()
        .for_each(|part| hasher.update(part));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, head, body) in [
            (Kind::Accepted, &b"one"[..], &b"first"[..]),
            (Kind::Report, b"two", b"second MTRa and more"),
            (Kind::Report, b"three", b""),
        ] {
            Frame { kind, head, body }
                .append_to(&mut bytes)
                .expect("short");
        }
        bytes
    }

    fn heads(bytes: &[u8]) -> Vec<String> {
        let scan = scan(bytes);
        let text = |head| String::from_utf8_lossy(head).into_owned();
        scan.frames
            .iter()
            .map(|(_, frame)| text(frame.head))
            .collect()
    }

    #[test]
    fn what_was_appended_is_read_up_to_where_it_is_torn() {
        let bytes = three();
        assert_eq!(heads(&bytes), ["one", "two", "three"]);
        let ends: Vec<usize> = scan(&bytes)
            .frames
            .iter()
            .map(|(at, it)| at + it.stored())
            .collect();
        for length in 0..bytes.len() {
            let torn = scan(&bytes[..length]);
            let whole = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(
                (torn.frames.len(), torn.damaged),
                (whole, 0),
                "cut at {length}"
            );
            assert_eq!(torn.end, if whole == 0 { 0 } else { ends[whole - 1] });
        }
    }

    #[test]
    fn a_changed_byte_costs_the_frame_it_is_in_and_no_other() {
        let bytes = three();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            let found = heads(&changed);
            assert_eq!(found.len(), 2, "byte {at}: {found:?}");
        }
    }
}
