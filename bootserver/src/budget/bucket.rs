//! A rate as a bucket of tokens: it fills evenly and holds two seconds' worth.
//! Pure: the time is a parameter.

use tokio::time::Instant;

/// Seconds' worth it holds.
const BURST_SECONDS: f64 = 2.0;

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            tokens: per_second * BURST_SECONDS,
            filled: now,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        let most = self.per_second * BURST_SECONDS;
        self.tokens = (self.tokens + since * self.per_second).min(most);
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn takes(bucket: &mut Bucket, now: Instant) -> usize {
        std::iter::from_fn(|| bucket.take(now).then_some(())).count()
    }

    #[test]
    fn a_burst_is_two_seconds_worth_and_the_rest_comes_evenly() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start);
        assert_eq!(takes(&mut bucket, start), 20);
        assert_eq!(takes(&mut bucket, start + Duration::from_millis(500)), 5);
        assert_eq!(takes(&mut bucket, start + Duration::from_secs(3600)), 20);
    }
}
