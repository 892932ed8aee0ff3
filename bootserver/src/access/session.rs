//! How long a session holds.

/// Unused so long, it is over: a night.
const IDLE_MILLIS: i64 = 12 * 3_600_000;
/// In any case it is over after a week.
pub const LIFE_MILLIS: i64 = 7 * 86_400_000;
/// How exactly it is known when it was last used: each use would be a write.
const COARSE_MILLIS: i64 = 60_000;

/// How a session or token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Holds,
    /// It holds, and that it is in use is worth writing down.
    Used,
    /// It is over.
    Over,
}

/// How a session stands that was last seen in use at `seen`.
pub fn session(expires: i64, seen: i64, now: i64) -> Standing {
    if now >= expires || now - seen >= IDLE_MILLIS {
        return Standing::Over;
    }
    used(Some(seen), now)
}

/// How an API token stands.
pub fn token(expires: Option<i64>, used_at: Option<i64>, now: i64) -> Standing {
    match expires {
        Some(expires) if now >= expires => Standing::Over,
        _ => used(used_at, now),
    }
}

fn used(seen: Option<i64>, now: i64) -> Standing {
    // A clock that was set back writes as well, and is right again after it.
    match seen {
        Some(seen) if (0..COARSE_MILLIS).contains(&(now - seen)) => Standing::Holds,
        _ => Standing::Used,
    }
}

/// Sessions older than this are over whatever they say: they can be deleted.
pub fn over_since(now: i64) -> i64 {
    now - IDLE_MILLIS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_disuse_and_by_age() {
        assert_eq!(session(LIFE_MILLIS, 0, 1), Standing::Holds);
        assert_eq!(session(LIFE_MILLIS, 0, COARSE_MILLIS), Standing::Used);
        assert_eq!(session(LIFE_MILLIS, 0, IDLE_MILLIS), Standing::Over);
        let old = LIFE_MILLIS - 1;
        assert_eq!(session(LIFE_MILLIS, old, LIFE_MILLIS), Standing::Over);
    }

    #[test]
    fn a_token_ends_when_it_says_so() {
        assert_eq!(token(None, None, 5), Standing::Used);
        assert_eq!(token(None, Some(4), 5), Standing::Holds);
        assert_eq!(token(Some(6), Some(4), 5), Standing::Holds);
        assert_eq!(token(Some(5), Some(4), 5), Standing::Over);
    }
}
