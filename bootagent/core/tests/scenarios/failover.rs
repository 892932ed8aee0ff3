//! The choice of a server in the words of a scenario.

use bootagent_core::failover::{Failover, Outcome, Step, order};
use bootagent_core::time::Uptime;

use super::Machine;
use super::words::{Words, duration, show};

struct Subject {
    servers: Vec<String>,
    failover: Failover,
}

/// `failover [metafile=A,B] [compiled=C]`.
pub(crate) fn make(words: &mut Words<'_>) -> (Box<dyn Machine>, String) {
    let servers = servers(words);
    let failover = Failover::new(servers.len());
    let subject = Subject { servers, failover };
    let shown = subject.shown();
    (Box::new(subject), shown)
}

fn servers(words: &mut Words<'_>) -> Vec<String> {
    let mut list = |key| {
        let names = words.value(key).unwrap_or_default().split(',');
        names
            .filter(|name| !name.is_empty())
            .map(String::from)
            .collect::<Vec<_>>()
    };
    order(list("metafile"), list("compiled"))
}

impl Subject {
    fn shown(&self) -> String {
        match self.failover.current() {
            Some(index) => format!("| asks {}: {}", index + 1, self.servers[index]),
            None => "| has nobody to ask".into(),
        }
    }
}

impl Machine for Subject {
    fn step(&mut self, words: &mut Words<'_>, _now: Uptime) -> String {
        if words.skip("replace") {
            let keep = words.skip("keep");
            let good = self.failover.current().map(|at| self.servers[at].clone());
            self.servers = servers(words);
            let current = self
                .servers
                .iter()
                .position(|name| Some(name) == good.as_ref() && keep);
            self.failover.replace(self.servers.len(), current);
            return self.shown();
        }
        let outcome = match words.next() {
            "answered" => Outcome::Answered,
            "unauthorized" => Outcome::Unauthorized,
            "busy" => Outcome::Busy(match words.peek() {
                "" => None,
                _ => Some(duration(words.next()).unwrap_or_else(|| words.fail("not a time"))),
            }),
            "refused" => Outcome::Refused,
            "timed-out" => Outcome::TimedOut,
            "garbage" => Outcome::Garbage,
            "server-error" => Outcome::ServerError,
            other => words.fail(&format!("no outcome is called `{other}`")),
        };
        let step = match self.failover.handle(outcome) {
            Step::Done => "done".into(),
            Step::Try(index) => format!("try {}", index + 1),
            Step::Later(Some(delay)) => format!("later, after {}", show(delay)),
            Step::Later(None) => "later".into(),
            Step::Failed => "FAILED".into(),
        };
        format!("{step} {}", self.shown())
    }

    fn deadline(&self) -> Option<Uptime> {
        None
    }
}
