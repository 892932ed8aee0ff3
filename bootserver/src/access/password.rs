//! Passwords: what may be one, and how it is kept.
//!
//! Length is what makes a password good, so length is what is asked for; rules
//! about digits and capitals only make people write them down. The one rule:
//! a password's text is in no log and in no table.

use std::fmt;

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// Shortest password, in characters.
pub const MIN_CHARS: usize = 12;
/// Longest password, in bytes: what is hashed has a bound.
pub const MAX_BYTES: usize = 256;
/// Random bytes of a one-time password.
const ONE_TIME_BYTES: usize = 15;
/// Letters and digits that are not taken for one another.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
/// Looks like a kept password and is nobody's: to try it takes as long as any.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGtub3dzIGl0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A password's text. Debug shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// A password as it is kept: argon2id with its parameters and salt.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// Why a text is no good password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short.
    #[error("a password has at least {MIN_CHARS} characters")]
    Short,
    /// Too long.
    #[error("a password has at most {MAX_BYTES} bytes")]
    Long,
    /// It is the first thing anybody tries.
    #[error("a password does not hold the user's name, nor one character alone")]
    Guessable,
}

impl Password {
    /// A password somebody chose for the user `name`.
    pub fn choose(text: &str, name: &str) -> Result<Self, PasswordError> {
        if text.len() > MAX_BYTES {
            return Err(PasswordError::Long);
        }
        if text.chars().count() < MIN_CHARS {
            return Err(PasswordError::Short);
        }
        let rest = text.to_lowercase().replace(&name.to_lowercase(), "");
        let first = text.chars().next();
        if rest.chars().count() < MIN_CHARS / 2 || text.chars().all(|char| Some(char) == first) {
            return Err(PasswordError::Guessable);
        }
        Ok(Self(text.to_owned()))
    }

    /// What somebody typed to be let in; none when it cannot be a password.
    pub fn typed(text: &str) -> Option<Self> {
        (text.len() <= MAX_BYTES).then(|| Self(text.to_owned()))
    }

    /// A random one that is easy to read aloud, to be changed at first use.
    pub fn one_time() -> Self {
        let mut random = [0; ONE_TIME_BYTES];
        getrandom::fill(&mut random).expect("the kernel gives random bytes once it has booted");
        let bits = random
            .iter()
            .fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        let mut text = String::new();
        for index in 0..ONE_TIME_BYTES * 8 / 5 {
            if index > 0 && index % 6 == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[(bits >> (5 * index) & 31) as usize]));
        }
        Self(text)
    }

    /// The text, to show it this once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it. Takes tens of milliseconds and 19 MiB.
    pub fn hash(&self) -> PasswordHash {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).expect("the kernel gives random bytes once it has booted");
        let hash = argon2()
            .hash_password_with_salt(self.0.as_bytes(), &salt)
            .expect("lengths of password and salt are within argon2's bounds");
        PasswordHash(hash.to_string())
    }

    /// Whether it is the one that is kept. Takes as long when nothing is kept,
    /// so that the time does not tell whether a user exists.
    pub fn is(&self, kept: Option<&PasswordHash>) -> bool {
        let text = kept.map_or(NOBODYS, |kept| kept.0.as_str());
        let right = argon2().verify_password(self.0.as_bytes(), text);
        right.is_ok() && kept.is_some()
    }
}

impl PasswordHash {
    /// One that the store kept.
    pub fn kept(text: String) -> Self {
        Self(text)
    }

    /// The text for the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// OWASP's first choice of parameters, which are argon2's defaults as well;
/// said here so that a new release of the library does not change them.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("the parameters are within bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::phc::PasswordHash as Phc;

    use super::*;

    #[test]
    fn a_long_password_is_good_whatever_it_is_made_of() {
        for good in [
            "correct horse battery",
            "不怕路长只怕志短加油再来",
            "            x",
        ] {
            assert!(Password::choose(good, "ann").is_ok(), "{good:?}");
        }
    }

    #[test]
    fn what_everybody_would_try_first_is_none() {
        let long = "x y".repeat(100);
        for (bad, why) in [
            ("short", PasswordError::Short),
            ("elevenchars", PasswordError::Short),
            (long.as_str(), PasswordError::Long),
            ("annabella-annabella", PasswordError::Guessable),
            ("Annabella2026", PasswordError::Guessable),
            ("aaaaaaaaaaaaaaa", PasswordError::Guessable),
        ] {
            assert_eq!(Password::choose(bad, "annabella"), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_kept_password_knows_its_own_text_and_no_other() {
        let password = Password::choose("correct horse battery", "ann").expect("a password");
        let kept = password.hash();
        assert!(kept.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(!kept.as_str().contains("horse"));
        let kept = PasswordHash::kept(kept.as_str().to_owned());
        assert!(password.is(Some(&kept)));
        let other = Password::typed("correct horse batterx").expect("short enough");
        assert!(!other.is(Some(&kept)));
        assert!(!password.is(None));
        assert!(!password.is(Some(&PasswordHash::kept("damaged".into()))));
    }

    #[test]
    fn nobodys_password_is_a_kept_one_of_our_cost() {
        let hash = Phc::new(NOBODYS).expect("a valid text");
        let params = Params::try_from(&hash).expect("parameters");
        let own = argon2();
        let own = own.params();
        assert_eq!(
            (params.m_cost(), params.t_cost(), params.p_cost()),
            (own.m_cost(), own.t_cost(), own.p_cost())
        );
    }

    #[test]
    fn one_time_passwords_differ_and_are_good_ones() {
        let (one, two) = (Password::one_time(), Password::one_time());
        assert_ne!(one, two);
        assert_eq!(one.expose().len(), "abcdef-abcdef-abcdef-abcdef".len());
        assert!(Password::choose(one.expose(), "admin").is_ok());
    }

    #[test]
    fn debug_output_hides_both() {
        let password = Password::one_time();
        assert_eq!(format!("{password:?}"), "Password(***)");
        let kept = PasswordHash::kept("x".into());
        assert_eq!(format!("{kept:?}"), "PasswordHash(***)");
    }
}
