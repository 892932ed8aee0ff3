//! What an FTP server answers: RFC 959 with the sizes, times and ports in it.
//!
//! Pure text. The one rule: a reply has a bound in bytes and in lines, and
//! what is odd in it is an error or unknown, never a guess.

use std::io::{self, BufRead, Read};

/// Largest reply, in bytes: a greeting may be a page of text.
const MAX_REPLY_BYTES: u64 = 64 * 1024;
/// Most lines of one.
const MAX_REPLY_LINES: usize = 1000;
/// Longest time of a file: 14 digits and a fraction.
const MAX_TIME_BYTES: usize = 32;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// 100 to 599.
    pub(super) code: u16,
    /// Its last line, behind the code.
    text: String,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum ReplyError {
    /// It did not come, or not whole.
    Connection(io::Error),
    /// What came is no reply.
    NotFtp,
}

impl From<io::Error> for ReplyError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// Reads one. It ends with a line `CODE text`; when its first line is
/// `CODE-text`, whatever lies between belongs to it.
pub(super) fn read(reader: &mut impl BufRead) -> Result<Reply, ReplyError> {
    let mut bounded = reader.take(MAX_REPLY_BYTES);
    let mut first = None;
    for _ in 0..MAX_REPLY_LINES {
        let mut line = Vec::new();
        bounded.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Err(match bounded.limit() {
                0 => ReplyError::NotFtp,
                _ => ReplyError::Connection(io::ErrorKind::UnexpectedEof.into()),
            });
        }
        let parts = split(&line);
        let (code, goes_on) = match (first, parts) {
            (None, Some((code, goes_on, _))) => (code, goes_on),
            (None, None) => return Err(ReplyError::NotFtp),
            (Some(first), Some((code, goes_on, _))) => (first, goes_on || code != first),
            (Some(first), None) => (first, true),
        };
        if !goes_on {
            let text = parts.map(|(_, _, text)| String::from_utf8_lossy(text).into_owned());
            return Ok(Reply {
                code,
                text: text.unwrap_or_default(),
            });
        }
        first = Some(code);
    }
    Err(ReplyError::NotFtp)
}

/// The code of a line, whether others follow, and its text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let line = line.trim_ascii_end();
    let (digits, rest) = line.split_at_checked(3)?;
    let code: u16 = number(std::str::from_utf8(digits).ok()?)?;
    let goes_on = match rest.first() {
        Some(b'-') => true,
        Some(b' ') | None => false,
        Some(_) => return None,
    };
    let text = rest.get(1..).unwrap_or_default();
    (100..600).contains(&code).then_some((code, goes_on, text))
}

/// Digits and nothing else, which `parse` alone does not ask for.
fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    let is_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_digits)
}

impl Reply {
    /// The size in the answer to SIZE.
    pub(super) fn size(&self) -> Option<u64> {
        number(self.text.trim())
    }

    /// The time in the answer to MDTM, as the server writes it.
    pub(super) fn modified(&self) -> Option<&str> {
        let time = self.text.trim();
        let fits = (14..=MAX_TIME_BYTES).contains(&time.len());
        let is_time = time
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        (fits && is_time).then_some(time)
    }

    /// The port in the answer to PASV, `(h1,h2,h3,h4,p1,p2)` or without
    /// brackets. The address is nothing to us.
    pub(super) fn passive_port(&self) -> Option<u16> {
        let from = self.text.find('(').map_or(0, |at| at + 1);
        let text = &self.text[from..];
        let text = &text[text.find(|first: char| first.is_ascii_digit())?..];
        let is_inside = |inner: char| inner.is_ascii_digit() || inner == ',';
        let end = text
            .find(|inner: char| !is_inside(inner))
            .unwrap_or(text.len());
        let numbers: Vec<u8> = text[..end].split(',').map(number).collect::<Option<_>>()?;
        match numbers[..] {
            [_, _, _, _, high, low] => Some(u16::from_be_bytes([high, low])).filter(|&p| p != 0),
            _ => None,
        }
    }

    /// The port in the answer to EPSV, `(|||port|)`, of RFC 2428.
    pub(super) fn extended_port(&self) -> Option<u16> {
        let (_, inner) = self.text.split_once('(')?;
        let (inner, _) = inner.split_once(')')?;
        let delimiter = inner.chars().next()?;
        let mut fields = inner.split(delimiter);
        let port = fields.nth(3)?;
        let is_whole = fields.next() == Some("") && fields.next().is_none();
        number(port).filter(|&port| is_whole && port != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Reply {
        read(&mut text.as_bytes()).expect(text)
    }

    #[test]
    fn a_reply_ends_with_the_line_that_repeats_its_code() {
        let mut two =
            "220-hello\r\n 220 no end\r\n221 nor this\r\n220-nor\r\n\r\n220 end\r\n226\r\n"
                .as_bytes();
        let first = read(&mut two).expect("the first");
        assert_eq!((first.code, &*first.text), (220, "end"));
        let second = read(&mut two).expect("the second");
        assert_eq!((second.code, &*second.text), (226, ""));
        assert!(matches!(read(&mut two), Err(ReplyError::Connection(_))));
    }

    #[test]
    fn what_is_no_reply_is_refused_within_its_bounds() {
        let endless_line = [b'2'; 100_000];
        let endless_reply = "220-more\r\n".repeat(100_000);
        let long_lines = format!("220-{}\r\n", "x".repeat(1000)).repeat(1000);
        for bytes in [
            "what?\r\n".as_bytes(),
            b"20 \r\n",
            b"099 low\r\n",
            b"600 high\r\n",
            b"+20 sign\r\n",
            b"2200 no\r\n",
            b"\r\n",
            &endless_line,
            endless_reply.as_bytes(),
            long_lines.as_bytes(),
        ] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
            let mut rest = bytes;
            let outcome = read(&mut rest);
            assert!(matches!(outcome, Err(ReplyError::NotFtp)), "{shown}");
            assert!(bytes.len() - rest.len() <= 64 * 1024, "{shown}");
        }
        for cut in ["", "2", "220 rea", "220-a\r\n", "220-a\r\n220 b"] {
            let outcome = read(&mut cut.as_bytes());
            assert!(matches!(outcome, Err(ReplyError::Connection(_))), "{cut}");
        }
    }

    #[test]
    fn whatever_comes_is_read_within_its_bounds_and_gives_only_usable_ports() {
        let pieces: [&[u8]; 14] = [
            b"220",
            b"22",
            b"-",
            b" ",
            b"\r\n",
            b"\n",
            b"(",
            b")",
            b"|",
            b",",
            b"1",
            b"255",
            b"\xff",
            b"\xc3\xa9",
        ];
        let mut state: u64 = 1;
        let mut replies = 0;
        for _ in 0..20_000 {
            let mut bytes = b"220".to_vec();
            for _ in 0..24 {
                // Knuth's generator: the same inputs each time.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let piece = usize::try_from(state >> 33).expect("31 bits");
                bytes.extend(pieces[piece % pieces.len()]);
            }
            if let Ok(reply) = read(&mut &bytes[..]) {
                replies += 1;
                assert_eq!(reply.code, 220);
                assert_ne!(reply.passive_port(), Some(0));
                assert_ne!(reply.extended_port(), Some(0));
                assert!(
                    reply
                        .modified()
                        .is_none_or(|time| time.len() <= MAX_TIME_BYTES)
                );
            }
        }
        assert!(replies > 100, "{replies}");
    }

    #[test]
    fn a_reply_that_is_no_utf_8_is_one() {
        let mut bytes: &[u8] = b"213-\xff\xfe\r\n213 \xff\r\n";
        let reply = read(&mut bytes).expect("read");
        assert_eq!(
            (reply.code, reply.size(), reply.modified()),
            (213, None, None)
        );
    }

    #[test]
    fn sizes_and_times_are_whole_or_unknown() {
        assert_eq!(reply("213 0\r\n").size(), Some(0));
        assert_eq!(reply("213  42 \r\n").size(), Some(42));
        for odd in [
            "213 -1\r\n",
            "213 +1\r\n",
            "213 4 2\r\n",
            "213\r\n",
            "213 99999999999999999999\r\n",
        ] {
            assert_eq!(reply(odd).size(), None, "{odd}");
        }
        assert_eq!(
            reply("213 20261120101500\r\n").modified(),
            Some("20261120101500")
        );
        assert_eq!(
            reply("213 20261120101500.123\r\n").modified(),
            Some("20261120101500.123")
        );
        for odd in [
            "213 yesterday it was\r\n",
            "213 2026\r\n",
            "213 2026-11-20 10:15\r\n",
        ] {
            assert_eq!(reply(odd).modified(), None, "{odd}");
        }
        let long = format!("213 {}\r\n", "1".repeat(33));
        assert_eq!(reply(&long).modified(), None);
    }

    #[test]
    fn ports_are_found_in_every_usual_form() {
        for (text, port) in [
            ("227 Entering Passive Mode (10,255,255,1,4,1).", Some(1025)),
            ("227 Entering Passive Mode. 127,0,0,1,255,255", Some(65535)),
            ("227 =127,0,0,1,0,21", Some(21)),
            ("227 in v2 (127,0,0,1,0,21)", Some(21)),
            ("227 (127,0,0,1,0,0)", None),
            ("227 (127,0,0,1,256,1)", None),
            ("227 (127,0,0,1,1)", None),
            ("227 (127,0,0,1,1,1,1)", None),
            ("227 (,,,,,)", None),
            ("227 (", None),
            ("227 none", None),
        ] {
            assert_eq!(reply(&format!("{text}\r\n")).passive_port(), port, "{text}");
        }
        for (text, port) in [
            ("229 Entering Extended Passive Mode (|||6446|)", Some(6446)),
            ("229 (!!!1!)", Some(1)),
            ("229 (|||0|)", None),
            ("229 (|||65536|)", None),
            ("229 (|||+5|)", None),
            ("229 (||5|)", None),
            ("229 (|||5)", None),
            ("229 (|||5|x)", None),
            ("229 ()", None),
            ("229 none", None),
        ] {
            assert_eq!(
                reply(&format!("{text}\r\n")).extended_port(),
                port,
                "{text}"
            );
        }
    }
}
