//! Who wanted to be looked at by now, many at a time.
//!
//! The one rule: what is looked at together was read together before, so that memory is waited for once.

use super::{Handle, PINGED, Run};

/// How many traces are looked at together.
const AT_ONCE: usize = 64;

impl Run {
    /// Looks at who wanted to be looked at by now.
    pub(super) fn ring(&mut self) {
        let mut rung = std::mem::take(&mut self.rung);
        loop {
            rung.clear();
            rung.extend(std::iter::from_fn(|| self.pace.ring(self.heard)).take(AT_ONCE));
            if rung.is_empty() {
                self.rung = rung;
                return;
            }
            self.fetch(rung.iter().map(|&((id, _), _)| (id, None)));
            for &((id, handle), at) in &rung {
                if handle == PINGED {
                    self.ping_rang(id, at);
                    continue;
                }
                let live = self.slots.get_mut(id);
                if let Some(live) = live.filter(|live| live.handle == Handle(handle))
                    && live.alarm == Some(at)
                {
                    live.alarm = None;
                    self.look(id, self.heard);
                }
            }
        }
    }

    /// Reads what will be needed of these traces, and of one hop of each. Thousands of them are not in the processor's caches:
    /// it waits for memory once for many of them instead of once for each.
    pub(super) fn fetch(&self, them: impl Iterator<Item = (u16, Option<u8>)>) {
        let words = them.map(|(id, hop)| {
            let live = self.slots.get(id)?;
            Some(live.trace.touch(hop) ^ live.handle.0 ^ u64::from(live.marks.cookie))
        });
        std::hint::black_box(words.flatten().fold(0, |all, word| all ^ word));
    }
}
