//! Who is pinged, what is said to him, and what he said.
//!
//! Peers are known by numbers, which the engine's table has too. What a node says is of one of his lines; each of our
//! pings to him tells of one of them, in turns.
//!
//! The one rule: a number is given anew only when nothing of its former holder can come any more.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::both_ends::{Arrived, Sent};
use super::message::{GroupKey, Message, NodeId};
use super::past::Past;
use super::peers::Entry;
use crate::moment::Moment;
use crate::report::Second;
use crate::slots::Slots;
use crate::socket::Source;

/// Longer than any ping is waited for.
const REST: Duration = Duration::from_secs(10);
/// Lines of one node that are told apart.
const MAX_LINES: usize = 8;
/// A line that was not heard of for so long has nothing new.
const QUIET: Duration = Duration::from_secs(10);
/// Seconds before the trouble that its timeline has.
const SECONDS_BEFORE: usize = 30;

/// One who is pinged.
pub(super) struct Peer {
    pub(super) entry: Entry,
    /// The number of its line.
    pub(super) line: usize,
    /// Absent while there is no such source here.
    pub(super) source: Option<Source>,
    pub(super) next: Moment,
    pub(super) sent: Sent,
    epoch: u32,
    /// The newest seconds of its timeline.
    pub(super) recent: Vec<Second>,
    /// Its path as it is normally, and when that was last measured.
    pub(super) past: Past,
    pub(super) swept: Option<Moment>,
    pub(super) pings: u64,
    pub(super) lost: u64,
}

impl Peer {
    /// Counts a ping that left in this second.
    pub(super) fn count(&mut self, unix: i64, lost: u32) {
        self.pings += 1;
        self.lost += u64::from(lost);
        super::episode::count(&mut self.recent, unix, 1, lost);
        if self.recent.len() > SECONDS_BEFORE {
            self.recent.remove(0);
        }
    }
}

/// What a node said of one of its lines.
struct Said {
    line: u16,
    arrived: Arrived,
    heard: Moment,
}

#[derive(Default)]
struct Node {
    said: Vec<Said>,
    /// Our peers that are this node.
    peers: Vec<u16>,
    turn: usize,
}

/// All of them.
pub(super) struct Roster {
    pub(super) me: NodeId,
    pub(super) keys: Vec<GroupKey>,
    peers: Slots<Peer>,
    by_place: BTreeMap<(IpAddr, Option<String>), u16>,
    /// Lines by their numbers, which stay.
    lines: Vec<Option<String>>,
    nodes: HashMap<NodeId, Node>,
    turn: Option<(IpAddr, Option<String>)>,
}

/// What a new list changed.
pub(super) struct Changed {
    pub(super) gone: Vec<u16>,
    pub(super) new: Vec<u16>,
}

impl Roster {
    pub(super) fn new() -> Self {
        Self {
            me: NodeId(0),
            keys: Vec::new(),
            peers: Slots::new(0, REST),
            by_place: BTreeMap::new(),
            lines: vec![None],
            nodes: HashMap::new(),
            turn: None,
        }
    }

    /// Has these from now on. Who stays is not forgotten.
    pub(super) fn settle(&mut self, wanted: Vec<Entry>, now: Moment, unix: i64) -> Changed {
        let mut before = std::mem::take(&mut self.by_place);
        let mut fresh = Vec::new();
        for entry in wanted {
            let place = (entry.address, entry.line.clone());
            let stays = before
                .get(&place)
                .copied()
                .filter(|&it| self.peers.get(it).is_some_and(|it| it.entry == entry));
            match stays {
                Some(number) => {
                    before.remove(&place);
                    self.by_place.insert(place, number);
                }
                None => fresh.push((place, entry)),
            }
        }
        let gone: Vec<u16> = before.into_values().collect();
        for number in &gone {
            self.peers.remove(*number, now);
        }
        let mut new = Vec::new();
        let mut of_name: HashMap<String, u32> = HashMap::new();
        for (place, entry) in fresh {
            let line = self.line(entry.line.as_deref());
            let before = of_name.entry(entry.called()).or_default();
            // Pings of several lines to one node are told apart by when they began to count.
            let epoch = u32::try_from(unix).unwrap_or(0).saturating_add(*before);
            *before += 1;
            let peer = Peer {
                entry,
                line,
                source: None,
                next: now,
                sent: Sent::new(epoch),
                epoch,
                recent: Vec::new(),
                past: Past::default(),
                swept: None,
                pings: 0,
                lost: 0,
            };
            // There are more numbers than peers; who finds none comes with the next list.
            if let Ok(number) = self.peers.insert(peer, now) {
                self.by_place.insert(place, number);
                new.push(number);
            }
        }
        self.find_nodes();
        Changed { gone, new }
    }

    fn find_nodes(&mut self) {
        let mut former = std::mem::take(&mut self.nodes);
        for &number in self.by_place.values() {
            let name = self.peers.get(number).and_then(|it| it.entry.name.as_ref());
            if let Some(name) = name {
                let id = NodeId::of(name);
                let node = self.nodes.entry(id).or_insert_with(|| Node {
                    peers: Vec::new(),
                    ..former.remove(&id).unwrap_or_default()
                });
                node.peers.push(number);
            }
        }
    }

    fn line(&mut self, name: Option<&str>) -> usize {
        let known = self.lines.iter().position(|it| it.as_deref() == name);
        known.unwrap_or_else(|| {
            self.lines.push(name.map(str::to_owned));
            self.lines.len() - 1
        })
    }

    pub(super) fn get(&self, number: u16) -> Option<&Peer> {
        self.peers.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u16) -> Option<&mut Peer> {
        self.peers.get_mut(number)
    }

    /// All numbers, in the order of addresses.
    pub(super) fn numbers(&self) -> Vec<u16> {
        self.by_place.values().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_place.len()
    }

    /// The one whose turn it is, of all in a round.
    pub(super) fn next_in_turn(&mut self) -> Option<u16> {
        let after = self.turn.take().and_then(|it| {
            use std::ops::Bound::{Excluded, Unbounded};
            self.by_place.range((Excluded(it), Unbounded)).next()
        });
        let (place, number) = after.or_else(|| self.by_place.first_key_value())?;
        self.turn = Some(place.clone());
        Some(*number)
    }

    /// What the next ping to a peer says, sealed, and the number it is known by. Without a key or his name it says
    /// nothing.
    pub(super) fn next_ping(&mut self, number: u16, now: Moment) -> (u32, Option<Message>) {
        let Some(peer) = self.peers.get_mut(number) else {
            return (0, None);
        };
        let (epoch, sequence) = peer.sent.number();
        let name = peer.entry.name.as_ref().filter(|_| !self.keys.is_empty());
        let line = u16::try_from(peer.line).unwrap_or(u16::MAX);
        let message = name.map(|name| {
            let to = NodeId::of(name);
            Message {
                from: self.me,
                to,
                line,
                epoch,
                sequence,
                seen: self.nodes.get_mut(&to).and_then(|it| it.seen(now)),
            }
        });
        (sequence, message)
    }

    /// A ping was counted and did not leave: what was counted so far cannot be compared with anybody's count.
    pub(super) fn count_anew(&mut self, number: u16) {
        if let Some(peer) = self.peers.get_mut(number) {
            peer.epoch = peer.epoch.saturating_add(1);
            peer.sent = Sent::new(peer.epoch);
        }
    }

    /// Takes in what somebody says; whether it is believed.
    pub(super) fn hear(&mut self, bytes: &[u8], now: Moment) -> bool {
        let Ok(message) = Message::open(bytes, &self.keys) else {
            return false;
        };
        let node = self.nodes.get_mut(&message.from);
        let Some(node) = node.filter(|_| message.to == self.me) else {
            return false;
        };
        if !node.note(&message, now) {
            return false;
        }
        if let Some(seen) = message.seen {
            for number in &node.peers {
                if let Some(peer) = self.peers.get_mut(*number) {
                    peer.sent.told(seen, now);
                }
            }
        }
        true
    }
}

impl Node {
    fn note(&mut self, message: &Message, now: Moment) -> bool {
        let known = self.said.iter().position(|it| it.line == message.line);
        let at = match known {
            Some(at) => at,
            None if self.said.len() < MAX_LINES => {
                self.said.push(Said {
                    line: message.line,
                    arrived: Arrived::default(),
                    heard: now,
                });
                self.said.len() - 1
            }
            None => return false,
        };
        self.said[at].heard = now;
        self.said[at].arrived.note(message)
    }

    /// What came of one of his lines, of each in its turn.
    fn seen(&mut self, now: Moment) -> Option<super::message::Seen> {
        let is_heard = |it: &&Said| now.since(it.heard) < QUIET;
        let heard = self.said.iter().filter(is_heard).count();
        self.turn = self.turn.wrapping_add(1);
        let now_heard = self.said.iter().filter(is_heard);
        let said = now_heard
            .cycle()
            .nth(self.turn % heard.max(1))
            .or_else(|| self.said.iter().max_by_key(|it| it.heard))?;
        said.arrived.seen()
    }
}

#[cfg(test)]
mod tests {
    use super::super::peers;
    use super::*;

    fn roster(name: &str, list: &str) -> Roster {
        let mut roster = Roster::new();
        roster.me = NodeId::of(name);
        roster.keys = vec![GroupKey::new(b"the key of the group").expect("long")];
        roster.settle(peers::parse(list).expect("a list"), at(0), 1_000);
        roster
    }

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    /// One pings the other, who hears it or not.
    fn ping(from: &mut Roster, to: &mut Roster, number: u16, second: u64, arrives: bool) -> u32 {
        let (tag, message) = from.next_ping(number, at(second));
        let bytes = message.expect("a key").seal(&from.keys[0]);
        assert!(!arrives || to.hear(&bytes, at(second)));
        tag
    }

    #[test]
    fn both_ends_of_two_lines_know_what_each_lost() {
        let mut here = roster(
            "here",
            "10.0.0.2 name=there line=a\n10.0.0.2 name=there line=b",
        );
        let mut there = roster("there", "10.0.0.1 name=here");
        for second in 0..60 {
            for (number, arrives) in [(0, true), (1, second % 2 == 0)] {
                let tag = ping(&mut here, &mut there, number, second, arrives);
                if arrives {
                    here.get_mut(number).expect("there").sent.answered(tag);
                }
            }
            ping(&mut there, &mut here, 0, second, true);
        }
        let mut lost = |number| {
            let sent = &mut here.get_mut(number).expect("there").sent;
            let split = sent.split(at(0), at(70)).expect("told");
            (
                split.forward.lost * 100 / split.forward.sent,
                split.back.lost,
            )
        };
        assert_eq!(lost(0), (0, 0));
        let (forward, back) = lost(1);
        assert!(
            (40..=60).contains(&forward) && back == 0,
            "{forward} {back}"
        );
    }

    #[test]
    fn what_is_of_another_key_of_nobody_known_or_for_somebody_else_is_not_believed() {
        let mut here = roster("here", "10.0.0.2 name=there");
        let mut there = roster("there", "10.0.0.1 name=here");
        let (_, message) = there.next_ping(0, at(1));
        let message = message.expect("a key");
        let key = here.keys[0].clone();
        let other = GroupKey::new(b"the key of another group").expect("long");
        for bytes in [
            message.seal(&other),
            Message {
                from: NodeId::of("nobody"),
                ..message
            }
            .seal(&key),
            Message {
                to: NodeId::of("other"),
                ..message
            }
            .seal(&key),
        ] {
            assert!(!here.hear(&bytes, at(1)));
        }
        assert!(here.hear(&message.seal(&key), at(1)));
        assert!(!here.hear(&message.seal(&key), at(1)), "a copy");
    }

    #[test]
    fn who_stays_on_the_list_is_not_forgotten() {
        let mut roster = roster("here", "10.0.0.1\n10.0.0.2\n10.0.0.3 line=a");
        roster.get_mut(1).expect("there").count(7, 1);
        let list = peers::parse("10.0.0.3 line=b\n10.0.0.2\n10.0.0.4").expect("a list");
        let changed = roster.settle(list, at(1), 1_001);
        assert_eq!((changed.gone.len(), changed.new.len()), (2, 2));
        assert!(!changed.new.contains(&0), "0 rests");
        assert_eq!(roster.get(1).map(|it| it.lost), Some(1));
        let turns: Vec<_> = (0..4).map(|_| roster.next_in_turn()).collect();
        assert_eq!(turns[0], turns[3]);
    }
}
