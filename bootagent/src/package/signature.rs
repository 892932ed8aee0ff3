//! Whose a package is: minisign signatures.
//!
//! Where keys are trusted, a package without a signature of one of them is
//! refused, whoever ordered it and wherever it came from. The trusted comment
//! names agent and version (`name=flux-push version=1.2.3-1`), so a signed
//! package cannot be passed off as another.
//!
//! The one rule: nothing reads, unpacks or runs a package before its
//! signature was verified, and it is verified where nobody but root could
//! change it afterwards.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bootagent_kit::config::Invalid;
use bootagent_protocol::{AgentName, ErrorCode, SignedAs};
use minisign_verify::{Error, PublicKey, Signature, StreamVerifier};

use super::{Expected, Header, check};
use crate::download::Failure;

/// Most trusted keys.
const MAX_KEYS: usize = 32;
/// Longest `.minisig`, in bytes. One has about 400.
const MAX_SIGNATURE_BYTES: usize = 4096;
/// What is read of a package at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// The keys of `trusted_keys`; without any, nothing is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

impl TrustedKeys {
    /// Reads the keys as they stand in the second line of a `minisign.pub`.
    ///
    /// # Errors
    /// Names the one that is none.
    pub fn parse(keys: &[String]) -> Result<Self, Invalid> {
        if keys.len() > MAX_KEYS {
            let expected = format!("at most {MAX_KEYS} keys");
            return Err(Invalid::new("trusted_keys", expected));
        }
        let parse = |(index, key): (usize, &String)| {
            PublicKey::from_base64(key.trim()).map_err(|_| {
                Invalid::new(
                    format!("trusted_keys[{index}]"),
                    "a minisign public key, the second line of its minisign.pub,",
                )
            })
        };
        let keys: Result<_, _> = keys.iter().enumerate().map(parse).collect();
        keys.map(Self)
    }

    /// Whether packages need no signature.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many keys are trusted.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `signature`, the text of a `.minisig`, could be a trusted one,
    /// before anything is fetched.
    ///
    /// # Errors
    /// 3002 when there is none and one is needed, 3003 when it is malformed or
    /// of another key.
    pub fn expect(&self, signature: Option<&str>) -> Result<(), Failure> {
        if self.is_empty() {
            return Ok(());
        }
        self.verifiers(&decode(signature)?).map(drop)
    }

    /// Verifies that `signature` is a trusted one of the file at `package`,
    /// and that its comment names `name`.
    ///
    /// # Errors
    /// As [`TrustedKeys::expect`], 3003 when it does not fit, 6002 when the
    /// file cannot be read.
    pub fn verify(
        &self,
        package: &Path,
        signature: Option<&str>,
        name: &AgentName,
    ) -> Result<(), Failure> {
        if self.is_empty() {
            return Ok(());
        }
        let signature = decode(signature)?;
        let mut verifiers = self.verifiers(&signature)?;
        let unreadable = |error| Failure::file("read", package, error);
        let mut file = File::open(package).map_err(unreadable)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = file.read(&mut chunk).map_err(unreadable)?;
            if count == 0 {
                break;
            }
            for verifier in &mut verifiers {
                verifier.update(&chunk[..count]);
            }
        }
        let fits = |verifier: &mut StreamVerifier<'_>| verifier.finalize().is_ok();
        if !verifiers.iter_mut().any(fits) {
            return Err(invalid(
                "does not fit: the package or the comment was changed since it was signed; \
                 fetch and sign it again",
            ));
        }
        let signed = signed_as(&signature)?;
        // Package managers fold case too, and a job may say BootAgent.
        if !signed.name.as_str().eq_ignore_ascii_case(name.as_str()) {
            return Err(differs("name", signed.name.as_str(), name.as_str()));
        }
        Ok(())
    }

    /// One for each trusted key that can have made `signature`; at least one.
    fn verifiers<'a>(
        &'a self,
        signature: &'a Signature,
    ) -> Result<Vec<StreamVerifier<'a>>, Failure> {
        let mut verifiers = Vec::new();
        for key in &self.0 {
            match key.verify_stream(signature) {
                Ok(verifier) => verifiers.push(verifier),
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::UnsupportedLegacyMode) => {
                    return Err(invalid(
                        "is of the old kind, for which the whole package would have to be in \
                         memory; sign again with minisign 0.10 or newer, or with its option -H",
                    ));
                }
                Err(_) => return Err(malformed()),
            }
        }
        if verifiers.is_empty() {
            return Err(invalid(
                "is of a key this host does not trust; sign with one of trusted_keys",
            ));
        }
        Ok(verifiers)
    }

    /// Whether the version in the comment of a signature that was verified is
    /// that of the package's header.
    ///
    /// # Errors
    /// 3003, with both.
    pub fn check_version(&self, signature: Option<&str>, header: &Header) -> Result<(), Failure> {
        if self.is_empty() {
            return Ok(());
        }
        let signature = decode(signature)?;
        check_signed(signed_as(&signature)?, header)
    }
}

fn decode(text: Option<&str>) -> Result<Signature, Failure> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Err(Failure::new(
            ErrorCode::SIGNATURE_MISSING,
            "this host takes signed packages only (trusted_keys); \
             give the text of the package's .minisig as the job's signature",
        ));
    };
    if text.len() > MAX_SIGNATURE_BYTES {
        return Err(malformed());
    }
    Signature::decode(text).map_err(|_| malformed())
}

fn malformed() -> Failure {
    invalid("is no .minisig; give the whole text of that file, all four lines")
}

fn invalid(what: &str) -> Failure {
    Failure::new(
        ErrorCode::SIGNATURE_INVALID,
        format!("the package's signature {what}"),
    )
}

fn differs(what: &str, signed: &str, is: &str) -> Failure {
    invalid(&format!(
        "is for the {what} {signed}, not {is}; order what was signed, or sign what is ordered"
    ))
}

/// What a trusted comment says.
fn signed_as(signature: &Signature) -> Result<SignedAs, Failure> {
    SignedAs::parse(signature.trusted_comment()).ok_or_else(|| {
        invalid("does not say what it signs; sign with minisign -S -t 'name=NAME version=VERSION'")
    })
}

/// Whether a package with this header is what was signed.
fn check_signed(signed: SignedAs, header: &Header) -> Result<(), Failure> {
    let version = signed.version.to_string();
    let expected = Expected {
        name: signed.name,
        version: Some(signed.version),
    };
    check(header, &expected).map_err(|_| differs("version", &version, &header.full_version()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_version_may_be_written_as_in_a_job() {
        let header = Header {
            name: "bootagent-flux-push".into(),
            epoch: None,
            version: "1.2.3".into(),
            release: Some("1".into()),
            arch: Some(bootagent_protocol::ARCH.into()),
        };
        let check = |version: &str| {
            let text = format!("name=flux-push version={version}");
            let signed = SignedAs::parse(&text).expect("it says both");
            check_signed(signed, &header).map_err(|failure| failure.code)
        };
        assert_eq!(check("1.2.3-1"), Ok(()));
        assert_eq!(check("1.2.3"), Ok(()));
        for other in ["1.2.3-2", "1.2.4-1", "1.2", "1:1.2.3-1"] {
            assert_eq!(check(other), Err(ErrorCode::SIGNATURE_INVALID), "{other}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_named() {
        let good = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".to_owned();
        assert_eq!(
            TrustedKeys::parse(&[good.clone(), format!(" {good}\n")]).map(|keys| keys.len()),
            Ok(2)
        );
        let cut = good[..good.len() - 1].to_owned();
        for bad in [String::new(), "untrusted comment: x".into(), cut] {
            let error = TrustedKeys::parse(&[good.clone(), bad]).expect_err("refused");
            assert_eq!(error.key, "trusted_keys[1]");
        }
        let many = vec![good; MAX_KEYS + 1];
        assert_eq!(
            TrustedKeys::parse(&many).expect_err("too many").key,
            "trusted_keys"
        );
    }
}
