//! How much a child may print: a token bucket, pure.

use std::time::Duration;

/// Seconds of the rate that may come at once.
const BURST_SECONDS: u64 = 4;

/// What one child may still print, and what was dropped.
#[derive(Debug)]
pub(super) struct Flood {
    rate: u64,
    tokens: u64,
    refilled: Option<Duration>,
    dropped: u64,
}

impl Flood {
    /// `rate` bytes per second in the long run.
    pub(super) fn new(rate: u64) -> Self {
        Self {
            rate,
            tokens: rate.saturating_mul(BURST_SECONDS),
            refilled: None,
            dropped: 0,
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
        let room = usize::try_from(self.tokens).unwrap_or(usize::MAX);
        let kept = &chunk[..chunk.len().min(room)];
        let notice = (self.dropped > 0 && !kept.is_empty()).then(|| {
            format!(
                "\n[{} bytes dropped: printed too fast]\n",
                std::mem::take(&mut self.dropped)
            )
        });
        self.tokens -= kept.len() as u64;
        self.dropped += (chunk.len() - kept.len()) as u64;
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
        assert_eq!(flood.admit(&[2; 5], second(1)).0.len(), 0);
        let (kept, notice) = flood.admit(&[3; 5], second(2));
        assert_eq!(kept.len(), 5);
        assert_eq!(
            notice.as_deref(),
            Some("\n[65 bytes dropped: printed too fast]\n")
        );
        assert_eq!(flood.admit(&[4; 100], second(1000)).0.len(), 40);
    }
}
