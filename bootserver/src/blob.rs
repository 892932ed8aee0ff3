//! The bytes of packages, by their SHA-256: files beside a SQLite database, and
//! chunks in a PostgreSQL one, so that every replica has them and the disk of a
//! server holds copies at most.
//!
//! A blob comes in by chunks and appears whole or not at all. As a file it is
//! written in `tmp/`, synced, and renamed to its hash; in PostgreSQL it gets its
//! sum in the transaction that stores its package, and loses it with the last one.
//! The one rule: `lock` is held while a row that names a blob is added or removed
//! together with the blob, so that an upload and a delete of the same bytes cannot
//! cross.

mod cache;
mod files;
mod move_in;
mod reading;
mod rows;

use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use axum::body::Body;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};

use crate::store::StoreError;
use crate::store::postgres::chunk::{CHUNK_BYTES, Chunks};
use crate::store::postgres::is_disk_full;
use crate::token::hex;
use cache::Cache;
use files::Files;
pub use move_in::{Files as Moved, move_in, upload_file};
use rows::{ChunkBody, ChunkReader, Incoming};

/// The blobs of one server.
#[derive(Debug)]
pub struct Blobs {
    place: Place,
    lock: Mutex<()>,
}

#[derive(Debug)]
enum Place {
    Files(Files),
    Rows(Chunks, Option<Cache>),
}

/// A blob that failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk: what was tried with which file.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not there.
    #[error("there are no bytes with the SHA-256 {sha256}")]
    Missing {
        /// What was looked for.
        sha256: String,
    },
}

impl BlobError {
    /// Whether the disk is full, ours or the database's.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::File { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Store(error) => is_disk_full(error),
            Self::Missing { .. } => false,
        }
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    move |source| BlobError::File {
        operation,
        path: path.to_owned(),
        source,
    }
}

impl Blobs {
    /// Uses `directory` for blobs and `temporary`, on the same mount, for
    /// unfinished ones. What an interrupted run left there is removed.
    pub fn files(directory: PathBuf, temporary: PathBuf) -> Result<Self, BlobError> {
        let place = Place::Files(Files::open(directory, temporary)?);
        let lock = Mutex::new(());
        Ok(Self { place, lock })
    }

    /// Uses a database.
    pub fn rows(chunks: Chunks) -> Self {
        let place = Place::Rows(chunks, None);
        let lock = Mutex::new(());
        Self { place, lock }
    }

    /// Uses a database, and `directory` for copies of what hosts fetch. What is
    /// there is removed.
    pub fn rows_with_copies(chunks: Chunks, directory: PathBuf) -> Result<Self, BlobError> {
        let place = Place::Rows(chunks, Some(Cache::open(directory)?));
        let lock = Mutex::new(());
        Ok(Self { place, lock })
    }

    /// Keeps uploads and deletes from crossing while rows and blobs change
    /// together.
    pub async fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().await
    }

    /// Begins a new blob.
    pub async fn begin(&self) -> Result<Upload, BlobError> {
        let sink = match &self.place {
            Place::Files(files) => Sink::File(files.begin().await?),
            Place::Rows(chunks, _) => Sink::Rows(Incoming::begin(chunks.clone()).await?),
        };
        Ok(Upload {
            state: Some((sink, Sha256::new())),
            buffer: Vec::new(),
            size: 0,
        })
    }

    /// Gives a finished upload its place. The same bytes twice are one blob. In a
    /// database it is there only once its package is stored with
    /// [`Kept::id`].
    pub async fn keep(&self, finished: Finished) -> Result<Kept, BlobError> {
        match (&self.place, finished.sink) {
            (Place::Files(files), Sink::File(file)) => {
                files.keep(file, &finished.sha256).await?;
                Ok(Kept(None))
            }
            (_, Sink::Rows(incoming)) => Ok(Kept(Some(incoming))),
            (Place::Rows(..), Sink::File(_)) => {
                unreachable!("an upload is of the place it began in")
            }
        }
    }

    /// Opens `start..end` of a blob for sending.
    pub async fn body(&self, sha256: &str, start: u64, end: u64) -> Result<Body, BlobError> {
        match &self.place {
            Place::Files(files) => Ok(Body::new(files.body(sha256, start, end).await?)),
            Place::Rows(chunks, cache) => {
                if let Some(cache) = cache
                    && let Some(copy) = cache.body(sha256, start, end).await
                {
                    return Ok(Body::new(copy));
                }
                let blob = chunks.find(sha256).await?;
                let blob = blob.ok_or_else(|| BlobError::Missing {
                    sha256: sha256.to_owned(),
                })?;
                if let Some(cache) = cache {
                    cache.copy(chunks, &blob, sha256).await;
                    if let Some(copy) = cache.body(sha256, start, end).await {
                        return Ok(Body::new(copy));
                    }
                }
                Ok(Body::new(ChunkBody::new(chunks.clone(), blob, start, end)))
            }
        }
    }

    /// Removes a blob that no row names any more.
    pub async fn remove(&self, sha256: &str) -> Result<(), BlobError> {
        match &self.place {
            Place::Files(files) => files.remove(sha256).await,
            // It lost its sum together with its last row.
            Place::Rows(chunks, _) => Ok(chunks.remove_gone().await?),
        }
    }

    /// The SHA-256s of blobs a crash may have left without a row. A database has
    /// none.
    pub async fn list(&self) -> Result<Vec<String>, BlobError> {
        match &self.place {
            Place::Files(files) => files.list().await,
            Place::Rows(..) => Ok(Vec::new()),
        }
    }
}

/// Where an upload goes.
#[derive(Debug)]
enum Sink {
    File(tempfile::NamedTempFile),
    Rows(Incoming),
}

/// A blob being written. Dropped, it is gone.
#[derive(Debug)]
pub struct Upload {
    /// Absent only while a chunk is being written, and after one failed.
    state: Option<(Sink, Sha256)>,
    buffer: Vec<u8>,
    size: u64,
}

/// A written and synced blob that has no place yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Finished {
    sink: Sink,
    /// Its SHA-256 as 64 hexadecimal digits.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A blob that waits for its row. Dropped before [`Kept::done`], it is gone from a
/// database; a file waits for the next start.
#[derive(Debug)]
pub struct Kept(Option<Incoming>);

impl Kept {
    /// What the store must know to give it its sum.
    pub fn id(&self) -> Option<&str> {
        self.0.as_ref().map(Incoming::id)
    }

    /// Its row is stored.
    pub fn done(self) {
        if let Some(incoming) = self.0 {
            incoming.done();
        }
    }
}

/// What can be read and gone back in.
pub trait Bytes: Read + Seek + Send {}
impl<T: Read + Seek + Send> Bytes for T {}

impl Finished {
    /// Its bytes, to look into them on a thread that may wait.
    pub fn reader(&self) -> Result<Box<dyn Bytes>, BlobError> {
        match &self.sink {
            Sink::File(file) => {
                let opened = std::fs::File::open(file.path());
                Ok(Box::new(opened.map_err(failed("opening", file.path()))?))
            }
            Sink::Rows(incoming) => Ok(Box::new(ChunkReader::new(incoming, self.size))),
        }
    }
}

impl Upload {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes; they are hashed and written a chunk at a time.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        self.size += bytes.len() as u64;
        while self.buffer.len() + bytes.len() >= CHUNK_BYTES {
            let (now, later) = bytes.split_at(CHUNK_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(now);
            self.flush().await?;
            bytes = later;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes the rest and syncs.
    pub async fn finish(mut self) -> Result<Finished, BlobError> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        let (sink, hasher) = self.take_state()?;
        let size = self.size;
        blocking(move || {
            if let Sink::File(file) = &sink {
                let synced = file.as_file().sync_all();
                synced.map_err(failed("syncing", file.path()))?;
            }
            Ok(Finished {
                sink,
                sha256: hex(&hasher.finalize()),
                size,
            })
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), BlobError> {
        let bytes = std::mem::take(&mut self.buffer);
        let (sink, mut hasher) = self.take_state()?;
        let (mut sink, hasher, bytes) = blocking(move || {
            hasher.update(&bytes);
            if let Sink::File(file) = &sink {
                let written = io::Write::write_all(&mut file.as_file(), &bytes);
                written.map_err(failed("writing", file.path()))?;
            }
            Ok((sink, hasher, bytes))
        })
        .await?;
        if let Sink::Rows(incoming) = &mut sink {
            incoming.append(&bytes).await?;
        }
        self.state = Some((sink, hasher));
        self.buffer = bytes;
        self.buffer.clear();
        Ok(())
    }

    fn take_state(&mut self) -> Result<(Sink, Sha256), BlobError> {
        self.state.take().ok_or_else(|| BlobError::File {
            operation: "writing",
            path: PathBuf::from("an upload that failed before"),
            source: io::ErrorKind::BrokenPipe.into(),
        })
    }
}

/// Runs file work where it holds up no connection.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => Err(BlobError::File {
            operation: "running file work on",
            path: PathBuf::new(),
            source: io::Error::other(join),
        }),
    }
}
