#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::filter::{self, Instruction};
use super::*;

const MAGIC: u32 = 0xfeed_beef;
const BASE: u16 = 0x6000;
const TARGET_V4: [u8; 4] = [192, 0, 2, 9];

fn marks(random: u64) -> Marks {
    Marks::new(BASE | 77, MAGIC, random)
}

fn probe(marks: &Marks, family: Family, size: u16, sequence: Sequence) -> Vec<u8> {
    let mut bytes = Vec::new();
    marks.write(&mut bytes, family, size, sequence);
    bytes
}

fn header_v4(target: [u8; 4]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1];
    header.extend(target);
    header
}

fn header_v6(target: [u8; 16]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0, 0, 0, 58, 1];
    header.extend([7; 16]);
    header.extend(target);
    header
}

/// An ICMPv4 error with its IP header; `words` is RFC 4884's length.
fn error_v4(kind: u8, code: u8, words: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = header_v4([10, 0, 0, 1]);
    packet.extend([kind, code, 0, 0, 0, words, 0, 0]);
    packet.extend(body);
    packet
}

fn quoted_v4(probe: &[u8], bytes: usize) -> Vec<u8> {
    let mut quoted = header_v4(TARGET_V4);
    quoted.extend(&probe[..bytes.min(probe.len())]);
    quoted
}

fn extension_with(entries: &[u32]) -> Vec<u8> {
    let length = u16::try_from(4 + 4 * entries.len()).unwrap();
    let mut structure = vec![0x20, 0, 0, 0];
    structure.extend(length.to_be_bytes());
    structure.extend([1, 1]);
    entries
        .iter()
        .for_each(|entry| structure.extend(entry.to_be_bytes()));
    let checksum = !sum(&structure);
    structure[2..4].copy_from_slice(&checksum.to_be_bytes());
    structure
}

/// What the kernel would do with the program and the packet.
fn passes(program: &[Instruction], packet: &[u8]) -> bool {
    let load = |at: u32, bytes: usize| {
        let at = usize::try_from(at).ok()?;
        let found = packet.get(at..at + bytes)?;
        Some(
            found
                .iter()
                .fold(0_u32, |word, &byte| word << 8 | u32::from(byte)),
        )
    };
    let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
    loop {
        let (code, yes, no, k) = program[at];
        at += 1;
        let jump = |condition| usize::from(if condition { yes } else { no });
        let loaded = match code {
            0x30 => load(k, 1),
            0x20 => load(k, 4),
            0x50 => load(x + k, 1),
            0x48 => load(x + k, 2),
            0x40 => load(x + k, 4),
            0xb1 => {
                let Some(byte) = load(k, 1) else { return false };
                x = 4 * (byte & 0xf);
                continue;
            }
            0x80 => Some(u32::try_from(packet.len()).unwrap()),
            0x54 => Some(a & k),
            0x64 => Some(a << k),
            0x0c => Some(a.wrapping_add(x)),
            0x1c => Some(a.wrapping_sub(x)),
            0x07 => {
                x = a;
                continue;
            }
            0x15 => {
                at += jump(a == k);
                continue;
            }
            0x35 => {
                at += jump(a >= k);
                continue;
            }
            0x06 => return k > 0,
            other => panic!("no such instruction: {other:#x}"),
        };
        match loaded {
            Some(value) => a = value,
            None => return false,
        }
    }
}

fn read_v4(packet: &[u8]) -> Option<Answer> {
    let answer = parse_v4(packet, MAGIC);
    if let Some(answer) = &answer {
        let ours = answer.id & filter::ID_MASK == BASE;
        assert!(passes(&filter::v4(MAGIC, BASE), packet) || !ours);
    }
    answer
}

proptest! {
    #[test]
    fn all_probes_of_a_trace_have_its_checksum(
        random: u64, size in 0_u16..1_600, rounds in prop::collection::vec((0_u32..5_000, 0_u8..32), 1..20),
    ) {
        let marks = marks(random);
        for (round, hop) in rounds {
            let sequence = Sequence::new(round, hop);
            let v4 = probe(&marks, Family::V4, size, sequence);
            prop_assert_eq!(sum(&v4), 0xffff);
            prop_assert_eq!(&v4[2..4], &marks.checksum.to_be_bytes());
            prop_assert_eq!(v4.len(), usize::from(size.clamp(40, MAX_SIZE)) - 20);
            let v6 = probe(&marks, Family::V6, size, sequence);
            prop_assert_eq!(sum(&v6), !marks.checksum);
        }
    }

    #[test]
    fn a_sequence_number_tells_hop_and_age(round in 0_u32..1_000_000, later in 0_u32..2_048, hop in 0_u8..32) {
        let sequence = Sequence::new(round, hop);
        prop_assert_eq!(sequence.hop(), hop);
        prop_assert_eq!(sequence.age(round + later), later);
    }

    #[test]
    fn a_probe_is_known_again_from_its_reply_and_from_every_quote(
        random: u64, round in 0_u32..5_000, hop in 0_u8..32, quoted in 8_usize..64, padded: bool,
    ) {
        let (marks, sequence) = (marks(random), Sequence::new(round, hop));
        let sent = probe(&marks, Family::V4, 64, sequence);
        let target = IpAddr::from(TARGET_V4);
        let mut packet = header_v4([10, 0, 0, 1]);
        packet.extend(&sent);
        packet[20] = 0;
        let answer = read_v4(&packet).unwrap();
        prop_assert_eq!((answer.kind, answer.id, answer.sequence), (Kind::Reply, marks.id, sequence));
        prop_assert_eq!(marks.claim(&answer, target), Ok(()));

        let mut body = quoted_v4(&sent, quoted);
        if padded {
            // Cut off in the middle of our words it would be taken for another's; nobody does.
            body = quoted_v4(&sent, 8);
            body.resize(128, 0);
        }
        let packet = error_v4(11, 0, 0, &body);
        prop_assert!(passes(&filter::v4(MAGIC, BASE), &packet));
        let answer = read_v4(&packet).unwrap();
        prop_assert_eq!((answer.kind, answer.id, answer.sequence), (Kind::TimeExceeded, marks.id, sequence));
        prop_assert_eq!(marks.claim(&answer, target), Ok(()));
        prop_assert_eq!(marks.claim(&answer, [10, 9, 9, 9].into()), Err(Foreign));

        let sent = probe(&marks, Family::V6, 64, sequence);
        let mut body = header_v6([5; 16]);
        body.extend(&sent);
        let mut packet = vec![3, 0, 0, 0, 0, 0, 0, 0];
        packet.extend(&body);
        prop_assert!(passes(&filter::v6(MAGIC), &packet));
        let answer = parse_v6(&packet, MAGIC).unwrap();
        prop_assert_eq!(marks.claim(&answer, [5; 16].into()), Ok(()));
        let mut packet = sent;
        packet[0] = 129;
        prop_assert!(passes(&filter::v6(MAGIC), &packet));
        let answer = parse_v6(&packet, MAGIC).unwrap();
        prop_assert_eq!(marks.claim(&answer, [5; 16].into()), Ok(()));
    }

    #[test]
    fn another_traces_answer_is_foreign(random: u64, other: u64, quoted in prop::sample::select(vec![8_usize, 44])) {
        let (ours, theirs) = (marks(random), marks(other));
        prop_assume!(ours.cookie != theirs.cookie && ours.checksum != theirs.checksum);
        let sent = probe(&theirs, Family::V4, 64, Sequence::new(1, 1));
        let answer = read_v4(&error_v4(11, 0, 0, &quoted_v4(&sent, quoted))).unwrap();
        let target = IpAddr::from(TARGET_V4);
        prop_assert_eq!(ours.claim(&answer, target), Err(Foreign));
        prop_assert_eq!(theirs.claim(&answer, target), Ok(()));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (read_v4(&bytes), parse_v6(&bytes, MAGIC));
        let _ = read_v4(&error_v4(11, 0, bytes.first().copied().unwrap_or(0), &bytes));
    }

    #[test]
    fn no_bytes_behind_a_quote_panic_or_change_it(said: u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let sent = probe(&marks(1), Family::V4, 128, Sequence::new(3, 4));
        let mut body = quoted_v4(&sent, 108);
        body.extend(&bytes);
        if let Some(answer) = read_v4(&error_v4(11, 0, said, &body)) {
            prop_assert_eq!(answer.sequence, Sequence::new(3, 4));
        }
    }
}

#[test]
fn a_translator_that_changed_the_identifier_does_not_hide_the_probe() {
    let marks = marks(42);
    let mut sent = probe(&marks, Family::V4, 64, Sequence::new(9, 3));
    sent[4..6].copy_from_slice(&0x1234_u16.to_be_bytes());
    sent[2..4].copy_from_slice(&0x4321_u16.to_be_bytes());
    let packet = error_v4(11, 0, 0, &quoted_v4(&sent, 44));
    assert!(passes(&filter::v4(MAGIC, BASE), &packet));
    let answer = read_v4(&packet).unwrap();
    assert_eq!((answer.id, answer.header_id), (marks.id, 0x1234));
    let target = IpAddr::from(TARGET_V4);
    assert_eq!(marks.claim(&answer, target), Ok(()));
}

#[test]
fn labels_are_read_where_the_length_says_and_where_it_does_not() {
    let sent = probe(&marks(7), Family::V4, 64, Sequence::new(0, 2));
    let mut body = quoted_v4(&sent, 8);
    body.resize(128, 0);
    body.extend(extension_with(&[0x0001_1a01, 0xffff_f3fe]));
    for said in [0, 32] {
        let answer = read_v4(&error_v4(11, 0, said, &body)).unwrap();
        let read: Vec<_> = answer
            .mpls
            .iter()
            .map(|entry| (entry.label, entry.class, entry.bottom, entry.ttl))
            .collect();
        assert_eq!(read, [(17, 5, false, 1), (0xf_ffff, 1, true, 254)]);
        assert_eq!(answer.cookie, None);
    }
    let damaged = body.len() - 1;
    body[damaged] ^= 1;
    assert_eq!(read_v4(&error_v4(11, 0, 32, &body)).unwrap().mpls, []);
}

#[test]
fn what_other_programs_send_neither_passes_nor_is_read() {
    // As ping's: its payload begins with the time.
    let mut ping = vec![0, 0, 0, 0, 0x61, 0x11, 0, 1];
    ping.extend([0x20, 0x5d, 0x61, 0x69, 0, 0, 0, 0]);
    ping.resize(64, 0x55);
    let mut reply = header_v4([10, 0, 0, 1]);
    reply.extend(&ping);
    let mut asked = ping.clone();
    asked[0] = 8;
    asked[4] = 0x81;
    let mut udp = header_v4(TARGET_V4);
    udp[9] = 17;
    udp.extend([0x61; 64]);
    for packet in [
        reply,
        error_v4(11, 0, 0, &quoted_v4(&asked, 64)),
        error_v4(3, 3, 0, &udp),
    ] {
        assert_eq!(
            parse_v4(&packet, MAGIC).filter(|answer| answer.id & filter::ID_MASK == BASE),
            None
        );
        assert!(!passes(&filter::v4(MAGIC, BASE), &packet), "{packet:?}");
    }
}

#[test]
fn what_a_ping_says_is_read_from_the_request_and_its_reply_is_known() {
    let marks = marks(7);
    let mut said = [9; SAID];
    said[..4].copy_from_slice(&SAYS);
    let sequence = Sequence(0xabcd);
    let known = |found: Option<[u8; SAID]>| found.map(Vec::from).unwrap_or_default();
    for said in [&said[..], &[]] {
        let mut ping = Vec::new();
        marks.write_ping(&mut ping, Family::V4, sequence, said);
        assert_eq!(sum(&ping), 0xffff);
        let mut packet = header_v4([10, 0, 0, 1]);
        packet.extend(&ping);
        assert_eq!(known(said_v4(&packet)), said);
        assert_eq!(passes(&filter::v4(MAGIC, BASE), &packet), !said.is_empty());
        packet[20] = 0;
        let answer = parse_v4(&packet, MAGIC).unwrap();
        assert_eq!(marks.claim(&answer, [10, 0, 0, 1].into()), Ok(()));
        assert_eq!((answer.id, answer.sequence), (marks.id, sequence));
        assert!(passes(&filter::v4(MAGIC, BASE), &packet));

        marks.write_ping(&mut ping, Family::V6, sequence, said);
        assert_eq!(known(said_v6(&ping)), said);
        assert_eq!(passes(&filter::v6(MAGIC), &ping), !said.is_empty());
        ping[0] = 129;
        assert!(passes(&filter::v6(MAGIC), &ping) && parse_v6(&ping, MAGIC).is_some());
    }
}

#[test]
fn what_unreachable_means_is_said() {
    let sent = probe(&marks(7), Family::V4, 64, Sequence::new(0, 2));
    let kind_of = |code| {
        read_v4(&error_v4(3, code, 0, &quoted_v4(&sent, 44)))
            .unwrap()
            .kind
    };
    for (code, reason) in [
        (0, Unreachable::Network),
        (1, Unreachable::Host),
        (13, Unreachable::Prohibited),
        (3, Unreachable::Other(3)),
    ] {
        assert_eq!(kind_of(code), Kind::Unreachable(reason));
    }
}

#[test]
fn what_a_ping_socket_tells_is_the_same_answer_as_a_raw_one_gives() {
    let marks = marks(3);
    let sequence = Sequence::new(4, 2);
    let sent = probe(&marks, Family::V4, 64, sequence);
    let target = IpAddr::from(TARGET_V4);
    let mut body = quoted_v4(&sent, 1_500);
    body.resize(128, 0);
    body.extend(extension_with(&[0x1234_51ff]));
    for (kind, code) in [(11, 0), (11, 1), (3, 1), (3, 13), (4, 0)] {
        let raw = read_v4(&error_v4(kind, code, 32, &body));
        assert_eq!(parse_error((kind, code), target, &body[20..], MAGIC), raw);
    }
    // A quote as short as they come.
    let short = parse_error((11, 0), target, &sent[..8], MAGIC).unwrap();
    assert_eq!(read_v4(&error_v4(11, 0, 0, &body[..28])), Some(short));

    let mut reply = sent;
    reply[0] = 0;
    let mut packet = header_v4([10, 0, 0, 1]);
    packet.extend(&reply);
    let answer = parse_reply(&reply, Family::V4, MAGIC);
    assert!(answer.is_some() && answer == read_v4(&packet));
    // 129 is an answer for IPv6 only, and a request is one for nobody.
    for (kind, family) in [(129, Family::V4), (8, Family::V4), (0, Family::V6)] {
        reply[0] = kind;
        assert_eq!(parse_reply(&reply, family, MAGIC), None, "{kind}");
    }

    let sent = probe(&marks, Family::V6, 64, sequence);
    let mut body = header_v6([9; 16]);
    body.extend(&sent);
    let mut raw = vec![3, 0, 0, 0, 0, 0, 0, 0];
    raw.extend(&body);
    let target = IpAddr::from([9; 16]);
    let answer = parse_error((3, 0), target, &sent, MAGIC);
    assert!(answer.is_some() && answer == parse_v6(&raw, MAGIC));
}
