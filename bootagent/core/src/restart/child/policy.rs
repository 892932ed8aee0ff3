//! Document 002's sentence: what an end means, and when the next start is.
//!
//! The rule: this is the only place that counts anomalies and knows the grid
//! of the looks.

use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Uptime;

use super::super::event::{Effect, End, Report};
use super::super::spec::Kind;
use super::super::stage::{Manner, Stage, Then, Wanted};
use super::Child;

impl Child {
    /// Counts an end that nobody asked for, and says what follows:
    ///
    /// 1. A normal end forgets the anomalies; a oneshot is done.
    /// 2. An abnormal end after a stable run forgets them too.
    /// 3. Any other abnormal end is one more.
    /// 4. More than the policy allows: given up.
    pub(super) fn judge(
        &mut self,
        end: End,
        started_at: Uptime,
        now: Uptime,
        effects: &mut Vec<Effect>,
    ) -> Then {
        let ran = now.since(started_at);
        let manner = end.manner();
        let since = now;
        match manner {
            Manner::Normal => {
                self.anomalies = 0;
                effects.push(Effect::Report(Report::NormalEnd { end, ran }));
                match self.spec.kind {
                    Kind::Simple | Kind::Notify => Then::Await { since, manner },
                    Kind::Oneshot => Then::Rest,
                }
            }
            Manner::Abnormal | Manner::Limit => {
                self.anomalies = if ran >= self.spec.policy.stable() {
                    0
                } else {
                    self.anomalies.saturating_add(1)
                };
                let anomalies = self.anomalies;
                effects.push(Effect::Report(Report::AbnormalEnd {
                    end,
                    ran,
                    anomalies,
                }));
                if anomalies > self.spec.policy.max_anomalies() {
                    effects.push(Effect::Report(Report::Fatal { anomalies }));
                    Then::GiveUp
                } else {
                    Then::Await { since, manner }
                }
            }
        }
    }

    /// Everything is gone: does what follows.
    pub(super) fn settle(&mut self, then: Then, effects: &mut Vec<Effect>) {
        match (self.wanted, then) {
            (Wanted::Stopped, _) => self.stage = Stage::Idle,
            (Wanted::Running, Then::Obey) => self.start(effects),
            (Wanted::Running, Then::Await { since, manner }) => {
                self.stage = Stage::Waiting { since, manner };
            }
            (Wanted::Running, Then::Rest) => self.stage = Stage::Done,
            (Wanted::Running, Then::GiveUp) => self.stage = Stage::Fatal,
        }
    }

    /// The look at which a run's anomalies are forgotten.
    pub(super) fn stable_at(&self, started_at: Uptime) -> Uptime {
        let policy = self.spec.policy;
        (started_at + policy.stable()).on_grid(policy.check(), Duration::ZERO)
    }

    /// The look at which it is started again: after its end, and when the
    /// end was abnormal, not before the hold-off is over.
    pub(super) fn start_at(&self, since: Uptime, manner: Manner) -> Uptime {
        let policy = self.spec.policy;
        let after_end = since.on_grid_after(policy.check(), Duration::ZERO);
        match manner {
            Manner::Normal => after_end,
            Manner::Abnormal | Manner::Limit => {
                let after_holdoff = since + policy.holdoff();
                after_end.max(after_holdoff.on_grid(policy.check(), Duration::ZERO))
            }
        }
    }
}
