//! Whose secrets this replica has seen, so that a status costs no read.
//!
//! An entry says which host a secret belongs to and which number the secret
//! has. The one rule: an entry alone never lets anybody write. Every write of
//! a status compares the number with the database's, in its transaction, so that
//! a secret that was revoked or replaced is refused at once, in every replica.
//! What only reads trusts an entry for `FRESH`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::token::TokenDigest;

/// How long an entry is trusted where nothing is written: a revocation holds
/// everywhere within 5 s.
const FRESH: Duration = Duration::from_secs(4);
/// Parts that are locked one by one.
const SHARDS: usize = 80;
/// Most entries of one part, and all that its table holds before it doubles. The
/// parts are so many that a million hosts, 12,500 in each, fit: 64 MB in all.
const MAX_PER_SHARD: usize = (1 << 14) / 8 * 7;

/// Whose secret it is, as far as this replica knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The host.
    pub agentsn: Uuid,
    /// The secret's number.
    pub number: i64,
    /// Whether it was read so lately that it holds where nothing is written.
    pub is_fresh: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    agentsn: Uuid,
    number: i64,
    /// Milliseconds since the cache was made.
    read: u64,
}

/// The secrets seen lately.
#[derive(Debug)]
pub struct SecretCache {
    /// By the first 128 bits of the SHA-256: nobody can make another token
    /// that has them.
    shards: Vec<Mutex<HashMap<u128, Entry>>>,
    begun: Instant,
}

impl Default for SecretCache {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            begun: Instant::now(),
        }
    }
}

impl SecretCache {
    /// What is known of a secret.
    pub fn get(&self, digest: &TokenDigest) -> Option<Known> {
        let key = key(digest)?;
        let entry = *lock(self.shard(key)).get(&key)?;
        let age = self.millis().saturating_sub(entry.read);
        Some(Known {
            agentsn: entry.agentsn,
            number: entry.number,
            is_fresh: u128::from(age) < FRESH.as_millis(),
        })
    }

    /// Keeps what the database has just said.
    pub fn put(&self, digest: &TokenDigest, agentsn: &str, number: i64) {
        let (Some(key), Ok(agentsn)) = (key(digest), Uuid::try_parse(agentsn)) else {
            return;
        };
        let entry = Entry {
            agentsn,
            number,
            read: self.millis(),
        };
        self.insert(key, entry);
    }

    fn insert(&self, key: u128, entry: Entry) {
        let mut shard = lock(self.shard(key));
        // Any one may go: it costs its host one read.
        if shard.len() >= MAX_PER_SHARD
            && !shard.contains_key(&key)
            && let Some(other) = shard.keys().next().copied()
        {
            shard.remove(&other);
        }
        shard.insert(key, entry);
    }

    /// Forgets a secret that does not hold any more.
    pub fn forget(&self, digest: &TokenDigest) {
        if let Some(key) = key(digest) {
            lock(self.shard(key)).remove(&key);
        }
    }

    fn shard(&self, key: u128) -> &Mutex<HashMap<u128, Entry>> {
        // The key is random in every bit: half of them do.
        &self.shards[(key as u64 % SHARDS as u64) as usize]
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn key(digest: &TokenDigest) -> Option<u128> {
    u128::from_str_radix(digest.as_str().get(..32)?, 16).ok()
}

fn lock(shard: &Mutex<HashMap<u128, Entry>>) -> std::sync::MutexGuard<'_, HashMap<u128, Entry>> {
    // A map is whole after every call that could panic.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Token, TokenKind};

    const SN: &str = "33c5b8b4-5a2c-43c5-ab90-96721451b4ec";

    #[test]
    fn what_was_put_is_known_until_it_is_forgotten() {
        let cache = SecretCache::default();
        let digest = Token::generate(TokenKind::Host).digest();
        assert_eq!(cache.get(&digest), None);
        cache.put(&digest, SN, 3);
        let known = cache.get(&digest).expect("known");
        assert_eq!(
            (
                known.agentsn.to_string().as_str(),
                known.number,
                known.is_fresh
            ),
            (SN, 3, true)
        );
        cache.forget(&digest);
        assert_eq!(cache.get(&digest), None);
    }

    #[test]
    fn an_entry_is_stale_for_reading_after_its_time() {
        let Some(begun) = Instant::now().checked_sub(FRESH * 2) else {
            println!("SKIPPED: an old entry, because this machine has just booted");
            return;
        };
        let cache = SecretCache {
            begun,
            ..SecretCache::default()
        };
        let digest = Token::generate(TokenKind::Host).digest();
        cache.put(&digest, SN, 1);
        let key = key(&digest).expect("hexadecimal");
        lock(cache.shard(key)).get_mut(&key).expect("there").read = 0;
        assert_eq!(cache.get(&digest).map(|known| known.is_fresh), Some(false));
    }

    #[test]
    fn a_full_cache_stays_within_its_bound_and_keeps_what_came_last() {
        let cache = SecretCache::default();
        let entry = Entry {
            agentsn: Uuid::nil(),
            number: 1,
            read: 0,
        };
        let keys = (0..MAX_PER_SHARD + 10).map(|number| (number * SHARDS) as u128);
        for key in keys {
            cache.insert(key, entry);
            let shard = lock(cache.shard(key));
            assert!(shard.len() <= MAX_PER_SHARD && shard.contains_key(&key));
        }
        assert_eq!(lock(&cache.shards[0]).len(), MAX_PER_SHARD);
    }
}
