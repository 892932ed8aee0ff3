//! Hearing of changes on PostgreSQL, also of those other replicas make: NOTIFY in
//! the transaction that makes them, and one connection that LISTENs.
//!
//! What is told while nobody listens is lost, so that each new connection
//! begins with a gap. A connection that vanished without a word is found by asking it.

use std::time::Duration;

use sqlx::Transaction;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{ACQUIRE_TIMEOUT, ANSWER_WITHIN, Db, Ears};
use crate::problem::chain;
use crate::store::change::{self, Change, Heard};

const CHANNEL: &str = "bootserver_change";
/// How long nothing is heard until the connection is asked whether it is there.
const QUIET: Duration = Duration::from_secs(5);
/// From a connection that ended to the next one.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Tells, and commits: whoever listens hears of it after the commit, or never.
pub(super) async fn commit_and_tell(
    mut transaction: Transaction<'static, Db>,
    _: Ears,
    changes: Vec<Change>,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(change::text(&changes))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// Passes on what is told, until nobody takes it any more.
pub(super) async fn hear(options: &PgConnectOptions, listener: mpsc::Sender<Heard>) {
    while !listener.is_closed() {
        let error = match connect(options).await {
            Ok(connection) => {
                tracing::debug!("changes are heard of");
                pass_on(connection, &listener).await.err()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            let error = chain(&error);
            tracing::warn!(
                error,
                "changes are not heard of until the database is there again"
            );
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// On a pool of its own: one that ended badly keeps its place in the old one for
/// as long as its goodbye takes.
async fn connect(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options.clone());
    let mut connection = PgListener::connect_with(&pool).await?;
    connection.eager_reconnect(false);
    let listening = timeout(ACQUIRE_TIMEOUT, connection.listen(CHANNEL)).await;
    listening.map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(connection)
}

/// Until the connection ends or nobody listens.
async fn pass_on(
    mut connection: PgListener,
    listener: &mpsc::Sender<Heard>,
) -> Result<(), sqlx::Error> {
    let mut heard = Heard::Gap;
    while listener.send(heard).await.is_ok() {
        let told = loop {
            match timeout(QUIET, connection.try_recv()).await {
                Ok(told) => break told?,
                Err(_) => {
                    let asked = sqlx::query("SELECT 1").execute(&mut connection);
                    let answer = timeout(ANSWER_WITHIN, asked).await;
                    answer.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
            }
        };
        let Some(told) = told else {
            return Err(sqlx::Error::WorkerCrashed);
        };
        heard = match change::parse(told.payload()) {
            Some(changes) => Heard::Changes(changes),
            None => Heard::Gap,
        };
    }
    Ok(())
}
