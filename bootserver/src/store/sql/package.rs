//! Packages: the rows; their bytes are blobs.

use serde_json::{Value, json};
use sqlx::{QueryBuilder, Row};

use super::audit::{Deed, note};
use super::lease::holds;
use super::{Db, DbRow, SqlStore, chunk, failed, listing, one_at_a_time, to_json};
use crate::fleet::package_choice::PackageKind;
use crate::store::Result;
use crate::store::audit::By;
use crate::store::change::Topic;
use crate::store::lease::{Held, Lease};
use crate::store::package::{PackageDeleted, PackageInserted, PackageQuery, PackageRow};
use crate::store::page::Page;

pub(super) async fn insert(
    store: &SqlStore,
    package: &PackageRow,
    blob: Option<&str>,
    by: &By,
) -> Result<PackageInserted> {
    let step = "storing a package";
    let mut tx = store.write(step).await?;
    one_at_a_time(&mut tx).await?;
    let inserted = sqlx::query(
        "INSERT INTO package (id, name, version, os, arch, kind, file, size, sha256, created,
                              signature)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
    )
    .bind(&package.id)
    .bind(&package.name)
    .bind(&package.version)
    .bind(&package.os)
    .bind(&package.arch)
    .bind(package.kind.as_str())
    .bind(&package.file)
    .bind(package.size)
    .bind(&package.sha256)
    .bind(package.created)
    .bind(&package.signature)
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    if inserted.rows_affected() == 0 {
        let row = sqlx::query("SELECT * FROM package WHERE file = $1")
            .bind(&package.file)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed(step))?;
        return Ok(PackageInserted::Exists(Box::new(read(&row)?)));
    }
    if let Some(blob) = blob {
        chunk::keep(&mut tx, blob, &package.sha256).await?;
    }
    let deed = Deed {
        action: "package.upload",
        target: &package.id,
        detail: json!({ "after": brief(package) }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Package, "new", [&package.id]);
    tx.commit().await.map_err(failed(step))?;
    Ok(PackageInserted::Done)
}

pub(super) async fn by_id(store: &SqlStore, id: &str) -> Result<Option<PackageRow>> {
    let row = sqlx::query("SELECT * FROM package WHERE id = $1")
        .bind(id)
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("looking up a package"))?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn by_file(store: &SqlStore, file: &str) -> Result<Option<PackageRow>> {
    let row = sqlx::query("SELECT * FROM package WHERE file = $1")
        .bind(file)
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("looking up a package file"))?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn list(store: &SqlStore, query: &PackageQuery) -> Result<Page<PackageRow>> {
    let mut sql: QueryBuilder<Db> = QueryBuilder::new("SELECT * FROM package WHERE 1 = 1");
    if let Some(name) = &query.name {
        sql.push(" AND name = ").push_bind(name);
    }
    if let Some(version) = &query.version {
        sql.push(" AND version = ").push_bind(version);
    }
    if let Some(after) = &query.after {
        sql.push(" AND id < ").push_bind(after);
    }
    sql.push(" ORDER BY id DESC");
    let key = |package: &PackageRow| package.id.clone();
    listing::page(store, "listing packages", sql, query.limit, read, key).await
}

pub(super) async fn orphans(store: &SqlStore, sha256s: &[String]) -> Result<Vec<String>> {
    sqlx::query_scalar(concat!(
        "SELECT given.value FROM ",
        given_texts!("$1"),
        " WHERE NOT EXISTS (SELECT 1 FROM package WHERE sha256 = given.value)"
    ))
    .bind(to_json(sha256s))
    .fetch_all(&store.readers)
    .await
    .map_err(failed("looking for bytes without a package"))
}

pub(super) async fn delete(store: &SqlStore, id: &str, by: &By) -> Result<PackageDeleted> {
    let step = "deleting a package";
    let mut tx = store.write(step).await?;
    // Bytes may be shared with a package that is just being stored.
    one_at_a_time(&mut tx).await?;
    // An order that is just being stored holds the row until it is.
    let known = sqlx::query(concat!(
        "SELECT 1 FROM package WHERE id = $1",
        for_update!()
    ))
    .bind(id)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    if known.is_none() {
        return Ok(PackageDeleted::Unknown);
    }
    // The rollout first: its jobs come and go.
    let rollout: Option<(String, Option<String>)> = sqlx::query_as(
        "SELECT rollout.id, rollout.assignment FROM rollout_package
         JOIN rollout ON rollout.number = rollout_package.rollout
         WHERE rollout_package.package = $1 AND rollout.ended IS NULL LIMIT 1",
    )
    .bind(id)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    match rollout {
        Some((_, Some(assignment))) => return Ok(PackageDeleted::Assigned { assignment }),
        Some((rollout, None)) => return Ok(PackageDeleted::InRollout { rollout }),
        None => {}
    }
    let user: Option<String> =
        sqlx::query_scalar("SELECT id FROM job WHERE package = $1 AND finished IS NULL LIMIT 1")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(step))?;
    if let Some(job) = user {
        return Ok(PackageDeleted::InUse { job });
    }
    let row = sqlx::query("DELETE FROM package WHERE id = $1 RETURNING *")
        .bind(id)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed(step))?;
    let package = read(&row)?;
    let deed = Deed {
        action: "package.delete",
        target: id,
        detail: json!({ "before": brief(&package) }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Package, "deleted", [id]);
    let sha256 = package.sha256;
    let shared = sqlx::query("SELECT 1 FROM package WHERE sha256 = $1 LIMIT 1")
        .bind(&sha256)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed(step))?;
    let orphan = shared.is_none().then_some(sha256);
    if let Some(sha256) = &orphan {
        chunk::let_go(&mut tx, sha256).await?;
    }
    tx.commit().await.map_err(failed(step))?;
    Ok(PackageDeleted::Done { orphan })
}

pub(super) async fn sweep(store: &SqlStore, lease: &Lease, older_than: i64) -> Result<Held<u64>> {
    let step = "giving up unfinished uploads";
    let mut tx = store.write(step).await?;
    if !holds(&mut tx, lease).await? {
        return Ok(Held::Lost);
    }
    let swept = chunk::sweep(&mut tx, older_than).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Held::Done(swept))
}

/// What the audit says of a package.
fn brief(package: &PackageRow) -> Value {
    json!({ "file": package.file, "size": package.size, "sha256": package.sha256 })
}

fn read(row: &DbRow) -> Result<PackageRow> {
    let read = || -> std::result::Result<PackageRow, sqlx::Error> {
        let kind: String = row.try_get("kind")?;
        let kind = PackageKind::parse(&kind)
            .ok_or_else(|| sqlx::Error::Decode(format!("package kind {kind:?}").into()))?;
        Ok(PackageRow {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            version: row.try_get("version")?,
            os: row.try_get("os")?,
            arch: row.try_get("arch")?,
            kind,
            file: row.try_get("file")?,
            size: row.try_get("size")?,
            sha256: row.try_get("sha256")?,
            created: row.try_get("created")?,
            signature: row.try_get("signature")?,
        })
    };
    read().map_err(failed("reading a package"))
}
