//! Which tables this program works with.
//!
//! While replicas are upgraded one after another, older ones go on beside tables
//! a newer one has brought up to date: migrations only add. The one rule: a
//! migration an older program cannot work beside says so, by the number in the
//! setting `needs_migration`; a program that does not know that number refuses.

use sqlx::migrate::Migrator;

use super::{Failure, Result, StoreError};

/// Asks for the oldest migration a program must know.
pub(super) const NEEDS: &str =
    "SELECT CAST(value AS BIGINT) FROM setting WHERE key = 'needs_migration'";
/// Both of the below, once there is the table `setting`.
pub(super) const STAND: &str = "SELECT (SELECT max(version) FROM _sqlx_migrations),
    (SELECT CAST(value AS BIGINT) FROM setting WHERE key = 'needs_migration')";
/// Asks for the newest migration that was done.
pub(super) const DONE: &str = "SELECT max(version) FROM _sqlx_migrations";

/// Migrations that leave alone what a newer program did.
pub(super) fn lenient(mut migrator: Migrator) -> Migrator {
    migrator.set_ignore_missing(true);
    migrator
}

/// The newest migration of this program.
pub(super) fn newest(known: &Migrator) -> i64 {
    let versions = known.iter().map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// Refuses tables that need a newer program.
pub(super) fn assert_fit(needs: Option<i64>, known: &Migrator) -> Result<()> {
    match needs {
        Some(needs) if needs > newest(known) => Err(StoreError {
            step: "looking whether its tables are known",
            failure: Failure::Rejected,
            source: format!(
                "they need a bootserver that knows migration {needs}; this one knows {}: install a newer one",
                newest(known)
            )
            .into(),
        }),
        Some(_) | None => Ok(()),
    }
}
