//! Migrations that were released stay as they are: a database remembers their sums
//! and would refuse to start.

use std::collections::BTreeSet;
use std::path::Path;

use bootserver::token::hex;
use sha2::{Digest, Sha256};

/// Each with its SHA-256 for SQLite and PostgreSQL. There is no 0004.
const RELEASED: [(&str, &str, &str); 4] = [
    (
        "0001_initial",
        "18b3f15762fb7507b159323075547292f85171da68f2b4fae2050c4b72ef5b73",
        "cf7493000b5bb8d9b01f8b8589db8652b636db864b35218aabaff64080732a86",
    ),
    (
        "0002_operators",
        "83ec167d82f8619c16397477218b402704907507bbdd0919d15e71435fad04b7",
        "086b1f65522b3c2f068a4dce03cc284e639fc266b4a444230df8f89536cde590",
    ),
    (
        "0003_hosts",
        "1b91406d07b5d905d0e809101834dffc69dd398b1da4e8aaa66f1a6dfaf2afeb",
        "22af2dcaa4e9639f97f82d68db2ab788f6a182c46be56c11874b8897b844abcc",
    ),
    (
        "0005_groups",
        "f3e7d4cb3d85cee68bc946521b56a49aeaa5d92f4f17369eb59ae5d64995a94a",
        "1867b8606dd61e5a48f451a7f135c22fe9cc8bb11edda3d2a69e1f7573e2f963",
    ),
];

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.to_string_lossy().into_owned()
    };
    entries.map(name).collect()
}

#[test]
fn a_migration_that_was_released_is_never_changed() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for (name, sqlite, postgres) in RELEASED {
        for (database, expected) in [("sqlite", sqlite), ("postgres", postgres)] {
            let file = migrations.join(database).join(format!("{name}.sql"));
            let bytes = std::fs::read(&file).expect("a migration");
            let sum = hex(&Sha256::digest(bytes));
            assert_eq!(sum, expected, "{}: add a new one instead", file.display());
        }
    }
}

#[test]
fn both_databases_have_the_same_migrations_and_none_has_the_number_4() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let of_sqlite = names(&migrations.join("sqlite"));
    assert_eq!(of_sqlite, names(&migrations.join("postgres")));
    assert!(!of_sqlite.iter().any(|name| name.starts_with("0004")));
}
