//! Whom we trust: the roots of the system, or one file.
//!
//! The one rule: verification is never switched off, and one crypto provider
//! serves every program.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::fs::{self, FsError};

/// Largest `ca_file`, in bytes: the system bundles are about 250 KB.
const MAX_CA_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file itself.
    #[error("the certificates cannot be read")]
    Read(#[from] FsError),
    /// The file has none.
    #[error("no certificate in {0}; it must be PEM")]
    EmptyFile(String),
    /// The file has one that is none.
    #[error("{path} holds a certificate that is not PEM")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Nothing was configured and the system has none.
    #[error("the system has no root certificates; install ca-certificates or set ca_file")]
    NoSystemRoots,
}

/// Loads the roots; expensive, done once per client and only for `https://`.
pub(super) fn load(ca_file: Option<&Path>) -> Result<TlsConfig, RootsError> {
    let roots = roots(ca_file)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

/// How many roots there are, for `-T`: loads them and lets them go.
pub fn count_roots(ca_file: Option<&Path>) -> Result<usize, RootsError> {
    Ok(roots(ca_file)?.len())
}

fn roots(ca_file: Option<&Path>) -> Result<Vec<Certificate<'static>>, RootsError> {
    match ca_file {
        Some(path) => from_file(path),
        None => from_system(),
    }
}

fn from_file(path: &Path) -> Result<Vec<Certificate<'static>>, RootsError> {
    let pem = fs::read_limited(path, MAX_CA_FILE_BYTES)?;
    let shown = path.display().to_string();
    let mut roots = Vec::new();
    for der in CertificateDer::pem_slice_iter(&pem) {
        let der = der.map_err(|source| RootsError::Malformed {
            path: shown.clone(),
            source,
        })?;
        roots.push(Certificate::from_der(&der).to_owned());
    }
    match roots.is_empty() {
        true => Err(RootsError::EmptyFile(shown)),
        false => Ok(roots),
    }
}

fn from_system() -> Result<Vec<Certificate<'static>>, RootsError> {
    let found = rustls_native_certs::load_native_certs();
    // One unreadable file among many is no reason to trust nobody.
    for error in &found.errors {
        log::warn!("a root certificate of the system is skipped: {error}");
    }
    let to_owned = |der: &CertificateDer<'_>| Certificate::from_der(der).to_owned();
    let roots: Vec<_> = found.certs.iter().map(to_owned).collect();
    match roots.is_empty() {
        true => Err(RootsError::NoSystemRoots),
        false => Ok(roots),
    }
}
