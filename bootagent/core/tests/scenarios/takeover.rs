//! The watcher of BootAgent's own upgrade in the words of a scenario.

use bootagent_core::takeover::{Cause, Daemon, Effect, Event, Patience, Phase, Reach, Takeover};
use bootagent_core::time::Uptime;

use super::Machine;
use super::words::{Words, duration, show_moment};

struct Subject(Takeover);

/// `takeover confirm=5m alive=30s starts=3`.
pub(crate) fn make(words: &mut Words<'_>) -> (Box<dyn Machine>, String) {
    let mut time = |key| {
        let text = words.value(key).unwrap_or_default();
        duration(text).unwrap_or_else(|| panic!("{key}: not a time: {text}"))
    };
    let (confirm, alive) = (time("confirm"), time("alive"));
    let starts = words.value("starts").and_then(|text| text.parse().ok());
    let subject = Subject(Takeover::new(Patience {
        confirm,
        alive,
        starts: starts.expect("starts: a number"),
    }));
    let shown = subject.shown();
    (Box::new(subject), shown)
}

impl Subject {
    fn shown(&self) -> String {
        match self.0.deadline() {
            Some(at) => format!("| until {}", show_moment(at)),
            None => "| waits".into(),
        }
    }
}

impl Machine for Subject {
    fn step(&mut self, words: &mut Words<'_>, now: Uptime) -> String {
        let event = match words.next() {
            "wake" => Event::Tick,
            "answered" => Event::Asked(Reach::Answered),
            "refused" => Event::Asked(Reach::Refused),
            "nobody" => Event::Asked(Reach::Nobody),
            phase @ ("installing" | "executed") => {
                let phase = match phase {
                    "installing" => Phase::Installing,
                    _ => Phase::Executed,
                };
                let daemon = match words.next() {
                    "silent" => Daemon::Silent,
                    "gone" => Daemon::Gone,
                    "stopped" => Daemon::Stopped,
                    pid => Daemon::Answers(pid.parse().unwrap_or_else(|_| words.fail("a pid"))),
                };
                Event::Looked(phase, daemon)
            }
            other => words.fail(&format!("no event is called `{other}`")),
        };
        let effect = match self.0.handle(event, now) {
            None => "-",
            Some(Effect::Ask) => "ask",
            Some(Effect::Hurry) => "hurry",
            Some(Effect::RollBack(Cause::Crashes)) => "ROLL BACK: crashes",
            Some(Effect::RollBack(Cause::Hangs)) => "ROLL BACK: hangs",
            Some(Effect::RollBack(Cause::NoServer)) => "ROLL BACK: no server",
        };
        format!("{effect} {}", self.shown())
    }

    fn deadline(&self) -> Option<Uptime> {
        self.0.deadline()
    }
}
