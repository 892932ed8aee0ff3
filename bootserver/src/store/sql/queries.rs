//! Every query, once: this folder is compiled for each database.
//!
//! `store/sqlite.rs` and `store/postgres.rs` include it with `#[path]`; it takes
//! its types and what the databases do not say alike from whoever includes it.
//! The parent has:
//!
//! - `Db`, `DbRow` and `SqlStore`, with the pools `readers`, `lookups` (who calls,
//!   which no list may hold up) and `writer`, `write(step)`, which begins a
//!   transaction (`Write`), and `listen(listener)`, who hears what they tell;
//! - `Ears` and `commit_and_tell(transaction, ears, changes)`, by which they tell it;
//! - the macros `given_texts!("$1")` and `given_rows!("$1")`: a parameter that
//!   holds a JSON list, as a table `given` with a column `value`; fields are
//!   `given.value ->> 'name'`, with `CAST(... AS BIGINT)` for numbers;
//! - the macro `one_row!("a, b")`: these columns of all rows as one text of JSON;
//! - the macro `by_index!("name")` behind a table: the index to take, where the database
//!   has to be told;
//! - indexes of open jobs: a statement about open jobs of hosts also says `agentsn > ''`,
//!   and one that goes through them by id `id > ''` (migration 0020 says why);
//! - the macro `database_now!()`: its clock in unix milliseconds;
//! - the macros `for_update!()`, `skip_locked!()` and `for_share!()`: locks rows
//!   until the commit, where more than one may write. Of a host the row of
//!   `host_seen` is locked first, so that nobody waits in a circle;
//! - `push_found(&mut sql, columns, text)`: a query for hosts by a part of their
//!   names, from three characters on by an index; `FOUND_NAMES` are its columns
//!   `agentsn` and `hostname`;
//! - `push_by_index(&mut sql, index)`, after a table, and `HOST_BY_AGENTSN`: which
//!   index is gone through, where the database would be wrong by itself; `AMONG`,
//!   around a query: what stands before is looked up for each of its rows;
//! - `orders_come(&mut tx)`, said first where jobs are made, and
//!   `no_orders_come(&mut tx)`, where a host leaves;
//! - `raise_ids(&mut tx)`, which leaves out the next numbers of every table that
//!   counts by itself;
//! - `chunk`, what is done to the bytes of packages in their transactions, and
//!   `own_chunks`, where they are;
//! - `one_at_a_time(&mut tx)`, said first in a transaction that others like it
//!   must not overtake, and `hot`, the statements every status needs.
//!
//! It is long because the trait of the store is: one line for each of its promises says
//! which file keeps it.
//!
//! The one rule: what is here runs on both, and the contract suite shows it.

/// A host is in this pack of this rollout: the only one it can be in, found by its index.
macro_rules! is_in_pack {
    ($agentsn:literal) => {
        concat!(
            "pack.rollout = rollout.number AND pack.place = (
                 SELECT next.place FROM rollout_pack AS next
                 WHERE next.rollout = rollout.number AND next.last_host >= ",
            $agentsn,
            "    ORDER BY next.rollout, next.last_host LIMIT 1)
             AND pack.first_host <= ",
            $agentsn,
            " AND ",
            has_text!("pack.hosts", concat!("'\"' || ", $agentsn, " || '\"'"))
        )
    };
}

/// Targets of a rollout in a state, between two places, in their order. PostgreSQL, which
/// knows that nearly all of them wait, would else go by their places through all that do
/// not wait any more; compared like this only the index of states fits.
macro_rules! in_state {
    ($table:literal, $rollout:literal, $state:literal, $after:literal, $before:literal) => {
        concat!(
            "(",
            $table,
            ".rollout, ",
            $table,
            ".state, ",
            $table,
            ".place) > (",
            $rollout,
            ", ",
            $state,
            ", ",
            $after,
            ") AND (",
            $table,
            ".rollout, ",
            $table,
            ".state, ",
            $table,
            ".place) < (",
            $rollout,
            ", ",
            $state,
            ", ",
            $before,
            ") ORDER BY ",
            $table,
            ".rollout, ",
            $table,
            ".state, ",
            $table,
            ".place"
        )
    };
}

mod admit;
mod api_token;
mod assignment;
mod assignment_fit;
mod assignment_order;
mod assignment_sweep;
mod assignment_turn;
mod audit;
mod bulk;
mod change;
mod enrolment;
mod event;
mod group;
mod host;
mod host_agent;
mod host_clue;
mod host_edit;
mod host_filter;
mod host_list;
mod idempotency;
mod job;
mod job_end;
mod job_lost;
mod lease;
mod lifecycle;
mod listing;
mod member;
mod newer;
mod package;
mod presence;
mod register;
mod restored;
mod retention;
mod rollout;
mod rollout_hand_out;
mod rollout_move;
mod rollout_news;
mod rollout_pack;
mod rollout_set;
mod rollout_target;
mod rollout_turn;
mod scope;
mod search;
mod session;
mod status;
mod user;
mod write;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{
    AMONG, Db, DbRow, Ears, HOST_BY_AGENTSN, LINGER, MIGRATIONS, SqlStore, chunk, commit_and_tell,
    failure_of, hot, no_orders_come, one_at_a_time, orders_come, push_by_index, raise_ids,
};
use crate::access::scope::Scope;
use crate::access::throttle::{Attempt, Bucket};
use crate::fleet::enrol::KnownHost;
use crate::fleet::presence::Presence;
use crate::fleet::rollout::goods::Goods;
use crate::fleet::tags::Tags;
use crate::store::api_token::{
    ApiTokenInserted, ApiTokenQuery, ApiTokenRow, NewApiToken, TokenOwner,
};
use crate::store::assignment::{
    AssignmentChange, AssignmentDeleted, AssignmentOrder, AssignmentQuery, AssignmentRow,
    AssignmentStored, Draft, FitCount, NewAssignment,
};
use crate::store::audit::{AuditQuery, AuditRow, By};
use crate::store::bulk::{BulkChange, BulkPart, PartChanged};
use crate::store::change::{Heard, Topic};
use crate::store::enrolment::{EnrolmentToken, NewEnrolmentToken, Revoked};
use crate::store::event::{EventQuery, EventRow};
use crate::store::group::{
    Group, GroupDeleted, GroupQuery, GroupStored, GroupTerms, Named, Naming,
};
use crate::store::host::{
    HostChange, HostChangeQuery, HostDetail, HostEdit, HostEdited, HostQuery, HostSummary, Looked,
    Offer, Offered, Registered, Registration, Removal, Removed, RotationOrdered, SecretOwner,
    TagsSet,
};
use crate::store::idempotency::{Begun, KeptAnswer, Once};
use crate::store::job::{
    Cancelled, JobQuery, JobRow, JobsInserted, NewJobs, ResultQuery, ResultRow,
};
use crate::store::lease::{Held, Lease};
use crate::store::package::{PackageDeleted, PackageInserted, PackageQuery, PackageRow};
use crate::store::page::{Limit, Page};
use crate::store::postgres::chunk::Chunks;
use crate::store::retention::Kept;
use crate::store::rollout::{
    HostOfSet, NewRollout, Order, Ordered, RolloutInserted, RolloutQuery, RolloutRow, SystemCount,
    TargetQuery, TargetRow, TargetSet, Turned,
};
use crate::store::session::{NewSession, SessionBegun, SessionEnded, SessionOwner, SessionRow};
use crate::store::status::{StatusOutcome, StatusRecord};
use crate::store::user::{
    KnownUser, NewPassword, NewUser, UserChange, UserChanged, UserInserted, UserRow,
};
use crate::store::{Failure, FirstStart, FirstTokens, Result, Store, StoreError, Upkeep, schema};
use crate::token::TokenDigest;

#[cfg(test)]
use super::{EXPLAIN, PLAN_COLUMN, STATISTICS, TIDY};
#[cfg(test)]
pub(super) use assignment_sweep::plan_of_look;
#[cfg(test)]
pub(super) use host_list::{GROUP, every_query, plan};
#[cfg(test)]
pub(super) use rollout_set::plan_of_count;
#[cfg(test)]
pub(super) use rollout_turn::{
    assert_costs_the_same, work_of_hearing, work_of_taking_back, work_of_turns,
};
pub(super) use write::Write;

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
            .execute(&self.lookups)
            .await
            .map_err(failed("asking the database whether it is there"))?;
        Ok(())
    }
    async fn maintain(&self, upkeep: Upkeep) -> Result<()> {
        self.keep_house(upkeep).await
    }
    async fn close(&self) {
        self.close_all().await;
    }
    async fn hear(&self, listener: mpsc::Sender<Heard>) {
        self.listen(listener).await;
    }
    async fn visible(&self, topic: Topic, ids: &[String], scope: &Scope) -> Result<Vec<String>> {
        change::visible(self, topic, ids, scope).await
    }
    async fn take_lease(
        &self,
        name: &'static str,
        holder: &str,
        millis: i64,
    ) -> Result<Option<Lease>> {
        lease::take(self, name, holder, millis).await
    }
    async fn unknown_migration(&self) -> Result<Option<i64>> {
        newer::unknown_migration(&self.readers).await
    }
    async fn give_lease_back(&self, lease: &Lease) -> Result<()> {
        lease::give_back(self, lease).await
    }
    async fn give_leases_back(&self, holder: &str) -> Result<()> {
        lease::give_all_back(self, holder).await
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
    async fn users(&self, after: Option<String>, limit: Limit) -> Result<Page<UserRow>> {
        user::list(self, after, limit).await
    }
    async fn user(&self, id: &str) -> Result<Option<UserRow>> {
        user::by_id(self, id).await
    }
    async fn user_by_name(&self, name: &str) -> Result<Option<KnownUser>> {
        user::by_name(self, name).await
    }
    async fn insert_user(&self, new: &NewUser, by: &By) -> Result<UserInserted> {
        user::insert(self, new, by).await
    }
    async fn change_user(
        &self,
        id: &str,
        change: &UserChange,
        revision: Option<i64>,
        by: &By,
    ) -> Result<UserChanged> {
        user::change(self, id, change, revision, by).await
    }
    async fn delete_user(&self, id: &str, revision: Option<i64>, by: &By) -> Result<UserChanged> {
        user::delete(self, id, revision, by).await
    }
    async fn set_password(&self, id: &str, password: &NewPassword, by: &By) -> Result<UserChanged> {
        user::set_password(self, id, password, by).await
    }

    async fn count_attempt(&self, buckets: &[Bucket], now: i64) -> Result<Attempt> {
        session::count_attempt(self, buckets, now).await
    }
    async fn refund_attempt(&self, buckets: &[Bucket]) -> Result<()> {
        session::refund_attempt(self, buckets).await
    }
    async fn forget_attempts(&self, bucket: &Bucket) -> Result<()> {
        session::forget_attempts(self, bucket).await
    }
    async fn sweep_sessions(&self, now: i64, idle_since: i64) -> Result<()> {
        session::sweep(self, now, idle_since).await
    }
    async fn begin_session(&self, new: &NewSession, by: &By) -> Result<SessionBegun> {
        session::begin(self, new, by).await
    }
    async fn session_owner(&self, digest: &TokenDigest) -> Result<Option<SessionOwner>> {
        session::owner(self, digest).await
    }
    async fn touch_session(&self, id: &str, now: i64) -> Result<()> {
        session::touch(self, id, now).await
    }
    async fn sessions(
        &self,
        user: &str,
        after: Option<String>,
        limit: Limit,
    ) -> Result<Page<SessionRow>> {
        session::list(self, user, after, limit).await
    }
    async fn end_session(&self, id: &str, user: Option<&str>, by: &By) -> Result<SessionEnded> {
        session::end(self, id, user, by).await
    }

    async fn token_owner(&self, digest: &TokenDigest) -> Result<Option<TokenOwner>> {
        api_token::owner(self, digest).await
    }
    async fn touch_api_token(&self, id: &str, now: i64) -> Result<()> {
        api_token::touch(self, id, now).await
    }
    async fn insert_api_token(&self, new: &NewApiToken, by: &By) -> Result<ApiTokenInserted> {
        api_token::insert(self, new, by).await
    }
    async fn api_tokens(&self, query: &ApiTokenQuery) -> Result<Page<ApiTokenRow>> {
        api_token::list(self, query).await
    }
    async fn api_token(&self, id: &str, maker: Option<&str>) -> Result<Option<ApiTokenRow>> {
        api_token::by_id(self, id, maker).await
    }
    async fn revoke_api_token(
        &self,
        id: &str,
        maker: Option<&str>,
        revision: Option<i64>,
        by: &By,
    ) -> Result<Revoked> {
        api_token::revoke(self, id, maker, revision, by).await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRow>> {
        audit::list(self, query).await
    }

    async fn enrolment_token(&self, digest: &TokenDigest) -> Result<Option<EnrolmentToken>> {
        enrolment::by_digest(self, digest).await
    }
    async fn insert_enrolment_token(
        &self,
        token: &NewEnrolmentToken,
        by: &By,
    ) -> Result<EnrolmentToken> {
        enrolment::insert(self, token, by).await
    }
    async fn enrolment_tokens(
        &self,
        after: Option<String>,
        limit: Limit,
    ) -> Result<Page<EnrolmentToken>> {
        enrolment::list(self, after, limit).await
    }
    async fn enrolment_token_by_id(&self, id: &str) -> Result<Option<EnrolmentToken>> {
        enrolment::by_id(self, id).await
    }
    async fn revoke_enrolment_token(
        &self,
        id: &str,
        revision: Option<i64>,
        by: &By,
    ) -> Result<Revoked> {
        enrolment::revoke(self, id, revision, by).await
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
    async fn order_rotation(
        &self,
        agentsn: &str,
        scope: &Scope,
        by: &By,
    ) -> Result<RotationOrdered> {
        lifecycle::order_rotation(self, agentsn, scope, by).await
    }
    async fn remove_host(&self, removal: &Removal, scope: &Scope, by: &By) -> Result<Removed> {
        lifecycle::remove_host(self, removal, scope, by).await
    }
    async fn known_host(&self, agentsn: &str) -> Result<Option<KnownHost>> {
        register::known_host(self, agentsn).await
    }
    async fn register_host(&self, registration: &Registration) -> Result<Registered> {
        register::register_host(self, registration).await
    }
    async fn hosts(&self, query: &HostQuery) -> Result<Page<HostSummary>> {
        host_list::list(self, query).await
    }
    async fn host(&self, agentsn: &str, scope: &Scope) -> Result<Option<HostDetail>> {
        host::detail(self, agentsn, scope).await
    }
    async fn set_tags(
        &self,
        agentsn: &str,
        tags: &Tags,
        revision: Option<i64>,
        scope: &Scope,
        by: &By,
    ) -> Result<TagsSet> {
        host_edit::set_tags(self, agentsn, tags, revision, scope, by).await
    }
    async fn edit_host(
        &self,
        agentsn: &str,
        edit: &HostEdit,
        revision: Option<i64>,
        scope: &Scope,
        by: &By,
    ) -> Result<HostEdited> {
        host_edit::edit(self, agentsn, edit, revision, scope, by).await
    }
    async fn agentsns(&self, query: &HostQuery, most: usize) -> Result<Option<Vec<String>>> {
        bulk::agentsns(self, query, most).await
    }
    async fn change_hosts(
        &self,
        change: &BulkChange,
        part: &BulkPart,
        scope: &Scope,
        by: &By,
    ) -> Result<PartChanged> {
        bulk::change(self, change, part, scope, by).await
    }
    async fn hosts_by_agentsn(
        &self,
        agentsns: &[String],
        scope: &Scope,
    ) -> Result<Vec<HostSummary>> {
        host::by_agentsn(self, agentsns, scope).await
    }

    async fn groups(&self, query: &GroupQuery) -> Result<Page<Group>> {
        group::list(self, query).await
    }
    async fn group(&self, id: &str) -> Result<Option<Group>> {
        group::by_id(self, id).await
    }
    async fn insert_group(&self, terms: &GroupTerms, by: &By) -> Result<GroupStored> {
        group::insert(self, terms, by).await
    }
    async fn update_group(
        &self,
        terms: &GroupTerms,
        version: Option<i64>,
        by: &By,
    ) -> Result<GroupStored> {
        group::update(self, terms, version, by).await
    }
    async fn delete_group(&self, id: &str, version: Option<i64>, by: &By) -> Result<GroupDeleted> {
        group::delete(self, id, version, by).await
    }
    async fn name_hosts(&self, naming: &Naming, by: &By) -> Result<Named> {
        group::name_hosts(self, naming, by).await
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

    fn linger(&self) -> Duration {
        LINGER
    }

    async fn record_statuses(&self, records: &[StatusRecord]) -> Result<Vec<StatusOutcome>> {
        status::record(self, records).await
    }

    fn chunks(&self) -> Option<Chunks> {
        self.own_chunks()
    }
    async fn insert_package(
        &self,
        package: &PackageRow,
        blob: Option<&str>,
        by: &By,
    ) -> Result<PackageInserted> {
        package::insert(self, package, blob, by).await
    }
    async fn sweep_uploads(&self, lease: &Lease, older_than: i64) -> Result<Held<u64>> {
        package::sweep(self, lease, older_than).await
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
    async fn delete_package(&self, id: &str, by: &By) -> Result<PackageDeleted> {
        package::delete(self, id, by).await
    }

    async fn insert_jobs(&self, jobs: &NewJobs, scope: &Scope, by: &By) -> Result<JobsInserted> {
        job::insert(self, jobs, scope, by).await
    }
    async fn jobs(&self, query: &JobQuery) -> Result<Page<JobRow>> {
        job::list(self, query).await
    }
    async fn job(&self, id: &str, scope: &Scope) -> Result<Option<JobRow>> {
        job::by_id(self, id, scope).await
    }
    async fn cancel_job(
        &self,
        id: &str,
        cancel_id: &str,
        scope: &Scope,
        by: &By,
    ) -> Result<Cancelled> {
        job_end::cancel(self, id, cancel_id, scope, by).await
    }
    async fn expire_jobs(&self, lease: &Lease, now: i64) -> Result<Held<u64>> {
        job_end::expire(self, lease, now).await
    }
    async fn lose_jobs(&self, lease: &Lease, now: i64) -> Result<Held<u64>> {
        job_lost::lose(self, lease, now).await
    }
    async fn restored(&self, now: i64) -> Result<u64> {
        restored::restored(self, now).await
    }
    async fn job_results(&self, query: &ResultQuery) -> Result<Page<ResultRow>> {
        job::results(self, query).await
    }

    async fn count_targets(&self, set: &TargetSet, scope: &Scope) -> Result<Vec<SystemCount>> {
        rollout_set::count(self, set, scope).await
    }
    async fn hosts_like(
        &self,
        set: &TargetSet,
        scope: &Scope,
        systems: &[SystemCount],
        most: usize,
    ) -> Result<Vec<HostOfSet>> {
        rollout_set::like(self, set, scope, systems, most).await
    }
    async fn insert_rollout(
        &self,
        new: &NewRollout,
        scope: &Scope,
        by: &By,
    ) -> Result<RolloutInserted> {
        rollout::insert(self, new, scope, by).await
    }
    async fn rollouts(&self, query: &RolloutQuery) -> Result<Page<RolloutRow>> {
        rollout::list(self, query).await
    }
    async fn rollout(&self, id: &str, scope: &Scope) -> Result<Option<RolloutRow>> {
        rollout::by_id(self, id, scope).await
    }
    async fn rollout_goods(&self, number: i64) -> Result<Goods> {
        rollout::goods(self, number).await
    }
    async fn rollout_targets(&self, query: &TargetQuery) -> Result<Page<TargetRow>> {
        rollout_target::list(self, query).await
    }
    async fn order_rollout(
        &self,
        id: &str,
        order: &Order,
        revision: Option<i64>,
        scope: &Scope,
        by: &By,
    ) -> Result<Ordered> {
        rollout::order(self, id, order, revision, scope, by).await
    }
    async fn rollouts_due(&self) -> Result<Vec<i64>> {
        rollout_turn::due(self).await
    }
    async fn turn_rollout(&self, lease: &Lease, number: i64, now: i64) -> Result<Held<Turned>> {
        rollout_turn::turn(self, lease, number, now).await
    }

    async fn insert_assignment(&self, new: &NewAssignment, by: &By) -> Result<AssignmentStored> {
        assignment::insert(self, new, by).await
    }
    async fn assignments(&self, query: &AssignmentQuery) -> Result<Page<AssignmentRow>> {
        assignment::list(self, query).await
    }
    async fn assignment(&self, id: &str) -> Result<Option<AssignmentRow>> {
        assignment::by_id(self, id).await
    }
    async fn change_assignment(
        &self,
        id: &str,
        change: &AssignmentChange,
        revision: Option<i64>,
        by: &By,
    ) -> Result<AssignmentStored> {
        assignment::change(self, id, change, revision, by).await
    }
    async fn order_assignment(
        &self,
        id: &str,
        order: &AssignmentOrder,
        revision: Option<i64>,
        by: &By,
    ) -> Result<AssignmentStored> {
        assignment_order::order(self, id, order, revision, by).await
    }
    async fn delete_assignment(
        &self,
        id: &str,
        revision: Option<i64>,
        by: &By,
    ) -> Result<AssignmentDeleted> {
        assignment_order::delete(self, id, revision, by).await
    }
    async fn renew_assignment(&self, rollout: i64, goods: &Goods) -> Result<()> {
        assignment::renew(self, rollout, goods).await
    }
    async fn fit_assignment(&self, draft: &Draft) -> Result<Vec<FitCount>> {
        assignment_fit::count(self, draft).await
    }
    async fn assignments_against(
        &self,
        set: &TargetSet,
        scope: &Scope,
        agent: &str,
        version: Option<&str>,
    ) -> Result<Vec<AssignmentRow>> {
        assignment_fit::against(self, set, scope, agent, version).await
    }

    async fn begin_once(&self, once: &Once, now: i64) -> Result<Begun> {
        idempotency::begin(self, once, now).await
    }
    async fn end_once(&self, once: &Once, answer: Option<&KeptAnswer>) -> Result<()> {
        idempotency::end(self, once, answer).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<EventRow>> {
        event::list(self, query).await
    }
}
