//! Numbers that look random and are the same for the same seed (splitmix64).
//!
//! No secret is made of them; tokens come from the server.

/// A stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The upper half, as the schedule wants it.
    pub(crate) const fn half(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// True in this share of all cases.
    pub(crate) fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && f64::from(self.half()) < share * f64::from(u32::MAX)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from((u64::from(self.half()) * u64::from(bound)) >> 32).expect("it is below a u32")
    }
}

/// Spreads the bits of a number over all of it.
pub(crate) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
