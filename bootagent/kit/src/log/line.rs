//! One log line: what it holds and what it must not.
//!
//! The one rule: one record is one line. A message comes from anywhere, also
//! from a server's reply; its line breaks and escapes must not forge another
//! line or move the reader's cursor.

use std::fmt::Write;

use log::{Level, Record};

use crate::clock::Stamp;

/// Longest message, in bytes; the rest is cut and the cut is shown.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// The line of a record, its line break included.
pub(super) fn format(record: &Record<'_>) -> String {
    let message = record.args().to_string();
    let file = record.file().unwrap_or("?");
    let line = record.line().unwrap_or(0);
    line_of(Stamp::now(), record.level(), &message, file, line)
}

/// A line of its parts, its line break included.
pub(crate) fn line_of(
    stamp: Stamp,
    level: Level,
    message: &str,
    file: &str,
    number: u32,
) -> String {
    let mut line = format!("{stamp} [{level}] ");
    let kept = bootagent_protocol::truncate(message, MAX_MESSAGE_BYTES);
    line.push_str(&visible(kept));
    if kept.len() < message.len() {
        line.push_str("...");
    }
    // Writing to a String cannot fail.
    let _ = writeln!(line, " ({}:L{number})", short(file));
    line
}

/// The same line with the level coloured.
pub(super) fn coloured(line: &str, level: Level) -> String {
    let colour = match level {
        Level::Error => "31",
        Level::Warn => "33",
        Level::Info => "32",
        Level::Debug | Level::Trace => "2",
    };
    let word = format!("[{level}]");
    line.replacen(&word, &format!("\x1b[{colour}m{word}\x1b[0m"), 1)
}

/// The message with its line breaks and escapes spelt out, so that a terminal
/// shows them and does not obey.
pub fn visible(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    for character in message.chars() {
        if character.is_control() && character != '\t' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A source file without the directories of the machine that built it:
/// `http/reply.rs`.
fn short(file: &str) -> &str {
    file.rsplit_once("src/").map_or(file, |(_, inside)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> String {
        format(
            &Record::builder()
                .args(format_args!("{message}"))
                .level(Level::Warn)
                .file(Some("/build/crate/src/http/reply.rs"))
                .line(Some(42))
                .build(),
        )
    }

    #[test]
    fn a_line_has_the_documented_shape() {
        let line = line("it is late");
        let (stamp, rest) = line.split_at(19);
        let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
        assert_eq!(
            (digits(stamp), &stamp[4..5], &stamp[13..14]),
            (14, "-", ":"),
            "{stamp}"
        );
        assert_eq!(rest, " [WARN] it is late (http/reply.rs:L42)\n");
    }

    #[test]
    fn a_message_cannot_forge_a_second_line() {
        let line = line("a\n2024-01-01 00:00:00 [INFO] forged\u{1b}[2J\r");
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(
            line.contains("a\\n2024") && !line.contains('\u{1b}'),
            "{line:?}"
        );
    }

    #[test]
    fn an_endless_message_is_cut_and_the_cut_is_seen() {
        let line = line(&"x".repeat(100_000));
        assert!(line.len() < MAX_MESSAGE_BYTES + 100);
        assert!(line.contains("x... ("));
    }

    #[test]
    fn the_level_is_coloured_and_nothing_else() {
        let plain = "2024-01-01 00:00:00 [WARN] [WARN] (a.rs:L1)\n";
        let shown = coloured(plain, Level::Warn);
        assert_eq!(shown.replace("\x1b[33m", "").replace("\x1b[0m", ""), plain);
        assert_eq!(shown.matches("\x1b[33m").count(), 1);
    }
}
