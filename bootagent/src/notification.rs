//! What a child says to its notify socket, in systemd's words.
//!
//! Parsing only: what follows from it is the engine's. The one rule: whatever
//! bytes a child sends, what comes out is bounded and can be shown.

use bootagent_protocol::truncate;

/// Longest datagram that is looked at; what is beyond is cut off.
pub const MAX_BYTES: usize = 4096;
/// Longest status that is kept, in bytes.
const MAX_STATUS_BYTES: usize = 256;

/// One thing a child said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// READY=1: it is up.
    Ready,
    /// WATCHDOG=1: it is alive.
    Watchdog,
    /// STATUS=: how it is, for people.
    Status(String),
}

/// What a datagram says. STOPPING=1 and what later versions of systemd know
/// is left out.
pub fn parse(datagram: &[u8]) -> Vec<Notification> {
    let datagram = &datagram[..datagram.len().min(MAX_BYTES)];
    let text = String::from_utf8_lossy(datagram);
    let said = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Notification::Ready),
        ("WATCHDOG", "1") => Some(Notification::Watchdog),
        ("STATUS", text) => {
            let text = text.replace('\0', "");
            let text = truncate(&text, MAX_STATUS_BYTES).to_owned();
            Some(Notification::Status(text))
        }
        _ => None,
    };
    text.lines().filter_map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_may_say_several_things_and_anything_else() {
        let said = parse(b"READY=1\nSTATUS=3 lines up\nMAINPID=7\nWATCHDOG=1\nREADY=0\nnoise");
        let status = Notification::Status("3 lines up".into());
        assert_eq!(said, [Notification::Ready, status, Notification::Watchdog]);
    }

    #[test]
    fn odd_bytes_and_endless_words_become_a_short_text() {
        let long = [b"STATUS=\xff\0a".as_slice(), &[b'x'; 10_000]].concat();
        let said = parse(&long);
        let [Notification::Status(text)] = said.as_slice() else {
            panic!("{said:?}");
        };
        assert!(
            text.starts_with("\u{fffd}ax") && text.len() <= 256,
            "{text}"
        );
    }
}
