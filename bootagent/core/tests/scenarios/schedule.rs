//! The schedule in the words of a scenario.

use std::time::Duration;

use bootagent_core::schedule::{Call, Enrolment, Event, Schedule, Standing, Timing};
use bootagent_core::time::Uptime;

use super::Machine;
use super::words::{Words, duration, show_moment};

struct Subject(Schedule);

/// `schedule registered|unregistered [step=TIME] [sn=AGENTSN] [random=PERCENT]`.
pub(crate) fn make(words: &mut Words<'_>) -> (Box<dyn Machine>, String) {
    let standing = match words.next() {
        "registered" => Standing::Registered,
        "unregistered" => Standing::Unregistered,
        _ => words.fail("registered or unregistered"),
    };
    let default = Timing::default();
    let timing = Timing {
        step: words.time("step").unwrap_or(default.step),
        ..default
    };
    let agentsn = words
        .value("sn")
        .unwrap_or("bfdcc18c-b6b9-4725-9c47-37fd93dba5b6");
    let random = random(words);
    let schedule = Schedule::new(agentsn, timing, standing, Uptime::ZERO, random);
    let shown = shown(&schedule);
    (Box::new(Subject(schedule)), shown)
}

/// `random=PERCENT` of what could be waited at most; half of it by default.
fn random(words: &mut Words<'_>) -> u32 {
    let percent = words.number::<u64>("random").unwrap_or(50);
    let share = (percent << 32) / 100;
    u32::try_from(share.saturating_sub(1)).unwrap_or_else(|_| words.fail("random is 0 to 100"))
}

impl Machine for Subject {
    fn step(&mut self, words: &mut Words<'_>, now: Uptime) -> String {
        let random = random(words);
        let call = if words.skip("rename") {
            self.0.rename(words.next());
            None
        } else {
            let event = event(words);
            self.0.handle(event, now, random)
        };
        let shown = shown(&self.0);
        match call {
            Some(Call::Register) => format!("REGISTER {shown}"),
            Some(Call::Status) => format!("STATUS {shown}"),
            None => shown,
        }
    }

    fn deadline(&self) -> Option<Uptime> {
        self.0.deadline()
    }
}

fn event(words: &mut Words<'_>) -> Event {
    match words.next() {
        "urgent" => Event::Urgent,
        "step" => Event::Step(time(words)),
        "changed" => Event::Changed,
        "registered" => Event::Registered,
        "answered" => Event::Answered {
            next: words.time("next"),
        },
        "register-again" => Event::RegisterAgain,
        "failed" => Event::Failed,
        "retry-after" => Event::RetryAfter(time(words)),
        "unauthorized" => Event::Unauthorized(match words.next() {
            "with-token" => Enrolment::Present,
            "without-token" => Enrolment::Absent,
            _ => words.fail("with-token or without-token"),
        }),
        "tick" | "wake" => Event::Tick,
        other => words.fail(&format!("nothing is called `{other}`")),
    }
}

fn time(words: &mut Words<'_>) -> Duration {
    duration(words.next()).unwrap_or_else(|| words.fail("not a time"))
}

fn shown(schedule: &Schedule) -> String {
    match (schedule.why(), schedule.deadline()) {
        (Some(why), Some(at)) => {
            let failures = match schedule.failures() {
                0 => String::new(),
                failures => format!(" failures={failures}"),
            };
            format!(
                "| {:?} for {why:?}{failures}, wakes at {}",
                schedule.call(),
                show_moment(at)
            )
        }
        _ => "| calling, no wake-up".into(),
    }
}
