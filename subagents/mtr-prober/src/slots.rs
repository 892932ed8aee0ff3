//! Which identifier belongs to which trace: an index, no search.
//!
//! The one rule: an identifier is used again only when no answer to its former trace can come any more.

use std::collections::VecDeque;
use std::time::Duration;

use crate::moment::Moment;
use crate::packet::filter::ID_MASK;

/// How many traces and pings there can be at once, resting ones included.
pub const SLOTS: u16 = !ID_MASK + 1;

/// A table of at most [`SLOTS`] values.
#[derive(Debug)]
pub struct Slots<T> {
    base: u16,
    rest: Duration,
    values: Vec<Option<T>>,
    /// Which are empty, and since when they rest.
    empty: VecDeque<(u16, Moment)>,
}

impl<T> Slots<T> {
    /// An empty table. `base` is the part of an identifier that says it is ours; slots rest so long before they
    /// are used again.
    #[must_use]
    pub fn new(base: u16, rest: Duration) -> Self {
        Self {
            base: base & ID_MASK,
            rest,
            values: Vec::new(),
            empty: VecDeque::new(),
        }
    }

    /// The identifier the next value will get; `None` while all are taken or rest.
    #[must_use]
    pub fn next(&self, now: Moment) -> Option<u16> {
        let rested = self
            .empty
            .front()
            .filter(|(_, since)| now >= *since + self.rest);
        let grown = u16::try_from(self.values.len())
            .ok()
            .filter(|&slot| slot < SLOTS);
        let slot = rested.map(|&(slot, _)| slot).or(grown)?;
        Some(self.base | slot)
    }

    /// Puts a value in and tells its identifier; gives it back when there is no place.
    pub fn insert(&mut self, value: T, now: Moment) -> Result<u16, T> {
        let Some(id) = self.next(now) else {
            return Err(value);
        };
        let slot = usize::from(id & !ID_MASK);
        if slot == self.values.len() {
            self.values.push(Some(value));
        } else {
            self.empty.pop_front();
            self.values[slot] = Some(value);
        }
        Ok(id)
    }

    /// The value with this identifier.
    #[must_use]
    pub fn get(&self, id: u16) -> Option<&T> {
        let slot = self.slot(id)?;
        self.values.get(slot)?.as_ref()
    }

    /// The value with this identifier, to be changed.
    pub fn get_mut(&mut self, id: u16) -> Option<&mut T> {
        let slot = self.slot(id)?;
        self.values.get_mut(slot)?.as_mut()
    }

    /// Takes a value out; its slot rests.
    pub fn remove(&mut self, id: u16, now: Moment) -> Option<T> {
        let slot = self.slot(id)?;
        let value = self.values.get_mut(slot)?.take()?;
        self.empty.push_back((id & !ID_MASK, now));
        Some(value)
    }

    /// All values with their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &T)> {
        let slots = (0..SLOTS).map(|slot| self.base | slot).zip(&self.values);
        slots.filter_map(|(id, value)| Some((id, value.as_ref()?)))
    }

    /// All values.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().flatten()
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len() - self.empty.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, id: u16) -> Option<usize> {
        (id & ID_MASK == self.base).then(|| usize::from(id & !ID_MASK))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn an_identifier_rests_before_it_is_used_again() {
        let mut slots = Slots::new(0x4000, REST);
        let first = slots.insert("a", at(0)).unwrap();
        assert_eq!(slots.remove(first, at(1)), Some("a"));
        assert_eq!(slots.get(first), None);
        let second = slots.insert("b", at(10)).unwrap();
        assert_ne!(first, second);
        assert_eq!(slots.insert("c", at(11)).unwrap(), first);
        assert_eq!((slots.get(first), slots.len()), (Some(&"c"), 2));
        assert_eq!(slots.get(first ^ 0x8000), None);
    }

    #[test]
    fn a_full_table_gives_the_value_back() {
        let mut slots = Slots::new(0xe000, REST);
        for value in 0..SLOTS {
            slots.insert(value, at(0)).unwrap();
        }
        assert_eq!(slots.insert(0, at(0)), Err(0));
        slots.remove(0xe005, at(0));
        assert_eq!(slots.insert(0, at(9)), Err(0));
        assert_eq!(slots.insert(0, at(10)), Ok(0xe005));
    }
}
