//! Which measurements share one run of the engine's.
//!
//! The one rule: whoever joins a run gets at least as many rounds after he joined as he asked for.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use crate::moment::Moment;
use crate::packet::ROUNDS;
use crate::socket::Source;

/// Rounds a run may have; then the next who comes begins another. A report has to fit into the archive.
const MAX_ROUNDS: u32 = ROUNDS;

/// What must be alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) target: IpAddr,
    pub(super) source: (Option<IpAddr>, Option<u32>),
    pub(super) size: u16,
    pub(super) interval: Duration,
}

impl Key {
    pub(super) fn new(target: IpAddr, source: Source, size: u16, interval: Duration) -> Self {
        Self {
            target,
            source: (source.address, source.interface),
            size,
            interval,
        }
    }
}

struct Run {
    key: Key,
    begun: Moment,
    rounds: u32,
    members: Vec<Uuid>,
}

/// The runs there are. `H` is the engine's name for one.
pub(super) struct Runs<H> {
    runs: HashMap<H, Run>,
    by_key: HashMap<Key, H>,
}

/// A place in a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined<H> {
    pub(super) handle: H,
    /// How many rounds the run must have had until this member has his.
    pub(super) until: u32,
}

impl<H: Copy + Eq + Hash> Runs<H> {
    pub(super) fn new() -> Self {
        Self {
            runs: HashMap::new(),
            by_key: HashMap::new(),
        }
    }

    /// Joins the run of this key, if there is one that may still grow so far.
    pub(super) fn join(
        &mut self,
        key: Key,
        id: Uuid,
        count: u32,
        now: Moment,
    ) -> Option<Joined<H>> {
        let handle = *self.by_key.get(&key)?;
        let run = self.runs.get_mut(&handle)?;
        let passed = now.since(run.begun).as_nanos() / key.interval.as_nanos().max(1);
        // Rounds may be late and never early: it has begun no more than these.
        let begun = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
        let until = begun.checked_add(count).filter(|it| *it <= MAX_ROUNDS)?;
        run.rounds = run.rounds.max(until);
        run.members.push(id);
        Some(Joined { handle, until })
    }

    /// A run has begun, which others of this key may join.
    pub(super) fn begin(&mut self, key: Key, handle: H, id: Uuid, count: u32, now: Moment) {
        let run = Run {
            key,
            begun: now,
            rounds: count,
            members: vec![id],
        };
        self.runs.insert(handle, run);
        self.by_key.insert(key, handle);
    }

    /// Whose run it is.
    pub(super) fn members(&self, handle: H) -> &[Uuid] {
        self.runs.get(&handle).map_or(&[], |run| &run.members)
    }

    /// A member has his; tells whether nobody is left, and then the run is forgotten.
    pub(super) fn leave(&mut self, handle: H, id: &Uuid) -> bool {
        let Some(run) = self.runs.get_mut(&handle) else {
            return false;
        };
        run.members.retain(|member| member != id);
        let is_empty = run.members.is_empty();
        if is_empty {
            self.end(handle);
        }
        is_empty
    }

    /// It has ended; tells who were in it.
    pub(super) fn end(&mut self, handle: H) -> Vec<Uuid> {
        let Some(run) = self.runs.remove(&handle) else {
            return Vec::new();
        };
        if self.by_key.get(&run.key) == Some(&handle) {
            self.by_key.remove(&run.key);
        }
        run.members
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(last: u8) -> Key {
        let target = IpAddr::from([192, 0, 2, last]);
        Key::new(target, Source::default(), 64, SECOND)
    }

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn whoever_joins_gets_his_count_after_the_rounds_there_were() {
        let start = Moment(1_000_000_000);
        let mut runs = Runs::new();
        assert_eq!(runs.join(key(1), id(1), 10, start), None);
        runs.begin(key(1), 'a', id(1), 10, start);
        for (passed, count, until) in [(0, 10, 11), (3, 10, 14), (9, 1, 11)] {
            let joined = runs.join(key(1), id(2), count, start + passed * SECOND);
            assert_eq!(joined, Some(Joined { handle: 'a', until }), "{passed} s");
        }
        let halved = Key::new(key(1).target, Source::default(), 64, SECOND / 2);
        for other in [key(2), halved] {
            assert_eq!(runs.join(other, id(3), 1, start), None, "{other:?}");
        }
    }

    #[test]
    fn a_run_does_not_grow_for_ever() {
        let start = Moment(0);
        let mut runs = Runs::new();
        runs.begin(key(1), 'a', id(1), 1_000, start);
        let late = start + 1_900 * SECOND;
        assert!(runs.join(key(1), id(2), 100, late).is_some());
        assert_eq!(runs.join(key(1), id(3), 1_000, late), None);
        // The next run takes the place, and the end of the former leaves it there.
        runs.begin(key(1), 'b', id(3), 1_000, late);
        assert_eq!(runs.end('a'), [id(1), id(2)]);
        let joined = runs.join(key(1), id(4), 1, late).expect("joined");
        assert_eq!(joined.handle, 'b');
    }

    #[test]
    fn a_run_is_forgotten_with_its_last_member() {
        let mut runs = Runs::new();
        runs.begin(key(1), 'a', id(1), 10, Moment(0));
        runs.join(key(1), id(2), 10, Moment(0)).expect("joined");
        assert!(!runs.leave('a', &id(1)));
        assert_eq!(runs.members('a'), [id(2)]);
        assert!(runs.leave('a', &id(2)));
        assert_eq!(
            (runs.len(), runs.join(key(1), id(3), 1, Moment(0))),
            (0, None)
        );
        assert!(!runs.leave('a', &id(2)));
    }
}
