//! Packages are read on threads that come after everything else, so that a rollout
//! takes the time that statuses leave: the less of it there is, the fewer pieces
//! wait to be sent, and the sooner a status gets its turn between them.
//!
//! The one rule: of a download no more than one piece is in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::thread;

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::sys;

/// Bytes of a piece: large enough that threads change seldom, small enough that a
/// status does not wait long behind one, and that a thousand fit in memory.
const PIECE_BYTES: u64 = 128 * 1024;
/// As many as keep a disk busy.
const THREADS: usize = 2;
/// How far they stand back, of 19: of a processor that others want too they get a
/// tenth.
const NICENESS: i32 = 10;

/// The threads. They end when nobody has these any more.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    orders: mpsc::Sender<Order>,
}

/// A piece of a file that somebody waits for.
#[derive(Debug)]
struct Order {
    file: Arc<File>,
    position: u64,
    length: usize,
    answer: oneshot::Sender<io::Result<Bytes>>,
}

impl Readers {
    pub(super) fn start() -> io::Result<Self> {
        let (orders, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 1..=THREADS {
            let waiting = waiting.clone();
            thread::Builder::new()
                .name(format!("packages-{number}"))
                .spawn(move || work(&waiting))?;
        }
        Ok(Self { orders })
    }

    /// `start..end` of a file.
    pub(super) fn body(&self, file: File, start: u64, end: u64) -> FileBody {
        FileBody {
            readers: self.clone(),
            file: Arc::new(file),
            position: start,
            end,
            reading: None,
        }
    }
}

fn work(waiting: &Mutex<mpsc::Receiver<Order>>) {
    if let Err(error) = sys::stand_back(NICENESS) {
        tracing::warn!(%error, "packages are read at the priority of statuses");
    }
    loop {
        let order = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(order) = order else { return };
        // Its host is gone meanwhile.
        if order.answer.is_closed() {
            continue;
        }
        let mut piece = vec![0; order.length];
        // Fewer bytes than were announced are an error: the connection must break,
        // so that the other side does not take the file for whole.
        let read = order.file.read_exact_at(&mut piece, order.position);
        let _ = order.answer.send(read.map(|()| piece.into()));
    }
}

/// A part of a file as the body of a reply.
#[derive(Debug)]
pub(super) struct FileBody {
    readers: Readers,
    file: Arc<File>,
    position: u64,
    end: u64,
    reading: Option<oneshot::Receiver<io::Result<Bytes>>>,
}

impl FileBody {
    fn left(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    fn order(&self) -> io::Result<oneshot::Receiver<io::Result<Bytes>>> {
        let (answer, reading) = oneshot::channel();
        let order = Order {
            file: self.file.clone(),
            position: self.position,
            length: usize::try_from(self.left().min(PIECE_BYTES)).map_err(io::Error::other)?,
            answer,
        };
        let sent = self.readers.orders.send(order);
        sent.map_err(|_| io::Error::other("nobody reads packages"))?;
        Ok(reading)
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.order()?,
        };
        let Poll::Ready(read) = Pin::new(&mut reading).poll(context) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        let piece = read.map_err(io::Error::other)??;
        self.position += piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body_util::BodyExt;

    use super::*;

    fn file(length: usize) -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("written");
        (file, bytes)
    }

    #[tokio::test]
    async fn every_part_of_a_file_comes_as_it_is() {
        let readers = Readers::start().expect("threads");
        let (file, bytes) = file(300_000);
        for (start, end) in [(0, 300_000), (1, 2), (131_071, 262_145), (300_000, 300_000)] {
            let body = readers.body(file.try_clone().expect("a copy"), start, end);
            assert_eq!(body.size_hint().exact(), Some(end - start));
            let got = body.collect().await.expect("bytes").to_bytes();
            assert_eq!(got, bytes[start as usize..end as usize]);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_breaks_the_reply() {
        let readers = Readers::start().expect("threads");
        let (file, _) = file(200_000);
        let broken = readers.body(file, 0, 200_001).collect().await;
        assert_eq!(
            broken.expect_err("short").kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[tokio::test]
    async fn a_hundred_at_once_each_get_their_own() {
        let readers = Readers::start().expect("threads");
        let (file, bytes) = file(400_000);
        let downloads: Vec<_> = (0..100_u64)
            .map(|start| {
                let body = readers.body(file.try_clone().expect("a copy"), start, 400_000);
                tokio::spawn(
                    async move { (start, body.collect().await.expect("bytes").to_bytes()) },
                )
            })
            .collect();
        for download in downloads {
            let (start, got) = download.await.expect("no panic");
            assert_eq!(got, bytes[start as usize..]);
        }
    }
}
