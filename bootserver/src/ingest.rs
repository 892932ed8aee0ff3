//! The one writer of statuses: waits a moment, writes many at once, answers
//! each after the commit.
//!
//! The one rule: nobody is told that a status is stored before it is. A batch
//! the database refuses is halved until the bad record is alone, so that it
//! cannot fail its neighbours. One that takes too long is given up: its hosts are
//! asked to send it again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::metrics::IngestMetrics;
use crate::store::status::{StatusOutcome, StatusRecord};
use crate::store::{Failure, Store, StoreError, within};

/// How often a batch that waits for company looks whether there is enough.
const LOOKS: u32 = 4;
/// Of so many each costs hardly less when there are more.
const ENOUGH: usize = 64;
/// Most statuses of one transaction.
const MAX_BATCH: usize = 1000;
/// Most statuses waiting; beyond that hosts are asked to come back later.
const QUEUE: usize = 4096;

/// How long a batch is on its way until /readyz says so.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A future that calls itself must be boxed.
type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A status on its way, and who waits for it.
struct Pending {
    record: StatusRecord,
    answer: oneshot::Sender<Result<StatusOutcome, Refused>>,
}

/// Why a status was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too much is waiting, or the database cannot work now.
    Later,
    /// The database refuses this very status.
    Never,
}

/// How the writer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// It writes, or has nothing to write.
    Well,
    /// A batch takes far longer than it should.
    Stuck,
    /// It is gone, which no writer should be while the server runs.
    Ended,
}

/// Since when a batch is on its way.
type Begun = Arc<Mutex<Option<Instant>>>;

/// The way to the writer; cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    queue: mpsc::Sender<Pending>,
    metrics: IngestMetrics,
    begun: Begun,
}

impl Ingest {
    /// Starts the writer. It ends when every `Ingest` is gone and the queue is
    /// empty, which the handle tells.
    pub fn start(store: Arc<dyn Store>) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, pending) = mpsc::channel(QUEUE);
        let metrics = IngestMetrics::default();
        let begun = Begun::default();
        let task = tokio::spawn(run(store, pending, metrics.clone(), begun.clone()));
        let ingest = Self {
            queue,
            metrics,
            begun,
        };
        (ingest, task)
    }

    /// How the writer is now.
    pub fn writer(&self) -> Writer {
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        match begun {
            _ if self.queue.is_closed() => Writer::Ended,
            Some(begun) if begun.elapsed() > STUCK_AFTER => Writer::Stuck,
            Some(_) | None => Writer::Well,
        }
    }

    /// What the writer measures.
    pub fn metrics(&self) -> IngestMetrics {
        self.metrics.clone()
    }

    /// Stores a status; returns after its commit.
    pub async fn submit(&self, record: StatusRecord) -> Result<StatusOutcome, Refused> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Pending { record, answer })
            .map_err(|_| Refused::Later)?;
        answered.await.unwrap_or(Err(Refused::Later))
    }
}

async fn run(
    store: Arc<dyn Store>,
    mut queue: mpsc::Receiver<Pending>,
    metrics: IngestMetrics,
    on_its_way: Begun,
) {
    let linger = store.linger();
    let note = |begun| *on_its_way.lock().unwrap_or_else(PoisonError::into_inner) = begun;
    while let Some(first) = queue.recv().await {
        let mut batch = vec![first];
        // A few timers for all: waking for each that comes costs more than it.
        for _ in 0..LOOKS {
            sleep(linger / LOOKS).await;
            if queue.len() >= ENOUGH {
                break;
            }
        }
        while batch.len() < MAX_BATCH {
            match queue.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        let (records, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|pending| (pending.record, pending.answer))
            .unzip();
        let begun = Instant::now();
        note(Some(begun));
        let outcomes = store_batch(store.as_ref(), &records).await;
        note(None);
        metrics.commit.observe(begun.elapsed().as_secs_f64());
        metrics.batch.observe(records.len() as f64);
        metrics
            .waiting
            .set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // A host that hung up meanwhile sends the same again.
            let _ = answer.send(outcome);
        }
    }
}

/// Stores a batch, halving it when the database refuses it. One outcome per
/// record, in their order.
fn store_batch<'a>(
    store: &'a dyn Store,
    records: &'a [StatusRecord],
) -> BoxFuture<'a, Vec<Result<StatusOutcome, Refused>>> {
    Box::pin(async move {
        let step = "storing a batch of statuses";
        match within(step, store.record_statuses(records)).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(StoreError {
                failure: Failure::Rejected,
                ..
            }) if records.len() > 1 => {
                let (left, right) = records.split_at(records.len() / 2);
                let mut outcomes = store_batch(store, left).await;
                outcomes.extend(store_batch(store, right).await);
                outcomes
            }
            Err(error) => {
                let refused = match error.failure {
                    Failure::Unavailable => Refused::Later,
                    Failure::Rejected => Refused::Never,
                };
                let agentsn = records.first().map(|record| record.agentsn.as_str());
                let statuses = records.len();
                let error = crate::problem::chain(&error);
                tracing::error!(statuses, agentsn, error, "statuses were not stored");
                vec![Err(refused); statuses]
            }
        }
    })
}
