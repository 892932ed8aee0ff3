//! The thread that owns the journal and writes the metafile.
//!
//! Whoever needs the journal hands it a closure. Supervision only ever sends
//! and never waits; the job worker and the push wait for the answer.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bootagent_kit::fs::write_atomic_keeping;
use bootagent_protocol::Event;

use super::Journal;
use super::tail::{self, OutputPlace};

type Task = Box<dyn FnOnce(&mut Journal) + Send>;

/// A way to the journal's thread. Cheap to clone.
#[derive(Clone)]
pub struct JournalHandle {
    tasks: Sender<Task>,
}

impl JournalHandle {
    /// Starts the thread. `stored` is called after each stored event.
    pub fn start(journal: Journal) -> io::Result<Self> {
        let (tasks, inbox) = channel();
        bootagent_kit::thread::spawn("journal", move || run(journal, &inbox))?;
        Ok(Self { tasks })
    }

    /// Runs `task` on the journal's thread some time later.
    pub fn later(&self, task: impl FnOnce(&mut Journal) + Send + 'static) {
        // The thread ends only with the process.
        let _ = self.tasks.send(Box::new(task));
    }

    /// Runs `task` on the journal's thread and waits for its answer.
    pub fn wait<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Journal) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = channel();
        self.later(move |journal| drop(reply.send(task(journal))));
        answer
            .recv()
            .expect("the journal's thread runs until the process ends")
    }

    /// Stores an event, with the last lines of `output` if there are some,
    /// then calls `stored`.
    pub fn event(
        &self,
        mut event: Event,
        output: Option<OutputPlace>,
        stored: impl FnOnce() + Send + 'static,
    ) {
        self.later(move |journal| {
            if let Some(place) = output {
                event.tail = tail::read(&place);
            }
            if let Err(error) = journal.event(event) {
                log::error!("{:#}", anyhow::Error::from(error));
            }
            stored();
        });
    }

    /// Stops the thread between two tasks until the value is dropped: then
    /// nothing is half written. `None` when it is still busy after `limit`.
    pub fn hold(&self, limit: Duration) -> Option<Hold> {
        let (parked, is_parked) = channel();
        let (hold, released) = channel::<()>();
        self.later(move |_| {
            let _ = parked.send(());
            let _ = released.recv();
        });
        is_parked.recv_timeout(limit).ok().map(|()| Hold(hold))
    }

    /// Writes the metafile; `written` gets the result.
    pub fn save(
        &self,
        path: PathBuf,
        content: Vec<u8>,
        written: impl FnOnce(Result<(), bootagent_kit::fs::FsError>) + Send + 'static,
    ) {
        self.later(move |_| written(write_atomic_keeping(&path, &content, 0o600)));
    }
}

/// The journal's thread stands still as long as this lives.
pub struct Hold(#[expect(dead_code, reason = "its drop is what is heard")] Sender<()>);

fn run(mut journal: Journal, inbox: &Receiver<Task>) {
    while let Ok(task) = inbox.recv() {
        task(&mut journal);
    }
}
