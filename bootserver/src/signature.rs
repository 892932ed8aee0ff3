//! Whose an uploaded package is: minisign signatures, which jobs pass on to hosts.
//!
//! Hosts have keys of their own and decide; where the server has some too, it takes
//! no package they would refuse. The one rule: a signature is kept only if it could
//! be one of this very package, as the agent and version its comment names.

use std::io::{self, Read};

use anyhow::{Context, ensure};
use bootagent_protocol::SignedAs;
use minisign_verify::{Error, PublicKey, Signature};

/// Most keys, as on a host.
const MAX_KEYS: usize = 32;
/// Longest `.minisig`, in bytes, as on a host. One has about 400.
const MAX_SIGNATURE_BYTES: usize = 4096;
/// What is read of a package at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// The server's `trusted_keys`; without any, whose a package is stays open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

/// Why a signature is not kept.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The uploader is to blame.
    #[error("signature: {0}")]
    Refused(&'static str),
    /// The upload could not be read.
    #[error("reading the upload")]
    Io(#[source] io::Error),
}

use SignatureError::Refused;

impl TrustedKeys {
    /// Reads the keys as they stand in the second line of a `minisign.pub`.
    pub fn parse(keys: &[String]) -> anyhow::Result<Self> {
        ensure!(
            keys.len() <= MAX_KEYS,
            "trusted_keys: at most {MAX_KEYS} are expected"
        );
        let parse = |(index, key): (usize, &String)| {
            PublicKey::from_base64(key.trim()).with_context(|| {
                format!(
                    "trusted_keys[{index}]: a minisign public key, the second line of its \
                     minisign.pub, is expected"
                )
            })
        };
        let keys: anyhow::Result<_> = keys.iter().enumerate().map(parse).collect();
        keys.map(Self)
    }

    /// Checks the text of a `.minisig` and, where keys are trusted, `package`
    /// against it. Returns what it says it signs; nothing where none is given and
    /// none is needed. Blocks.
    pub fn check(
        &self,
        signature: Option<&str>,
        package: impl Read,
    ) -> Result<Option<SignedAs>, SignatureError> {
        let Some(text) = signature.filter(|text| !text.trim().is_empty()) else {
            return match self.0.is_empty() {
                true => Ok(None),
                false => Err(Refused(
                    "this server takes signed packages only (trusted_keys); give the text of \
                     the package's .minisig",
                )),
            };
        };
        const NONE: SignatureError =
            Refused("it is no .minisig; give the whole text of that file, all four lines");
        if text.len() > MAX_SIGNATURE_BYTES {
            return Err(NONE);
        }
        let signature = Signature::decode(text).map_err(|_| NONE)?;
        let signed = SignedAs::parse(signature.trusted_comment()).ok_or(Refused(
            "it does not say what it signs; sign with minisign -S -t 'name=NAME version=VERSION'",
        ))?;
        if !self.0.is_empty() {
            self.verify(&signature, package)?;
        }
        Ok(Some(signed))
    }

    fn verify(&self, signature: &Signature, mut package: impl Read) -> Result<(), SignatureError> {
        let mut verifiers = Vec::new();
        for key in &self.0 {
            match key.verify_stream(signature) {
                Ok(verifier) => verifiers.push(verifier),
                Err(Error::UnexpectedKeyId) => {}
                Err(_) => {
                    return Err(Refused(
                        "it is damaged or of the old kind, which hosts refuse; sign again with \
                         minisign 0.10 or newer, or with its option -H",
                    ));
                }
            }
        }
        if verifiers.is_empty() {
            return Err(Refused(
                "it is of a key this server does not trust; sign with one of trusted_keys",
            ));
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = package.read(&mut chunk).map_err(SignatureError::Io)?;
            if count == 0 {
                break;
            }
            for verifier in &mut verifiers {
                verifier.update(&chunk[..count]);
            }
        }
        match verifiers.iter_mut().any(|one| one.finalize().is_ok()) {
            true => Ok(()),
            false => Err(Refused(
                "it does not fit: the package or the comment was changed since it was signed",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_none_is_named() {
        let good = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".to_owned();
        assert!(TrustedKeys::parse(std::slice::from_ref(&good)).is_ok());
        let bad = TrustedKeys::parse(&[good.clone(), "x".into()]).expect_err("no key");
        assert!(bad.to_string().contains("trusted_keys[1]"), "{bad}");
        let many = vec![good; MAX_KEYS + 1];
        let many = TrustedKeys::parse(&many).expect_err("too many");
        assert!(many.to_string().contains("trusted_keys"), "{many}");
    }
}
