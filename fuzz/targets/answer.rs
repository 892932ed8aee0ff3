//! What comes in on mtr-prober's sockets: an answer of anybody's, or a router's quote of our own probe with
//! anything behind it; on ping sockets without an IP header, and quoted by the kernel's queue of errors.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use mtr_prober::packet::{
    Answer, Family, Kind, MAX_HOPS, Marks, Sequence, parse_error, parse_reply, parse_v4, parse_v6,
    said_v4, said_v6,
};

const MAGIC: u32 = 0x6d74_7201;
const TARGET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn marks() -> Marks {
    Marks::new(0x2007, MAGIC, 0x0123_4567_89ab_cdef)
}

fn check(answer: Option<Answer>, packet: &[u8]) {
    let Some(answer) = answer else {
        return;
    };
    assert!(answer.sequence.hop() < MAX_HOPS);
    assert!(answer.mpls.len() * 4 <= packet.len(), "labels nobody sent");
    if marks().claim(&answer, TARGET.into()).is_ok() {
        // Ours names the trace by its word or by identifier and sum: nobody guesses these.
        let has = |word: &[u8]| packet.windows(word.len()).any(|it| it == word);
        let by_word = has(&marks().cookie.to_be_bytes());
        let by_sum = has(&marks().id.to_be_bytes()) && has(&marks().checksum.to_be_bytes());
        assert!(by_word || by_sum, "{answer:?}");
    }
}

/// A router's "time exceeded" with our probe in it, and this behind the first `quoted` bytes of that.
fn exceeded(sequence: Sequence, quoted: usize, rest: &[u8]) -> Vec<u8> {
    let mut probe = Vec::new();
    marks().write(&mut probe, Family::V4, 64, sequence);
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    packet.extend([11, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend([0x45, 0, 0, 64, 0, 0, 0, 0, 1, 1, 0, 0, 10, 0, 0, 2]);
    packet.extend(TARGET.octets());
    packet.extend(&probe[..quoted.clamp(8, probe.len())]);
    packet.extend(rest);
    packet
}

fuzz_target!(|data: &[u8]| {
    check(parse_v4(data, MAGIC), data);
    check(parse_v6(data, MAGIC), data);
    let _ = (said_v4(data), said_v6(data));
    check(parse_reply(data, Family::V4, MAGIC), data);
    check(parse_reply(data, Family::V6, MAGIC), data);
    if let [kind, code, queued @ ..] = data {
        for target in [TARGET.into(), Ipv6Addr::LOCALHOST.into()] {
            check(parse_error((*kind, *code), target, queued, MAGIC), queued);
        }
    }
    let [number, hop, quoted, rest @ ..] = data else {
        return;
    };
    let sequence = Sequence::new(u32::from(*number), hop % MAX_HOPS);
    let packet = exceeded(sequence, usize::from(*quoted), rest);
    let answer = parse_v4(&packet, MAGIC);
    check(answer.clone(), &packet);
    // The kernel's queue has the same quote, from its ICMP header on.
    let queued = &packet[48..];
    let error = parse_error((11, 0), TARGET.into(), queued, MAGIC);
    check(error.clone(), queued);
    let sequence_of = |it: &Option<Answer>| it.as_ref().map(|it| (it.kind, it.sequence));
    assert_eq!(sequence_of(&error), sequence_of(&answer));
    // Cut off behind what every router quotes it is ours; whole, its word says so.
    if rest.is_empty() {
        let answer = answer.expect("a quote of a probe of ours");
        assert_eq!(answer.kind, Kind::TimeExceeded);
        assert_eq!(answer.sequence, sequence);
        assert_eq!(answer.quoted_target, Some(IpAddr::V4(TARGET)));
    }
});
