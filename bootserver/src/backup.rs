//! What is done to a database beside serving it: migrate, backup and restore
//! (a folder with a SQLite database as it was at one moment and the packages it
//! names), and import of both into PostgreSQL.
//!
//! The one rule: a restore never runs a job twice. What was open in the copy may
//! have gone out since, and its host may have done it and have been told that
//! this is known. So those jobs end here, with a code that says so (1007);
//! operators order again what they still want. Sessions end too, and numbers that
//! may have been given since are left out.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::clock::unix_millis;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::store::address::Address;
use crate::store::sqlite::{SqliteStore, copy};
use crate::store::{self, Store};
use crate::token::hex;

/// The database in a backup, and in a data directory.
pub const DATABASE: &str = "bootserver.db";
/// The packages, in a backup as in a data directory.
pub const BLOBS: &str = "blobs";
/// A package that was deleted while it was copied means another try.
const TRIES: usize = 5;

/// Brings the tables up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<String> {
    let _data = DataDir::take(&config.data)?;
    open(config).await?.close().await;
    Ok(format!("{} is up to date", config.database))
}

/// Copies a SQLite file, and the packages in the folder beside it or in the data
/// directory, into an empty PostgreSQL database.
pub async fn import(config: &Config, from: &Path) -> anyhow::Result<String> {
    let Address::Postgres(to) = &config.database else {
        bail!("--database postgres://... is expected: where to import to");
    };
    ensure!(from.is_file(), "there is no database {}", from.display());
    let _data = DataDir::take(&config.data)?;
    let beside = parent(from).join(BLOBS);
    let files = match beside.is_dir() {
        true => beside,
        false => config.data.join(BLOBS),
    };
    let rows = store::import::import(from, &files, (**to).clone())
        .await
        .with_context(|| format!("from {} to {}", from.display(), config.database))?;
    Ok(format!("{rows} rows are in {}", config.database))
}

/// Copies database and packages into a new folder while a server may run.
/// Returns what is said of it.
pub async fn backup(config: &Config, to: &Path) -> anyhow::Result<String> {
    let database = sqlite(config)?;
    ensure!(
        database.exists(),
        "there is no database {}",
        database.display()
    );
    ensure!(!to.exists(), "{} is there; name a new folder", to.display());
    let parent = parent(to);
    let folder = tempfile::Builder::new()
        .prefix(".bootserver-backup-")
        .tempdir_in(parent)
        .with_context(|| format!("creating a folder in {}", parent.display()))?;
    let copied = folder.path().join(DATABASE);
    for _ in 0..TRIES {
        remove_if_there(&copied)?;
        copy::copy(database, &copied).await?;
        copy_blobs(&config.data.join(BLOBS), &folder.path().join(BLOBS))?;
        let packages = copy::packages(&copied).await?;
        let blobs = folder.path().join(BLOBS);
        if !packages.iter().all(|sha256| blob(&blobs, sha256).exists()) {
            continue;
        }
        sync(&copied)?;
        sync(folder.path())?;
        let folder = folder.keep();
        fs::rename(&folder, to)
            .with_context(|| format!("renaming {} to {}", folder.display(), to.display()))?;
        sync(parent)?;
        let packages = packages.len();
        return Ok(format!(
            "{} has the database and {packages} packages",
            to.display()
        ));
    }
    bail!("packages are being deleted all the time; try again later")
}

/// Puts a backup where there is no database yet.
pub async fn restore(config: &Config, from: &Path) -> anyhow::Result<String> {
    let database = sqlite(config)?;
    let _data = DataDir::take(&config.data)?;
    ensure!(
        !database.exists(),
        "{} is there; move it away first, with its -wal and -shm if they are there",
        database.display()
    );
    let copied = from.join(DATABASE);
    ensure!(
        copied.is_file(),
        "{} is no backup: it has no {DATABASE}",
        from.display()
    );
    let log = from.join(format!("{DATABASE}-wal"));
    ensure!(
        fs::metadata(&log).map_or(0, |log| log.len()) == 0,
        "{} is there: {} is no finished copy; `bootserver backup` makes one",
        log.display(),
        copied.display()
    );
    copy_blobs(&from.join(BLOBS), &config.data.join(BLOBS))?;
    // It gets its place when its jobs have ended, not before.
    let parent = parent(database);
    let folder = tempfile::Builder::new()
        .prefix(".bootserver-restore-")
        .tempdir_in(parent)
        .with_context(|| format!("creating a folder in {}", parent.display()))?;
    let unfinished = folder.path().join(DATABASE);
    copy_file(&copied, &unfinished)?;
    let store = SqliteStore::open(&unfinished).await?;
    let jobs = store.restored(unix_millis()).await?;
    store.close().await;
    sync(&unfinished)?;
    fs::rename(&unfinished, database)
        .with_context(|| format!("renaming the copy to {}", database.display()))?;
    sync(parent)?;
    Ok(told(jobs))
}

/// Ends the open jobs of a PostgreSQL database that `pg_restore` made.
pub async fn close_jobs(config: &Config) -> anyhow::Result<String> {
    let _data = DataDir::take(&config.data)?;
    let store = open(config).await?;
    let jobs = store.restored(unix_millis()).await?;
    store.close().await;
    Ok(told(jobs))
}

async fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let opened = store::open(&config.database).await;
    opened.with_context(|| format!("the database {}", config.database))
}

fn told(jobs: u64) -> String {
    format!(
        "{jobs} jobs were open and have ended with code 1007: order again what is still wanted.\n\
         Tokens and hosts that were revoked after the backup are valid again: revoke them anew.\n\
         Everybody has to sign in again."
    )
}

fn sqlite(config: &Config) -> anyhow::Result<&Path> {
    match &config.database {
        Address::Sqlite(path) => Ok(path),
        Address::Postgres(_) => bail!(
            "PostgreSQL has its own tools: pg_dump --format=custom saves the database with the \
             packages; after pg_restore, `bootserver close-jobs` makes sure that no job runs twice"
        ),
    }
}

fn blob(blobs: &Path, sha256: &str) -> PathBuf {
    blobs.join(sha256.get(..2).unwrap_or("00")).join(sha256)
}

/// Copies what is not there yet; each file's name is what it must be.
fn copy_blobs(from: &Path, to: &Path) -> anyhow::Result<()> {
    create(to)?;
    if !from.exists() {
        return Ok(());
    }
    for shard in list(from)? {
        let folder = to.join(name(&shard));
        create(&folder)?;
        for file in list(&shard)? {
            let place = folder.join(name(&file));
            if place.exists() {
                continue;
            }
            // Deleted since it was listed: nobody names it any more, or it is missed.
            if !file.exists() {
                continue;
            }
            let partial = folder.join("partial");
            let sha256 = copy_file(&file, &partial)?;
            ensure!(
                name(&file) == OsStr::new(&sha256),
                "{} is damaged: its SHA-256 is {sha256}",
                file.display()
            );
            fs::rename(&partial, &place)
                .with_context(|| format!("renaming to {}", place.display()))?;
        }
        sync(&folder)?;
    }
    sync(to)
}

/// Copies and syncs a file; returns its SHA-256.
fn copy_file(from: &Path, to: &Path) -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    let mut source = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let writing = || format!("writing {}", to.display());
    let mut target = File::create(to).with_context(writing)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = source
            .read(&mut buffer)
            .with_context(|| format!("reading {}", from.display()))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hasher.update(bytes);
        std::io::Write::write_all(&mut target, bytes).with_context(writing)?;
    }
    target.sync_all().with_context(writing)?;
    Ok(hex(&hasher.finalize()))
}

fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("listing {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(reading)? {
        paths.push(entry.with_context(reading)?.path());
    }
    Ok(paths)
}

fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn sync(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path);
    file.and_then(|file| file.sync_all())
        .with_context(|| format!("syncing {}", path.display()))
}

fn remove_if_there(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
