//! A response body that is part of a file.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, Take};

/// Bytes of one frame: large enough that the pool of file threads is asked
/// seldom, small enough that a thousand downloads fit in memory.
const FRAME_BYTES: usize = 64 * 1024;

/// The next `length` bytes of a file.
#[derive(Debug)]
pub(super) struct FileBody {
    file: Take<File>,
    buffer: Vec<u8>,
}

impl FileBody {
    /// Sends `length` bytes from where the file stands.
    pub(super) fn new(mut file: File, length: u64) -> Self {
        file.set_max_buf_size(FRAME_BYTES);
        Self {
            file: file.take(length),
            buffer: vec![0; FRAME_BYTES],
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.file.limit() == 0 {
            return Poll::Ready(None);
        }
        let mut buffer = ReadBuf::new(&mut this.buffer);
        ready!(Pin::new(&mut this.file).poll_read(context, &mut buffer))?;
        let read = Bytes::copy_from_slice(buffer.filled());
        if read.is_empty() {
            // Fewer bytes than were announced: the connection must break, so
            // that the other side does not take the file for whole.
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        Poll::Ready(Some(Ok(Frame::data(read))))
    }

    fn is_end_stream(&self) -> bool {
        self.file.limit() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.file.limit())
    }
}
