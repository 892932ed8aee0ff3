//! The thread that owns the journal and writes the metafile.
//!
//! Whoever needs the journal hands it a closure. Supervision only ever sends
//! and never waits; the job worker and the push wait for the answer.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bootagent_kit::fs::write_atomic_keeping;
use bootagent_protocol::Event;

use super::Journal;
use super::tail::{self, OutputPlace};

type Task = Box<dyn FnOnce(&mut Keeper) + Send>;
/// Between two tries to write what could not be written.
const MEND: Duration = Duration::from_secs(30);

/// What cannot be written at the moment, in words.
type Troubles = Arc<Mutex<Vec<String>>>;

/// A way to the journal's thread. Cheap to clone.
#[derive(Clone)]
pub struct JournalHandle {
    tasks: Sender<Task>,
    troubles: Troubles,
}

/// What the thread owns.
pub struct Keeper {
    journal: Journal,
    /// A metafile that could not be written, and why. The newest counts.
    unwritten: Option<(PathBuf, Vec<u8>, String)>,
}

impl JournalHandle {
    /// Starts the thread.
    pub fn start(journal: Journal) -> io::Result<Self> {
        let (tasks, inbox) = channel();
        let keeper = Keeper {
            journal,
            unwritten: None,
        };
        let troubles = Troubles::default();
        keeper.tell(&troubles);
        let told = Arc::clone(&troubles);
        bootagent_kit::thread::spawn("journal", move || keeper.run(&inbox, &told))?;
        Ok(Self { tasks, troubles })
    }

    /// What cannot be written at the moment, and what that means.
    pub fn troubles(&self) -> Vec<String> {
        let troubles = self.troubles.lock();
        troubles.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs `task` on the journal's thread some time later.
    pub fn later(&self, task: impl FnOnce(&mut Journal) + Send + 'static) {
        self.send(|keeper| task(&mut keeper.journal));
    }

    fn send(&self, task: impl FnOnce(&mut Keeper) + Send + 'static) {
        // The thread ends only with the process.
        let _ = self.tasks.send(Box::new(task));
    }

    /// Runs `task` on the journal's thread and waits for its answer.
    pub fn wait<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Journal) -> T + Send + 'static,
    ) -> T {
        self.wait_for(move |keeper| task(&mut keeper.journal))
    }

    /// The same of all the thread keeps; what was handed over before is done.
    pub fn wait_for<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Keeper) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = channel();
        self.send(move |keeper| drop(reply.send(task(keeper))));
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
    /// nothing is half written, and nothing is in memory alone. The error says
    /// why that cannot be, or that the thread is still busy after `limit`.
    pub fn hold(&self, limit: Duration) -> Result<Hold, String> {
        let (parked, is_parked) = channel();
        let (hold, released) = channel::<()>();
        self.send(move |keeper| {
            let kept = keeper.all_kept();
            let is_kept = kept.is_ok();
            let _ = parked.send(kept);
            if is_kept {
                let _ = released.recv();
            }
        });
        match is_parked.recv_timeout(limit) {
            Ok(kept) => kept.map(|()| Hold(hold)),
            Err(_) => Err("the journal's disk does not answer".into()),
        }
    }

    /// Writes the metafile; `written` gets the result. One that could not be
    /// written is tried again before whatever comes next.
    pub fn save(
        &self,
        path: PathBuf,
        content: Vec<u8>,
        written: impl FnOnce(Result<(), bootagent_kit::fs::FsError>) + Send + 'static,
    ) {
        self.send(move |keeper| {
            let saved = write_atomic_keeping(&path, &content, 0o600);
            keeper.unwritten = match &saved {
                Ok(()) => None,
                Err(error) => Some((path, content, format!("{error}: {}", error.source))),
            };
            written(saved);
        });
    }
}

/// The journal's thread stands still as long as this lives.
pub struct Hold(#[expect(dead_code, reason = "its drop is what is heard")] Sender<()>);

impl Keeper {
    fn run(mut self, inbox: &Receiver<Task>, troubles: &Troubles) {
        loop {
            // While all is well it sleeps until it is needed.
            let task = match self.is_whole() {
                true => inbox.recv().map_err(RecvTimeoutError::from),
                false => inbox.recv_timeout(MEND),
            };
            self.mend();
            match task {
                Ok(task) => task(&mut self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tell(troubles);
        }
    }

    /// Whether all is on disk.
    fn is_whole(&self) -> bool {
        self.unwritten.is_none() && self.journal.trouble().is_none()
    }

    /// The error says why the newest metafile is in memory alone.
    pub fn metafile_kept(&self) -> Result<(), String> {
        self.unwritten.as_ref().map_or(Ok(()), |(.., why)| {
            Err(format!(
                "what is wanted of the children is only in memory: {why}"
            ))
        })
    }

    /// The error says what is in memory alone, and why.
    pub fn all_kept(&self) -> Result<(), String> {
        match self.lacking() {
            lacking if lacking.is_empty() => Ok(()),
            lacking => Err(lacking.join("; ")),
        }
    }

    fn lacking(&self) -> Vec<String> {
        let journal = self
            .journal
            .trouble()
            .map(|why| format!("no job is taken, results and events are only in memory: {why}"));
        journal
            .into_iter()
            .chain(self.metafile_kept().err())
            .collect()
    }

    /// Tries again what could not be written: with whatever comes next, such as
    /// a status, and by itself where nothing comes (no server is known).
    fn mend(&mut self) {
        self.journal.mend();
        if let Some((path, content, _)) = &self.unwritten
            && write_atomic_keeping(path, content, 0o600).is_ok()
        {
            log::info!("{} is written again", path.display());
            self.unwritten = None;
        }
    }

    fn tell(&self, troubles: &Troubles) {
        let now = self.lacking();
        let mut told = troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != now {
            *told = now;
        }
    }
}
