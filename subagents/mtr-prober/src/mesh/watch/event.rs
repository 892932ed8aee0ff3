//! What follows from a notice: an event's traces and its report.
//!
//! The one rule: an event that was noticed ends in one report.

use std::time::Duration;

use uuid::Uuid;

use super::{Purpose, Run};
use crate::clock;
use crate::engine::{End, Results, Urgency};
use crate::mesh::episode::{self, AFTER_ROUNDS, Act, CYCLE, Episode, Subject};
use crate::mesh::guard::Notice;
use crate::moment::Moment;
use crate::order::SIZE;
use crate::report::{
    self, Cause, Incident, LineTrouble, Parameters, PartName, Report, Second, State, Target,
};
use crate::verdict;

/// So long before it was noticed it had not begun.
const BEFORE: Duration = Duration::from_secs(10);

/// A moment at which what was noticed at that one had not begun.
fn not_begun(noticed: Moment) -> Moment {
    let before = u64::try_from(BEFORE.as_nanos()).unwrap_or(0);
    Moment(noticed.0.saturating_sub(before))
}

impl Run {
    pub(super) fn notice(&mut self, number: u16, notice: &Notice, now: Moment) {
        match notice {
            Notice::Began { peer, trouble } => {
                log::warn!("{} is in trouble: {trouble:?}", self.called(*peer));
                let incident = Incident {
                    peer: Some(*trouble),
                    ..Incident::default()
                };
                let peer = u16::try_from(*peer).unwrap_or(number);
                self.begin(peer, Subject::Peer, incident, now);
            }
            Notice::Ended { peer, lasted } => {
                log::info!("{} is well after {lasted:.0?}", self.called(*peer));
                let peer = *peer;
                let of_it =
                    |it: &Episode| it.subject == Subject::Peer && usize::from(it.peer) == peer;
                self.over(of_it, *lasted, None, now);
            }
            Notice::LineBegan { line, suspects, of } => {
                log::warn!("a line is in trouble: {suspects} of its {of} peers do not answer");
                let trouble = LineTrouble {
                    suspects: *suspects,
                    of: *of,
                    peers: 1,
                };
                let incident = Incident {
                    line: Some(trouble),
                    ..Incident::default()
                };
                self.begin(number, Subject::Line(*line), incident, now);
            }
            Notice::LineEnded {
                line,
                lasted,
                peers,
            } => {
                log::info!("the line is well after {lasted:.0?}; {peers} peers were concerned");
                let of_it = |it: &Episode| it.subject == Subject::Line(*line);
                self.over(of_it, *lasted, Some(*peers), now);
            }
            Notice::CapReached { per_hour } => log::warn!(
                "{per_hour} events were raised within an hour, more are only counted; `events_per_hour` is the cap"
            ),
            Notice::CapOver { withheld } => {
                log::warn!("events are raised again; {withheld} were not");
            }
        }
        self.say();
    }

    fn called(&self, number: usize) -> String {
        let peer = u16::try_from(number)
            .ok()
            .and_then(|it| self.roster.get(it));
        peer.map(|it| it.entry.called()).unwrap_or_default()
    }

    fn begin(&mut self, number: u16, subject: Subject, incident: Incident, now: Moment) {
        let Some(report) = self.report(number, subject, incident, now) else {
            return;
        };
        self.counts.events += 1;
        let done = Box::new(|result: Result<(), String>| {
            if let Err(error) = result {
                log::error!("an event is not written down before it ends: {error}");
            }
        });
        if let Err(error) = self.keeper.accept(report.clone(), done) {
            log::error!("an event is not written down before it ends: {error}");
        }
        let mut episode = Episode::new(report, number, subject, now);
        let acts = episode.begin();
        let event = self.next_event;
        self.next_event += 1;
        self.episodes.insert(event, episode);
        self.episodes_at = self.episodes_at.min(now + CYCLE);
        self.do_all(event, acts, now);
    }

    /// Its report so far: with the path and the seconds before it.
    fn report(
        &self,
        number: u16,
        subject: Subject,
        incident: Incident,
        noticed: Moment,
    ) -> Option<Report> {
        let peer = self.roster.get(number)?;
        let line = peer.entry.line.as_deref();
        let of_config = self.config.line(line);
        // What was measured since may be part of the trouble.
        let before = peer.past.part(not_begun(noticed), self.clock.wall());
        let source = peer.source.unwrap_or_default();
        let meant = of_config.map(|(_, it)| it.source.as_str()).or(line);
        let interface = meant.filter(|_| source.interface.is_some());
        let now = clock::instant();
        let mut report = Report {
            id: Uuid::now_v7(),
            state: State::Running,
            cause: Cause::Mesh,
            reference: None,
            tool: concat!("mtr-prober ", env!("CARGO_PKG_VERSION")).to_owned(),
            node: self.config.node_name(),
            target: Target {
                asked: peer.entry.called(),
                address: Some(peer.entry.address),
            },
            source: report::Source {
                asked: peer.entry.line.clone(),
                address: None,
                interface: interface.map(str::to_owned),
                line: of_config.map(|(name, _)| name.clone()),
                circuit: of_config.and_then(|(_, it)| it.circuit.clone()),
            },
            parameters: Parameters {
                count: 0,
                interval_ms: u32::try_from(CYCLE.as_millis()).unwrap_or(0),
                size: SIZE,
            },
            accepted_at: now,
            started_at: Some(now),
            ended_at: None,
            parts: before.into_iter().collect(),
            timeline: self.seconds_before(number, subject),
            faults: Vec::new(),
            incident: Some(incident),
            problem: None,
        };
        if let Err(error) = report.locate(source, peer.entry.address) {
            // It may be the way itself that is in trouble.
            log::warn!("{:#}", anyhow::Error::from(error));
        }
        Some(report)
    }

    fn seconds_before(&self, number: u16, subject: Subject) -> Vec<Second> {
        let numbers = match subject {
            Subject::Peer => vec![number],
            Subject::Line(_) => self.roster.numbers(),
        };
        let peers = numbers.iter().filter_map(|it| self.roster.get(*it));
        let concerned = peers.filter(|it| match subject {
            Subject::Peer => true,
            Subject::Line(line) => it.line == line,
        });
        let mut seconds: Vec<Second> = Vec::new();
        for it in concerned.flat_map(|it| &it.recent) {
            episode::count(&mut seconds, it.unix, it.sent, it.lost);
        }
        seconds
    }

    /// It is over, after so long; of a line, with so many peers.
    fn over(
        &mut self,
        of_it: impl Fn(&Episode) -> bool,
        lasted: Duration,
        peers: Option<usize>,
        now: Moment,
    ) {
        let Some((&event, episode)) = self.episodes.iter_mut().find(|(_, it)| of_it(it)) else {
            return;
        };
        if let Some(incident) = &mut episode.report.incident {
            incident.lasted_ms = u64::try_from(lasted.as_millis()).ok();
            if let (Some(line), Some(peers)) = (&mut incident.line, peers) {
                line.peers = peers;
            }
        }
        let acts = episode.over();
        self.do_all(event, acts, now);
    }

    /// A part of an event's has ended.
    pub(super) fn part(
        &mut self,
        event: usize,
        name: PartName,
        end: End,
        results: Results,
        now: Moment,
    ) {
        let Some(episode) = self.episodes.get_mut(&event) else {
            return;
        };
        if let End::NotBegun(reason) = end {
            log::warn!("a part of an event is not measured: {reason}");
        }
        let acts = episode.part(name, results);
        self.do_all(event, acts, now);
    }

    fn do_all(&mut self, event: usize, acts: Vec<Act>, now: Moment) {
        for act in acts {
            match act {
                Act::Trace(name) => {
                    let Some(number) = self.episodes.get(&event).map(|it| it.peer) else {
                        return;
                    };
                    let rounds = match name {
                        PartName::During => None,
                        PartName::After => Some(AFTER_ROUNDS),
                        PartName::Before | PartName::Snapshot | PartName::Run => Some(1),
                    };
                    let purpose = Purpose::Part(event, name);
                    if !self.trace(number, rounds, Urgency::Urgent, purpose) {
                        self.part(event, name, End::Stopped, Results::default(), now);
                    }
                }
                Act::Stop(name) => {
                    let mut traces = self.traces.iter();
                    let found = traces.find(|(_, purpose)| {
                        matches!(purpose, Purpose::Part(of, part) if (*of, *part) == (event, name))
                    });
                    if let Some((&handle, _)) = found
                        && let Err(error) = self.engine.stop(handle)
                    {
                        log::error!("the cycles of an event go on: {error}");
                    }
                }
                Act::Close => self.close(event, State::Finished, None, now),
            }
        }
    }

    fn close(&mut self, event: usize, state: State, problem: Option<&str>, now: Moment) {
        self.split(event, now);
        let Some(episode) = self.episodes.remove(&event) else {
            return;
        };
        let mut report = episode.report;
        report.state = state;
        report.ended_at = Some(clock::instant());
        report.problem = problem.map(str::to_owned);
        let during = report.parts.iter().filter(|it| it.name == PartName::During);
        report.parameters.count = during.map(|it| it.rounds).sum();
        let id = report.id;
        let done = Box::new(move |result: Result<(), String>| {
            if let Err(error) = result {
                log::error!("the report {id} of an event waits in memory: {error}");
            }
        });
        self.keeper.end(report, done);
        self.say();
    }

    pub(super) fn look_at_events(&mut self, now: Moment) {
        let events: Vec<usize> = self.episodes.keys().copied().collect();
        for event in events {
            self.split(event, now);
            let Some(episode) = self.episodes.get_mut(&event) else {
                continue;
            };
            let well = match episode.subject {
                Subject::Peer => {
                    let detector = self.guard.detector(usize::from(episode.peer));
                    detector.and_then(|it| it.well(now))
                }
                Subject::Line(line) => self.guard.line_well(line, now),
            };
            let acts = episode.look(well.unwrap_or_default(), now);
            self.do_all(event, acts, now);
        }
    }

    /// Asks what both ends counted. The window with most pings is kept: later ones lose sight of the beginning.
    fn split(&mut self, event: usize, now: Moment) {
        let Some(episode) = self.episodes.get_mut(&event) else {
            return;
        };
        let since = not_begun(episode.began);
        let peer = self.roster.get_mut(episode.peer);
        let found = peer.and_then(|it| it.sent.split(since, now));
        let (Some(found), Some(incident)) = (found, &mut episode.report.incident) else {
            return;
        };
        let is_more = |it: verdict::BothEnds| found.forward.sent >= it.forward.sent;
        if incident.both_ends.is_none_or(is_more) {
            incident.both_ends = Some(found);
            incident.direction = verdict::direction(found);
        }
    }

    pub(super) fn count_in_events(&mut self, number: u16, line: usize, second: i64, lost: u32) {
        for it in self.episodes.values_mut() {
            let concerns = match it.subject {
                Subject::Peer => it.peer == number,
                Subject::Line(of) => of == line,
            };
            if concerns {
                it.count(second, lost);
            }
        }
    }

    /// A peer is not on the list any more: its event is closed.
    pub(super) fn forget(&mut self, number: u16) {
        let of_it = |it: &Episode| it.subject == Subject::Peer && it.peer == number;
        let found = self.episodes.iter().find(|(_, it)| of_it(it));
        if let Some((&event, _)) = found {
            let problem = "the peer was taken from the list while it was in trouble";
            self.close(event, State::Stopped, Some(problem), clock::now());
        }
    }

    /// Closes all with what there is.
    pub(super) fn end(mut self) {
        let problem = "mtr-prober was ended while the trouble lasted; what there was is kept";
        let events: Vec<usize> = self.episodes.keys().copied().collect();
        for event in events {
            let running = self.traces.iter().filter_map(|(handle, it)| match it {
                Purpose::Part(of, name) if *of == event => Some((*handle, *name)),
                Purpose::Part(..) | Purpose::Path(_) => None,
            });
            for (handle, name) in running.collect::<Vec<_>>() {
                let results = self.engine.results(handle).unwrap_or_default();
                if let Some(episode) = self.episodes.get_mut(&event) {
                    let _ = episode.part(name, results);
                }
            }
            self.close(event, State::Interrupted, Some(problem), clock::now());
        }
    }
}
