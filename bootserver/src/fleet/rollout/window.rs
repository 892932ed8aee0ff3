//! The hours in which a rollout may order something, in a zone of the world.
//!
//! Zones are those built into this program, so that every replica and every test
//! knows the same ones. Where clocks are set forward, an hour that does not exist
//! is not there: a window that lies in it does not open that day.

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Days that are looked at from the day before on: each day of the week is in it,
/// and one whose window a clock that was set forward has swallowed comes twice.
const DAYS: usize = 16;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "everybody knows the days of the week")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn of(date: Date) -> Self {
        match date.weekday() {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

/// A window as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowTerms {
    /// The zone, such as `Europe/Berlin` or `UTC`.
    pub zone: String,
    /// The days on which it opens; none means every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// When it opens, `HH:MM`.
    pub from: String,
    /// When it closes, `HH:MM` up to `24:00`; before `from`, on the next day.
    pub until: String,
}

/// Why a text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// No such zone.
    #[error("there is no zone {0:?}; a name such as Europe/Berlin or UTC is expected")]
    Zone(String),
    /// No time of a day.
    #[error("{0} is HH:MM, from 00:00 to 23:59 (until also 24:00)")]
    Time(&'static str),
    /// No time at all.
    #[error("from and until are the same; for the whole day write 00:00 and 24:00")]
    Empty,
}

/// A window that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    zone: TimeZone,
    days: Vec<Day>,
    /// Minutes from the midnight a day begins with; `until` may be on the next day.
    from: u16,
    until: u16,
}

/// Whether a window is open, in unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It is.
    Open {
        /// When it closes.
        until: i64,
    },
    /// It is not.
    Closed {
        /// When it opens, if it ever does.
        opens: Option<i64>,
    },
}

impl Window {
    /// Checks a window.
    pub fn new(terms: &WindowTerms) -> Result<Self, WindowError> {
        let named = bootagent_protocol::truncate(&terms.zone, 80);
        let zone = TimeZoneDatabase::bundled().get(named);
        let zone = zone.map_err(|_| WindowError::Zone(named.to_owned()))?;
        let from = minutes(&terms.from).filter(|minutes| *minutes < DAY);
        let from = from.ok_or(WindowError::Time("from"))?;
        let until = minutes(&terms.until).ok_or(WindowError::Time("until"))?;
        let until = match until.cmp(&from) {
            std::cmp::Ordering::Equal => return Err(WindowError::Empty),
            std::cmp::Ordering::Less => until + DAY,
            std::cmp::Ordering::Greater => until,
        };
        let days = terms.days.clone();
        Ok(Self {
            zone,
            days,
            from,
            until,
        })
    }

    /// Whether it is open at `now`. Openings that touch are one.
    pub fn at(&self, now: i64) -> Opening {
        let mut openings = self.openings(now).into_iter().peekable();
        while let Some((opens, mut until)) = openings.next() {
            while let Some((_, later)) = openings.next_if(|(next, _)| *next <= until) {
                until = until.max(later);
            }
            if now < opens {
                return Opening::Closed { opens: Some(opens) };
            }
            if now < until {
                return Opening::Open { until };
            }
        }
        Opening::Closed { opens: None }
    }

    /// When something may begin next, from `now` on.
    pub fn opens(&self, now: i64) -> Option<i64> {
        match self.at(now) {
            Opening::Open { .. } => Some(now),
            Opening::Closed { opens } => opens,
        }
    }

    /// The openings around a time, in order.
    fn openings(&self, now: i64) -> Vec<(i64, i64)> {
        let Ok(now) = Timestamp::from_millisecond(now) else {
            return Vec::new();
        };
        let today = self.zone.to_datetime(now).date();
        let first = today.yesterday().unwrap_or(today);
        let days = std::iter::successors(Some(first), |day| day.tomorrow().ok()).take(DAYS);
        let days = days.filter(|day| self.days.is_empty() || self.days.contains(&Day::of(*day)));
        let openings =
            days.filter_map(|day| Some((self.time(day, self.from)?, self.time(day, self.until)?)));
        openings.filter(|(opens, until)| opens < until).collect()
    }

    /// So many minutes of the clock on the wall after a day began.
    fn time(&self, day: Date, minutes: u16) -> Option<i64> {
        let (day, minutes) = match minutes < DAY {
            true => (day, minutes),
            false => (day.tomorrow().ok()?, minutes - DAY),
        };
        let hour = i8::try_from(minutes / 60).ok()?;
        let minute = i8::try_from(minutes % 60).ok()?;
        let time = self.zone.to_timestamp(day.at(hour, minute, 0, 0));
        time.ok().map(Timestamp::as_millisecond)
    }
}

/// `HH:MM` in minutes.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let is_two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_two)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= DAY).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(zone: &str, days: &[Day], from: &str, until: &str) -> Result<Window, WindowError> {
        Window::new(&WindowTerms {
            zone: zone.into(),
            days: days.into(),
            from: from.into(),
            until: until.into(),
        })
    }

    fn millis(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    /// What a window says at a time, with the time of the next change in UTC.
    fn check(window: &Window, now: &str) -> (&'static str, String) {
        let text = |at| Timestamp::from_millisecond(at).expect("a time").to_string();
        match window.at(millis(now)) {
            Opening::Open { until } => ("open", text(until)),
            Opening::Closed { opens } => ("closed", opens.map_or("never".into(), text)),
        }
    }

    #[test]
    fn it_is_open_on_its_days_by_the_clock_of_its_zone() {
        use Day::{Mon, Tue};
        let window = window("Asia/Shanghai", &[Mon, Tue], "01:00", "05:00").expect("a window");
        let opens = |at: &str| ("closed", at.to_owned());
        // 2026-11-23 is a Monday; Shanghai is 8 hours ahead.
        assert_eq!(
            check(&window, "2026-11-22T16:59:59Z"),
            opens("2026-11-22T17:00:00Z")
        );
        assert_eq!(
            check(&window, "2026-11-22T17:00:00Z"),
            ("open", "2026-11-22T21:00:00Z".to_owned())
        );
        assert_eq!(
            check(&window, "2026-11-22T21:00:00Z"),
            opens("2026-11-23T17:00:00Z")
        );
        assert_eq!(
            check(&window, "2026-11-23T21:00:00Z"),
            opens("2026-11-29T17:00:00Z")
        );
    }

    #[test]
    fn one_over_midnight_belongs_to_the_day_it_opens_on() {
        let window = window("UTC", &[Day::Fri], "22:00", "04:00").expect("a window");
        // 2026-11-27 is a Friday.
        for (now, expected) in [
            ("2026-11-27T03:00:00Z", ("closed", "2026-11-27T22:00:00Z")),
            ("2026-11-28T03:59:59Z", ("open", "2026-11-28T04:00:00Z")),
            ("2026-11-28T22:30:00Z", ("closed", "2026-12-04T22:00:00Z")),
        ] {
            let (state, at) = check(&window, now);
            assert_eq!((state, at.as_str()), expected, "{now}");
        }
    }

    #[test]
    fn openings_that_touch_are_one() {
        use Day::{Sat, Sun};
        let window = window("UTC", &[Sat, Sun], "00:00", "24:00").expect("a window");
        assert_eq!(
            check(&window, "2026-11-28T12:00:00Z"),
            ("open", "2026-11-30T00:00:00Z".to_owned())
        );
    }

    #[test]
    fn one_of_all_but_a_minute_is_closed_for_that_minute_at_any_hour() {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
        let midnight = millis("2026-11-22T00:00:00Z");
        for minute in 1..=DAY {
            let (from, until) = (clock(minute + 1), clock(minute));
            let window = window("UTC", &[], &from, &until).expect("a window");
            let closes = midnight + i64::from(minute) * 60_000;
            let opens = closes + 60_000;
            let until = closes;
            assert_eq!(window.at(closes - 1), Opening::Open { until }, "{from}");
            let opens_again = Opening::Closed { opens: Some(opens) };
            assert_eq!(window.at(closes), opens_again, "{from}");
            assert_eq!(window.at(opens - 1), opens_again, "{from}");
            let until = closes + 86_400_000;
            assert_eq!(window.at(opens), Opening::Open { until }, "{from}");
        }
    }

    #[test]
    fn an_hour_that_does_not_exist_is_not_there_and_one_that_comes_twice_is() {
        let window = window("Europe/Berlin", &[], "02:00", "03:00").expect("a window");
        // Clocks go forward on 2026-03-29 and back on 2026-10-25.
        for (now, expected) in [
            ("2026-03-28T01:30:00Z", ("open", "2026-03-28T02:00:00Z")),
            ("2026-03-28T23:00:00Z", ("closed", "2026-03-30T00:00:00Z")),
            ("2026-10-25T00:30:00Z", ("open", "2026-10-25T02:00:00Z")),
        ] {
            let (state, at) = check(&window, now);
            assert_eq!((state, at.as_str()), expected, "{now}");
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        let check = |zone, from, until| window(zone, &[], from, until).expect_err("a mistake");
        assert_eq!(
            check("Mars/Base", "01:00", "02:00"),
            WindowError::Zone("Mars/Base".into())
        );
        assert_eq!(check("UTC", "01:00", "01:00"), WindowError::Empty);
        for from in ["24:00", "1:00", "01:60", "0100", "-1:00", "+1:00", ""] {
            assert_eq!(
                check("UTC", from, "02:00"),
                WindowError::Time("from"),
                "{from}"
            );
        }
        assert_eq!(check("UTC", "01:00", "24:01"), WindowError::Time("until"));
    }
}
