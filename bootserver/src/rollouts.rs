//! Goes on with rollouts: looks every second which of them have something to do,
//! and has each take turns.
//!
//! The one rule: of several servers on one database, the one with the lease does it.
//! What it holds in memory is nothing; the next one goes on from what is stored. A server
//! does not take the lease beside a newer one: what that has written of rollouts it may
//! not understand.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::app::App;
use crate::clock::unix_millis;
use crate::problem::chain;
use crate::store::lease::{Held, Lease};
use crate::store::rollout::Turned;
use crate::store::{Result, within};

/// How often is looked for what is new.
const EVERY: Duration = Duration::from_secs(1);
/// The work the lease is for.
const WORK: &str = "rollouts";
/// How long a server that is gone keeps others from it. It is taken anew each second
/// there is something to do; one that loses it in a long turn did nothing in that turn.
const LEASE_MILLIS: i64 = 10_000;
/// How long turns go on before it is looked again what has something to do.
const ROUND: Duration = Duration::from_secs(2);

/// Goes on for as long as it is polled.
pub async fn go_on(app: App, holder: String) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        ticks.tick().await;
        if let Err(error) = round(&app, &holder, &mut told).await {
            let error = chain(&error);
            tracing::warn!(error, "rollouts were not gone on with");
        }
    }
}

/// One round: every rollout that has something to do takes turns with the others. `told`
/// is the migration of a newer server that was told of.
async fn round(app: &App, holder: &str, told: &mut Option<i64>) -> Result<()> {
    let store = &app.store;
    let step = "going on with rollouts";
    let begun = Instant::now();
    // Mostly there is nothing to do, and nothing is written.
    let mut due = within(step, store.rollouts_due()).await?;
    if due.is_empty() {
        return Ok(());
    }
    let unknown = within(step, store.unknown_migration()).await?;
    if let Some(migration) = unknown {
        if *told != unknown {
            tracing::warn!(
                migration,
                "a newer bootserver has brought the tables up to date: rollouts and assignments are left to it"
            );
            *told = unknown;
        }
        return Ok(());
    }
    let lease = within(step, store.take_lease(WORK, holder, LEASE_MILLIS)).await?;
    let Some(lease) = lease else { return Ok(()) };
    while !due.is_empty() && begun.elapsed() < ROUND {
        let mut more = Vec::new();
        for number in due {
            match turn(app, &lease, number).await {
                Some(true) => more.push(number),
                Some(false) => {}
                None => return Ok(()),
            }
        }
        due = more;
    }
    Ok(())
}

/// One turn of one rollout; true if it has more to do, none if the lease is gone.
/// One that fails does not keep the others.
async fn turn(app: &App, lease: &Lease, number: i64) -> Option<bool> {
    let begun = Instant::now();
    let turned = app.store.turn_rollout(lease, number, unix_millis());
    match within("going on with a rollout", turned).await {
        Ok(Held::Done(turned)) => {
            let took = begun.elapsed();
            app.edge.metrics.rollout_turns.observe(took.as_secs_f64());
            sleep(pause(&turned, took)).await;
            Some(turned.is_more)
        }
        Ok(Held::Lost) => None,
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(rollout = number, error, "a rollout was not gone on with");
            Some(false)
        }
    }
}

/// How long statuses have the database for themselves after a turn: as long as it took,
/// and longer where hosts have orders now. A thousand orders take half a second even so, and
/// a large fleet comes for no more.
fn pause(turned: &Turned, took: Duration) -> Duration {
    match turned.ordered {
        0 => took,
        _ => took * 3,
    }
}
