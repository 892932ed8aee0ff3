//! The store on SQLite: one file beside the blobs, nothing to install.
//!
//! One connection writes, a few read: SQLite has one writer anyway, and a pool
//! of them only fights. `synchronous=FULL`, because batches make it nearly
//! free and an acknowledged result must survive a power cut. Checkpoints run
//! on a connection of their own, so that no status waits for one.

mod enrolment;
mod event;
mod host;
mod job;
mod package;
mod register;
mod status;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use crate::fleet::enrol::KnownHost;
use crate::fleet::tags::Tags;
use crate::token::TokenDigest;

use super::enrolment::{EnrolmentToken, NewEnrolmentToken, Revoked};
use super::event::{EventQuery, EventRow};
use super::host::{
    HostDetail, HostQuery, HostSummary, Registered, Registration, SecretOwner, TagsSet,
};
use super::job::{Cancelled, JobQuery, JobRow, JobsInserted, NewJobs, ResultQuery, ResultRow};
use super::package::{PackageDeleted, PackageInserted, PackageQuery, PackageRow};
use super::page::{Limit, Page};
use super::status::{StatusOutcome, StatusRecord};
use super::{Failure, FirstStart, FirstTokens, Result, Store, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Readers at once; reads are short and there are few cores.
const READERS: u32 = 4;
/// How long a call waits for its connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long SQLite waits for a lock, held by a checkpoint at most.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The store on one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    checkpoints: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it if it is not there, and brings its tables up
    /// to date.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Must be said before the first table, or never.
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .pragma("wal_autocheckpoint", "0")
            .pragma("journal_size_limit", "67108864");
        let writer = pool(1, options.clone())
            .await
            .map_err(failed("opening the database"))?;
        MIGRATIONS.run(&writer).await.map_err(|error| StoreError {
            step: "bringing the tables up to date",
            failure: Failure::Unavailable,
            source: Box::new(error),
        })?;
        let read_only = options.clone().pragma("query_only", "1");
        let readers = pool(READERS, read_only)
            .await
            .map_err(failed("opening the database for reading"))?;
        let checkpoints = pool(1, options)
            .await
            .map_err(failed("opening the database for checkpoints"))?;
        Ok(Self {
            writer,
            readers,
            checkpoints,
        })
    }

    /// Closes all connections, with a last checkpoint.
    pub async fn close(&self) {
        self.readers.close().await;
        self.checkpoints.close().await;
        self.writer.close().await;
    }

    /// A transaction that writes. It takes the lock at once: one that began
    /// with reading could find the database changed when it comes to writing.
    async fn write(&self, step: &'static str) -> Result<Transaction<'static, Sqlite>> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed(step))
    }
}

async fn pool(
    connections: u32,
    options: SqliteConnectOptions,
) -> std::result::Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
}

/// Makes a database's error the store's.
fn failed(step: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| StoreError {
        step,
        failure: failure_of(&error),
        source: Box::new(error),
    }
}

/// Constraint, mismatch, too big, out of range, or an SQL error (JSON that
/// does not parse) lie in the data; everything else in the database.
fn failure_of(error: &sqlx::Error) -> Failure {
    let sqlx::Error::Database(database) = error else {
        return Failure::Unavailable;
    };
    let primary = database
        .code()
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff);
    match primary {
        Some(1 | 18 | 19 | 20 | 25) => Failure::Rejected,
        _ => Failure::Unavailable,
    }
}

/// A column that holds JSON we wrote ourselves.
fn from_json<T: serde::de::DeserializeOwned>(step: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError {
        step,
        failure: Failure::Rejected,
        source: Box::new(error),
    })
}

/// JSON for a column or a parameter.
fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists always serialise")
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1")
            .execute(&self.readers)
            .await
            .map_err(failed("asking the database whether it is there"))?;
        Ok(())
    }

    async fn maintain(&self) -> Result<()> {
        for pragma in [
            "PRAGMA wal_checkpoint(PASSIVE)",
            "PRAGMA incremental_vacuum(64)",
        ] {
            sqlx::raw_sql(pragma)
                .execute(&self.checkpoints)
                .await
                .map_err(failed("writing the log back into the database"))?;
        }
        Ok(())
    }

    async fn is_first_start(&self) -> Result<FirstStart> {
        enrolment::is_first_start(self).await
    }
    async fn first_start(&self, tokens: &FirstTokens, now: i64) -> Result<FirstStart> {
        enrolment::first_start(self, tokens, now).await
    }
    async fn api_token(&self, digest: &TokenDigest) -> Result<Option<String>> {
        enrolment::api_token(self, digest).await
    }
    async fn enrolment_token(&self, digest: &TokenDigest) -> Result<Option<EnrolmentToken>> {
        enrolment::by_digest(self, digest).await
    }
    async fn insert_enrolment_token(&self, token: &NewEnrolmentToken) -> Result<EnrolmentToken> {
        enrolment::insert(self, token).await
    }
    async fn enrolment_tokens(
        &self,
        after: Option<String>,
        limit: Limit,
    ) -> Result<Page<EnrolmentToken>> {
        enrolment::list(self, after, limit).await
    }
    async fn revoke_enrolment_token(&self, id: &str, now: i64) -> Result<Revoked> {
        enrolment::revoke(self, id, now).await
    }

    async fn secret_owner(&self, digest: &TokenDigest) -> Result<Option<SecretOwner>> {
        register::secret_owner(self, digest).await
    }
    async fn promote_secret(&self, digest: &TokenDigest) -> Result<()> {
        register::promote_secret(self, digest).await
    }
    async fn known_host(&self, agentsn: &str) -> Result<Option<KnownHost>> {
        register::known_host(self, agentsn).await
    }
    async fn register_host(&self, registration: &Registration) -> Result<Registered> {
        register::register_host(self, registration).await
    }
    async fn hosts(&self, query: &HostQuery) -> Result<Page<HostSummary>> {
        host::list(self, query).await
    }
    async fn host(&self, agentsn: &str) -> Result<Option<HostDetail>> {
        host::detail(self, agentsn).await
    }
    async fn set_tags(&self, agentsn: &str, tags: &Tags) -> Result<TagsSet> {
        host::set_tags(self, agentsn, tags).await
    }
    async fn hosts_by_agentsn(&self, agentsns: &[String]) -> Result<Vec<HostSummary>> {
        host::by_agentsn(self, agentsns).await
    }

    async fn record_statuses(&self, records: &[StatusRecord]) -> Result<Vec<StatusOutcome>> {
        status::record(self, records).await
    }

    async fn insert_package(&self, package: &PackageRow) -> Result<PackageInserted> {
        package::insert(self, package).await
    }
    async fn package(&self, id: &str) -> Result<Option<PackageRow>> {
        package::by_id(self, id).await
    }
    async fn package_by_file(&self, file: &str) -> Result<Option<PackageRow>> {
        package::by_file(self, file).await
    }
    async fn packages(&self, query: &PackageQuery) -> Result<Page<PackageRow>> {
        package::list(self, query).await
    }
    async fn orphan_blobs(&self, sha256s: &[String]) -> Result<Vec<String>> {
        package::orphans(self, sha256s).await
    }
    async fn delete_package(&self, id: &str) -> Result<PackageDeleted> {
        package::delete(self, id).await
    }

    async fn insert_jobs(&self, jobs: &NewJobs) -> Result<JobsInserted> {
        job::insert(self, jobs).await
    }
    async fn jobs(&self, query: &JobQuery) -> Result<Page<JobRow>> {
        job::list(self, query).await
    }
    async fn job(&self, id: &str) -> Result<Option<JobRow>> {
        job::by_id(self, id).await
    }
    async fn cancel_job(&self, id: &str, cancel_id: &str, now: i64) -> Result<Cancelled> {
        job::cancel(self, id, cancel_id, now).await
    }
    async fn expire_jobs(&self, now: i64) -> Result<u64> {
        job::expire(self, now).await
    }
    async fn job_results(&self, query: &ResultQuery) -> Result<Page<ResultRow>> {
        job::results(self, query).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<EventRow>> {
        event::list(self, query).await
    }
}
