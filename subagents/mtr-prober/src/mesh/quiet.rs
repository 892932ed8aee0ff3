//! When nothing is to be raised: maintenance that was announced, and peers somebody has silenced.
//!
//! The one rule: silence ends by itself.

use std::net::IpAddr;

/// Most windows at once; the first to end make room.
const MAX_WINDOWS: usize = 1000;

/// A time in which nothing is raised, in unix seconds as a person gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From this second on,
    pub from: i64,
    /// up to this one, exclusively.
    pub to: i64,
    /// Of which peer; none means of all.
    pub peer: Option<usize>,
}

/// The windows there are.
#[derive(Debug, Clone, Default)]
pub struct Quiet {
    windows: Vec<Window>,
}

impl Quiet {
    /// Adds a window. One that has ended, or ends before it begins, is none.
    pub fn add(&mut self, window: Window, unix: i64) {
        self.windows.retain(|it| it.to > unix);
        if window.to <= window.from.max(unix) {
            return;
        }
        if self.windows.len() >= MAX_WINDOWS {
            self.windows.sort_by_key(|it| it.to);
            self.windows.remove(0);
        }
        self.windows.push(window);
    }

    /// Lets a peer be heard again at once.
    pub fn lift(&mut self, peer: usize) {
        self.windows.retain(|it| it.peer != Some(peer));
    }

    /// Whether nothing of this peer is to be raised; of none, whether of no peer at all.
    #[must_use]
    pub fn is_quiet(&self, peer: Option<usize>, unix: i64) -> bool {
        let holds = |it: &Window| (it.from..it.to).contains(&unix);
        let concerns = |it: &Window| it.peer.is_none() || it.peer == peer;
        self.windows.iter().any(|it| holds(it) && concerns(it))
    }
}

/// Whether trouble with this address is worth raising: what is behind a carrier's translation
/// (100.64.0.0/10) answers for the translator.
#[must_use]
pub fn raises(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => !(it.octets()[0] == 100 && it.octets()[1] & 0xc0 == 64),
        IpAddr::V6(it) => it.to_ipv4_mapped().is_none_or(|it| raises(it.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_for_one_or_for_all_and_ends() {
        let mut quiet = Quiet::default();
        let window = |from, to, peer| Window { from, to, peer };
        quiet.add(window(100, 200, Some(3)), 50);
        quiet.add(window(150, 160, None), 50);
        quiet.add(window(10, 40, None), 50);
        for (peer, unix, is_quiet) in [
            (Some(3), 99, false),
            (Some(3), 100, true),
            (Some(4), 100, false),
            (Some(4), 150, true),
            (None, 150, true),
            (None, 160, false),
            (Some(3), 200, false),
        ] {
            assert_eq!(quiet.is_quiet(peer, unix), is_quiet, "{peer:?} at {unix}");
        }
        quiet.lift(3);
        assert!(!quiet.is_quiet(Some(3), 100));
    }

    #[test]
    fn addresses_of_a_carriers_translation_raise_nothing() {
        for (address, worth) in [
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("100.63.0.1", true),
            ("100.128.0.1", true),
            ("::ffff:100.64.0.1", false),
            ("2001:db8::1", true),
        ] {
            assert_eq!(
                raises(address.parse().expect("an address")),
                worth,
                "{address}"
            );
        }
    }
}
