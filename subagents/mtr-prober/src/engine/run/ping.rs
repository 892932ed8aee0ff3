//! Pings: of one hop, each ordered by itself with what it says, and told of in the order in which they left.
//!
//! Their identifiers are a row of their own beside those of traces. That both may be alike does no harm: whose an
//! echo reply is its cookie says.
//!
//! The one rule: a ping is lost only once everything that came in its time was read.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

use super::{Run, clock};
use crate::engine::flight::Flight;
use crate::engine::{Event, Fate, Letter, MAX_PINGED, News, Of, Ping};
use crate::moment::Moment;
use crate::pace::Class;
use crate::packet::{Answer, Family, Marks, PING_TTL, Sequence};
use crate::sys::{self, Way};

/// What became of pings is told together, this long after the first.
const TELL_AFTER: Duration = Duration::from_millis(10);

/// Alarms ring together on this grid, in nanoseconds.
const GRID: u64 = 10_000_000;

/// Words of others that are told at once; what is more is somebody's flood.
const MAX_HEARD: usize = 512;

/// Who is pinged: [`Key`](crate::pace::Key)s with this are of pings, traces begin at 1.
pub(super) const PINGED: u64 = 0;

/// One who is pinged.
pub(super) struct Pinged {
    marks: Marks,
    flight: Flight,
    /// What is to be sent.
    order: Option<Box<Ping>>,
    alarm: Option<Moment>,
}

impl Run {
    /// Puts pings in line; those of one who still waits for his turn are not sent.
    pub(super) fn ping(&mut self, orders: Vec<Ping>) {
        for order in orders {
            let peer = order.peer;
            while self.pinged.len() <= usize::from(peer.min(MAX_PINGED - 1)) {
                let id = u16::try_from(self.pinged.len()).unwrap_or(u16::MAX);
                self.pinged.push(Pinged {
                    marks: Marks::new(self.base | id, self.magic, sys::random()),
                    flight: Flight::default(),
                    order: None,
                    alarm: None,
                });
            }
            match self.pinged.get_mut(usize::from(peer)) {
                Some(it) if it.order.is_none() => {
                    it.order = Some(Box::new(order));
                    self.pace.wait((peer, PINGED), Class::Ping);
                }
                _ => {
                    self.backlog
                        .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                    self.tell_fate(peer, order.tag, clock::now(), Fate::Unsent);
                }
            }
        }
    }

    /// Writes the ping whose turn it is into the outbox; tells how many there was.
    pub(super) fn write_ping(&mut self, peer: u16, now: Moment) -> usize {
        let Some(it) = self.pinged.get_mut(usize::from(peer)) else {
            return 0;
        };
        let Some(order) = it.order.take() else {
            return 0;
        };
        self.backlog
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        let family = Family::of(order.target);
        let lane = self.lanes.iter_mut().find(|lane| lane.family == family);
        let number = it.flight.sent(now, order.patience, order.tag);
        let (Some(lane), Some(number)) = (lane, number) else {
            match number {
                Some(number) => it.flight.refused(number),
                None => self.tell_fate(peer, order.tag, now, Fate::Unsent),
            }
            self.look_at_ping(peer);
            return 0;
        };
        let bytes = lane.outbox.add(&Way {
            to: order.target,
            ttl: PING_TTL,
            source: order.source.address,
            interface: order.source.interface,
        });
        let said = order.said.as_ref().map_or(&[][..], |said| &said[..]);
        it.marks.write_ping(bytes, family, Sequence(number), said);
        lane.letters.push(Letter {
            id: peer,
            sequence: Sequence(number),
            of: Of::Ping,
        });
        self.pace.spent();
        1
    }

    pub(super) fn ping_left(&mut self, peer: u16, sequence: Sequence, left: Option<Moment>) {
        if let Some(it) = self.pinged.get_mut(usize::from(peer)) {
            it.flight.stamp(sequence.0, left);
        }
        self.look_at_ping(peer);
    }

    /// Where there is no way, whoever talks to the peer has none either: that ping is lost, once its time is over. What
    /// a rule or a full queue of this machine's refuses is not sent.
    pub(super) fn ping_refused(&mut self, peer: u16, sequence: Sequence, error: &io::Error) {
        let no_way = [
            Errno::ENETUNREACH,
            Errno::EHOSTUNREACH,
            Errno::ENETDOWN,
            Errno::ENODEV,
            Errno::ENXIO,
            Errno::EADDRNOTAVAIL,
        ];
        let errno = error.raw_os_error().map(Errno::from_raw);
        if let Some(it) = self.pinged.get_mut(usize::from(peer))
            && !errno.is_some_and(|errno| no_way.contains(&errno))
        {
            it.flight.refused(sequence.0);
        }
        self.look_at_ping(peer);
    }

    /// Takes an echo reply in, if it is to a ping; its peer.
    pub(super) fn ping_answered(
        pinged: &mut [Pinged],
        answer: &Answer,
        received: Option<Moment>,
        now: Moment,
    ) -> Option<u16> {
        let peer = answer.id & !crate::packet::filter::ID_MASK;
        let it = pinged.get_mut(usize::from(peer))?;
        if answer.cookie != Some(it.marks.cookie) {
            return None;
        }
        it.flight.answered(answer.sequence.0, received, now);
        Some(peer)
    }

    /// Tells what became of a peer's pings, and sees to it that the next are looked at in time.
    pub(super) fn look_at_ping(&mut self, peer: u16) {
        while let Some(gone) = self
            .pinged
            .get_mut(usize::from(peer))
            .and_then(|it| it.flight.gone(self.heard))
        {
            self.tell_fate(peer, gone.tag, gone.left, gone.fate);
        }
        let Some(it) = self.pinged.get_mut(usize::from(peer)) else {
            return;
        };
        if let Some(deadline) = it.flight.deadline() {
            let at = Moment((deadline.0 / GRID + 1) * GRID);
            if it.alarm.is_none_or(|alarm| at < alarm) {
                it.alarm = Some(at);
                self.pace.alarm((peer, PINGED), at);
            }
        }
    }

    /// The alarm of a peer rang.
    pub(super) fn ping_rang(&mut self, peer: u16, at: Moment) {
        if let Some(it) = self.pinged.get_mut(usize::from(peer))
            && it.alarm == Some(at)
        {
            it.alarm = None;
            self.look_at_ping(peer);
        }
    }

    fn tell_fate(&mut self, peer: u16, tag: u32, left: Moment, fate: Fate) {
        self.news.push(News::Fate {
            peer,
            tag,
            left,
            fate,
        });
    }

    /// Tells what somebody's ping says; whether there is anybody to listen and room.
    pub(super) fn tell_said(&mut self, said: [u8; crate::packet::SAID]) -> bool {
        let has_room = self.listener.is_some() && self.heard_news < MAX_HEARD;
        if has_room {
            self.heard_news += 1;
            self.news.push(News::Said(Box::new(said)));
        }
        has_room
    }

    /// Hands over what there is to tell of pings.
    pub(super) fn tell_news(&mut self, now: Moment) {
        if self.news.is_empty() {
            return;
        }
        let at = *self.news_at.get_or_insert(now + TELL_AFTER);
        if at <= now {
            self.news_at = None;
            self.heard_news = 0;
            let news = std::mem::take(&mut self.news);
            let dropped = self.dropped();
            if let Some(tell) = &self.listener {
                tell(Event::Pings { news, dropped });
            }
        }
    }
}
