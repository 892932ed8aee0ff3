//! What the store keeps and cannot read: sealed by words only the caller has.
//!
//! An answer may hold a new token, of which the store keeps nothing but a sum.
//! The key is made of what the caller shows with each request, so that it is
//! nowhere but in their hands.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// Seals and opens for one caller and one purpose.
pub struct Seal(LessSafeKey);

impl Seal {
    /// Of words that together are secret; each has its own place.
    pub fn of(words: &[&str]) -> Self {
        let mut sum = Sha256::new();
        for word in words {
            sum.update(u64::try_from(word.len()).unwrap_or(u64::MAX).to_be_bytes());
            sum.update(word.as_bytes());
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, &sum.finalize())
            .expect("a SHA-256 is as long as the key");
        Self(LessSafeKey::new(key))
    }

    /// The sealed bytes, after what makes them different each time.
    pub fn seal(&self, bytes: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).expect("the kernel gives random bytes once it has booted");
        let mut sealed = bytes.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed,
            )
            .expect("an answer is far shorter than the cipher allows");
        [&nonce[..], &sealed].concat()
    }

    /// What was sealed by the same words.
    pub fn open(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened = self
            .0
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_by_the_same_words_alone() {
        let seal = Seal::of(&["key", "token"]);
        let sealed = seal.seal(b"api-123");
        assert_eq!(seal.open(&sealed).as_deref(), Some(&b"api-123"[..]));
        assert_ne!(sealed, seal.seal(b"api-123"), "each time another");
        for words in [["key", "other"], ["keyt", "oken"]] {
            assert_eq!(Seal::of(&words).open(&sealed), None);
        }
        for damaged in [&[][..], &[0], &sealed[1..], &sealed[..sealed.len() - 1]] {
            assert_eq!(seal.open(damaged), None, "{damaged:?}");
        }
    }
}
