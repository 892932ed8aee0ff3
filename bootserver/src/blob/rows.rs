//! Blobs as chunks in a database: one that comes in, one that is looked into, and
//! one that is sent. The one rule: of a blob no more than one chunk is in memory.

use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;

use super::BlobError;
use crate::problem::chain;
use crate::store::postgres::chunk::{CHUNK_BYTES, Chunks};
use crate::store::{Result, within};

/// Bytes of one frame: large enough that the database is asked seldom, small enough
/// that some hundred downloads fit in memory.
const FRAME_BYTES: usize = 256 * 1024;

/// A blob that comes in. Dropped before [`Incoming::done`], it is given up.
#[derive(Debug)]
pub(super) struct Incoming {
    chunks: Chunks,
    /// Empty once it is done.
    id: String,
    next: u64,
}

impl Incoming {
    pub(super) async fn begin(chunks: Chunks) -> Result<Self> {
        let id = within("beginning an upload", chunks.begin()).await?;
        Ok(Self {
            chunks,
            id,
            next: 0,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let appended = self.chunks.append(&self.id, self.next, bytes);
        within("storing a part of an upload", appended).await?;
        self.next += 1;
        Ok(())
    }

    pub(super) fn done(mut self) {
        self.id.clear();
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.id.is_empty() {
            return;
        }
        let (chunks, id) = (self.chunks.clone(), std::mem::take(&mut self.id));
        // Without a runtime the server ends; the next one's housekeeping sweeps.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = chunks.give_up(&id).await {
                    tracing::warn!(error = chain(&error), "an upload is to be swept later");
                }
            });
        }
    }
}

/// Where a byte is: which chunk, and where in it.
fn locate(position: u64) -> (u64, usize) {
    let chunk = CHUNK_BYTES as u64;
    let offset = usize::try_from(position % chunk).expect("less than a chunk");
    (position / chunk, offset)
}

/// Reads a blob on a thread that may wait.
pub(super) struct ChunkReader {
    chunks: Chunks,
    blob: String,
    size: u64,
    position: u64,
    loaded: Option<(u64, Vec<u8>)>,
    runtime: Handle,
}

impl ChunkReader {
    /// Reads `size` bytes; called within a runtime.
    pub(super) fn new(incoming: &Incoming, size: u64) -> Self {
        Self {
            chunks: incoming.chunks.clone(),
            blob: incoming.id.clone(),
            size,
            position: 0,
            loaded: None,
            runtime: Handle::current(),
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size {
            return Ok(0);
        }
        let (number, offset) = locate(self.position);
        let bytes = match self.loaded.take() {
            Some((loaded, bytes)) if loaded == number => bytes,
            _ => {
                let read = self.chunks.read(&self.blob, number, 0, CHUNK_BYTES);
                let read = within("reading an upload", read);
                let read = self.runtime.block_on(read).map_err(io::Error::other)?;
                read.ok_or(io::ErrorKind::UnexpectedEof)?
            }
        };
        let rest = bytes.get(offset..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        self.loaded = Some((number, bytes));
        Ok(count)
    }
}

impl Seek for ChunkReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

type Fetch = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>>> + Send>>;

/// A response body that is part of a blob.
pub(super) struct ChunkBody {
    chunks: Chunks,
    blob: String,
    next: u64,
    end: u64,
    fetch: Option<Fetch>,
}

impl ChunkBody {
    pub(super) fn new(chunks: Chunks, blob: String, start: u64, end: u64) -> Self {
        Self {
            chunks,
            blob,
            next: start,
            end,
            fetch: None,
        }
    }

    fn fetch(&self) -> Fetch {
        let (chunks, blob) = (self.chunks.clone(), self.blob.clone());
        let (number, offset) = locate(self.next);
        let wanted = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        let length = wanted.min(CHUNK_BYTES - offset).min(FRAME_BYTES);
        Box::pin(async move {
            let read = chunks.read(&blob, number, offset, length);
            within("reading a part of a package", read).await
        })
    }
}

impl Body for ChunkBody {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BlobError>>> {
        let this = &mut *self;
        if this.next >= this.end {
            return Poll::Ready(None);
        }
        let mut fetch = this.fetch.take().unwrap_or_else(|| this.fetch());
        let Poll::Ready(fetched) = fetch.as_mut().poll(context) else {
            this.fetch = Some(fetch);
            return Poll::Pending;
        };
        match fetched {
            Ok(Some(bytes)) if !bytes.is_empty() => {
                this.next += bytes.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(bytes.into()))))
            }
            // Deleted meanwhile. Fewer bytes than were announced: the connection
            // must break, so that the other side does not take it for whole.
            Ok(_) => Poll::Ready(Some(Err(BlobError::Missing {
                sha256: format!("of blob {}", this.blob),
            }))),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.next)
    }
}
