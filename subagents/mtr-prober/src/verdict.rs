//! What a measurement says of the network, in one sentence with its interval.
//!
//! Only this trace's own probes count: numbers of a group belong to other targets too. What this
//! machine did to the measurement comes first: where it could have made the loss, nothing is said of
//! the network. In which direction packets were lost one end cannot know, so it is said only with
//! counts of both.
//!
//! The one rule: nothing is claimed that the counts cannot tell from its opposite.

mod interval;
mod latency;
mod onset;
mod sentence;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::report::{Counts, Fault, Hop, Part, Unreachable};

pub use interval::Tally;
pub use latency::{Against, Latency};
pub use sentence::{Language, fault_clause};

/// Chance below which a difference is believed.
const DIFFERENT: f64 = 0.05;

/// A place on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The hop; 0 is this machine.
    pub ttl: u8,
    /// Who answers there most.
    pub address: Option<IpAddr>,
}

impl Place {
    /// This machine.
    pub const HERE: Self = Self {
        ttl: 0,
        address: None,
    };

    fn of(hop: &Hop) -> Self {
        Self {
            ttl: hop.ttl,
            address: hop.responders.first().map(|it| it.address),
        }
    }
}

/// What was lost.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Loss {
    /// No probe went to the target.
    Unmeasured,
    /// The target answered every probe.
    None {
        /// Of how many.
        target: Tally,
    },
    /// Packets are lost from some hop on up to the target.
    From {
        /// The last hop that is certainly before it.
        after: Place,
        /// The first that certainly has it.
        by: Place,
        /// Whether no hop that answers lies between the two.
        exact: bool,
        /// Whether the target alone has it: it may as well limit its own answers.
        target_only: bool,
        /// What the target lost.
        target: Tally,
    },
    /// Packets are lost, but they are too few to say from where on.
    TooFew {
        /// What the target lost.
        target: Tally,
    },
    /// Nothing answers behind a hop.
    Silent {
        /// The last that answers.
        after: Place,
        /// What a hop behind it was sent, all of it lost.
        behind: Tally,
        /// What the target lost when it still answered, if that is known: then it is a blackhole.
        before: Option<Tally>,
    },
    /// A hop says that it goes no further.
    Refused {
        /// Which.
        by: Place,
        /// What it says.
        reason: Unreachable,
    },
}

/// A hop that answers less often than those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limited {
    /// Where.
    pub place: Place,
    /// What it did not answer.
    pub tally: Tally,
}

/// What both ends counted of the same seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BothEnds {
    /// Towards the target: sent here, missed there.
    pub forward: Tally,
    /// Back from it: sent there, missed here.
    pub back: Tally,
}

/// In which direction packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the target.
    Forward,
    /// On the way back.
    Back,
    /// In both.
    Both,
}

/// All that can be said of one part of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What this machine did that the loss may come from; then `loss` is absent.
    pub doubted: Vec<Fault>,
    /// What was lost.
    pub loss: Option<Loss>,
    /// Hops that only limit their own answers.
    pub limited: Vec<Limited>,
    /// Where round trips become long; absent also where this machine may have made them so.
    pub latency: Option<Latency>,
    /// Where packets are lost both ends know; none when only one was asked or they do not differ.
    pub direction: Option<Direction>,
}

/// Says what `part` shows. `baseline` is the path before the trouble, `both_ends` what the other
/// side counted, each where it is known.
#[must_use]
pub fn decide(
    part: &Part,
    baseline: Option<&Part>,
    faults: &[Fault],
    both_ends: Option<BothEnds>,
) -> Verdict {
    let (mut loss, limited) = losses(part);
    let mut doubted: Vec<Fault> = Vec::new();
    // A target that answered everything did so in spite of them.
    if !matches!(loss, Loss::None { .. } | Loss::Unmeasured) {
        doubted.extend(faults.iter().filter(may_lose).cloned());
    }
    let latency = match faults.iter().any(may_delay) {
        true => None,
        false => latency::latency(part, baseline),
    };
    if let (Loss::Silent { before, behind, .. }, Some(baseline)) = (&mut loss, baseline) {
        *before = answered(baseline).filter(|it| behind.chance_of_more_than(*it) < DIFFERENT);
    }
    let is_lossy = matches!(
        loss,
        Loss::From { .. } | Loss::TooFew { .. } | Loss::Silent { .. }
    );
    Verdict {
        direction: both_ends
            .filter(|_| is_lossy && doubted.is_empty())
            .and_then(direction),
        loss: Some(loss).filter(|_| doubted.is_empty()),
        // What a socket threw away may be anybody's answers.
        limited: if doubted.is_empty() {
            limited
        } else {
            Vec::new()
        },
        doubted,
        latency,
    }
}

/// In which direction packets are lost, where the counts of both ends tell.
#[must_use]
pub fn direction(BothEnds { forward, back }: BothEnds) -> Option<Direction> {
    if forward.chance_of_more_than(back) < DIFFERENT {
        Some(Direction::Forward)
    } else if back.chance_of_more_than(forward) < DIFFERENT {
        Some(Direction::Back)
    } else if forward.lost > 0 && back.lost > 0 {
        Some(Direction::Both)
    } else {
        None
    }
}

fn losses(part: &Part) -> (Loss, Vec<Limited>) {
    let Some(target) = part.hops.last() else {
        return (Loss::Unmeasured, Vec::new());
    };
    if !part.reached {
        return (beyond(part), Vec::new());
    }
    let target = tally(target.own);
    if target.sent == 0 {
        return (Loss::Unmeasured, Vec::new());
    }
    if target.lost == target.sent {
        // Other probes reached it, these did not.
        return (beyond(part), Vec::new());
    }
    let heard: Vec<&Hop> = part
        .hops
        .iter()
        .filter(|hop| hop.own.received > 0)
        .collect();
    let tallies: Vec<Tally> = heard.iter().map(|hop| tally(hop.own)).collect();
    let is_limited = onset::limited(&tallies);
    let limited = heard.iter().zip(&tallies).zip(&is_limited);
    let limited = limited
        .filter(|(_, limited)| **limited)
        .map(|((hop, tally), _)| Limited {
            place: Place::of(hop),
            tally: *tally,
        });
    let limited = limited.collect();
    if target.lost == 0 {
        return (Loss::None { target }, limited);
    }
    let kept: Vec<(Place, Tally)> = heard
        .iter()
        .zip(&tallies)
        .zip(&is_limited)
        .filter(|(_, limited)| !**limited)
        .map(|((hop, tally), _)| (Place::of(hop), *tally))
        .collect();
    (place(&kept, target), limited)
}

/// Where the loss of the target begins, among hops that answer and do not limit themselves.
fn place(kept: &[(Place, Tally)], target: Tally) -> Loss {
    let tallies: Vec<Tally> = kept.iter().map(|it| it.1).collect();
    let (from, to) = onset::onset(&tallies);
    if kept.len() > 1 && (from, to) == (0, kept.len() - 1) {
        return Loss::TooFew { target };
    }
    Loss::From {
        after: from
            .checked_sub(1)
            .map_or(Place::HERE, |index| kept[index].0),
        by: kept[to].0,
        exact: from == to,
        target_only: from == to && to == kept.len() - 1,
        target,
    }
}

/// What is said of a target that did not answer.
fn beyond(part: &Part) -> Loss {
    let last = part.hops.iter().rposition(|hop| hop.own.received > 0);
    let behind = &part.hops[last.map_or(0, |index| index + 1)..];
    if let Some(hop) = last.map(|index| &part.hops[index])
        && let Some(reason) = hop.responders.first().and_then(|it| it.unreachable)
    {
        return Loss::Refused {
            by: Place::of(hop),
            reason,
        };
    }
    let behind = behind.iter().map(|hop| tally(hop.own));
    // Each hop was probed on its own; together they say whether the silence is one.
    let (most, all) = behind.fold((Tally::default(), Tally::default()), |(most, all), it| {
        (if it.sent > most.sent { it } else { most }, all.and(it))
    });
    if most.sent == 0 {
        return Loss::Unmeasured;
    }
    let Some(hop) = last.map(|index| &part.hops[index]) else {
        return Loss::Silent {
            after: Place::HERE,
            behind: most,
            before: None,
        };
    };
    if all.chance_of_more_than(tally(hop.own)) >= DIFFERENT {
        return Loss::TooFew { target: most };
    }
    Loss::Silent {
        after: Place::of(hop),
        behind: most,
        before: None,
    }
}

/// What the target of the baseline lost, if it answered.
fn answered(baseline: &Part) -> Option<Tally> {
    let target = baseline.hops.last().filter(|_| baseline.reached)?;
    Some(tally(target.own)).filter(|it| it.lost < it.sent)
}

fn tally(counts: Counts) -> Tally {
    Tally {
        lost: counts.lost(),
        sent: counts.sent,
    }
}

/// Whether what this machine did can look like loss. Probes it did not send are not counted as lost.
fn may_lose(fault: &&Fault) -> bool {
    match fault {
        Fault::SocketOverflow { .. } | Fault::Starved { .. } | Fault::Throttled { .. } => true,
        Fault::Unsent { .. }
        | Fault::ClockStep { .. }
        | Fault::Stretched { .. }
        | Fault::Unprivileged => false,
    }
}

/// Whether it can look like a long round trip.
fn may_delay(fault: &Fault) -> bool {
    match fault {
        Fault::Starved { .. } | Fault::Throttled { .. } | Fault::ClockStep { .. } => true,
        Fault::SocketOverflow { .. }
        | Fault::Unsent { .. }
        | Fault::Stretched { .. }
        | Fault::Unprivileged => false,
    }
}

#[cfg(test)]
mod tests;
