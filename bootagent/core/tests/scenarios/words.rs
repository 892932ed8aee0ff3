//! The words of a scenario line, and times as people write them.

use std::time::Duration;

use bootagent_core::time::Uptime;

/// The words of one line, left to right.
pub(crate) struct Words<'a> {
    line: &'a str,
    number: usize,
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str, number: usize) -> Self {
        Self {
            line,
            number,
            rest: line.split_whitespace().rev().collect(),
        }
    }

    /// The next word, or nothing at the end of the line.
    pub(crate) fn peek(&self) -> &'a str {
        self.rest.last().copied().unwrap_or_default()
    }

    /// Takes the next word.
    pub(crate) fn next(&mut self) -> &'a str {
        self.rest
            .pop()
            .unwrap_or_else(|| self.fail("a word is missing"))
    }

    /// Takes the next word when it is this one.
    pub(crate) fn skip(&mut self, word: &str) -> bool {
        let found = self.peek() == word;
        if found {
            self.rest.pop();
        }
        found
    }

    /// Takes the value of `key=value`, wherever it stands.
    pub(crate) fn value(&mut self, key: &str) -> Option<&'a str> {
        let position = self
            .rest
            .iter()
            .position(|word| word.split_once('=').is_some_and(|(name, _)| name == key))?;
        let word = self.rest.remove(position);
        word.split_once('=').map(|(_, value)| value)
    }

    /// Takes the value of `key=TIME`.
    pub(crate) fn time(&mut self, key: &str) -> Option<Duration> {
        let value = self.value(key)?;
        Some(duration(value).unwrap_or_else(|| self.fail(&format!("{key}: not a time"))))
    }

    /// Takes the value of `key=NUMBER`.
    pub(crate) fn number<T: std::str::FromStr>(&mut self, key: &str) -> Option<T> {
        let value = self.value(key)?;
        Some(
            value
                .parse()
                .unwrap_or_else(|_| self.fail(&format!("{key}: not a number"))),
        )
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) {
        if let Some(word) = self.rest.last() {
            self.fail(&format!("`{word}` means nothing here"));
        }
    }

    pub(crate) fn fail(&self, why: &str) -> ! {
        panic!("line {}: {why}: {}", self.number, self.line)
    }
}

/// `1h2m3s`, `62.5s`, `250ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let length = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, tail) = unit.split_at(length);
        let seconds = match unit {
            "d" => 86400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += Duration::from_secs_f64(number.parse::<f64>().ok()? * seconds);
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// A time since boot.
pub(crate) fn moment(text: &str) -> Option<Uptime> {
    duration(text).map(|since_boot| Uptime::ZERO + since_boot)
}

pub(crate) fn show(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_micros().div_ceil(1000)).expect("a short time");
    let mut text = String::new();
    let mut seconds = millis / 1000;
    for (unit, length) in [("d", 86400), ("h", 3600), ("m", 60)] {
        if seconds >= length {
            text.push_str(&format!("{}{unit}", seconds / length));
            seconds %= length;
        }
    }
    match (seconds, millis % 1000) {
        (0, 0) if !text.is_empty() => {}
        (seconds, 0) => text.push_str(&format!("{seconds}s")),
        (seconds, millis) => {
            let fraction = format!("{millis:03}");
            text.push_str(&format!("{seconds}.{}s", fraction.trim_end_matches('0')));
        }
    }
    text
}

pub(crate) fn show_moment(at: Uptime) -> String {
    show(at.since(Uptime::ZERO))
}

#[test]
fn times_are_read_as_they_are_written() {
    for text in ["0s", "10s", "1m", "1h1m1s", "2d3h", "1m2.5s", "0.25s"] {
        let read = duration(text).unwrap_or_else(|| panic!("{text} is a time"));
        assert_eq!(show(read), text);
    }
    assert_eq!(duration("250ms"), duration("0.25s"));
    for text in ["", "10", "s", "5x", "1.2.3s"] {
        assert_eq!(duration(text), None, "{text}");
    }
}
