//! The second process: it writes down what children print.
//!
//! It outlives a crash of the daemon, so a child never gets SIGPIPE. It knows
//! nothing of children: every FIFO in its folder is drained into the log of
//! the same name. Bytes, not lines: odd bytes and endless lines pass through.
//! A flood is dropped and counted. It ends when the folder is removed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use bootagent_kit::fs::read_limited;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::args::LoggerArgs;
use crate::process::{Handle, Identity};

mod flood;
mod rotate;

use flood::Flood;
use rotate::RotatingFile;

/// Most bytes of a lock file that are read.
const MAX_LOCK_BYTES: u64 = 4096;

/// Read at once: a pipe holds no more.
const CHUNK_BYTES: usize = 64 * 1024;

/// Milliseconds of quiet after which memory is given back: once for a hundred
/// children that start or print together.
const REST_AFTER: u16 = 500;

/// Chunks drained from a FIFO that is gone: all that a pipe can hold. Somebody
/// may still print into it, and must not keep the others waiting.
const LAST_CHUNKS: usize = 16;

struct Output {
    fifo: File,
    /// Told from another one that was made in its place.
    inode: u64,
    log: RotatingFile,
    flood: Flood,
}

/// Runs until the folder of FIFOs is gone.
pub fn run(args: &LoggerArgs) -> anyhow::Result<()> {
    // A child's flood must not end the process that survives floods.
    let _lock = lock(&args.outputs)?;
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
    watch
        .add_watch(&args.outputs, flags)
        .with_context(|| format!("watching {}", args.outputs.display()))?;
    // Its own removal is told by its parent alone: a FIFO that a child still
    // has open keeps the folder alive for itself.
    let parent = args.outputs.parent().unwrap_or(&args.outputs);
    watch
        .add_watch(parent, AddWatchFlags::IN_DELETE)
        .with_context(|| format!("watching {}", parent.display()))?;
    let mut outputs: BTreeMap<String, Output> = BTreeMap::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut wake = Wake::FolderChanged;
    loop {
        if wake == Wake::FolderChanged {
            // Cleared before the look: what comes later wakes again.
            let _ = watch.read_events();
            if !args.outputs.is_dir() {
                return Ok(());
            }
            refresh(args, &mut outputs, &mut buffer);
        }
        wake = wait(&watch, &mut outputs, &mut buffer)?;
    }
}

/// One logger per folder: a second one would tear lines apart.
fn lock(outputs: &Path) -> anyhow::Result<nix::fcntl::Flock<File>> {
    let path = outputs.with_extension("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    let mut lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("another logger holds {}", path.display()))?;
    // For a daemon that has lost its record of us.
    let pid = i32::try_from(std::process::id()).context("our own pid")?;
    let me = Handle::of_child(pid, &bootagent_kit::clock::boot_id()?)?;
    lock.set_len(0)?;
    lock.write_all(&serde_json::to_vec(me.identity())?)?;
    Ok(lock)
}

/// Who holds the lock of the folder `outputs`, as it says itself.
pub fn holder(outputs: &Path) -> Option<Identity> {
    let bytes = read_limited(&outputs.with_extension("lock"), MAX_LOCK_BYTES).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Opens what is new and drains, then closes, what is gone.
fn refresh(args: &LoggerArgs, outputs: &mut BTreeMap<String, Output>, buffer: &mut [u8]) {
    let entries = std::fs::read_dir(&args.outputs)
        .into_iter()
        .flatten()
        .flatten();
    let fifos = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_fifo()));
    let found: BTreeMap<String, u64> = fifos
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.ino())))
        .collect();
    outputs.retain(|name, output| {
        let stays = found.get(name) == Some(&output.inode);
        let mut chunks = if stays { 0 } else { LAST_CHUNKS };
        while chunks > 0 && drain(output, buffer) > 0 {
            chunks -= 1;
        }
        stays
    });
    for (name, inode) in found {
        if outputs.contains_key(&name) {
            continue;
        }
        // Read and write: so there is always a writer, and end-of-file never.
        let fifo = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(args.outputs.join(&name));
        if let Ok(fifo) = fifo {
            let log = RotatingFile::new(
                args.logs.join(format!("{name}.log")),
                args.max_bytes,
                args.keep,
            );
            outputs.insert(
                name,
                Output {
                    fifo,
                    inode,
                    log,
                    flood: Flood::new(args.rate),
                },
            );
        }
    }
}

#[derive(PartialEq, Eq)]
enum Wake {
    FolderChanged,
    Output,
}

/// Waits, and drains what is ready. An idle logger gives back its memory once,
/// then waits without a timeout and never wakes up.
fn wait(
    watch: &Inotify,
    outputs: &mut BTreeMap<String, Output>,
    buffer: &mut [u8],
) -> anyhow::Result<Wake> {
    let ready: Vec<bool> = {
        let mut sources = vec![PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        sources.extend(
            outputs
                .values()
                .map(|o| PollFd::new(o.fifo.as_fd(), PollFlags::POLLIN)),
        );
        let mut outcome = poll(&mut sources, PollTimeout::from(REST_AFTER));
        if outcome == Ok(0) {
            // Nothing between this and the wait: what runs comes back.
            crate::sys::give_back_memory();
            outcome = poll(&mut sources, PollTimeout::NONE);
        }
        match outcome {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("waiting for output"),
        }
        sources
            .iter()
            .map(|source| source.any().unwrap_or(false))
            .collect()
    };
    for (output, _) in outputs
        .values_mut()
        .zip(&ready[1..])
        .filter(|(_, ready)| **ready)
    {
        // One chunk each, so that a flood of one does not starve the others.
        drain(output, buffer);
    }
    Ok(if ready[0] {
        Wake::FolderChanged
    } else {
        Wake::Output
    })
}

/// Moves one chunk from the FIFO to the log; returns its bytes.
fn drain(output: &mut Output, buffer: &mut [u8]) -> usize {
    let Ok(bytes) = output.fifo.read(buffer) else {
        return 0;
    };
    let now = bootagent_kit::clock::boottime();
    let (kept, notice) = output.flood.admit(&buffer[..bytes], now);
    if let Some(notice) = notice {
        output.log.write(notice.as_bytes());
    }
    output.log.write(kept);
    bytes
}

#[cfg(test)]
mod tests;
