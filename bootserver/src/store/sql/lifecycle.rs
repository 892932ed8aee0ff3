//! Hosts that get a new secret, and hosts that leave the fleet.

use serde::Serialize;
use serde_json::json;

use super::audit::{Deed, note};
use super::presence::Move;
use super::scope::in_scope;
use super::{SqlStore, Write, failed, job_end, no_orders_come, one_at_a_time, presence, to_json};
use crate::access::scope::Scope;
use crate::fleet::presence::Presence;
use crate::store::Result;
use crate::store::audit::By;
use crate::store::host::{Offer, Offered, Removal, Removed, RotationOrdered};

/// What a table has of hosts that are given.
macro_rules! of_these {
    ($table:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE agentsn IN (SELECT given.value FROM ",
            given_texts!("$1"),
            ")"
        )
    };
}

pub(super) async fn offer_secret(store: &SqlStore, offer: &Offer) -> Result<Offered> {
    let step = "storing a new secret of a host";
    let mut tx = store.write(step).await?;
    // Of two statuses at once one brings the host a secret: a second one would
    // make the first one, which is on its way, worth nothing.
    let seen = sqlx::query(
        "UPDATE host_seen SET rotate_due = $3
         WHERE agentsn = $1 AND number = $2 AND rotate_due <= $4",
    )
    .bind(&offer.agentsn)
    .bind(offer.number)
    .bind(offer.again)
    .bind(offer.now)
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    if seen.rows_affected() == 0 {
        return Ok(Offered::Changed);
    }
    sqlx::query("UPDATE host SET next_secret = $2 WHERE agentsn = $1")
        .bind(&offer.agentsn)
        .bind(offer.secret.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Offered::Done)
}

pub(super) async fn order_rotation(
    store: &SqlStore,
    agentsn: &str,
    scope: &Scope,
    by: &By,
) -> Result<RotationOrdered> {
    let step = "ordering a new secret of a host";
    let mut tx = store.write(step).await?;
    let ordered = sqlx::query(
        "UPDATE host_seen SET rotate_due = $2
         WHERE agentsn = $1 AND state NOT IN ('revoked', 'deleted')",
    )
    .bind(agentsn)
    .bind(by.at)
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    if ordered.rows_affected() == 0 || !in_scope(&mut tx, scope, agentsn).await? {
        return Ok(RotationOrdered::Unknown);
    }
    let deed = Deed {
        action: "host.rotate-secret",
        target: agentsn,
        detail: json!({}),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(RotationOrdered::Done)
}

/// Takes one host out.
pub(super) async fn remove_host(
    store: &SqlStore,
    removal: &Removal,
    scope: &Scope,
    by: &By,
) -> Result<Removed> {
    let step = "taking a host out of the fleet";
    let agentsn = removal.agentsn.as_str();
    let mut tx = store.write(step).await?;
    one_at_a_time(&mut tx).await?;
    no_orders_come(&mut tx).await?;
    let known = lock(&mut tx, &[&removal.agentsn]).await?;
    let Some((_, from)) = known.first() else {
        return Ok(Removed::Unknown);
    };
    if !in_scope(&mut tx, scope, agentsn).await? {
        return Ok(Removed::Unknown);
    }
    let revision: i64 = sqlx::query_scalar("SELECT revision FROM host WHERE agentsn = $1")
        .bind(agentsn)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed(step))?;
    if removal.revision.is_some_and(|seen| seen != revision) {
        return Ok(Removed::Stale);
    }
    if *from == Some(removal.to) {
        return Ok(Removed::Done);
    }
    let host = Leaving {
        agentsn,
        from: *from,
        nobody: removal.nobody.as_str(),
    };
    take_out(&mut tx, &[host], removal.to, by).await?;
    let deed = Deed {
        action: match removal.to {
            Presence::Deleted => "host.delete",
            _ => "host.revoke",
        },
        target: agentsn,
        detail: json!({ "before": from.map(Presence::word) }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Removed::Done)
}

/// A host that is about to be taken out.
#[derive(Debug, Serialize)]
pub(super) struct Leaving<'a> {
    pub(super) agentsn: &'a str,
    /// How it stands.
    #[serde(skip)]
    pub(super) from: Option<Presence>,
    /// What stands in for its secret.
    pub(super) nobody: &'a str,
}

/// Of these hosts, those that are not deleted, and how they stand; nobody changes
/// that until the commit.
pub(super) async fn lock(
    tx: &mut Write,
    agentsns: &[&String],
) -> Result<Vec<(String, Option<Presence>)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(concat!(
        "SELECT agentsn, state FROM host_seen WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ") AND state <> 'deleted' ORDER BY agentsn",
        for_update!()
    ))
    .bind(to_json(agentsns))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking how hosts stand"))?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|(agentsn, state)| (agentsn, Presence::parse(&state)))
        .collect())
}

/// Takes hosts out that are locked, after [`one_at_a_time`] and [`no_orders_come`].
/// The secret's number goes up, so that a status that is on its way with the old
/// one is refused in its own transaction.
pub(super) async fn take_out(
    tx: &mut Write,
    hosts: &[Leaving<'_>],
    to: Presence,
    by: &By,
) -> Result<()> {
    let step = "taking hosts out of the fleet";
    let agentsns: Vec<&str> = hosts.iter().map(|host| host.agentsn).collect();
    let given = to_json(&agentsns);
    sqlx::query(concat!(
        "UPDATE host_seen SET number = number + 1, rotate_due = NULL
         WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(&given)
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    sqlx::query(concat!(
        "UPDATE host SET secret = given.value ->> 'nobody', next_secret = NULL FROM ",
        given_rows!("$1"),
        " WHERE host.agentsn = given.value ->> 'agentsn'"
    ))
    .bind(to_json(hosts))
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    if to == Presence::Deleted {
        for table in [
            of_these!("host_tag"),
            of_these!("host_state"),
            of_these!("host_agent"),
            of_these!("group_host"),
        ] {
            sqlx::query(table)
                .bind(&given)
                .execute(&mut **tx)
                .await
                .map_err(failed(step))?;
        }
    }
    let message = match to {
        Presence::Deleted => "the host was deleted",
        _ => "the host was revoked",
    };
    job_end::end_open(tx, &agentsns, message, by.at).await?;
    let moves = hosts
        .iter()
        .map(|host| Move::new(host.agentsn, host.from, to));
    presence::set(tx, &moves.collect::<Vec<_>>(), by.at).await
}
