//! How much a child may print: a token bucket, pure.
//!
//! Once it is empty all is dropped until a second's worth is there again: a
//! flood leaves whole passages, not shreds of a few bytes each.

use std::time::Duration;

/// Seconds of the rate that may come at once.
const BURST_SECONDS: u64 = 4;

/// What one child may still print, and what was dropped.
#[derive(Debug)]
pub(super) struct Flood {
    rate: u64,
    tokens: u64,
    refilled: Option<Duration>,
    /// Bytes and line breaks, since a flood began.
    dropped: Option<(u64, u64)>,
}

impl Flood {
    /// `rate` bytes per second in the long run.
    pub(super) fn new(rate: u64) -> Self {
        Self {
            rate,
            tokens: rate.saturating_mul(BURST_SECONDS),
            refilled: None,
            dropped: None,
        }
    }

    /// What of `chunk` is written at `now`, and a line about what was dropped
    /// before it.
    pub(super) fn admit<'a>(
        &mut self,
        chunk: &'a [u8],
        now: Duration,
    ) -> (&'a [u8], Option<String>) {
        self.refill(now);
        let has_room = self.dropped.is_none() || self.tokens >= self.rate;
        let room = if has_room { self.tokens } else { 0 };
        let length = usize::try_from(room).map_or(chunk.len(), |room| room.min(chunk.len()));
        let (kept, rest) = chunk.split_at(length);
        let told = self.dropped.filter(|_| !kept.is_empty());
        let notice = told.map(|(bytes, lines)| {
            self.dropped = None;
            format!("\n[{lines} lines dropped, {bytes} bytes: printed too fast]\n")
        });
        self.tokens -= kept.len() as u64;
        if !rest.is_empty() {
            let (bytes, lines) = self.dropped.unwrap_or_default();
            let breaks = rest.iter().filter(|byte| **byte == b'\n').count();
            self.dropped = Some((bytes + rest.len() as u64, lines + breaks as u64));
        }
        (kept, notice)
    }

    fn refill(&mut self, now: Duration) {
        let before = self.refilled.unwrap_or(now);
        let gained = u128::from(self.rate) * now.saturating_sub(before).as_micros() / 1_000_000;
        let Ok(gained) = u64::try_from(gained) else {
            self.tokens = self.rate.saturating_mul(BURST_SECONDS);
            self.refilled = Some(now);
            return;
        };
        // Below one byte nothing is gained, and the moment is not moved on.
        if gained > 0 || self.refilled.is_none() {
            let full = self.rate.saturating_mul(BURST_SECONDS);
            self.tokens = self.tokens.saturating_add(gained).min(full);
            self.refilled = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_counted_and_said_once_there_is_room_again() {
        let mut flood = Flood::new(10);
        let second = Duration::from_secs;
        assert_eq!(flood.admit(&[1; 100], second(1)), (&[1; 40][..], None));
        assert_eq!(flood.admit(b"a\nb\n.", second(1)).0.len(), 0);
        let (kept, notice) = flood.admit(&[3; 5], second(2));
        assert_eq!(kept.len(), 5);
        assert_eq!(
            notice.as_deref(),
            Some("\n[2 lines dropped, 65 bytes: printed too fast]\n")
        );
        assert_eq!(flood.admit(&[4; 100], second(1000)).0.len(), 40);
    }

    #[test]
    fn a_lasting_flood_leaves_a_passage_a_second_and_no_shreds() {
        let mut flood = Flood::new(1000);
        let mut passages = Vec::new();
        for millisecond in 0..10_000 {
            let (kept, _) = flood.admit(&[b'x'; 500], Duration::from_millis(millisecond));
            if !kept.is_empty() {
                passages.push(kept.len());
            }
        }
        let written: usize = passages.iter().sum();
        // What may come at once, and then a second's worth each second.
        assert!((13_000..=14_000).contains(&written), "{written}");
        assert!(passages.len() <= 8 + 10 * 3, "{passages:?}");
    }
}
