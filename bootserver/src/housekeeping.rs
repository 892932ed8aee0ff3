//! What the server does by itself, beside requests: the store's own upkeep, the
//! end of jobs nobody may begin any more and of uploads nobody ends, and forgetting, which takes its time
//! and therefore is a task and a lease of its own.
//!
//! The one rule: of several servers on one database, the one with the lease
//! works. One that hangs loses it and cannot write any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::clock::unix_millis;
use crate::config::Retention;
use crate::problem::chain;
use crate::store::idempotency::KEPT;
use crate::store::lease::Held;
use crate::store::retention::Kept;
use crate::store::{Result, Store, Upkeep, within};

/// How often is looked whether the store has much to keep house for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of so many looks one does all of it, and looks for jobs that expired or are lost.
const LOOKS: u32 = 5;
/// How often is looked for what is to be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How long a server that is gone keeps others from its work.
const LEASE_MILLIS: i64 = 20_000;
/// Rows forgotten in one transaction: statuses wait for it.
const FORGET_ROWS: u32 = 200;
/// The pause between two of them.
const FORGET_PAUSE: Duration = Duration::from_millis(50);
/// Most transactions of one round; the next one goes on.
const FORGET_MOST: u32 = 1000;
/// Older than this no upload is under way: one may take an hour.
const UPLOAD_MILLIS: i64 = 2 * 3_600_000;
/// The work the leases are for.
const WORK: &str = "housekeeping";
const FORGETTING: &str = "retention";

/// Keeps house until it is dropped.
pub async fn keep_house(store: Arc<dyn Store>, holder: String) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in (0..LOOKS).cycle() {
        ticks.tick().await;
        let kept = match look {
            0 => keep(store.as_ref(), &holder).await,
            _ => store.maintain(Upkeep::IfMuch).await,
        };
        if let Err(error) = kept {
            tracing::warn!(error = chain(&error), "housekeeping failed");
        }
    }
}

async fn keep(store: &dyn Store, holder: &str) -> Result<()> {
    // Each server's own, lease or not. It has no deadline: a slow disk may take
    // long to write a log back, and nobody waits for it.
    store.maintain(Upkeep::Usual).await?;
    let step = "ending expired jobs";
    let lease = within(step, store.take_lease(WORK, holder, LEASE_MILLIS)).await?;
    let Some(lease) = lease else { return Ok(()) };
    match within(step, store.expire_jobs(&lease, unix_millis())).await? {
        Held::Done(0) | Held::Lost => {}
        Held::Done(jobs) => tracing::info!(jobs, "jobs expired before they were handed out"),
    }
    let step = "looking for jobs that are lost";
    match within(step, store.lose_jobs(&lease, unix_millis())).await? {
        Held::Done(0) | Held::Lost => {}
        Held::Done(jobs) => tracing::warn!(jobs, "jobs are lost: their hosts do not know them"),
    }
    let Some(chunks) = store.chunks() else {
        return Ok(());
    };
    let step = "giving up unfinished uploads";
    match within(step, store.sweep_uploads(&lease, UPLOAD_MILLIS)).await? {
        Held::Done(0) | Held::Lost => {}
        Held::Done(uploads) => tracing::info!(uploads, "what a server left of uploads is given up"),
    }
    // Each call in it is a short one.
    chunks.remove_gone().await
}

/// Forgets what is old until it is dropped.
pub async fn forget_old(store: Arc<dyn Store>, holder: String, retention: Retention) {
    let mut ticks = interval(FORGET_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = forget(store.as_ref(), &holder, retention).await {
            tracing::warn!(error = chain(&error), "what is old was not forgotten");
        }
    }
}

/// One round; the lease is prolonged before each transaction.
async fn forget(store: &dyn Store, holder: &str, retention: Retention) -> Result<()> {
    let step = "forgetting what is old";
    for (kept, age) in [
        (Kept::Events, retention.events),
        (Kept::Jobs, retention.jobs),
        (Kept::Rollouts, retention.jobs),
        (Kept::Audit, retention.audit),
        (Kept::Answers, Some(KEPT)),
        (Kept::Changes, retention.hosts),
        (Kept::Hosts, retention.hosts),
    ] {
        let Some(age) = age else { continue };
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before = unix_millis().saturating_sub(age);
        let mut forgotten = 0;
        for _ in 0..FORGET_MOST {
            let lease = store.take_lease(FORGETTING, holder, LEASE_MILLIS);
            let Some(lease) = within(step, lease).await? else {
                return Ok(());
            };
            let done = store.forget(&lease, kept, before, FORGET_ROWS);
            let Held::Done(rows) = within(step, done).await? else {
                return Ok(());
            };
            forgotten += rows;
            if rows < u64::from(FORGET_ROWS) {
                break;
            }
            sleep(FORGET_PAUSE).await;
        }
        if forgotten > 0 {
            tracing::info!(
                ?kept,
                rows = forgotten,
                "what is older than its retention is gone"
            );
        }
    }
    Ok(())
}
