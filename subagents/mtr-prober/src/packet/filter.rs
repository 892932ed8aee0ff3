//! The program the kernel runs on each packet, so that other programs' answers never wake us.
//!
//! A raw socket is given every ICMP packet of the machine. Let in are echo replies that have our word, echo
//! requests that say what nodes of a mesh say, and errors that quote it; where the quote is too short for the word, our range of identifiers has to do.
//!
//! The one rule: what belongs to a trace passes; what passes is looked at again.

use super::{SAID_AT, SAYS};

/// One instruction: code, jump if true, jump if false, operand.
pub type Instruction = (u16, u8, u8, u32);

/// The bits of an identifier that say whose it is; the others are the slot.
pub const ID_MASK: u16 = 0xe000;

const LOAD_BYTE: u16 = 0x30; // A = packet[k]
const LOAD_WORD_X: u16 = 0x40; // A = packet[X + k], 4 bytes
const LOAD_HALF_X: u16 = 0x48; // 2 bytes
const LOAD_BYTE_X: u16 = 0x50; // 1 byte
const LOAD_WORD: u16 = 0x20;
const LOAD_LENGTH: u16 = 0x80; // A = length of the packet
const X_HEADER: u16 = 0xb1; // X = 4 * (packet[k] & 0xf)
const AND: u16 = 0x54;
const SHIFT_LEFT: u16 = 0x64;
const ADD_X: u16 = 0x0c;
const SUBTRACT_X: u16 = 0x1c;
const TO_X: u16 = 0x07; // X = A
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Takes the packet, all of it.
const PASS: Instruction = (RETURN, 0, 0, 0xffff);
const DROP: Instruction = (RETURN, 0, 0, 0);

/// For a raw IPv4 socket, which is given packets with their header. What reaches beyond a packet's end
/// drops it.
#[must_use]
pub fn v4(magic: u32, base: u16) -> Vec<Instruction> {
    vec![
        (X_HEADER, 0, 0, 0),
        (LOAD_BYTE_X, 0, 0, 0), // the type
        (IF_EQUAL, 4, 0, 0),    // -> 7, an echo reply
        (IF_EQUAL, 6, 0, 3),    // -> 10, unreachable
        (IF_EQUAL, 5, 0, 11),   // -> 10, time exceeded
        (IF_EQUAL, 22, 0, 8),   // -> 28, an echo request
        DROP,
        // 7: an echo reply has our word or is none of ours
        (LOAD_WORD_X, 0, 0, 12),
        (IF_EQUAL, 17, 0, magic), // -> 26
        DROP,
        // 10: X = where the quoted packet's ICMP begins, less 8
        (LOAD_BYTE_X, 0, 0, 8),
        (AND, 0, 0, 0xf),
        (SHIFT_LEFT, 0, 0, 2),
        (ADD_X, 0, 0, 0),
        (TO_X, 0, 0, 0),
        (LOAD_BYTE_X, 0, 0, 8), // the type it had
        (IF_EQUAL, 0, 10, 8),   // else -> 27
        (LOAD_LENGTH, 0, 0, 0),
        (SUBTRACT_X, 0, 0, 0),
        (IF_AT_LEAST, 0, 3, 24), // else -> 23, too short for the word
        (LOAD_WORD_X, 0, 0, 20),
        (IF_EQUAL, 4, 0, magic), // -> 26
        (IF_EQUAL, 0, 4, 0),     // else -> 27; zeros may be what a short quote was filled up with
        // 23: the identifier
        (LOAD_HALF_X, 0, 0, 12),
        (AND, 0, 0, ID_MASK as u32),
        (IF_EQUAL, 0, 1, base as u32), // else -> 27
        PASS,
        DROP,
        // 28: what a request says
        (LOAD_WORD_X, 0, 0, SAID_AT as u32),
        (IF_EQUAL, 0, 1, u32::from_be_bytes(SAYS)), // else -> 31
        PASS,
        DROP,
    ]
}

/// For a raw ICMPv6 socket, which is given no header. Routers quote as much as they can here, the word
/// is always there.
#[must_use]
pub fn v6(magic: u32) -> Vec<Instruction> {
    vec![
        (LOAD_BYTE, 0, 0, 0),
        (IF_EQUAL, 4, 0, 129), // -> 6, an echo reply
        (IF_EQUAL, 5, 0, 1),   // -> 8, unreachable
        (IF_EQUAL, 4, 0, 3),   // -> 8, time exceeded
        (IF_EQUAL, 9, 0, 128), // -> 14, an echo request
        DROP,
        (LOAD_WORD, 0, 0, 12),
        (IF_EQUAL, 4, 5, magic), // -> 12, else -> 13
        (LOAD_BYTE, 0, 0, 48),
        (IF_EQUAL, 0, 3, 128), // else -> 13
        (LOAD_WORD, 0, 0, 60),
        (IF_EQUAL, 0, 1, magic), // else -> 13
        PASS,
        DROP,
        // 14: what a request says
        (LOAD_WORD, 0, 0, SAID_AT as u32),
        (IF_EQUAL, 0, 1, u32::from_be_bytes(SAYS)), // else -> 17
        PASS,
        DROP,
    ]
}
