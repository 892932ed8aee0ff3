//! The certificate TLS is spoken with, and the looks whether it has changed.
//!
//! The one rule: a pair that cannot be used never replaces one that can.
//! Connections keep what they began with.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Largest file of a pair, in bytes: a chain has a few KiB.
const MAX_PEM_BYTES: u64 = 1 << 20;
/// How often the files are looked at. Their content counts: names, times and
/// links are changed in many ways by what renews certificates.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The pair in use.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}

/// A pair as it was read.
struct Pair {
    key: Arc<CertifiedKey>,
    digest: [u8; 32],
}

/// The files, what was read from them, and where the usable pair goes.
pub(super) struct Certificate {
    files: TlsFiles,
    current: Arc<Current>,
    /// Of the bytes that were last read, usable or not.
    digest: [u8; 32],
}

impl Certificate {
    /// Reads the pair for the first time; it has to be usable.
    pub(super) async fn load(files: TlsFiles) -> anyhow::Result<(Self, TlsAcceptor)> {
        let bytes = Bytes::read(&files).await?;
        let pair = bytes.pair(&files)?;
        let current = Arc::new(Current(RwLock::new(pair.key)));
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .context("choosing the versions of TLS")?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets hold the session themselves: nothing is kept per host here.
        config.ticketer = Ticketer::new().context("making keys for TLS tickets")?;
        config.send_tls13_tickets = 1;
        let certificate = Self {
            files,
            current,
            digest: pair.digest,
        };
        Ok((certificate, TlsAcceptor::from(Arc::new(config))))
    }

    /// Looks at the files, now and then and when SIGHUP asks to.
    pub(super) async fn keep_fresh(mut self, mut hangup: Signal) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => self.look().await,
                asked = hangup.recv() => {
                    tracing::info!("SIGHUP: the certificate is read again");
                    // Said again, because somebody asks.
                    self.digest = [0; 32];
                    self.look().await;
                    if asked.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn look(&mut self) {
        let read = Bytes::read(&self.files).await;
        let digest = match &read {
            Ok(bytes) => bytes.digest(),
            // The same complaint once.
            Err(error) => Sha256::digest(format!("{error:#}")).into(),
        };
        if digest == self.digest {
            return;
        }
        self.digest = digest;
        match read.and_then(|bytes| bytes.pair(&self.files)) {
            Ok(pair) => {
                let mut current = self
                    .current
                    .0
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                *current = pair.key;
                let file = self.files.certificate.display();
                tracing::info!("the certificate of {file} is used from now on");
            }
            Err(error) => tracing::error!(
                "the new certificate cannot be used and the old one is kept: {error:#}"
            ),
        }
    }
}

/// The server's own certificate, if the pair could be used now.
pub(crate) async fn usable(files: &TlsFiles) -> anyhow::Result<CertificateDer<'static>> {
    let pair = Bytes::read(files).await?.pair(files)?;
    let own = pair.key.end_entity_cert().context("tls_cert")?;
    Ok(own.clone().into_owned())
}

/// Both files.
struct Bytes {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Bytes {
    async fn read(files: &TlsFiles) -> anyhow::Result<Self> {
        Ok(Self {
            certificate: read(&files.certificate).await.context("tls_cert")?,
            key: read(&files.key).await.context("tls_key")?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.certificate.len().to_be_bytes());
        digest.update(&self.certificate);
        digest.update(&self.key);
        digest.finalize().into()
    }

    fn pair(&self, files: &TlsFiles) -> anyhow::Result<Pair> {
        let shown = files.certificate.display();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .with_context(|| format!("tls_cert: {shown} is no certificate in PEM"))?;
        ensure!(
            !chain.is_empty(),
            "tls_cert: {shown} holds no certificate in PEM"
        );
        let key = PrivateKeyDer::from_pem_slice(&self.key).with_context(|| {
            let shown = files.key.display();
            format!("tls_key: {shown} holds no private key in PEM without a passphrase")
        })?;
        let key = CertifiedKey::from_der(chain, key, &default_provider()).with_context(|| {
            let key = files.key.display();
            format!("{shown} and {key} do not belong together or are of an unknown kind")
        })?;
        Ok(Pair {
            key: Arc::new(key),
            digest: self.digest(),
        })
    }
}

async fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let reading = || format!("reading {shown}");
    let metadata = tokio::fs::metadata(path).await.with_context(reading)?;
    ensure!(
        metadata.is_file() && metadata.len() <= MAX_PEM_BYTES,
        "{shown} is no file of at most {MAX_PEM_BYTES} bytes"
    );
    tokio::fs::read(path).await.with_context(reading)
}
