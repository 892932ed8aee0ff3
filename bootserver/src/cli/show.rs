//! What is told: a table or a list of fields for people, JSON for programs.
//!
//! The one rule: what hosts or others made up never steers a terminal; control
//! characters are shown as what they are.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use serde_json::Value;

use super::failure::Failure;

/// A column of a table: its heading, its field and how that is written.
pub(super) type Column = (&'static str, &'static str, As);

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// As it is; lists with commas.
    Is,
    /// Unix milliseconds, in UTC.
    Time,
    /// Bytes.
    Size,
}

/// To standard output; a reader that went away is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error = Err(error).context("writing to standard output");
            error.map_err(Failure::Failed)
        }
        _ => Ok(()),
    }
}

/// The same at once, for what comes bit by bit; that nobody reads it any more is
/// worth knowing.
pub(super) fn print_now(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A document for programs.
pub(super) fn json(document: &Value) -> Result<(), Failure> {
    let text = match io::stdout().is_terminal() {
        true => format!("{document:#}\n"),
        false => format!("{document}\n"),
    };
    print(&text)
}

/// A table of rows.
pub(super) fn table(rows: &[Value], columns: &[Column]) -> Result<(), Failure> {
    let mut lines: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
    lines.push(columns.iter().map(|column| column.0.to_owned()).collect());
    for row in rows {
        let cells = columns
            .iter()
            .map(|(_, field, how)| written(&row[*field], *how));
        lines.push(cells.collect());
    }
    let mut widths = vec![0; columns.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (width, cell) in widths.iter().zip(line) {
            let _ = write!(row, "{cell:<width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    print(&text)
}

/// The fields of one thing, a line each; empty ones are left out.
pub(super) fn fields(document: &Value) -> Result<(), Failure> {
    let mut text = String::new();
    let fields = document.as_object().into_iter().flatten();
    let fields: Vec<_> = fields.filter(|(_, value)| !is_nothing(value)).collect();
    let width = fields.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in fields {
        let how = match key.as_str() {
            "created" | "registered" | "seen" | "since" | "changed" | "expires" | "sent"
            | "accepted" | "finished" | "offline_since" | "received" | "revoked" | "used_at"
            | "signed_in" => As::Time,
            "size" => As::Size,
            _ => As::Is,
        };
        let _ = writeln!(text, "{key:<width$}  {}", written(value, how));
    }
    print(&text)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn written(value: &Value, how: As) -> String {
    match (value, how) {
        (Value::Null, _) => "-".to_owned(),
        (Value::Number(number), As::Time) => number.as_i64().map_or_else(String::new, time),
        (Value::Number(number), As::Size) => number.as_u64().map_or_else(String::new, size),
        (Value::String(text), _) if text.is_empty() => "-".to_owned(),
        (Value::String(text), _) => visible(text),
        (Value::Array(list), _) if list.is_empty() => "-".to_owned(),
        (Value::Array(list), _) if list.iter().all(Value::is_string) => {
            let texts = list.iter().filter_map(Value::as_str);
            visible(&texts.collect::<Vec<_>>().join(","))
        }
        (other, _) => visible(&other.to_string()),
    }
}

/// A text that is one line and steers nothing.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        // Also marks that turn the direction of writing.
        let hides = matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        match letter.is_control() || hides {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let bytes_f = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes_f / 1024.0),
        _ => format!("{:.1} MiB", bytes_f / 1_048_576.0),
    }
}

/// `2026-11-21 22:45:03Z`
pub(super) fn time(millis: i64) -> String {
    let seconds = millis.div_euclid(1000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March here, so that a leap day is the last one (Hinnant's
    // civil_from_days).
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_utc() {
        for (millis, shown) in [
            (0, "1970-01-01 00:00:00Z"),
            (-1, "1969-12-31 23:59:59Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_709_251_199_999, "2024-02-29 23:59:59Z"),
            (1_795_301_103_000, "2026-11-21 22:45:03Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(time(millis), shown);
        }
    }

    #[test]
    fn nothing_that_was_made_up_elsewhere_steers_a_terminal() {
        let shown = visible("a\u{1b}[2J\r\nb\u{9b}c\u{202e}ä");
        assert_eq!(shown, "a\\u{1b}[2J\\r\\nb\\u{9b}c\\u{202e}ä");
    }
}
