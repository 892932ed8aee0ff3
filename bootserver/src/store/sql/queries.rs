//! Every query, once: this folder is compiled for each database.
//!
//! `store/sqlite.rs` and `store/postgres.rs` include it with `#[path]`; it takes
//! its types and what the databases do not say alike from whoever includes it.
//! The parent has:
//!
//! - `Db`, `DbRow`, `Write` (a transaction) and `SqlStore`, with the pools
//!   `readers` and `writer` and `write(step)`, which begins one;
//! - the macros `given_texts!("$1")` and `given_rows!("$1")`: a parameter that
//!   holds a JSON list, as a table `given` with a column `value`; fields are
//!   `given.value ->> 'name'`, with `CAST(... AS BIGINT)` for numbers;
//! - the macro `database_now!()`: its clock in unix milliseconds;
//! - the macros `for_update!()`, `skip_locked!()` and `for_share!()`: locks rows
//!   until the commit, where more than one may write. Of a host the row of
//!   `host_seen` is locked first, so that nobody waits in a circle;
//! - `one_at_a_time(&mut tx)`, said first in a transaction that others like it
//!   must not overtake, and `hot`, the statements every status needs.
//!
//! The one rule: what is here runs on both, and the contract suite shows it.

mod enrolment;
mod event;
mod host;
mod job;
mod job_end;
mod lease;
mod lifecycle;
mod package;
mod presence;
mod register;
mod retention;
mod status;

use async_trait::async_trait;

use super::{Db, DbRow, SqlStore, Write, failure_of, hot, one_at_a_time};
use crate::fleet::enrol::KnownHost;
use crate::fleet::presence::Presence;
use crate::fleet::tags::Tags;
use crate::store::enrolment::{EnrolmentToken, NewEnrolmentToken, Revoked};
use crate::store::event::{EventQuery, EventRow};
use crate::store::host::{
    HostChange, HostChangeQuery, HostDetail, HostQuery, HostSummary, Looked, Offer, Offered,
    Registered, Registration, Removal, Removed, RotationOrdered, SecretOwner, TagsSet,
};
use crate::store::job::{
    Cancelled, JobQuery, JobRow, JobsInserted, NewJobs, ResultQuery, ResultRow,
};
use crate::store::lease::{Held, Lease};
use crate::store::package::{PackageDeleted, PackageInserted, PackageQuery, PackageRow};
use crate::store::page::{Limit, Page};
use crate::store::retention::Kept;
use crate::store::status::{StatusOutcome, StatusRecord};
use crate::store::{Failure, FirstStart, FirstTokens, Result, Store, StoreError};
use crate::token::TokenDigest;

/// Makes a database's error the store's.
pub(super) fn failed(step: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| StoreError {
        step,
        failure: failure_of(&error),
        source: Box::new(error),
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
impl Store for SqlStore {
    async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1")
            .execute(&self.readers)
            .await
            .map_err(failed("asking the database whether it is there"))?;
        Ok(())
    }
    async fn maintain(&self) -> Result<()> {
        self.keep_house().await
    }
    async fn close(&self) {
        self.close_all().await;
    }
    async fn take_lease(
        &self,
        name: &'static str,
        holder: &str,
        millis: i64,
    ) -> Result<Option<Lease>> {
        lease::take(self, name, holder, millis).await
    }
    async fn give_lease_back(&self, lease: &Lease) -> Result<()> {
        lease::give_back(self, lease).await
    }
    async fn forget(&self, lease: &Lease, kept: Kept, before: i64, rows: u32) -> Result<Held<u64>> {
        retention::forget(self, lease, kept, before, rows).await
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
    async fn promote_secret(&self, digest: &TokenDigest, rotate_due: i64) -> Result<Option<i64>> {
        register::promote_secret(self, digest, rotate_due).await
    }
    async fn offer_secret(&self, offer: &Offer) -> Result<Offered> {
        lifecycle::offer_secret(self, offer).await
    }
    async fn order_rotation(&self, agentsn: &str, now: i64) -> Result<RotationOrdered> {
        lifecycle::order_rotation(self, agentsn, now).await
    }
    async fn remove_host(&self, removal: &Removal) -> Result<Removed> {
        lifecycle::remove_host(self, removal).await
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

    async fn look_at_hosts(&self, lease: &Lease, now: i64) -> Result<Held<Looked>> {
        presence::look(self, lease, now).await
    }
    async fn host_counts(&self) -> Result<Vec<(Presence, i64)>> {
        presence::counts(self).await
    }
    async fn host_changes(&self, query: &HostChangeQuery) -> Result<Page<HostChange>> {
        presence::changes(self, query).await
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
        job_end::cancel(self, id, cancel_id, now).await
    }
    async fn expire_jobs(&self, lease: &Lease, now: i64) -> Result<Held<u64>> {
        job_end::expire(self, lease, now).await
    }
    async fn close_open_jobs(&self, now: i64) -> Result<u64> {
        job_end::close_open(self, now).await
    }
    async fn job_results(&self, query: &ResultQuery) -> Result<Page<ResultRow>> {
        job::results(self, query).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<EventRow>> {
        event::list(self, query).await
    }
}
