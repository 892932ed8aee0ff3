//! A day of the Gregorian calendar: what files are named after and people ask for.
//!
//! The one rule: each day has exactly one text, so that sorted names are sorted days.

use std::fmt;
use std::str::FromStr;

/// Days between 0000-03-01, where this calendar begins to count, and 1970-01-01.
const TO_1970: i64 = 719_468;
/// Days in 400 years, after which everything repeats.
const DAYS_OF_ERA: i64 = 146_097;
/// The last day that is written with four digits of a year.
const LAST: i64 = 2_932_896;

/// A day, by how many of them it is after 1970-01-01; shown as `2024-07-10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i64);

impl Date {
    /// The day of a moment, in UTC; one before 1970 or after 9999 is moved to the nearest there is.
    #[must_use]
    pub fn of_unix(seconds: i64) -> Self {
        Self(seconds.div_euclid(86_400).clamp(0, LAST))
    }

    /// The moment it begins, in UTC.
    #[must_use]
    pub fn unix(self) -> i64 {
        self.0 * 86_400
    }

    /// So many days later, or earlier.
    #[must_use]
    pub fn plus_days(self, days: i64) -> Self {
        Self(self.0.saturating_add(days).clamp(0, LAST))
    }

    /// Year, month and day of the month.
    #[must_use]
    pub fn parts(self) -> (i64, i64, i64) {
        // Years begin in March, so that the leap day is the last one (Howard Hinnant's algorithm).
        let days = self.0 + TO_1970;
        let (era, of_era) = (days.div_euclid(DAYS_OF_ERA), days.rem_euclid(DAYS_OF_ERA));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }

    fn of_parts(year: i64, month: i64, day: i64) -> Self {
        let year = year - i64::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * from_march + 2) / 5 + day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        Self(era * DAYS_OF_ERA + of_era - TO_1970)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// A text that is no day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no date from 1970 on, write it like 2024-07-10")]
pub struct DateError(String);

impl FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        let number = |range| text.get(range).and_then(|digits: &str| digits.parse().ok());
        let parsed = match (number(0..4), number(5..7), number(8..10)) {
            (Some(year), Some(month), Some(day)) => Self::of_parts(year, month, day),
            _ => return Err(DateError(text.to_owned())),
        };
        // What is written back alike was a date: no 30th of February, no other separators.
        if (0..=LAST).contains(&parsed.0) && parsed.to_string() == text {
            Ok(parsed)
        } else {
            Err(DateError(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_has_a_text_of_its_own_sorted_alike_and_is_read_back() {
        let mut before = String::new();
        for day in (0..60_000).chain(LAST - 1000..=LAST) {
            let date = Date::of_unix(day * 86_400 + 86_399);
            let text = date.to_string();
            assert!(text > before, "{text} comes after {before}");
            assert_eq!(text.parse(), Ok(date));
            before = text;
        }
        assert_eq!(before, "9999-12-31");
    }

    #[test]
    fn known_days_have_their_known_names() {
        assert_eq!(Date::of_unix(0).to_string(), "1970-01-01");
        assert_eq!(Date::of_unix(951_782_400).to_string(), "2000-02-29");
        assert_eq!(Date::of_unix(-5).to_string(), "1970-01-01");
        assert_eq!(Date::of_unix(1_795_326_148).to_string(), "2026-11-22");
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2026-02-29",
            "2026-13-01",
            "1969-12-31",
            "2026/01/01",
            "2026-1-1",
            "+026-01-01",
            "２０２６-01-01",
        ] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
    }
}
