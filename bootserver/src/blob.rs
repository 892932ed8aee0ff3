//! The bytes of packages: files by their SHA-256 beside the database.
//!
//! A blob appears whole or not at all: it is written in `tmp/`, synced, and
//! renamed to its hash. The one rule: `lock` is held while a row that names a
//! blob is added or removed together with the blob, so that an upload and a
//! delete of the same bytes cannot cross.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};

use crate::token::hex;

/// Bytes written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The blobs of one data directory.
#[derive(Debug)]
pub struct Blobs {
    directory: PathBuf,
    temporary: PathBuf,
    lock: Mutex<()>,
}

/// A blob that failed: what was tried with which file.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct BlobError {
    /// What was tried.
    pub operation: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl BlobError {
    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    move |source| BlobError {
        operation,
        path: path.to_owned(),
        source,
    }
}

impl Blobs {
    /// Uses `directory` for blobs and `temporary`, on the same mount, for
    /// unfinished ones. What an interrupted run left there is removed.
    pub fn open(directory: PathBuf, temporary: PathBuf) -> Result<Self, BlobError> {
        for path in [&directory, &temporary] {
            std::fs::create_dir_all(path).map_err(failed("creating", path))?;
        }
        let leftovers = std::fs::read_dir(&temporary).map_err(failed("listing", &temporary))?;
        for leftover in leftovers.flatten() {
            let path = leftover.path();
            std::fs::remove_file(&path).map_err(failed("removing", &path))?;
        }
        Ok(Self {
            directory,
            temporary,
            lock: Mutex::new(()),
        })
    }

    /// Keeps uploads and deletes from crossing while rows and blobs change
    /// together.
    pub async fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().await
    }

    /// Begins a new blob.
    pub async fn begin(&self) -> Result<Upload, BlobError> {
        let temporary = self.temporary.clone();
        blocking(move || {
            let path = temporary.clone();
            tempfile::Builder::new()
                .prefix("upload-")
                .tempfile_in(&temporary)
                .map_err(failed("creating a file in", &path))
        })
        .await
        .map(|file| Upload {
            state: Some(State {
                file,
                hasher: Sha256::new(),
            }),
            buffer: Vec::new(),
            size: 0,
        })
    }

    /// Gives a finished upload its place. The same bytes twice are one blob.
    pub async fn keep(&self, finished: Finished) -> Result<(), BlobError> {
        let path = self.path(&finished.sha256);
        blocking(move || {
            let parent = path
                .parent()
                .expect("a blob lies in a directory")
                .to_owned();
            std::fs::create_dir_all(&parent).map_err(failed("creating", &parent))?;
            finished
                .file
                .persist(&path)
                .map_err(|error| failed("renaming to", &path)(error.error))?;
            sync_directory(&parent)?;
            sync_directory(parent.parent().unwrap_or(&parent))
        })
        .await
    }

    /// The SHA-256s of all blobs.
    pub async fn list(&self) -> Result<Vec<String>, BlobError> {
        let directory = self.directory.clone();
        blocking(move || {
            let mut names = Vec::new();
            for shard in std::fs::read_dir(&directory).map_err(failed("listing", &directory))? {
                let shard = shard.map_err(failed("listing", &directory))?.path();
                for blob in std::fs::read_dir(&shard).map_err(failed("listing", &shard))? {
                    let blob = blob.map_err(failed("listing", &shard))?;
                    names.extend(blob.file_name().into_string().ok());
                }
            }
            Ok(names)
        })
        .await
    }

    /// Opens a blob for reading.
    pub async fn read(&self, sha256: &str) -> Result<tokio::fs::File, BlobError> {
        let path = self.path(sha256);
        tokio::fs::File::open(&path)
            .await
            .map_err(failed("opening", &path))
    }

    /// Removes a blob no row names any more.
    pub async fn remove(&self, sha256: &str) -> Result<(), BlobError> {
        let path = self.path(sha256);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("removing", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, sha256: &str) -> PathBuf {
        let shard = sha256.get(..2).unwrap_or("00");
        self.directory.join(shard).join(sha256)
    }
}

struct State {
    file: tempfile::NamedTempFile,
    hasher: Sha256,
}

/// A blob being written. Dropped, it is gone.
pub struct Upload {
    /// Absent only while a chunk is being written, and after one failed.
    state: Option<State>,
    buffer: Vec<u8>,
    size: u64,
}

/// A written and synced blob that has no place yet. Dropped, it is gone.
pub struct Finished {
    file: tempfile::NamedTempFile,
    /// Its SHA-256 as 64 hexadecimal digits.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

impl Finished {
    /// Where it is now, to look into it.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Upload {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes; they are hashed and written a large piece at a time.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.buffer.extend_from_slice(bytes);
        self.size += bytes.len() as u64;
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes the rest and syncs.
    pub async fn finish(mut self) -> Result<Finished, BlobError> {
        self.flush().await?;
        let State { file, hasher } = self.take_state()?;
        let size = self.size;
        blocking(move || {
            let path = file.path().to_owned();
            file.as_file()
                .sync_all()
                .map_err(failed("syncing", &path))?;
            Ok(Finished {
                file,
                sha256: hex(&hasher.finalize()),
                size,
            })
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), BlobError> {
        let bytes = std::mem::take(&mut self.buffer);
        let mut state = self.take_state()?;
        let state = blocking(move || {
            use std::io::Write;
            state.hasher.update(&bytes);
            let path = state.file.path().to_owned();
            state
                .file
                .write_all(&bytes)
                .map_err(failed("writing", &path))?;
            Ok(state)
        })
        .await?;
        self.state = Some(state);
        Ok(())
    }

    fn take_state(&mut self) -> Result<State, BlobError> {
        self.state.take().ok_or_else(|| BlobError {
            operation: "writing",
            path: PathBuf::from("an upload that failed before"),
            source: io::ErrorKind::BrokenPipe.into(),
        })
    }
}

fn sync_directory(path: &Path) -> Result<(), BlobError> {
    std::fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("syncing", path))
}

/// Runs file work where it holds up no connection.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => Err(BlobError {
            operation: "running file work on",
            path: PathBuf::new(),
            source: io::Error::other(join),
        }),
    }
}
