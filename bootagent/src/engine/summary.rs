//! One line for `systemctl status`: children, server, what is wrong.
//!
//! The one rule: it is said when it changes, never by a timer.

use bootagent_core::restart::State;
use bootagent_kit::notify::Notifier;

use super::Engine;

impl Engine {
    /// Says how we are, if that is not what was said last.
    pub(super) fn say_status(&mut self) {
        let notifier = Notifier::from_env();
        if !notifier.is_wanted() {
            return;
        }
        let summary = self.summary();
        if summary != self.said {
            let _ = notifier.status(&summary);
            self.said = summary;
        }
    }

    fn summary(&self) -> String {
        let (mut running, mut fatal) = (0, 0);
        for child in self.children.values() {
            match child.machine.state() {
                State::Running => running += 1,
                State::Fatal => fatal += 1,
                State::Stoped | State::Killed => {}
            }
        }
        let given_up = match fatal {
            0 => String::new(),
            count => format!(", {count} given up"),
        };
        let server = match (&self.push.problem, self.push.server()) {
            (Some(problem), _) => problem.clone(),
            (None, None) => "no server is known".into(),
            (None, Some(server)) if self.push.answered_at.is_some() => {
                format!("reports to {server}")
            }
            (None, Some(server)) => format!("no answer of {server} yet"),
        };
        format!(
            "bootagent {}: {running} of {} agents run{given_up}; {server}",
            crate::host::VERSION,
            self.children.len()
        )
    }
}
