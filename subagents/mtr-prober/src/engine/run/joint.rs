//! What traces that share a row are told of each other.
//!
//! The one rule: who leaves a group keeps nothing of it.

use super::{Live, Run};
use crate::engine::{Spec, Urgency};
use crate::moment::Moment;
use crate::pace::Key;
use crate::packet::Family;
use crate::share::{Before, Group, Rank, Wish};
use crate::trace::{Next, Trace};

/// What a trace wants to send next.
pub(super) fn wish(spec: &Spec, next: &Next, rank: Rank) -> Wish {
    Wish {
        source: spec.source,
        family: Family::of(spec.plan.target),
        ttl: next.ttl,
        responder: next.responder,
        before: next.before,
        rank,
    }
}

/// How a trace stands to the others.
pub(super) fn rank(live: &Live) -> Rank {
    match live.spec.urgency {
        Urgency::Usual if !live.trace.has_lost_target() => Rank::Member,
        Urgency::Usual | Urgency::Urgent => Rank::First,
    }
}

/// The group of a trace's row, if it is one that can be shared.
fn group(live: &Live, hop: u8) -> Option<Group> {
    let (responder, previous) = live.trace.place(hop)?;
    Some(Group {
        source: live.spec.source,
        ttl: live.spec.plan.first_ttl + hop,
        responder,
        previous,
    })
}

impl Run {
    /// A router answered a trace.
    pub(super) fn router_answered(&mut self, id: u16, hop: u8, next: &Next, now: Moment) {
        let (Some(share), Some(live)) = (&mut self.share, self.slots.get(id)) else {
            return;
        };
        if let Some(from) = live.trace.responder(hop) {
            share.heard(&wish(&live.spec, next, rank(live)), from, now);
        }
    }

    /// Tells the group of a row what came of a member's probe: a round trip if it is known, or nothing.
    pub(super) fn tell_group(&mut self, id: u16, hop: u8, outcome: Option<Option<u32>>) {
        let (Some(share), Some(live)) = (&mut self.share, self.slots.get_mut(id)) else {
            return;
        };
        let key: Key = (id, live.handle.0);
        let now_in = match rank(live) {
            Rank::Member => group(live, hop),
            Rank::First => None,
        };
        let left = live.joined.iter().copied().filter(|joined| {
            let row = joined.ttl - live.spec.plan.first_ttl;
            rank(live) == Rank::First || group(live, row) != Some(*joined)
        });
        let left: Vec<Group> = left.collect();
        for group in &left {
            share.leave(group, key);
            live.trace.end_joint(group.ttl - live.spec.plan.first_ttl);
        }
        live.joined.retain(|group| !left.contains(group));
        let Some(group) = now_in else {
            return;
        };
        let is_member = live.joined.contains(&group);
        if !is_member {
            if !share.is_over(group.source, group.responder) {
                return;
            }
            share.join(group, key);
            live.joined.push(group);
            live.trace.begin_joint(hop);
        }
        for (member, handle) in share.members(&group) {
            let other = self.slots.get_mut(member);
            let Some(other) = other.filter(|other| other.handle.0 == handle) else {
                continue;
            };
            // The newcomer's own counts have this outcome already.
            if is_member || member != id {
                other.trace.count_joint(hop, outcome);
            }
        }
    }

    /// A trace has ended.
    pub(super) fn leave_groups(&mut self, live: &Live, id: u16) {
        if let Some(share) = &mut self.share {
            for group in &live.joined {
                share.leave(group, (id, live.handle.0));
            }
        }
    }
}

/// What comes next without anything being left out.
pub(super) fn next_of(trace: &Trace, hop: u8) -> Next {
    Next {
        ttl: trace.plan().first_ttl + hop,
        responder: trace.responder(hop),
        before: Before::None,
    }
}
