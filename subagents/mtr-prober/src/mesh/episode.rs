//! One event, from its trigger to its report.
//!
//! At once each TTL is asked once. From a second later on there are cycles, for as long as trouble lasts; they stop when it
//! has been well for ten seconds, and begin again should it come back. When it is over the path is measured once more.
//! After half an hour the report is closed as it is: what lasts longer is not news any more.
//!
//! The one rule: each part that was begun is in the report before that is closed.

use std::time::Duration;

use crate::engine::Results;
use crate::moment::Moment;
use crate::report::{Part, PartName, Report, Second};

/// Rounds of the path after the trouble.
pub const AFTER_ROUNDS: u32 = 10;
/// From one cycle to the next: no responder is asked more often.
pub const CYCLE: Duration = Duration::from_secs(1);
/// No trouble for so long: its cycles stop.
const CALM: Duration = Duration::from_secs(10);
/// An event's report is closed after this.
const LONGEST: Duration = Duration::from_secs(1800);
/// How often cycles begin again in one event.
const AGAIN: u32 = 4;
/// Seconds of a timeline.
const MAX_SECONDS: usize = 2_400;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Begin this part.
    Trace(PartName),
    /// Stop this part.
    Stop(PartName),
    /// Close the report.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Snapshot,
    During,
    Calm,
    After,
    Closed,
}

/// Of what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Of one peer.
    Peer,
    /// Of a line, by its number.
    Line(usize),
}

/// An event.
#[derive(Debug)]
pub struct Episode {
    /// What is known of it.
    pub report: Report,
    /// Which peer is traced.
    pub peer: u16,
    /// Of what it is.
    pub subject: Subject,
    /// When it was noticed.
    pub began: Moment,
    stage: Stage,
    /// Parts that were begun and have not ended.
    running: u32,
    again: u32,
}

impl Episode {
    /// It was noticed now.
    #[must_use]
    pub fn new(report: Report, peer: u16, subject: Subject, now: Moment) -> Self {
        Self {
            report,
            peer,
            subject,
            began: now,
            stage: Stage::Snapshot,
            running: 0,
            again: 0,
        }
    }

    /// What to do first.
    pub fn begin(&mut self) -> Vec<Act> {
        self.trace(PartName::Snapshot)
    }

    /// What to do now that it has been well for so long.
    pub fn look(&mut self, well: Duration, now: Moment) -> Vec<Act> {
        let age = now.since(self.began);
        match self.stage {
            Stage::Snapshot if age >= CYCLE => {
                self.stage = Stage::During;
                self.trace(PartName::During)
            }
            Stage::During if age >= LONGEST => {
                self.stage = Stage::Closed;
                vec![Act::Stop(PartName::During)]
            }
            Stage::During if well >= CALM => {
                self.stage = Stage::Calm;
                vec![Act::Stop(PartName::During)]
            }
            Stage::Calm if age >= LONGEST => {
                self.stage = Stage::Closed;
                self.close()
            }
            Stage::Calm if well < CALM / 5 && self.again < AGAIN => {
                self.stage = Stage::During;
                self.again += 1;
                self.trace(PartName::During)
            }
            Stage::Snapshot | Stage::During | Stage::Calm | Stage::After | Stage::Closed => {
                Vec::new()
            }
        }
    }

    /// The trouble is over.
    pub fn over(&mut self) -> Vec<Act> {
        let mut acts = match self.stage {
            Stage::During => vec![Act::Stop(PartName::During)],
            Stage::Snapshot | Stage::Calm => Vec::new(),
            Stage::After | Stage::Closed => return Vec::new(),
        };
        self.stage = Stage::After;
        acts.extend(self.trace(PartName::After));
        acts
    }

    /// A part has ended, with what it found; with nothing where it could not begin.
    pub fn part(&mut self, name: PartName, results: Results) -> Vec<Act> {
        self.running = self.running.saturating_sub(1);
        if let Some(part) = results.part {
            self.report.parts.push(Part { name, ..part });
            self.report.parts.sort_by_key(|it| it.started_at);
        }
        for fault in results.faults {
            if !self.report.faults.contains(&fault) {
                self.report.faults.push(fault);
            }
        }
        self.close()
    }

    /// A ping left in this second and was lost, or was not.
    pub fn count(&mut self, unix: i64, lost: u32) {
        if self.report.timeline.len() < MAX_SECONDS {
            count(&mut self.report.timeline, unix, 1, lost);
        }
    }

    fn trace(&mut self, name: PartName) -> Vec<Act> {
        self.running += 1;
        vec![Act::Trace(name)]
    }

    fn close(&mut self) -> Vec<Act> {
        let is_last = matches!(self.stage, Stage::After | Stage::Closed) && self.running == 0;
        if is_last {
            vec![Act::Close]
        } else {
            Vec::new()
        }
    }
}

/// Counts pings into their second.
pub fn count(seconds: &mut Vec<Second>, unix: i64, sent: u32, lost: u32) {
    let at = seconds.partition_point(|it| it.unix < unix);
    match seconds.get_mut(at) {
        Some(it) if it.unix == unix => {
            it.sent += sent;
            it.lost += lost;
        }
        _ => {
            seconds.insert(at, Second { unix, sent, lost });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::report as of_hops;

    fn report() -> Report {
        of_hops(Vec::new())
    }

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn well(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_event_has_a_snapshot_cycles_while_it_lasts_and_the_path_after() {
        use PartName::{After, During, Snapshot};
        let mut event = Episode::new(report(), 3, Subject::Peer, at(0));
        assert_eq!(event.begin(), [Act::Trace(Snapshot)]);
        assert_eq!(event.look(well(0), at(0)), []);
        assert_eq!(event.look(well(0), at(1)), [Act::Trace(During)]);
        assert_eq!(event.part(Snapshot, Results::default()), []);
        assert_eq!(event.look(well(9), at(20)), []);
        assert_eq!(event.look(well(10), at(21)), [Act::Stop(During)]);
        assert_eq!(event.part(During, Results::default()), []);
        assert_eq!(event.look(well(5), at(22)), []);
        assert_eq!(event.look(well(0), at(30)), [Act::Trace(During)]);
        assert_eq!(event.look(well(12), at(50)), [Act::Stop(During)]);
        assert_eq!(event.over(), [Act::Trace(After)]);
        assert_eq!(event.part(After, Results::default()), []);
        assert_eq!(event.part(During, Results::default()), [Act::Close]);
        assert_eq!(event.over(), []);
    }

    #[test]
    fn what_does_not_end_is_closed_after_half_an_hour() {
        use PartName::{During, Snapshot};
        let mut event = Episode::new(report(), 3, Subject::Line(0), at(0));
        event.begin();
        event.look(well(0), at(1));
        event.part(Snapshot, Results::default());
        assert_eq!(event.look(well(0), at(1799)), []);
        assert_eq!(event.look(well(0), at(1800)), [Act::Stop(During)]);
        assert_eq!(event.over(), []);
        assert_eq!(event.part(During, Results::default()), [Act::Close]);
    }
}
