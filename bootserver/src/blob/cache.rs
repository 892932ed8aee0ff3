//! Packages of the database, copied to a disk beside this server when they are
//! first wanted: a rollout then reads a file, and not the database ten thousand
//! times.
//!
//! It is emptied at every start, and whatever fails with it, the bytes come from
//! the database. The one rule: a file that has its name holds the bytes it is named
//! after.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::watch;
use tokio::time::timeout;

use super::reading::{FileBody, Readers};
use super::{BlobError, blocking, failed};
use crate::problem::chain;
use crate::store::postgres::chunk::{CHUNK_BYTES, Chunks};
use crate::store::within;
use crate::token::hex;

/// Most bytes of all copies; those longest unread go first.
const MOST_BYTES: u64 = 4 << 30;
/// Bytes of the disk that stay free.
const FREE_BYTES: u64 = 1 << 30;
/// How long a download waits for the copy it began, or another did. Larger packages
/// come from the database until they are there.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a copy failed, before the next is tried.
const PAUSE: Duration = Duration::from_secs(60);
/// A copy that was read so long ago is marked as read again.
const MARK_AFTER: Duration = Duration::from_secs(60);

/// The copies of one server.
#[derive(Debug, Clone)]
pub(super) struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    readers: Readers,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Copies that are made now, by their sums; each channel closes with its copy.
    begun: HashMap<String, watch::Receiver<()>>,
    /// Until then none is begun.
    not_before: Option<Instant>,
}

impl Cache {
    /// Uses `directory`, which nobody else does, and empties it.
    pub(super) fn open(directory: PathBuf) -> Result<Self, BlobError> {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("emptying", &directory)(error));
            }
            _ => {}
        }
        fs::create_dir_all(&directory).map_err(failed("creating", &directory))?;
        let readers = Readers::start().map_err(failed("starting threads for", &directory))?;
        Ok(Self(Arc::new(Inner {
            directory,
            readers,
            state: Mutex::default(),
        })))
    }

    /// A part of a copy, if there is one.
    pub(super) async fn body(&self, sha256: &str, start: u64, end: u64) -> Option<FileBody> {
        let path = self.0.directory.join(sha256);
        let opened = blocking(move || {
            let file = File::open(&path).map_err(failed("opening", &path))?;
            // Which were read lately; a mistake costs another copy.
            let read = file.metadata().and_then(|it| it.modified());
            if read.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > MARK_AFTER)) {
                let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
            }
            Ok(file)
        });
        let file = opened.await.ok()?;
        Some(self.0.readers.body(file, start, end))
    }

    /// Has a blob copied, and waits for a moment.
    pub(super) async fn copy(&self, chunks: &Chunks, blob: &str, sha256: &str) {
        if let Some(mut made) = self.begin(chunks, blob, sha256) {
            // Nothing is ever sent: it ends, well or not.
            let _ = timeout(PATIENCE, made.changed()).await;
        }
    }

    fn begin(&self, chunks: &Chunks, blob: &str, sha256: &str) -> Option<watch::Receiver<()>> {
        let mut state = self.state();
        if let Some(made) = state.begun.get(sha256) {
            return Some(made.clone());
        }
        if state.not_before.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let (making, made) = watch::channel(());
        state.begun.insert(sha256.to_owned(), made.clone());
        let (cache, chunks) = (self.clone(), chunks.clone());
        let (blob, sha256) = (blob.to_owned(), sha256.to_owned());
        tokio::spawn(async move {
            let copied = cache.make(&chunks, &blob, &sha256).await;
            let mut state = cache.state();
            if let Err(error) = copied {
                let error = chain(&error);
                tracing::warn!(sha256, error, "a package is read from the database");
                state.not_before = Some(Instant::now() + PAUSE);
            }
            state.begun.remove(&sha256);
            drop(making);
        });
        Some(made)
    }

    async fn make(&self, chunks: &Chunks, blob: &str, sha256: &str) -> Result<(), BlobError> {
        let directory = self.0.directory.clone();
        let begun = blocking(move || {
            let file = NamedTempFile::new_in(&directory);
            file.map_err(failed("creating a file in", &directory))
        });
        let mut copy = (begun.await?, Sha256::new());
        for number in 0.. {
            let read = chunks.read(blob, number, 0, CHUNK_BYTES);
            let Some(bytes) = within("copying a package", read).await? else {
                break;
            };
            copy = blocking(move || add(copy, &bytes)).await?;
        }
        let (directory, sha256) = (self.0.directory.clone(), sha256.to_owned());
        blocking(move || keep(copy, &directory, &sha256)).await
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Copy = (NamedTempFile, Sha256);

fn add((mut file, mut hash): Copy, bytes: &[u8]) -> Result<Copy, BlobError> {
    let path = file.path().to_owned();
    let space = nix::sys::statvfs::statvfs(&path);
    let space =
        space.map_err(|errno| failed("asking how much room there is for", &path)(errno.into()))?;
    #[expect(
        clippy::useless_conversion,
        reason = "they are not 64 bits wide everywhere"
    )]
    let free = u64::from(space.blocks_available()) * u64::from(space.fragment_size());
    if free < FREE_BYTES + bytes.len() as u64 {
        return Err(failed("leaving room beside", &path)(
            std::io::ErrorKind::StorageFull.into(),
        ));
    }
    hash.update(bytes);
    file.write_all(bytes).map_err(failed("writing", &path))?;
    Ok((file, hash))
}

/// Gives a copy its name; removes what has no place beside it.
fn keep((file, hash): Copy, directory: &Path, sha256: &str) -> Result<(), BlobError> {
    let path = directory.join(sha256);
    if hex(&hash.finalize()) != sha256 {
        // Deleted while it was copied, or damaged in the database: hosts see that too.
        return Err(BlobError::Missing {
            sha256: sha256.to_owned(),
        });
    }
    let kept = file.persist(&path);
    kept.map_err(|error| failed("renaming to", &path)(error.error))?;
    make_room(directory, &path).map_err(failed("making room in", directory))
}

fn make_room(directory: &Path, newest: &Path) -> std::io::Result<()> {
    let mut copies = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let about = entry.metadata()?;
        copies.push((about.modified()?, about.len(), entry.path()));
    }
    copies.sort_unstable();
    let mut bytes: u64 = copies.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in copies {
        if bytes <= MOST_BYTES {
            break;
        }
        if path != newest {
            // Who reads it now reads on.
            fs::remove_file(&path)?;
            bytes -= length;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_longest_ago_makes_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for (name, gib, age) in [("a", 2, 10), ("b", 1, 30), ("c", 2, 20), ("d", 1, 0)] {
            let file = File::create(at(name)).expect("a file");
            file.set_len(gib << 30).expect("a hole");
            let read = SystemTime::now() - Duration::from_secs(age);
            let marked = file.set_times(FileTimes::new().set_modified(read));
            marked.expect("a time");
        }
        make_room(folder.path(), &at("d")).expect("room");
        let left = |name| at(name).exists();
        assert_eq!(["a", "b", "c", "d"].map(left), [true, false, false, true]);
    }

    #[test]
    fn what_is_not_what_it_is_named_after_gets_no_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let copy = (
            NamedTempFile::new_in(folder.path()).expect("a file"),
            Sha256::new_with_prefix(b"other bytes"),
        );
        let sha256 = hex(&Sha256::digest(b"bytes"));
        assert!(keep(copy, folder.path(), &sha256).is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 0);
    }
}
