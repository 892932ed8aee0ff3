//! Ending a daemon that does not answer, where no systemd does it.
//!
//! It holds the lock of its root, so none could be started beside it. The rule:
//! only who holds the lock gets a signal, pinned before it was asked again.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bootagent_kit::clock;
use nix::sys::signal::Signal;

use crate::paths::Paths;
use crate::process::Handle;
use crate::selftest::instance::holder_of;

/// What it gets, and how long it may take to end then: as it is asked to, and
/// as the kernel does it.
const STEPS: [(Signal, Duration); 2] = [
    (Signal::SIGTERM, Duration::from_secs(10)),
    (Signal::SIGKILL, Duration::from_secs(30)),
];
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(100);

/// What was found and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is gone; its children go on.
    Daemon,
    /// There was none.
    Nobody,
}

/// Ends the daemon, whichever version it is.
pub(super) fn end(paths: &Paths) -> anyhow::Result<Ended> {
    end_by(paths, STEPS)
}

fn end_by(paths: &Paths, steps: [(Signal, Duration); 2]) -> anyhow::Result<Ended> {
    let boot_id = clock::boot_id().context("reading the boot id")?;
    let Some(handle) = pinned(paths, &boot_id) else {
        return Ok(Ended::Nobody);
    };
    let pid = handle.identity().pid;
    for (signal, patience) in steps {
        log::warn!("bootagent, pid {pid}, does not answer and gets {signal}");
        handle
            .signal(signal)
            .with_context(|| format!("sending {signal} to pid {pid}"))?;
        if is_gone_within(&handle, patience) {
            return Ok(Ended::Daemon);
        }
    }
    bail!("bootagent, pid {pid}, holds the lock and cannot be killed; end it, or reboot")
}

/// The holder of the lock. It is looked at again once it is pinned: whoever has
/// the file open then is who was pinned. The kernel names the process that took
/// the lock also when that one has ended and a child of it keeps the file open,
/// and its pid may be a stranger's by then.
fn pinned(paths: &Paths, boot_id: &str) -> Option<Handle> {
    let pid = holder_of(paths)?;
    let handle = Handle::of(pid, boot_id)?;
    let holds = holder_of(paths) == Some(pid) && has_open(pid, &paths.lock());
    holds.then_some(handle)
}

fn has_open(pid: i32, path: &Path) -> bool {
    let (Ok(file), Ok(open)) = (
        std::fs::metadata(path),
        std::fs::read_dir(format!("/proc/{pid}/fd")),
    ) else {
        return false;
    };
    open.flatten().any(|entry| {
        let other = std::fs::metadata(entry.path());
        other.is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()))
    })
}

fn is_gone_within(handle: &Handle, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while handle.is_alive() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that holds the lock and does with SIGTERM what `trap` says.
    fn holder(paths: &Paths, trap: &str) -> Child {
        std::fs::create_dir_all(paths.run()).expect("made");
        // It takes the lock itself and is executed over, as a daemon is.
        let script = format!("echo $$ >$0; trap {trap} TERM; echo held; read _");
        let mut process = Command::new("flock")
            .args(["--no-fork", "--nonblock"])
            .arg(paths.lock())
            .args(["sh", "-c", &script])
            .arg(paths.lock())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock of util-linux");
        let mut said = [0; 5];
        let stdout = process.stdout.as_mut().expect("piped");
        stdout.read_exact(&mut said).expect("it holds the lock");
        process
    }

    #[test]
    fn who_holds_the_lock_is_asked_to_end_and_killed_when_it_does_not() {
        let minute = Duration::from_secs(60);
        for (trap, patience, signal) in [
            ("-", minute, Signal::SIGTERM),
            ("''", Duration::from_millis(200), Signal::SIGKILL),
        ] {
            let root = tempfile::tempdir().expect("a folder");
            let paths = Paths::new(root.path());
            let mut process = holder(&paths, trap);
            let steps = [(Signal::SIGTERM, patience), (Signal::SIGKILL, minute)];
            let ended = end_by(&paths, steps);
            let status = process.wait().expect("reaped");
            assert_eq!(ended.expect("ended"), Ended::Daemon);
            assert_eq!(status.signal(), Some(signal as i32), "{trap}");
            assert_eq!(end_by(&paths, steps).expect("looked"), Ended::Nobody);
        }
    }

    #[test]
    fn who_does_not_have_the_lock_open_is_a_stranger() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let mut process = holder(&paths, "-");
        let pid = i32::try_from(process.id()).expect("a pid");
        assert!(has_open(pid, &paths.lock()));
        let me = i32::try_from(std::process::id()).expect("a pid");
        assert!(!has_open(me, &paths.lock()));
        drop(process.stdin.take());
        process.wait().expect("reaped");
    }
}
