//! Registrations and the secrets they hand out.

use sqlx::Row;

use super::{SqlStore, Write, failed, host, to_json};
use crate::fleet::enrol::KnownHost;
use crate::fleet::tags::Tags;
use crate::store::Result;
use crate::store::host::{
    Registered, Registration, RegistrationEffect, SecretOwner, SecretStanding,
};
use crate::token::TokenDigest;

pub(super) async fn secret_owner(
    store: &SqlStore,
    digest: &TokenDigest,
) -> Result<Option<SecretOwner>> {
    let row: Option<(String, bool)> = sqlx::query_as(
        "SELECT agentsn, FALSE FROM host WHERE secret = $1
         UNION ALL SELECT agentsn, TRUE FROM host WHERE next_secret = $1 LIMIT 1",
    )
    .bind(digest.as_str())
    .fetch_optional(&store.readers)
    .await
    .map_err(failed("looking up a host's secret"))?;
    Ok(row.map(|(agentsn, new)| SecretOwner {
        agentsn,
        standing: if new {
            SecretStanding::New
        } else {
            SecretStanding::Current
        },
    }))
}

pub(super) async fn promote_secret(store: &SqlStore, digest: &TokenDigest) -> Result<()> {
    sqlx::query("UPDATE host SET secret = next_secret, next_secret = NULL WHERE next_secret = $1")
        .bind(digest.as_str())
        .execute(&store.writer)
        .await
        .map_err(failed("replacing a host's secret"))?;
    Ok(())
}

pub(super) async fn known_host(store: &SqlStore, agentsn: &str) -> Result<Option<KnownHost>> {
    let step = "looking up a host that registers";
    let row = sqlx::query("SELECT machine_id, enrolment FROM host WHERE agentsn = $1")
        .bind(agentsn)
        .fetch_optional(&store.readers)
        .await
        .map_err(failed(step))?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(KnownHost {
        machine_id: row.try_get("machine_id").map_err(failed(step))?,
        enrolment: row.try_get("enrolment").map_err(failed(step))?,
    }))
}

pub(super) async fn register_host(
    store: &SqlStore,
    registration: &Registration,
) -> Result<Registered> {
    let step = "storing a registration";
    let mut tx = store.write(step).await?;
    let (stored, tags, origin) = match &registration.effect {
        RegistrationEffect::Create { enrolment, tags } => {
            let paid = match enrolment {
                Some(id) => pay(&mut tx, id, registration.now).await?,
                None => true,
            };
            let created = paid && create(&mut tx, registration, enrolment.as_deref()).await?;
            (created, tags, "enrolment")
        }
        RegistrationEffect::Renew { tags } => {
            (renew(&mut tx, registration).await?, tags, "enrolment")
        }
    };
    if !stored {
        return Ok(Registered::Changed);
    }
    for (key, value) in tags.iter() {
        sqlx::query(
            "INSERT INTO host_tag (agentsn, key, value, origin) VALUES ($1, $2, $3, $4)
             ON CONFLICT (agentsn, key) DO NOTHING",
        )
        .bind(&registration.agentsn)
        .bind(key)
        .bind(value)
        .bind(origin)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    }
    let tags: Tags = host::tags_of(&mut tx, &registration.agentsn).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Registered::Done(tags))
}

/// Takes one use of an enrolment token; false if it does not hold any more.
async fn pay(tx: &mut Write, id: &str, now: i64) -> Result<bool> {
    let paid = sqlx::query(
        "UPDATE enrolment_token SET used = used + 1
         WHERE id = $1 AND revoked IS NULL AND (uses IS NULL OR used < uses)
           AND (expires IS NULL OR expires > $2)",
    )
    .bind(id)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(failed("using an enrolment token"))?;
    Ok(paid.rows_affected() == 1)
}

/// False if the agentsn is taken by now.
async fn create(
    tx: &mut Write,
    registration: &Registration,
    enrolment: Option<&str>,
) -> Result<bool> {
    let reported = &registration.reported;
    let created = sqlx::query(
        "INSERT INTO host (agentsn, secret, enrolment, created, registered, hostname, version,
                           os, arch, ip, machine_id, boot_id)
         VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (agentsn) DO NOTHING",
    )
    .bind(&registration.agentsn)
    .bind(registration.secret.as_str())
    .bind(enrolment)
    .bind(registration.now)
    .bind(&reported.hostname)
    .bind(&reported.version)
    .bind(&reported.os)
    .bind(&reported.arch)
    .bind(to_json(&reported.ip))
    .bind(&reported.machine_id)
    .bind(&reported.boot_id)
    .execute(&mut **tx)
    .await
    .map_err(failed("storing a new host"))?;
    Ok(created.rows_affected() == 1)
}

/// False if the host is another machine's by now.
async fn renew(tx: &mut Write, registration: &Registration) -> Result<bool> {
    let reported = &registration.reported;
    let renewed = sqlx::query(
        "UPDATE host SET next_secret = $2, registered = $3, hostname = $4, version = $5, os = $6,
                         arch = $7, ip = $8, machine_id = coalesce($9, machine_id), boot_id = $10
         WHERE agentsn = $1 AND (machine_id IS NULL OR machine_id = $9)",
    )
    .bind(&registration.agentsn)
    .bind(registration.secret.as_str())
    .bind(registration.now)
    .bind(&reported.hostname)
    .bind(&reported.version)
    .bind(&reported.os)
    .bind(&reported.arch)
    .bind(to_json(&reported.ip))
    .bind(&reported.machine_id)
    .bind(&reported.boot_id)
    .execute(&mut **tx)
    .await
    .map_err(failed("storing a host's renewal"))?;
    // What was said here wins until the next status, even if that one says what
    // the last one said.
    sqlx::query("UPDATE host_state SET digest = '' WHERE agentsn = $1")
        .bind(&registration.agentsn)
        .execute(&mut **tx)
        .await
        .map_err(failed("storing a host's renewal"))?;
    Ok(renewed.rows_affected() == 1)
}
