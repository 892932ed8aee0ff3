//! What goes out: which probes are next, and when each really left.
//!
//! The one rule: what the kernel did not take was not sent.

use std::io;
use std::os::fd::AsFd;

use super::{DOUBTFUL, PINGED, Queued, Run, class, joint};
use crate::clock;
use crate::engine::{Handle, Letter, Of};
use crate::moment::Moment;
use crate::pace::Key;
use crate::packet::Family;
use crate::share::Turn;
use crate::sys::{SEND_BATCH, Way};
use crate::trace::Trace;

impl Run {
    /// Sends what is due, as far as the budget goes.
    pub(super) fn send(&mut self) {
        loop {
            let now = clock::now();
            let mut taken = 0;
            while taken < SEND_BATCH
                && let Some(key) = self.pace.next(now)
            {
                taken += self.write(key, now);
            }
            if taken == 0 {
                return;
            }
            for lane in 0..self.lanes.len() {
                self.post(lane);
            }
            // After a standstill much is due at once: who answered the first is known for the next.
            if self.share.is_some() {
                self.hear();
            }
        }
    }

    /// Writes the probe that is due into the outbox; tells how much of a batch it is.
    fn write(&mut self, (id, handle): Key, now: Moment) -> usize {
        if handle == PINGED {
            return self.write_ping(id, now);
        }
        let live = self.slots.get_mut(id);
        let Some(live) = live.filter(|live| live.handle == Handle(handle)) else {
            return 0;
        };
        live.queued = Queued::No;
        live.trace.hurry(now, self.pace.wait_to_begin(class(live)));
        let mut decided = Turn::Send;
        let mut lent = self.share.take();
        let taken = match &mut lent {
            Some(share) => {
                let rank = joint::rank(live);
                let spec = &live.spec;
                let turn = |trace: &Trace| {
                    decided = share.turn(&joint::wish(spec, &trace.next(), rank), now);
                    decided
                };
                live.trace.take_turn(now, turn)
            }
            None => live.trace.take(now),
        };
        self.share = lent;
        let Some((sequence, ttl)) = taken else {
            self.look(id, now);
            return 0;
        };
        if live.socket.is_some() {
            self.post_own(id, sequence, ttl);
            return 1;
        }
        let target = live.spec.plan.target;
        let family = Family::of(target);
        let way = Way {
            to: target,
            ttl,
            source: live.spec.source.address,
            interface: live.spec.source.interface,
        };
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.family == family) else {
            live.trace.unsent(sequence);
            return 0;
        };
        let bytes = lane.outbox.add(&way);
        live.marks.write(bytes, family, live.spec.size, sequence);
        lane.letters.push(Letter {
            id,
            sequence,
            of: Of::Trace,
        });
        self.pace.spent();
        // Who is tried ends the batch: the answer may be there at once, and tells the others whom they ask.
        match decided {
            Turn::Try => SEND_BATCH,
            Turn::Send | Turn::LeaveOut => 1,
        }
    }

    /// Hands the outbox of a lane to the kernel and keeps when its probes left.
    fn post(&mut self, at: usize) {
        let mut from = 0;
        let count = self.lanes[at].letters.len();
        while from < count {
            let lane = &mut self.lanes[at];
            let before = clock::now();
            let result = lane.outbox.send(lane.fd.as_fd(), from);
            let after = clock::now();
            let took = after.since(before);
            match result {
                Ok(sent) => {
                    let known = took <= DOUBTFUL;
                    for number in 0..sent {
                        let letter = self.lanes[at].letters[from + number];
                        // They leave one after the other.
                        let share = f64::from(u32::try_from(number).unwrap_or(0))
                            / f64::from(u32::try_from(sent).unwrap_or(1));
                        let left = known.then(|| before + took.mul_f64(share));
                        self.posted(letter, left, after);
                    }
                    from += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let letter = self.lanes[at].letters[from];
                    self.refused(letter, &error, after);
                    from += 1;
                }
            }
        }
        self.lanes[at].letters.clear();
        self.lanes[at].outbox.clear();
    }

    pub(super) fn posted(&mut self, letter: Letter, left: Option<Moment>, now: Moment) {
        self.counters.sent += 1;
        if letter.of == Of::Ping {
            return self.ping_left(letter.id, letter.sequence, left);
        }
        if let Some(live) = self.slots.get_mut(letter.id) {
            live.trace.stamp(letter.sequence, left);
        }
        self.look(letter.id, now);
    }

    pub(super) fn refused(&mut self, letter: Letter, error: &io::Error, now: Moment) {
        if letter.of == Of::Ping {
            return self.ping_refused(letter.id, letter.sequence, error);
        }
        let Some(live) = self.slots.get_mut(letter.id) else {
            return;
        };
        live.trace.unsent(letter.sequence);
        live.doubts.unsent += 1;
        live.doubts.reason = error.to_string();
        self.look(letter.id, now);
    }
}
