//! The trial of a new version in the words of a scenario.

use std::time::Duration;

use bootagent_core::restart::{End, Kind, Report, StoppedBy, Wanted};
use bootagent_core::time::Uptime;
use bootagent_core::watch::{Effect, Event, Found, Watch};

use super::Machine;
use super::words::{Words, show_moment};

struct Subject {
    watch: Watch,
    kind: Kind,
    window: Duration,
    wanted: Wanted,
}

/// `watch kind=simple|notify|oneshot window=TIME`.
pub(crate) fn make(words: &mut Words<'_>) -> (Box<dyn Machine>, String) {
    let kind = match words.value("kind") {
        Some("simple") => Kind::Simple,
        Some("notify") => Kind::Notify,
        Some("oneshot") => Kind::Oneshot,
        _ => words.fail("kind is simple, notify or oneshot"),
    };
    let window = words
        .time("window")
        .unwrap_or_else(|| words.fail("window=TIME is missing"));
    let subject = Subject {
        watch: Watch::new(kind, window),
        kind,
        window,
        wanted: Wanted::Running,
    };
    let shown = shown(&subject.watch, &[]);
    (Box::new(subject), shown)
}

impl Machine for Subject {
    fn step(&mut self, words: &mut Words<'_>, now: Uptime) -> String {
        let ran = Duration::from_secs(1);
        let report = match words.next() {
            "wake" | "tick" => {
                let effects = self.watch.handle(Event::Tick, now);
                return shown(&self.watch, &effects);
            }
            "resume" => {
                let found = match words.next() {
                    "up" => Found::Up,
                    "coming" => Found::Coming,
                    "stopped" => Found::Stopped,
                    "ended" => Found::Ended,
                    other => words.fail(&format!("nothing is found `{other}`")),
                };
                let (watch, effects) = Watch::resume(self.kind, self.window, found, now);
                self.watch = watch;
                return shown(&self.watch, &effects);
            }
            "up" => Report::Up,
            "ends" => match words.next() {
                "well" => Report::NormalEnd {
                    end: End::Normal(0),
                    ran,
                },
                "badly" => Report::AbnormalEnd {
                    end: End::Code(3),
                    ran,
                    anomalies: 1,
                },
                other => words.fail(&format!("nothing ends `{other}`")),
            },
            "fatal" => Report::Fatal { anomalies: 4 },
            "stuck" => Report::Stuck,
            "recovered" => Report::Recovered,
            "stopped" => {
                self.wanted = Wanted::Stopped;
                Report::Stopped(StoppedBy::Signal)
            }
            "restarted" => {
                self.wanted = Wanted::Running;
                Report::Stopped(StoppedBy::Kill)
            }
            other => words.fail(&format!("nothing is called `{other}`")),
        };
        let effects = self.watch.handle(Event::Reported(report, self.wanted), now);
        shown(&self.watch, &effects)
    }

    fn deadline(&self) -> Option<Uptime> {
        self.watch.deadline()
    }
}

fn shown(watch: &Watch, effects: &[Effect]) -> String {
    let mut words: Vec<&str> = effects
        .iter()
        .map(|effect| match effect {
            Effect::CameUp => "came up",
            Effect::Passed => "PASSED",
            Effect::Failed => "FAILED",
        })
        .collect();
    if words.is_empty() {
        words.push("-");
    }
    let due = match watch.deadline() {
        Some(at) => format!("until {}", show_moment(at)),
        None => "waits".into(),
    };
    format!("{} | {due}", words.join(", "))
}
