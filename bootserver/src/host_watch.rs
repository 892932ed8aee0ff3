//! Looks which hosts have not been heard in time, and how many there are.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::app::App;
use crate::clock::unix_millis;
use crate::fleet::presence::Presence;
use crate::problem::chain;
use crate::store::lease::Held;
use crate::store::{Result, within};

/// How often is looked: far more often than the shortest grace.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The work the lease is for.
const WORK: &str = "presence";
/// How long a server that is gone keeps others from it.
const LEASE_MILLIS: i64 = 20_000;

/// Looks for as long as it is polled. Of several servers on one database, the
/// one with the lease moves hosts; each counts them.
pub async fn watch_hosts(app: App, holder: String) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if let Err(error) = look(&app, &holder).await {
            let error = chain(&error);
            tracing::warn!(error, "hosts that are late were not looked for");
        }
    }
}

async fn look(app: &App, holder: &str) -> Result<()> {
    let step = "looking for hosts that are late";
    let store = &app.store;
    let mut moved = 0;
    while let Some(lease) = within(step, store.take_lease(WORK, holder, LEASE_MILLIS)).await? {
        let begun = Instant::now();
        let looked = within(step, store.look_at_hosts(&lease, unix_millis())).await?;
        let Held::Done(looked) = looked else { break };
        moved += looked.moved;
        if !looked.is_full {
            break;
        }
        // Of a million hosts eight thousand are due each time, and after a start all of
        // them: statuses have the database for as long as a look took.
        sleep(begun.elapsed()).await;
    }
    if moved > 0 {
        tracing::info!(hosts = moved, "hosts are late or offline");
    }
    let counts = within(step, store.host_counts()).await?;
    for (state, hosts) in &counts {
        app.edge.metrics.hosts(*state, *hosts);
    }
    let online = counts.iter().find(|(state, _)| *state == Presence::Online);
    let online = online.map_or(0, |(_, hosts)| u64::try_from(*hosts).unwrap_or_default());
    app.fleet_size.store(online, Ordering::Relaxed);
    Ok(())
}
