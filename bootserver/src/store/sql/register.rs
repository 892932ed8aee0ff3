//! Registrations and the secrets they hand out.

use super::presence::Move;
use super::{SqlStore, Write, failed, from_json, host, job_end, one_at_a_time, presence, to_json};
use crate::fleet::enrol::{KnownHost, Standing};
use crate::fleet::presence::Presence;
use crate::fleet::tags::Tags;
use crate::store::Result;
use crate::store::change::Topic;
use crate::store::host::{
    OpenOrders, Registered, Registration, RegistrationEffect, SecretOwner, SecretStanding,
};
use crate::token::TokenDigest;

pub(super) async fn secret_owner(
    store: &SqlStore,
    digest: &TokenDigest,
) -> Result<Option<SecretOwner>> {
    let row: Option<(String, bool, i64)> = sqlx::query_as(
        "SELECT agentsn, is_new, host_seen.number FROM (
             SELECT agentsn, FALSE AS is_new FROM host WHERE secret = $1
             UNION ALL SELECT agentsn, TRUE AS is_new FROM host WHERE next_secret = $1) AS owner
         JOIN host_seen USING (agentsn) LIMIT 1",
    )
    .bind(digest.as_str())
    .fetch_optional(&store.lookups)
    .await
    .map_err(failed("looking up a host's secret"))?;
    Ok(row.map(|(agentsn, is_new, number)| SecretOwner {
        agentsn,
        standing: match is_new {
            true => SecretStanding::New,
            false => SecretStanding::Current,
        },
        number,
    }))
}

/// Of several that use a new secret for the first time, one makes it the one in
/// force, the others find it so.
pub(super) async fn promote_secret(
    store: &SqlStore,
    digest: &TokenDigest,
    rotate_due: i64,
) -> Result<Option<i64>> {
    let step = "replacing a host's secret";
    let mut tx = store.write(step).await?;
    let promoted: Option<i64> = sqlx::query_scalar(
        "UPDATE host_seen SET number = number + 1, rotate_due = $2
         WHERE agentsn = (SELECT agentsn FROM host WHERE next_secret = $1) RETURNING number",
    )
    .bind(digest.as_str())
    .bind(rotate_due)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    if promoted.is_none() {
        return sqlx::query_scalar(
            "SELECT number FROM host_seen JOIN host USING (agentsn) WHERE host.secret = $1",
        )
        .bind(digest.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed(step));
    }
    let replaced = sqlx::query(
        "UPDATE host SET secret = next_secret, next_secret = NULL WHERE next_secret = $1",
    )
    .bind(digest.as_str())
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    if replaced.rows_affected() == 0 {
        // Somebody else was quicker while we waited; what we counted is undone.
        tx.rollback().await.map_err(failed(step))?;
        return sqlx::query_scalar(
            "SELECT number FROM host_seen JOIN host USING (agentsn) WHERE host.secret = $1",
        )
        .bind(digest.as_str())
        .fetch_optional(&store.writer)
        .await
        .map_err(failed(step));
    }
    tx.commit().await.map_err(failed(step))?;
    Ok(promoted)
}

pub(super) async fn known_host(store: &SqlStore, agentsn: &str) -> Result<Option<KnownHost>> {
    let step = "looking up a host that registers";
    type Row = (Option<String>, Option<String>, String, String, Option<i64>);
    let row: Option<Row> = sqlx::query_as(
        "SELECT machine_id, enrolment, host.state, sightings, host_seen.seen
         FROM host JOIN host_seen USING (agentsn) WHERE agentsn = $1",
    )
    .bind(agentsn)
    .fetch_optional(&store.lookups)
    .await
    .map_err(failed(step))?;
    let Some((machine_id, enrolment, state, sightings, seen)) = row else {
        return Ok(None);
    };
    Ok(Some(KnownHost {
        machine_id,
        enrolment,
        standing: match (Presence::parse(&state), seen) {
            (Some(Presence::Revoked), _) => Standing::Revoked,
            (Some(Presence::Deleted), _) => Standing::Deleted,
            (_, None) => Standing::Silent,
            (_, Some(_)) => Standing::Active,
        },
        sightings: from_json(step, &sightings)?,
    }))
}

pub(super) async fn register_host(
    store: &SqlStore,
    registration: &Registration,
) -> Result<Registered> {
    let step = "storing a registration";
    let mut tx = store.write(step).await?;
    let (is_stored, tags) = match &registration.effect {
        RegistrationEffect::Create {
            enrolment,
            tags,
            copy_of,
        } => {
            // Before the counters, which are what everybody waits for.
            if let Some(original) = copy_of {
                forget_copy(&mut tx, original).await?;
            }
            let is_paid = match enrolment {
                Some(id) => pay(&mut tx, id, registration.now).await?,
                None => true,
            };
            let enrolment = enrolment.as_deref();
            let is_stored = is_paid && create(&mut tx, registration, enrolment).await?;
            (is_stored, tags)
        }
        RegistrationEffect::Revive { enrolment, tags } => {
            one_at_a_time(&mut tx).await?;
            let is_paid = pay(&mut tx, enrolment, registration.now).await?;
            let is_stored = is_paid && revive(&mut tx, registration, enrolment).await?;
            (is_stored, tags)
        }
        RegistrationEffect::Renew { tags, orders } => {
            if *orders == OpenOrders::End {
                one_at_a_time(&mut tx).await?;
            }
            let is_stored = renew(&mut tx, registration).await?;
            tx.tell(Topic::Host, "changed", [&registration.agentsn]);
            if is_stored && *orders == OpenOrders::End {
                let why = "the host enrolled anew";
                job_end::end_open(&mut tx, &[&registration.agentsn], why, registration.now).await?;
            }
            (is_stored, tags)
        }
    };
    if !is_stored {
        return Ok(Registered::Changed);
    }
    for (key, value) in tags.iter() {
        sqlx::query(
            "INSERT INTO host_tag (agentsn, key, value, origin)
             VALUES ($1, $2, $3, 'enrolment') ON CONFLICT (agentsn, key) DO NOTHING",
        )
        .bind(&registration.agentsn)
        .bind(key)
        .bind(value)
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
    if created.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("INSERT INTO host_seen (agentsn, rotate_due) VALUES ($1, $2)")
        .bind(&registration.agentsn)
        .bind(registration.rotate_due)
        .execute(&mut **tx)
        .await
        .map_err(failed("storing a new host"))?;
    let moves = [Move::new(&registration.agentsn, None, Presence::New)];
    presence::set(tx, &moves, registration.now).await?;
    Ok(true)
}

/// False if the host is not deleted any more.
async fn revive(tx: &mut Write, registration: &Registration, enrolment: &str) -> Result<bool> {
    let step = "storing a host that comes back";
    let seen = sqlx::query(
        "UPDATE host_seen SET number = number + 1, rotate_due = $2, seen = NULL, reported = NULL,
                uptime = NULL, readings = NULL, digest = NULL
         WHERE agentsn = $1 AND state = 'deleted'",
    )
    .bind(&registration.agentsn)
    .bind(registration.rotate_due)
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    if seen.rows_affected() == 0 {
        return Ok(false);
    }
    // One that was ordered in the moment of the deletion.
    let why = "the host was deleted";
    job_end::end_open(tx, &[&registration.agentsn], why, registration.now).await?;
    let reported = &registration.reported;
    sqlx::query(
        "UPDATE host SET secret = $2, next_secret = NULL, enrolment = $3, registered = $4,
                hostname = $5, version = $6, os = $7, arch = $8, ip = $9, machine_id = $10,
                boot_id = $11, sightings = '{}'
         WHERE agentsn = $1",
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
    .map_err(failed(step))?;
    let moves = [Move {
        detail: "enrolled again",
        ..Move::new(
            &registration.agentsn,
            Some(Presence::Deleted),
            Presence::New,
        )
    }];
    presence::set(tx, &moves, registration.now).await?;
    Ok(true)
}

/// Of a host this row comes first, in every transaction.
async fn lock(tx: &mut Write, agentsn: &str) -> Result<()> {
    sqlx::query(concat!(
        "SELECT 1 FROM host_seen WHERE agentsn = $1",
        for_update!()
    ))
    .bind(agentsn)
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed("waiting for what is written of a host"))?;
    Ok(())
}

/// The copy has an identity of its own from now on.
async fn forget_copy(tx: &mut Write, original: &str) -> Result<()> {
    lock(tx, original).await?;
    sqlx::query("UPDATE host SET sightings = '{}' WHERE agentsn = $1")
        .bind(original)
        .execute(&mut **tx)
        .await
        .map_err(failed("storing a new host"))?;
    Ok(())
}

/// False if the host is another machine's by now.
async fn renew(tx: &mut Write, registration: &Registration) -> Result<bool> {
    lock(tx, &registration.agentsn).await?;
    let reported = &registration.reported;
    let renewed = sqlx::query(
        "UPDATE host SET next_secret = $2, registered = $3, hostname = $4, version = $5, os = $6,
                         arch = $7, ip = $8, machine_id = coalesce($9, machine_id), boot_id = $10
         WHERE agentsn = $1 AND (machine_id IS NULL OR machine_id = $9)
           AND state NOT IN ('revoked', 'deleted')",
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
    sqlx::query("UPDATE host_seen SET digest = NULL WHERE agentsn = $1")
        .bind(&registration.agentsn)
        .execute(&mut **tx)
        .await
        .map_err(failed("storing a host's renewal"))?;
    Ok(renewed.rows_affected() == 1)
}
