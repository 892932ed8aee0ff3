//! Hosts that get a new secret, and hosts that leave the fleet.

use serde_json::json;

use super::audit::{Deed, note};
use super::presence::Move;
use super::scope::in_scope;
use super::{SqlStore, failed, job_end, no_orders_come, one_at_a_time, presence};
use crate::access::scope::Scope;
use crate::fleet::presence::Presence;
use crate::store::Result;
use crate::store::audit::By;
use crate::store::host::{Offer, Offered, Removal, Removed, RotationOrdered};

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

/// The secret's number goes up, so that a status that is on its way with the
/// old one is refused in its own transaction.
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
    let state: Option<String> = sqlx::query_scalar(concat!(
        "SELECT state FROM host_seen WHERE agentsn = $1",
        for_update!()
    ))
    .bind(agentsn)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    if !in_scope(&mut tx, scope, agentsn).await? {
        return Ok(Removed::Unknown);
    }
    let from = match state.as_deref().map(Presence::parse) {
        None | Some(Some(Presence::Deleted)) => return Ok(Removed::Unknown),
        Some(from) if from == Some(removal.to) => return Ok(Removed::Done),
        Some(from) => from,
    };
    sqlx::query("UPDATE host_seen SET number = number + 1, rotate_due = NULL WHERE agentsn = $1")
        .bind(agentsn)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    sqlx::query("UPDATE host SET secret = $2, next_secret = NULL WHERE agentsn = $1")
        .bind(agentsn)
        .bind(removal.nobody.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    if removal.to == Presence::Deleted {
        for table in [
            "DELETE FROM host_tag WHERE agentsn = $1",
            "DELETE FROM host_state WHERE agentsn = $1",
            "DELETE FROM host_agent WHERE agentsn = $1",
            "DELETE FROM group_host WHERE agentsn = $1",
        ] {
            sqlx::query(table)
                .bind(agentsn)
                .execute(&mut *tx)
                .await
                .map_err(failed(step))?;
        }
    }
    let message = match removal.to {
        Presence::Deleted => "the host was deleted",
        _ => "the host was revoked",
    };
    job_end::end_open(&mut tx, agentsn, message, by.at).await?;
    let moves = [Move::new(agentsn, from, removal.to)];
    presence::set(&mut tx, &moves, by.at).await?;
    let deed = Deed {
        action: match removal.to {
            Presence::Deleted => "host.delete",
            _ => "host.revoke",
        },
        target: agentsn,
        detail: json!({ "before": state }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Removed::Done)
}
