//! The restart policy in the words of a scenario.

use bootagent_core::restart::{
    Change, Child, Effect, End, Event, Found, Kind, Last, Limit, Manner, Policy, Record, Report,
    Spec, StoppedBy, Wanted,
};
use bootagent_core::time::Uptime;

use super::Machine;
use super::words::{Words, moment, show, show_moment};

struct Subject {
    child: Child,
    spec: Spec,
}

/// `child kind=simple|notify|oneshot` and any number of the policy.
pub(crate) fn make(words: &mut Words<'_>) -> (Box<dyn Machine>, String) {
    let kind = match words.value("kind") {
        Some("simple") => Kind::Simple,
        Some("notify") => Kind::Notify,
        Some("oneshot") => Kind::Oneshot,
        _ => words.fail("kind is simple, notify or oneshot"),
    };
    let spec = spec(Spec::new(kind, Policy::DEFAULT), words);
    let child = Child::new(spec);
    let shown = shown(&child, Uptime::ZERO);
    (Box::new(Subject { child, spec }), shown)
}

fn spec(spec: Spec, words: &mut Words<'_>) -> Spec {
    let policy = Policy::new(
        words.time("check").unwrap_or(spec.policy.check()),
        words.time("holdoff").unwrap_or(spec.policy.holdoff()),
        words.time("stable").unwrap_or(spec.policy.stable()),
        words.number("max").unwrap_or(spec.policy.max_anomalies()),
    );
    Spec {
        kind: spec.kind,
        policy: policy.unwrap_or_else(|error| words.fail(&error.to_string())),
        start_timeout: words.time("start_timeout").unwrap_or(spec.start_timeout),
        up_after: words.time("up_after").unwrap_or(spec.up_after),
        stop_timeout: words.time("stop_timeout").unwrap_or(spec.stop_timeout),
        watchdog: words.time("watchdog").or(spec.watchdog),
    }
}

impl Machine for Subject {
    fn step(&mut self, words: &mut Words<'_>, now: Uptime) -> String {
        let effects = match words.peek() {
            "adopt" => {
                words.next();
                let (wanted, record, found) = past(words);
                let unseen = match words.value("unseen") {
                    Some("memory") => End::Limit(Limit::Memory),
                    _ => End::Unknown,
                };
                let (child, effects) = Child::adopt(self.spec, wanted, record, found, unseen, now);
                self.child = child;
                effects
            }
            "reconfigure" => {
                words.next();
                self.spec = spec(self.spec, words);
                self.child.reconfigure(self.spec);
                Vec::new()
            }
            _ => self.child.handle(event(words), now),
        };
        let mut text = effects
            .iter()
            .map(|effect| show_effect(*effect))
            .collect::<Vec<_>>()
            .join(", ");
        if !text.is_empty() {
            text.push(' ');
        }
        text + &shown(&self.child, now)
    }

    fn deadline(&self) -> Option<Uptime> {
        self.child.deadline()
    }
}

fn wanted(words: &mut Words<'_>, word: &str) -> Wanted {
    match word {
        "running" => Wanted::Running,
        "stopped" => Wanted::Stopped,
        _ => words.fail("wanted is running or stopped"),
    }
}

fn event(words: &mut Words<'_>) -> Event {
    match words.next() {
        "wanted" => {
            let word = words.next();
            Event::Wanted(wanted(words, word))
        }
        "restart" => Event::Restart,
        "new-version" => Event::NewVersion,
        "new-config" => Event::NewConfig,
        "spawned" => Event::Spawned,
        "spawn-failed" => Event::SpawnFailed,
        "ready" => Event::Ready,
        "ping" => Event::WatchdogPing,
        "exited" => Event::Exited(end(words)),
        "gone" => Event::Gone,
        "suspended" => Event::Suspended,
        "tick" | "wake" => Event::Tick,
        other => words.fail(&format!("nothing is called `{other}`")),
    }
}

fn end(words: &mut Words<'_>) -> End {
    if let Some(code) = words.number("code") {
        return match code {
            0 => End::Normal(0),
            code => End::Code(code),
        };
    }
    if let Some(number) = words.number("signal") {
        return End::Signal(number);
    }
    match words.value("limit") {
        Some("memory") => return End::Limit(Limit::Memory),
        Some("pids") => return End::Limit(Limit::Pids),
        _ => {}
    }
    if words.skip("unknown") {
        return End::Unknown;
    }
    words.fail("exited with code=, signal=, limit= or unknown")
}

/// `wanted=running anomalies=2 last=running:10s found=main:10s`.
fn past(words: &mut Words<'_>) -> (Wanted, Record, Found) {
    let word = words.value("wanted").unwrap_or("running");
    let wanted = wanted(words, word);
    let anomalies = words.number("anomalies").unwrap_or(0);
    let last = words.value("last").unwrap_or("idle");
    let last = match last.split(':').collect::<Vec<_>>()[..] {
        ["idle"] => Last::Idle,
        ["starting"] => Last::Starting,
        ["stopping"] => Last::Stopping,
        ["done"] => Last::Done,
        ["fatal"] => Last::Fatal,
        ["running", at] => Last::Running {
            started_at: time(words, at),
        },
        ["ended", at, manner] => Last::Ended {
            at: time(words, at),
            manner: match manner {
                "normal" => Manner::Normal,
                "abnormal" => Manner::Abnormal,
                "limit" => Manner::Limit,
                _ => words.fail("ended normal, abnormal or limit"),
            },
        },
        _ => words
            .fail("last is idle, starting, stopping, running:TIME, ended:TIME:HOW, done or fatal"),
    };
    let found = words.value("found").unwrap_or("nothing");
    let found = match found.split(':').collect::<Vec<_>>()[..] {
        ["nothing"] => Found::Nothing,
        ["leftovers"] => Found::Leftovers,
        ["main", at] => Found::Main {
            started_at: time(words, at),
        },
        _ => words.fail("found is nothing, leftovers or main:TIME"),
    };
    (wanted, Record { anomalies, last }, found)
}

fn time(words: &Words<'_>, text: &str) -> Uptime {
    moment(text).unwrap_or_else(|| words.fail("not a time"))
}

fn show_wanted(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Running => "running",
        Wanted::Stopped => "stopped",
    }
}

fn show_effect(effect: Effect) -> String {
    match effect {
        Effect::Start => "START".into(),
        Effect::SendStopSignal => "STOP SIGNAL".into(),
        Effect::Kill => "KILL".into(),
        Effect::Persist(Change::Wanted(wanted)) => format!("keep wanted {}", show_wanted(wanted)),
        Effect::Persist(Change::Record(record)) => {
            let last = match record.last {
                Last::Idle => "idle".into(),
                Last::Starting => "starting".into(),
                Last::Stopping => "stopping".into(),
                Last::Running { started_at } => format!("running:{}", show_moment(started_at)),
                Last::Ended { at, manner } => {
                    let manner = match manner {
                        Manner::Normal => "normal",
                        Manner::Abnormal => "abnormal",
                        Manner::Limit => "limit",
                    };
                    format!("ended:{}:{manner}", show_moment(at))
                }
                Last::Done => "done".into(),
                Last::Fatal => "fatal".into(),
            };
            match record.anomalies {
                0 => format!("keep {last}"),
                anomalies => format!("keep {last} anomalies={anomalies}"),
            }
        }
        Effect::Report(report) => show_report(report),
        Effect::Unexpected(event) => format!("UNEXPECTED {event:?}"),
    }
}

fn show_report(report: Report) -> String {
    match report {
        Report::Up => "report up".into(),
        Report::NormalEnd { end, ran } => format!("report {end} after {}", show(ran)),
        Report::AbnormalEnd {
            end,
            ran,
            anomalies,
        } => format!(
            "report abnormal end ({end}) after {} anomalies={anomalies}",
            show(ran)
        ),
        Report::Fatal { anomalies } => format!("report FATAL anomalies={anomalies}"),
        Report::Recovered => "report recovered".into(),
        Report::Stopped(StoppedBy::Signal) => "report stopped by signal".into(),
        Report::Stopped(StoppedBy::Kill) => "report stopped by kill".into(),
        Report::Stuck => "report stuck".into(),
    }
}

fn shown(child: &Child, now: Uptime) -> String {
    let mut text = format!("| {}", child.state().as_str());
    if let Some(detail) = child.detail() {
        text.push_str(&format!(" {}", detail.as_str()));
    }
    if child.anomalies() > 0 {
        text.push_str(&format!(" anomalies={}", child.anomalies()));
    }
    if let Some(retry_in) = child.retry_in(now) {
        text.push_str(&format!(" retry_in={}", show(retry_in)));
    }
    match child.deadline() {
        Some(at) => text + &format!(", wakes at {}", show_moment(at)),
        None => text + ", no wake-up",
    }
}
