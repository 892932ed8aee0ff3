//! What the platform remembers, behind one trait.
//!
//! The trait exists because there are two databases: SQLite is embedded, and
//! PostgreSQL is for large fleets and several replicas. Queries are written
//! once, in `store/sql`; the contract in `tests/store` holds for both. The one
//! rule: SQL is nowhere else. The store decides nothing: what
//! may be refused comes back as a value, and `StoreError` is only for a
//! database that fails.

pub mod address;
pub mod api_token;
pub mod assignment;
pub mod audit;
pub mod batch;
pub mod bulk;
pub mod change;
pub mod enrolment;
pub mod event;
mod failure;
pub mod first_start;
pub mod group;
pub mod host;
pub mod idempotency;
pub mod import;
pub mod job;
pub mod lease;
pub mod package;
pub mod page;
pub mod postgres;
pub mod probe;
pub mod retention;
pub mod rollout;
mod schema;
pub mod session;
pub mod sqlite;
pub mod status;
pub mod user;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::access::scope::Scope;
use crate::access::throttle::{Attempt, Bucket};
use crate::fleet::rollout::goods::Goods;
use crate::token::TokenDigest;

use address::Address;
use api_token::{ApiTokenInserted, ApiTokenQuery, ApiTokenRow, NewApiToken, TokenOwner};
use assignment::{
    AssignmentChange, AssignmentDeleted, AssignmentOrder, AssignmentQuery, AssignmentRow,
    AssignmentStored, Draft, FitCount, NewAssignment,
};
use audit::{AuditQuery, AuditRow, By};
use bulk::{BulkChange, BulkPart, PartChanged};
use change::{Heard, Topic};
use enrolment::{EnrolmentToken, NewEnrolmentToken, Revoked};
use event::{EventQuery, EventRow};
pub use failure::{Failure, Result, StoreError, within};
pub use first_start::{FirstStart, FirstTokens};
use group::{Group, GroupDeleted, GroupQuery, GroupStored, GroupTerms, Named, Naming};
use host::{
    HostChange, HostChangeQuery, HostDetail, HostEdit, HostEdited, HostQuery, HostSummary, Looked,
    Offer, Offered, Registered, Registration, Removal, Removed, RotationOrdered, SecretOwner,
    TagsSet,
};
use idempotency::{Begun, KeptAnswer, Once};
use job::{Cancelled, JobQuery, JobRow, JobsInserted, NewJobs, ResultQuery, ResultRow};
use lease::{Held, Lease};
use package::{PackageDeleted, PackageInserted, PackageQuery, PackageRow};
use page::{Limit, Page};
use postgres::chunk::Chunks;
use retention::Kept;
use rollout::{
    HostOfSet, NewRollout, Order, Ordered, RolloutInserted, RolloutQuery, RolloutRow, SystemCount,
    TargetQuery, TargetRow, TargetSet, Turned,
};
use session::{NewSession, SessionBegun, SessionEnded, SessionOwner, SessionRow};
use status::{StatusOutcome, StatusRecord};
use user::{KnownUser, NewPassword, NewUser, UserChange, UserChanged, UserInserted, UserRow};

/// Numbers nobody gets after a restore: more than are given between two backups.
const IDS_LEFT_OUT: i64 = 1_000_000_000;

/// Opens the database at an address and brings its tables up to date.
pub async fn open(address: &Address) -> Result<Arc<dyn Store>> {
    Ok(match address {
        Address::Sqlite(path) => Arc::new(sqlite::SqliteStore::open(path).await?),
        Address::Postgres(options) => {
            Arc::new(postgres::PostgresStore::open((**options).clone()).await?)
        }
    })
}

/// How much housekeeping is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// All of it.
    Usual,
    /// What would become too much until then.
    IfMuch,
}

/// The platform's memory. Times are unix milliseconds and come from the
/// caller as `now`; each call is one transaction.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Whether the database answers.
    async fn ping(&self) -> Result<()>;
    /// Ends all connections, after what they are at.
    async fn close(&self);
    /// Housekeeping that must stay off the hot path; called every few seconds, and in
    /// between for what has become much.
    async fn maintain(&self, upkeep: Upkeep) -> Result<()>;
    /// Passes on what is committed from now on, here or by another server on the
    /// same database, beginning with a gap; until nobody takes it any more.
    async fn hear(&self, listener: mpsc::Sender<Heard>);
    /// Of the things a change names, those in the scope as it is now.
    async fn visible(&self, topic: Topic, ids: &[String], scope: &Scope) -> Result<Vec<String>>;
    /// Takes or prolongs a lease for some milliseconds; nothing while somebody else has it.
    async fn take_lease(
        &self,
        name: &'static str,
        holder: &str,
        millis: i64,
    ) -> Result<Option<Lease>>;
    /// The newest migration of the tables, if this program does not know it.
    async fn unknown_migration(&self) -> Result<Option<i64>>;
    /// Ends a lease before its time; one that was lost stays as it is.
    async fn give_lease_back(&self, lease: &Lease) -> Result<()>;
    /// Ends all leases of a holder who is about to end: the next one need not wait.
    async fn give_leases_back(&self, holder: &str) -> Result<()>;
    /// Deletes the oldest rows from before a time, at most so many. Returns how many.
    async fn forget(&self, lease: &Lease, kept: Kept, before: i64, rows: u32) -> Result<Held<u64>>;

    /// Whether this would be the first start, without storing anything.
    async fn is_first_start(&self) -> Result<FirstStart>;
    /// Stores the tokens of the first start, once for ever.
    async fn first_start(&self, tokens: &FirstTokens, now: i64) -> Result<FirstStart>;

    /// Users by name.
    async fn users(&self, after: Option<String>, limit: Limit) -> Result<Page<UserRow>>;
    /// One user.
    async fn user(&self, id: &str) -> Result<Option<UserRow>>;
    /// A user and what is kept of their password.
    async fn user_by_name(&self, name: &str) -> Result<Option<KnownUser>>;
    /// Stores a user with a one-time password.
    async fn insert_user(&self, user: &NewUser, by: &By) -> Result<UserInserted>;
    /// Changes a user, if this is still its revision.
    async fn change_user(
        &self,
        id: &str,
        change: &UserChange,
        revision: Option<i64>,
        by: &By,
    ) -> Result<UserChanged>;
    /// Deletes a user, if this is still its revision.
    async fn delete_user(&self, id: &str, revision: Option<i64>, by: &By) -> Result<UserChanged>;
    /// Gives a user another password and ends their sessions.
    async fn set_password(&self, id: &str, password: &NewPassword, by: &By) -> Result<UserChanged>;

    /// Counts an attempt to sign in, in all buckets or in none.
    async fn count_attempt(&self, buckets: &[Bucket], now: i64) -> Result<Attempt>;
    /// Takes an attempt that was right out of its buckets again.
    async fn refund_attempt(&self, buckets: &[Bucket]) -> Result<()>;
    /// Empties a bucket.
    async fn forget_attempts(&self, bucket: &Bucket) -> Result<()>;
    /// Forgets counts that are paid for and sessions that are over.
    async fn sweep_sessions(&self, now: i64, idle_since: i64) -> Result<()>;
    /// Begins a session, if the password is still the user's.
    async fn begin_session(&self, session: &NewSession, by: &By) -> Result<SessionBegun>;
    /// The session with this token, and its user if they may sign in.
    async fn session_owner(&self, digest: &TokenDigest) -> Result<Option<SessionOwner>>;
    /// Notes that a session is in use.
    async fn touch_session(&self, id: &str, now: i64) -> Result<()>;
    /// Sessions of a user, newest first.
    async fn sessions(
        &self,
        user: &str,
        after: Option<String>,
        limit: Limit,
    ) -> Result<Page<SessionRow>>;
    /// Ends a session; with `user` only one of theirs.
    async fn end_session(&self, id: &str, user: Option<&str>, by: &By) -> Result<SessionEnded>;

    /// The API token in force with this digest, with its maker.
    async fn token_owner(&self, digest: &TokenDigest) -> Result<Option<TokenOwner>>;
    /// Notes that an API token is in use.
    async fn touch_api_token(&self, id: &str, now: i64) -> Result<()>;
    /// Stores a new API token.
    async fn insert_api_token(&self, token: &NewApiToken, by: &By) -> Result<ApiTokenInserted>;
    /// API tokens, newest first.
    async fn api_tokens(&self, query: &ApiTokenQuery) -> Result<Page<ApiTokenRow>>;
    /// One API token; with `maker` only one of theirs.
    async fn api_token(&self, id: &str, maker: Option<&str>) -> Result<Option<ApiTokenRow>>;
    /// Revokes an API token, if this is still its revision; with `maker` only one of
    /// theirs.
    async fn revoke_api_token(
        &self,
        id: &str,
        maker: Option<&str>,
        revision: Option<i64>,
        by: &By,
    ) -> Result<Revoked>;

    /// Who did what, newest first.
    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRow>>;

    /// An enrolment token, in force or not.
    async fn enrolment_token(&self, digest: &TokenDigest) -> Result<Option<EnrolmentToken>>;
    /// Stores a new enrolment token.
    async fn insert_enrolment_token(
        &self,
        token: &NewEnrolmentToken,
        by: &By,
    ) -> Result<EnrolmentToken>;
    /// Enrolment tokens, newest first.
    async fn enrolment_tokens(
        &self,
        after: Option<String>,
        limit: Limit,
    ) -> Result<Page<EnrolmentToken>>;
    /// One enrolment token, by its id.
    async fn enrolment_token_by_id(&self, id: &str) -> Result<Option<EnrolmentToken>>;
    /// Revokes an enrolment token, if this is still its revision; doing so twice keeps
    /// the first time.
    async fn revoke_enrolment_token(
        &self,
        id: &str,
        revision: Option<i64>,
        by: &By,
    ) -> Result<Revoked>;

    /// The host a secret belongs to.
    async fn secret_owner(&self, digest: &TokenDigest) -> Result<Option<SecretOwner>>;
    /// Makes a secret that was handed out and is now used the only one, until
    /// it is replaced at `rotate_due`. Returns its number; none if it does not
    /// hold.
    async fn promote_secret(&self, digest: &TokenDigest, rotate_due: i64) -> Result<Option<i64>>;
    /// Notes a new secret for a host, which holds beside the one in force.
    async fn offer_secret(&self, offer: &Offer) -> Result<Offered>;
    /// Has a host's secret replaced with its next status.
    async fn order_rotation(
        &self,
        agentsn: &str,
        scope: &Scope,
        by: &By,
    ) -> Result<RotationOrdered>;
    /// Takes a host out of the fleet, revoked or deleted; its open jobs end.
    async fn remove_host(&self, removal: &Removal, scope: &Scope, by: &By) -> Result<Removed>;
    /// What a registration must know of the host it names.
    async fn known_host(&self, agentsn: &str) -> Result<Option<crate::fleet::enrol::KnownHost>>;
    /// Stores a decided registration.
    async fn register_host(&self, registration: &Registration) -> Result<Registered>;
    /// Hosts by name.
    async fn hosts(&self, query: &HostQuery) -> Result<Page<HostSummary>>;
    /// One host of the scope.
    async fn host(&self, agentsn: &str, scope: &Scope) -> Result<Option<HostDetail>>;
    /// Gives a host of the scope these tags and no others, if this is still its
    /// revision.
    async fn set_tags(
        &self,
        agentsn: &str,
        tags: &crate::fleet::tags::Tags,
        revision: Option<i64>,
        scope: &Scope,
        by: &By,
    ) -> Result<TagsSet>;
    /// Changes what operators say of a host of the scope, if this is still its
    /// revision.
    async fn edit_host(
        &self,
        agentsn: &str,
        edit: &HostEdit,
        revision: Option<i64>,
        scope: &Scope,
        by: &By,
    ) -> Result<HostEdited>;
    /// The agentsn of every host of a query, whatever its order and page; none when
    /// they are more than `most`.
    async fn agentsns(&self, query: &HostQuery, most: usize) -> Result<Option<Vec<String>>>;
    /// Changes a part of many hosts; those that are not in the scope are left alone.
    async fn change_hosts(
        &self,
        change: &BulkChange,
        part: &BulkPart,
        scope: &Scope,
        by: &By,
    ) -> Result<PartChanged>;
    /// The hosts of a list, in no order; those that are unknown or not in the
    /// scope are missing.
    async fn hosts_by_agentsn(
        &self,
        agentsns: &[String],
        scope: &Scope,
    ) -> Result<Vec<HostSummary>>;

    /// Groups by name.
    async fn groups(&self, query: &GroupQuery) -> Result<Page<Group>>;
    /// One group.
    async fn group(&self, id: &str) -> Result<Option<Group>>;
    /// Stores a new group.
    async fn insert_group(&self, terms: &GroupTerms, by: &By) -> Result<GroupStored>;
    /// Changes a group, if this is still its version.
    async fn update_group(
        &self,
        terms: &GroupTerms,
        version: Option<i64>,
        by: &By,
    ) -> Result<GroupStored>;
    /// Deletes a group that is in no other, if this is still its version.
    async fn delete_group(&self, id: &str, version: Option<i64>, by: &By) -> Result<GroupDeleted>;
    /// Has a group name hosts one by one, and others no longer.
    async fn name_hosts(&self, naming: &Naming, by: &By) -> Result<Named>;

    /// Moves hosts that were not heard in time, some of those that are due, and
    /// notes that the platform is there. To be called every few seconds.
    async fn look_at_hosts(&self, lease: &Lease, now: i64) -> Result<Held<Looked>>;
    /// How many hosts are in each state.
    async fn host_counts(&self) -> Result<Vec<(crate::fleet::presence::Presence, i64)>>;
    /// What became of a host, newest first.
    async fn host_changes(&self, query: &HostChangeQuery) -> Result<Page<HostChange>>;

    /// How long a batch of statuses waits for company: far below what a host notices,
    /// and enough that those of a million hosts share their commits.
    fn linger(&self) -> Duration;
    /// Stores statuses, all or none, and says what each host shall do.
    /// The outcomes are in the order of the records.
    async fn record_statuses(&self, records: &[StatusRecord]) -> Result<Vec<StatusOutcome>>;

    /// Where the bytes of packages are, if this database keeps them itself.
    fn chunks(&self) -> Option<Chunks>;
    /// Stores a package, unless another one has its place, and gives the blob that
    /// came in for it its sum.
    async fn insert_package(
        &self,
        package: &PackageRow,
        blob: Option<&str>,
        by: &By,
    ) -> Result<PackageInserted>;
    /// Gives up uploads that began so many milliseconds ago. Returns how many.
    async fn sweep_uploads(&self, lease: &Lease, older_than: i64) -> Result<Held<u64>>;
    /// One package.
    async fn package(&self, id: &str) -> Result<Option<PackageRow>>;
    /// The package behind a path below `/packages/`.
    async fn package_by_file(&self, file: &str) -> Result<Option<PackageRow>>;
    /// Packages, newest first.
    async fn packages(&self, query: &PackageQuery) -> Result<Page<PackageRow>>;
    /// Of these SHA-256s, those no package has.
    async fn orphan_blobs(&self, sha256s: &[String]) -> Result<Vec<String>>;
    /// Deletes a package no open job needs.
    async fn delete_package(&self, id: &str, by: &By) -> Result<PackageDeleted>;

    /// Stores jobs, all or none. Hosts that are not in the scope are unknown.
    async fn insert_jobs(&self, jobs: &NewJobs, scope: &Scope, by: &By) -> Result<JobsInserted>;
    /// Jobs, newest first.
    async fn jobs(&self, query: &JobQuery) -> Result<Page<JobRow>>;
    /// One job of a host of the scope.
    async fn job(&self, id: &str, scope: &Scope) -> Result<Option<JobRow>>;
    /// Withdraws a job: at once while its host has not been told, otherwise
    /// by the job `cancel_id` that tells it.
    async fn cancel_job(
        &self,
        id: &str,
        cancel_id: &str,
        scope: &Scope,
        by: &By,
    ) -> Result<Cancelled>;
    /// Ends jobs that were never handed out and must not begin any more.
    /// Returns how many.
    async fn expire_jobs(&self, lease: &Lease, now: i64) -> Result<Held<u64>>;
    /// Ends jobs that were handed out, whose time is over, and that their hosts do
    /// not know any more; returns how many. A few of those that are to be looked at.
    async fn lose_jobs(&self, lease: &Lease, now: i64) -> Result<Held<u64>>;
    /// The database was restored, and nobody knows what happened since it was
    /// copied: every open job ends, nobody is signed in, and no number of events,
    /// results and the like is given a second time. Returns how many jobs ended.
    async fn restored(&self, now: i64) -> Result<u64>;
    /// Results in order of arrival.
    async fn job_results(&self, query: &ResultQuery) -> Result<Page<ResultRow>>;

    /// How many hosts a set of targets has within a scope, by what they are.
    async fn count_targets(&self, set: &TargetSet, scope: &Scope) -> Result<Vec<SystemCount>>;
    /// The first of them that are like one of these systems.
    async fn hosts_like(
        &self,
        set: &TargetSet,
        scope: &Scope,
        systems: &[SystemCount],
        most: usize,
    ) -> Result<Vec<HostOfSet>>;
    /// Stores a rollout, whose targets are written down from its first turns on.
    async fn insert_rollout(
        &self,
        rollout: &NewRollout,
        scope: &Scope,
        by: &By,
    ) -> Result<RolloutInserted>;
    /// Rollouts, newest first.
    async fn rollouts(&self, query: &RolloutQuery) -> Result<Page<RolloutRow>>;
    /// One rollout over hosts of the scope.
    async fn rollout(&self, id: &str, scope: &Scope) -> Result<Option<RolloutRow>>;
    /// What a rollout orders of its targets; nothing when it is not there any more.
    async fn rollout_goods(&self, number: i64) -> Result<Goods>;
    /// The targets of a rollout, in their order.
    async fn rollout_targets(&self, query: &TargetQuery) -> Result<Page<TargetRow>>;
    /// Tells a rollout something, if this is still its revision.
    async fn order_rollout(
        &self,
        id: &str,
        order: &Order,
        revision: Option<i64>,
        scope: &Scope,
        by: &By,
    ) -> Result<Ordered>;
    /// The rollouts that may have something to do, by number, the oldest first.
    async fn rollouts_due(&self) -> Result<Vec<i64>>;
    /// Does the next part of what a rollout has to do; nothing beside a newer program.
    async fn turn_rollout(&self, lease: &Lease, number: i64, now: i64) -> Result<Held<Turned>>;

    /// Stores an assignment, which begins with its first turn.
    async fn insert_assignment(&self, new: &NewAssignment, by: &By) -> Result<AssignmentStored>;
    /// Assignments, newest first.
    async fn assignments(&self, query: &AssignmentQuery) -> Result<Page<AssignmentRow>>;
    /// One assignment.
    async fn assignment(&self, id: &str) -> Result<Option<AssignmentRow>>;
    /// Changes an assignment, if this is still its revision.
    async fn change_assignment(
        &self,
        id: &str,
        change: &AssignmentChange,
        revision: Option<i64>,
        by: &By,
    ) -> Result<AssignmentStored>;
    /// Tells an assignment something, if this is still its revision.
    async fn order_assignment(
        &self,
        id: &str,
        order: &AssignmentOrder,
        revision: Option<i64>,
        by: &By,
    ) -> Result<AssignmentStored>;
    /// Deletes an assignment, if this is still its revision.
    async fn delete_assignment(
        &self,
        id: &str,
        revision: Option<i64>,
        by: &By,
    ) -> Result<AssignmentDeleted>;
    /// Gives the hosts of an assignment other files of the same version.
    async fn renew_assignment(&self, rollout: i64, goods: &Goods) -> Result<()>;
    /// How many hosts an assignment would mean, by what they are and how they stand.
    async fn fit_assignment(&self, draft: &Draft) -> Result<Vec<FitCount>>;
    /// The assignments at work that give hosts of a set another version of an agent.
    async fn assignments_against(
        &self,
        set: &TargetSet,
        scope: &Scope,
        agent: &str,
        version: Option<&str>,
    ) -> Result<Vec<AssignmentRow>>;

    /// Notes that a request begins which is to be done once.
    async fn begin_once(&self, once: &Once, now: i64) -> Result<Begun>;
    /// Keeps how it was answered; without an answer it may come again.
    async fn end_once(&self, once: &Once, answer: Option<&KeptAnswer>) -> Result<()>;

    /// Events in order of arrival.
    async fn events(&self, query: &EventQuery) -> Result<Page<EventRow>>;
}
