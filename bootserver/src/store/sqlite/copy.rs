//! Copies of a database that is in use.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::failed;
use crate::store::Result;

/// Writes the database as it is at this moment to a new file. Statuses go on
/// being written meanwhile.
pub async fn copy(from: &Path, to: &Path) -> Result<()> {
    let step = "copying the database";
    let options = SqliteConnectOptions::new().filename(from);
    let mut connection = options.connect().await.map_err(failed(step))?;
    sqlx::query("VACUUM INTO $1")
        .bind(to.to_string_lossy().into_owned())
        .execute(&mut connection)
        .await
        .map_err(failed(step))?;
    connection.close().await.map_err(failed(step))
}

/// The SHA-256s of the packages in a copy.
pub async fn packages(copy: &Path) -> Result<Vec<String>> {
    let step = "reading the packages of a copy";
    let options = SqliteConnectOptions::new().filename(copy);
    let mut connection = options.connect().await.map_err(failed(step))?;
    let sha256s = sqlx::query_scalar("SELECT DISTINCT sha256 FROM package ORDER BY sha256")
        .fetch_all(&mut connection)
        .await
        .map_err(failed(step))?;
    connection.close().await.map_err(failed(step))?;
    Ok(sha256s)
}
