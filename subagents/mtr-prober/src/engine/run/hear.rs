//! What came in: whose answer it is, and when it really came.
//!
//! The one rule: what is nobody's changes nothing but a counter.

use std::io;

use super::{Heard, RECEIVES, Run, Understood, joint, own};
use crate::clock;
use crate::packet::{Family, Kind, parse_v4, parse_v6, said_v4, said_v6};
use crate::sys::Queue;
use crate::trace::{self, Taken};

/// Where something comes in.
#[derive(Clone, Copy)]
enum Place {
    /// On a socket of all traces.
    Lane(usize),
    /// On that of this trace alone.
    Own(u16),
}

impl Run {
    /// Takes in what has come, on every socket.
    pub(super) fn hear(&mut self) -> Heard {
        let lanes = (0..self.lanes.len()).map(|lane| (Place::Lane(lane), Queue::Packets));
        let own = self.own_that_heard().into_iter();
        let own =
            own.flat_map(|id| [Queue::Errors, Queue::Packets].map(|queue| (Place::Own(id), queue)));
        let mut heard = Heard::Everything;
        for (place, queue) in lanes.chain(own) {
            if let Heard::NotAll = self.drain(place, queue) {
                heard = Heard::NotAll;
            }
        }
        heard
    }

    fn drain(&mut self, place: Place, queue: Queue) -> Heard {
        for _ in 0..RECEIVES {
            let fd = match place {
                Place::Lane(lane) => self.lanes[lane].fd(),
                Place::Own(id) => {
                    let socket = self.slots.get(id).and_then(|live| live.socket.as_ref());
                    let Some(socket) = socket else {
                        return Heard::Everything;
                    };
                    socket.fd()
                }
            };
            match (self.inbox.receive(fd, queue), place) {
                (Ok(()), _) => self.understand(place),
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Heard::Everything;
                }
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => continue,
                // An error a packet met on its way: it was taken off the socket by telling it, and behind it
                // there may be an answer.
                (Err(_), Place::Own(_)) => continue,
                (Err(_), Place::Lane(_)) => return Heard::Everything,
            }
            if !self.inbox.is_full() {
                return Heard::Everything;
            }
        }
        Heard::NotAll
    }

    /// Finds whose answers the packets in the inbox are.
    fn understand(&mut self, place: Place) {
        // Looked at after the packets were taken: a jump before this makes their stamps worthless.
        let step = self.clock.look();
        let wall = self.clock.wall();
        if let Some(step) = step {
            for live in self.slots.values_mut() {
                live.doubts.step += step;
            }
        }
        let now = clock::now();
        let mut said = Vec::new();
        let mut answers = std::mem::take(&mut self.answers);
        for packet in self.inbox.packets() {
            self.counters.received += 1;
            let (bytes, magic) = (packet.bytes, self.magic);
            let (answer, heard) = match place {
                Place::Lane(lane) => {
                    let lane = &mut self.lanes[lane];
                    lane.dropped = packet.dropped.unwrap_or(lane.dropped);
                    match lane.family {
                        Family::V4 => (parse_v4(bytes, magic), said_v4(bytes)),
                        Family::V6 => (parse_v6(bytes, magic), said_v6(bytes)),
                    }
                }
                // Nobody's requests come in there.
                Place::Own(id) => (own::read(&packet, id, magic), None),
            };
            said.extend(heard);
            answers.push(match heard {
                Some(_) => Understood::Said,
                None => answer.map_or(Understood::Foreign, Understood::Answer),
            });
        }
        self.fetch(answers.iter().filter_map(|understood| match understood {
            Understood::Answer(answer) => Some((answer.id, Some(answer.sequence.hop()))),
            Understood::Said | Understood::Foreign => None,
        }));
        let mut touched = Vec::new();
        let mut routers = Vec::new();
        let mut pinged = Vec::new();
        for (packet, understood) in self.inbox.packets().zip(answers.drain(..)) {
            let answer = match understood {
                Understood::Answer(answer) => Some(answer),
                Understood::Foreign => None,
                Understood::Said => continue,
            };
            let stamp = packet.stamp.filter(|_| step.is_none());
            let received = stamp.map(|stamp| wall.moment(stamp));
            if let Some(answer) = answer.as_ref().filter(|it| it.kind == Kind::Reply)
                && let Some(peer) = Self::ping_answered(&mut self.pinged, answer, received, now)
            {
                pinged.push(peer);
                continue;
            }
            let found = answer.and_then(|answer| {
                let live = self.slots.get_mut(answer.id)?;
                let target = live.trace.plan().target;
                live.marks.claim(&answer, target).ok()?;
                Some((answer, live))
            });
            let Some((answer, live)) = found else {
                self.counters.foreign += 1;
                continue;
            };
            let hop = answer.sequence.hop();
            let shares = self.share.is_some() && answer.kind == Kind::TimeExceeded;
            let next = shares.then(|| joint::next_of(&live.trace, hop));
            let heard = trace::Heard {
                sequence: answer.sequence,
                from: packet.complaint.map_or(packet.from, |it| it.by),
                kind: answer.kind,
                mpls: answer.mpls,
                received,
            };
            if let Taken::Counted { micros, .. } = live.trace.answer(&heard, now, wall) {
                if let Some(next) = next {
                    routers.push((answer.id, hop, next, micros));
                }
                touched.push(answer.id);
            }
        }
        self.answers = answers;
        for peer in pinged {
            self.look_at_ping(peer);
        }
        for said in said {
            if !self.tell_said(said) {
                self.counters.foreign += 1;
            }
        }
        for (id, hop, next, micros) in routers {
            self.router_answered(id, hop, &next, now);
            self.tell_group(id, hop, Some(micros));
        }
        for id in touched {
            self.look(id, now);
        }
    }
}
