//! What every handler shares.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::Semaphore;

use crate::auth::cache::SecretCache;
use crate::blob::Blobs;
use crate::config::Bounds;
use crate::ingest::Ingest;
use crate::passwords::Passwords;
use crate::store::Store;

/// Uploads at once: each takes a file, a buffer and a share of the disk.
const MAX_UPLOADS: usize = 8;

/// The platform without its sockets; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// The bytes of packages.
    pub blobs: Arc<Blobs>,
    /// Whose secrets were seen lately.
    pub secrets: Arc<SecretCache>,
    /// How large the fleet is, for the pace of its statuses.
    pub fleet_size: Arc<AtomicU64>,
    /// The way to the writer of statuses.
    pub ingest: Ingest,
    /// Sizes and deadlines.
    pub bounds: Bounds,
    /// Where passwords are hashed.
    pub passwords: Passwords,
    /// Places for uploads.
    pub uploads: Arc<Semaphore>,
}

impl App {
    /// Puts the parts together.
    pub fn new(store: Arc<dyn Store>, blobs: Blobs, ingest: Ingest, bounds: Bounds) -> Self {
        let uploads = Arc::new(Semaphore::new(MAX_UPLOADS));
        Self {
            store,
            blobs: Arc::new(blobs),
            secrets: Arc::default(),
            fleet_size: Arc::default(),
            ingest,
            bounds,
            passwords: Passwords::default(),
            uploads,
        }
    }
}
