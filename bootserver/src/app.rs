//! What every handler shares.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use crate::auth::cache::SecretCache;
use crate::blob::Blobs;
use crate::budget::Budgets;
use crate::config::{Block, Bounds, Config};
use crate::ingest::Ingest;
use crate::life::Life;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::passwords::Passwords;
use crate::signature::TrustedKeys;
use crate::store::Store;
use crate::work::Work;

/// Uploads at once: each takes a file, a buffer and a share of the disk.
const MAX_UPLOADS: usize = 8;

/// What stands between the sockets and the handlers; cheap to clone.
#[derive(Debug, Clone)]
pub struct Edge {
    /// How far the end is.
    pub life: Life,
    /// Who may say for whom it asks.
    pub trusted_proxies: Arc<[Block]>,
    /// How much each class of routes may take.
    pub budgets: Arc<Budgets>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Edge {
    /// As it is configured.
    pub fn new(config: &Config, life: Life, metrics: Metrics) -> Self {
        Self {
            life,
            trusted_proxies: config.trusted_proxies.clone().into(),
            budgets: Arc::new(Budgets::new(config.budget)),
            metrics: Arc::new(metrics),
        }
    }
}

/// The platform without its sockets; cheap to clone, which happens several times
/// for each request.
#[derive(Clone)]
pub struct App(Arc<Parts>);

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What it consists of.
pub struct Parts {
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// The bytes of packages.
    pub blobs: Arc<Blobs>,
    /// Whose secrets were seen lately.
    pub secrets: SecretCache,
    /// How large the fleet is, for the pace of its statuses.
    pub fleet_size: AtomicU64,
    /// The way to the writer of statuses.
    pub ingest: Ingest,
    /// Sizes and deadlines.
    pub bounds: Bounds,
    /// Where passwords are hashed.
    pub passwords: Passwords,
    /// Who must have signed packages.
    pub trusted_keys: Arc<TrustedKeys>,
    /// Places for uploads.
    pub uploads: Arc<Semaphore>,
    /// When the database last said that it is there. Who holds it asks for all who wait.
    pub answered: Arc<Mutex<Option<Instant>>>,
    /// What goes on without its connection.
    pub work: Work,
    /// Who follows what changes.
    pub live: Live,
    /// What stands before the handlers.
    pub edge: Edge,
}

impl App {
    /// Puts the parts together.
    pub fn new(
        store: Arc<dyn Store>,
        blobs: Blobs,
        ingest: Ingest,
        config: &Config,
        edge: Edge,
    ) -> Self {
        let uploads = Arc::new(Semaphore::new(MAX_UPLOADS));
        let live = Live::new(store.clone(), edge.metrics.streams.clone());
        Self(Arc::new(Parts {
            store,
            blobs: Arc::new(blobs),
            secrets: SecretCache::default(),
            fleet_size: AtomicU64::default(),
            ingest,
            bounds: config.bounds,
            trusted_keys: Arc::new(config.trusted_keys.clone()),
            passwords: Passwords::default(),
            uploads,
            answered: Arc::default(),
            work: Work::default(),
            live,
            edge,
        }))
    }
}
