//! How it stands: for the API, and in one line for whoever supervises us.
//!
//! The one rule: what is not as the list's file says is said with the reason.

use super::{Detail, Run};
use crate::clock;
use crate::mesh::peers;
use crate::mesh::standing::{Counts, PeerStanding, PeerState, Standing};

/// Why nobody is pinged.
const NO_RIGHT: &str =
    "no peer is pinged without CAP_NET_RAW; give it to the program and start it again";

impl Run {
    pub(super) fn standing(&self, detail: Detail) -> Standing {
        let mut counts = Counts {
            peers: self.roster.len() as u64,
            capped: self.guard.withheld() as u64,
            ..self.counts.clone()
        };
        let mut peers = Vec::new();
        for number in self.roster.numbers() {
            let Some(it) = self.peer(number) else {
                continue;
            };
            counts.troubled += u64::from(it.state == PeerState::Troubled);
            counts.silent += u64::from(it.state == PeerState::Silent);
            let is_shown = match detail {
                Detail::Counts => false,
                Detail::Troubled => it.state == PeerState::Troubled,
                Detail::Everything => true,
            };
            if is_shown {
                peers.push(it);
            }
        }
        let episodes = self.episodes.values();
        let mut events: Vec<_> = match detail {
            Detail::Counts => Vec::new(),
            Detail::Troubled | Detail::Everything => episodes.map(|it| it.report.clone()).collect(),
        };
        events.sort_by_key(|it| it.id);
        Standing {
            node: self.config.node_name(),
            has_key: !self.roster.keys.is_empty(),
            counts,
            problem: self.problem(),
            events,
            peers,
        }
    }

    /// Why nobody is pinged, or others than the list's file says.
    fn problem(&self) -> Option<String> {
        let is_wanted = self.config.mesh.peers_file.is_some();
        match &self.list {
            Some(list) => list.problem.clone(),
            None => is_wanted.then(|| NO_RIGHT.to_owned()),
        }
    }

    fn peer(&self, number: u16) -> Option<PeerStanding> {
        let peer = self.roster.get(number)?;
        let detector = self.guard.detector(usize::from(number))?;
        let state = match peer.source {
            None => PeerState::NoSource,
            Some(_) if !detector.has_answered() => PeerState::Silent,
            Some(_) if detector.is_troubled() => PeerState::Troubled,
            Some(_) => PeerState::Well,
        };
        let baseline = detector.baseline();
        Some(PeerStanding {
            name: peer.entry.called(),
            address: peer.entry.address,
            line: peer.entry.line.clone(),
            state,
            pings: peer.pings,
            lost: peer.lost,
            path_rounds: peer.past.len(),
            usual_loss: (baseline.loss() * 10_000.0).round() / 100.0,
            usual_ms: baseline.usual().map(|it| f64::from(it) / 1_000.0),
        })
    }

    /// Says how it stands where our supervisor looks.
    pub(super) fn say(&self) {
        let Some(list) = &self.list else {
            let problem = self.problem().unwrap_or_default();
            return self.status.say("mesh", &problem);
        };
        let mut said = format!("{} peers", self.roster.len());
        if let Some(problem) = &list.problem {
            said += &format!(" of the last good list: {problem}");
        }
        if let Some(beyond) = peers::beyond_budget(self.roster.len(), self.config.budget) {
            said += &format!(", {beyond}");
        }
        if !self.episodes.is_empty() {
            said += &format!(", {} events now", self.episodes.len());
        }
        if self.guard.withheld() > 0 {
            said += &format!(", {} events above the cap", self.guard.withheld());
        }
        let unix = self.clock.wall().second(clock::now());
        if self.guard.quiet.is_quiet(None, unix) {
            said += ", in maintenance";
        }
        self.status.say("mesh", &said);
    }
}
