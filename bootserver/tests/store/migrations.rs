//! Migrations that were released stay as they are: a database remembers their sums
//! and would refuse to start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bootserver::store::Store;
use bootserver::store::postgres::PostgresStore;
use bootserver::store::sqlite::SqliteStore;
use bootserver::token::hex;
use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::cluster;

/// Each with its SHA-256 for SQLite and PostgreSQL. Numbers that are missing were never given.
const RELEASED: [(&str, &str, &str); 15] = [
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
    (
        "0007_lists",
        "9ce0a2fabb96ed4a79e44b9a67d6fe62d199e747d6bdce51bb6a1ee7ccc0f406",
        "d98eb339437420b997e21efb8a5b618139baf7a3c6a9847534448c3e98d76875",
    ),
    (
        "0008_host_agents",
        "584ac4218ef99fb31cc0d3867c5e425a9e3ab11d845dedc6462574109425bf18",
        "a5e924dec2e263fb9c420aed5621d6d1ecb7d3ff3c9c968aa66529619bfeb09c",
    ),
    (
        "0009_idempotency",
        "b6be779bc4b2731871244fe3af78ce3c5d6aee0b6babc1cf3b268390d9c5fc5a",
        "d10e4457ebff729c9a4b0f5e48aca91dc5eb8b6d33034e543594f63ada5ab566",
    ),
    (
        "0012_packages",
        "1a4f932eb5fb41688f4f623b4b6f72049618ba2d11127fbdb0ab16435dfb2db5",
        "67d5faf79a90f4165a5e503ca52a711a4c80521f3158b64d35f4021898262cbb",
    ),
    (
        "0014_lost_jobs",
        "7a9e1fcec4e7c6180eb347301a053a9b15ee13ed1f89ee06969ac535d573ad1a",
        "20e8553a6de6fed282b5932de5b6eebdba2be7576de27ddf645c42a623fa2b2e",
    ),
    (
        "0015_digest",
        "2563150632ff974b588778b01f64e90535a392e75977ccf8393f234f3819a0fd",
        "42adee4acc5820f3207348804bdfdd3dca738ee3350de2e4aed693f8b48df470",
    ),
    (
        "0016_rollouts",
        "0a4e589b48837a6fd1f6b51aae1c1eec143e6ac4610eb2d894e27cb2b066968c",
        "8c027d3e4e19c589cf4284fe04383248cf0838eaef41b2ca97164646107889f8",
    ),
    (
        "0017_lists",
        "1081880ecd42c94a5fa9857f174fa688fe2dd8ff22686eaa8e598dfcd2ab64fc",
        "32faf3037a0fcb8254b3a65cc4ed272013e33b35d3c55b630373d5b3019319fe",
    ),
    (
        "0018_assignments",
        "52ff663028c3c7b47950d041f62752755eb7ae405c08e42abac2fbbf6a51a046",
        "4f6d92a2cbb54b676773a89bfbb276ea8231749728149687f9017abb39ee6890",
    ),
    (
        "0019_packs",
        "c5fd2f7077026187ade289a933071da08446dd2fee19bcfa2dde68f022ebc4d5",
        "03ec460d579e04ee8e57f66cc4b175d9b6eaa7384c8ef5c4ec9a0190fdb36c0b",
    ),
    (
        "0020_open_jobs",
        "63a315e437c82d38987a0152dda19959cc9341f3c6218ed98088f3bd8b579f74",
        "fd37424b9aaba8c9250798cf075baa840c184302b9e65a2124f54c88cfd3cf3d",
    ),
];

fn folder(database: &str) -> PathBuf {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    migrations.join(database)
}

/// The last of the first release.
const FIRST: i64 = 5;
/// Hosts of that release, on either database; every tenth has two addresses, and
/// one of its agents is named twice.
const HOSTS: &str = r#"
    INSERT INTO host (agentsn, secret, created, registered, hostname, version, os, arch, ip)
        SELECT 'sn-' || n, 's' || n, n, n, 'Host-' || n, 'v', 'linux', 'x86_64',
               CASE n % 10 WHEN 0 THEN '["10.0.0.1","fe80::1"]' ELSE '[]' END
        FROM numbers;
    INSERT INTO host_state (agentsn, digest, changed, body)
        SELECT 'sn-' || n, '', 1, '{"agents":[{"name":"a","version":"1","status":"running"},
            {"name":"a","version":"2","status":"fatal"},{"name":"b","version":"1","status":"fatal"}]}'
        FROM numbers;
"#;
/// What is said of hosts twice and differs.
const DIFFERENT: [&str; 4] = [
    "SELECT count(*) FROM host FULL JOIN host_search ON host_search.agentsn = host.agentsn
     WHERE host_search.text IS DISTINCT FROM
           lower(host.hostname || chr(10) || display_name || chr(10) || ip)",
    "SELECT count(*) FROM host JOIN host_search ON host_search.agentsn = host.agentsn
     WHERE coalesce(host_search.hostname, split_part(text, chr(10), 1)) <> host.hostname",
    "SELECT count(*) FROM host
     LEFT JOIN LATERAL (SELECT jsonb_agg(address ORDER BY address) AS list FROM host_address
                        WHERE host_address.agentsn = host.agentsn) AS kept ON TRUE
     WHERE coalesce(kept.list, '[]') <> host.ip::jsonb",
    "SELECT count(*) FROM pg_constraint WHERE NOT convalidated",
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

async fn count(connection: &mut PgConnection, sql: &'static str) -> i64 {
    let count = sqlx::query_scalar(sql).fetch_one(connection).await;
    count.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_first_release_writes_while_the_tables_are_brought_up_to_date() {
    let Some(cluster) = cluster::shared() else {
        return;
    };
    let address = cluster.empty().await;
    let connect = async || PgConnection::connect(&address).await.expect("a connection");
    let mut direct = connect().await;
    let migrator = Migrator::new(folder("postgres")).await;
    let migrator = migrator.expect("the migrations");
    let first = migrator.run_to(FIRST, &mut direct).await;
    first.expect("the tables of the first release");
    sqlx::raw_sql("CREATE TEMP TABLE numbers AS SELECT n FROM generate_series(1, 20000) AS n")
        .execute(&mut direct)
        .await
        .expect("numbers");
    sqlx::raw_sql(HOSTS)
        .execute(&mut direct)
        .await
        .expect("hosts");
    let done = Arc::new(AtomicBool::new(false));
    let mut other = connect().await;
    let writer = tokio::spawn({
        let done = done.clone();
        async move {
            let mut round = 0;
            while !done.load(Ordering::SeqCst) {
                for sql in [
                    "INSERT INTO host (agentsn, secret, created, registered, hostname, version, os,
                                       arch, ip)
                     VALUES ('new-' || $1, 'new-' || $1, 1, 1, 'new', 'v', 'o', 'a', '[\"1.1.1.1\"]')",
                    "UPDATE host SET ip = '[\"2.2.2.2\"]', hostname = 'Renamed' || $1
                     WHERE agentsn = 'sn-' || ($1 % 10000)",
                    "UPDATE host SET display_name = 'Shown' WHERE agentsn = 'sn-' || (20000 - $1)",
                    "DELETE FROM host WHERE agentsn = 'sn-' || (10000 + $1)",
                ] {
                    let written = sqlx::query(sql).bind(round).execute(&mut other).await;
                    written.unwrap_or_else(|error| panic!("{sql}: {error}"));
                }
                round += 1;
            }
            round
        }
    });
    let options = address.parse().expect("an address");
    let store = PostgresStore::open(options).await.expect("a database");
    done.store(true, Ordering::SeqCst);
    let rounds: i32 = writer.await.expect("no panic");
    assert!(rounds > 0);
    for sql in DIFFERENT {
        assert_eq!(count(&mut direct, sql).await, 0, "{sql}");
    }
    let agents = "SELECT count(*) FROM host_agent WHERE name IN ('a', 'b')";
    let expected = "SELECT count(*) * 2 FROM host WHERE agentsn LIKE 'sn-%'";
    let expected = count(&mut direct, expected).await;
    assert_eq!(count(&mut direct, agents).await, expected);
    // Who was killed in the middle begins again.
    for name in [
        "0007_lists.sql",
        "0008_host_agents.sql",
        "0017_lists.sql",
        "0020_open_jobs.sql",
    ] {
        let file = std::fs::read_to_string(folder("postgres").join(name)).expect("a migration");
        let again = sqlx::raw_sql(sqlx::AssertSqlSafe(file));
        again.execute(&mut direct).await.expect("it is done again");
    }
    for sql in DIFFERENT {
        assert_eq!(count(&mut direct, sql).await, 0, "{sql}");
    }
    assert_eq!(count(&mut direct, agents).await, expected);
    store.close().await;
}

#[tokio::test]
async fn hosts_of_the_first_release_are_found_on_sqlite() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("a.db");
    let address = format!("sqlite:{}?mode=rwc", path.display());
    let mut direct = SqliteConnection::connect(&address)
        .await
        .expect("a new database");
    let migrator = Migrator::new(folder("sqlite")).await;
    let migrator = migrator.expect("the migrations");
    let first = migrator.run_to(FIRST, &mut direct).await;
    first.expect("the tables of the first release");
    sqlx::raw_sql(
        "CREATE TEMP TABLE numbers AS WITH RECURSIVE n (n) AS
             (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30) SELECT n FROM n",
    )
    .execute(&mut direct)
    .await
    .expect("numbers");
    sqlx::raw_sql(HOSTS)
        .execute(&mut direct)
        .await
        .expect("hosts");
    direct.close().await.expect("a goodbye");
    SqliteStore::open(&path)
        .await
        .expect("the database")
        .close()
        .await;
    let mut direct = SqliteConnection::connect(&address)
        .await
        .expect("the database");
    for (sql, expected) in [
        (
            "SELECT count(*) FROM host_text WHERE host_text MATCH '\"host-1\"'",
            11,
        ),
        (
            "SELECT count(*) FROM host_text WHERE host_text MATCH '\"0::\"'",
            3,
        ),
        (
            "SELECT count(*) FROM host_address WHERE address = 'fe80::1'",
            3,
        ),
        ("SELECT count(*) FROM host_agent", 60),
        (
            "SELECT count(*) FROM host_search WHERE hostname LIKE 'Host-%'",
            30,
        ),
    ] {
        let count: i64 = sqlx::query_scalar(sql)
            .fetch_one(&mut direct)
            .await
            .expect("a count");
        assert_eq!(count, expected, "{sql}");
    }
    direct.close().await.expect("a goodbye");
}
