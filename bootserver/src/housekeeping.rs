//! What the server does by itself, beside requests: the store's own upkeep, the
//! end of jobs nobody may begin any more, and forgetting.
//!
//! The one rule: of several servers on one database, the one with the lease
//! works. One that hangs loses it and cannot write any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::clock::unix_millis;
use crate::config::Retention;
use crate::problem::chain;
use crate::store::lease::{Held, Lease};
use crate::store::retention::Kept;
use crate::store::{Result, Store};

/// How often the store keeps house, and expired jobs are looked for.
const EVERY: Duration = Duration::from_secs(5);
/// Rounds from one look for what is to be forgotten to the next.
const FORGET_ROUNDS: u32 = 12;
/// How long a server that is gone keeps others from its work.
const LEASE_MILLIS: i64 = 20_000;
/// Rows forgotten in one transaction: statuses wait for it.
const FORGET_ROWS: u32 = 200;
/// The pause between two of them.
const FORGET_PAUSE: Duration = Duration::from_millis(50);
/// Most transactions of one round; the next one goes on.
const FORGET_MOST: u32 = 1000;
/// The work this lease is for.
const WORK: &str = "housekeeping";

/// Works until it is dropped.
pub async fn keep_house(store: Arc<dyn Store>, retention: Retention) {
    let holder = Uuid::new_v4().to_string();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round = 0;
    loop {
        ticks.tick().await;
        let done = keep(store.as_ref(), &holder, retention, round).await;
        if let Err(error) = done {
            tracing::warn!(error = chain(&error), "housekeeping failed");
        }
        round = (round + 1) % FORGET_ROUNDS;
    }
}

async fn keep(store: &dyn Store, holder: &str, retention: Retention, round: u32) -> Result<()> {
    // Each server's own, lease or not.
    store.maintain().await?;
    let Some(lease) = store.take_lease(WORK, holder, LEASE_MILLIS).await? else {
        return Ok(());
    };
    match store.expire_jobs(&lease, unix_millis()).await? {
        Held::Done(0) | Held::Lost => {}
        Held::Done(jobs) => tracing::info!(jobs, "jobs expired before they were handed out"),
    }
    if round == 0 {
        forget(store, lease, retention).await?;
    }
    Ok(())
}

async fn forget(store: &dyn Store, mut lease: Lease, retention: Retention) -> Result<()> {
    for (kept, age) in [
        (Kept::Events, retention.events),
        (Kept::Jobs, retention.jobs),
        (Kept::Audit, retention.audit),
    ] {
        let Some(age) = age else { continue };
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before = unix_millis().saturating_sub(age);
        let mut forgotten = 0;
        for _ in 0..FORGET_MOST {
            let Held::Done(rows) = store.forget(&lease, kept, before, FORGET_ROWS).await? else {
                return Ok(());
            };
            forgotten += rows;
            if rows < u64::from(FORGET_ROWS) {
                break;
            }
            sleep(FORGET_PAUSE).await;
            let Some(again) = store.take_lease(WORK, &lease.holder, LEASE_MILLIS).await? else {
                return Ok(());
            };
            lease = again;
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
