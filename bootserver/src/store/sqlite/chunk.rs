//! Beside SQLite the bytes of packages are files, so there is nothing to do in its
//! transactions. The one rule: nothing here writes.

use sqlx::SqliteConnection;

use super::Result;

pub(super) async fn keep(_: &mut SqliteConnection, _: &str, _: &str) -> Result<()> {
    Ok(())
}

pub(super) async fn let_go(_: &mut SqliteConnection, _: &str) -> Result<()> {
    Ok(())
}

pub(super) async fn sweep(_: &mut SqliteConnection, _: i64) -> Result<u64> {
    Ok(0)
}
