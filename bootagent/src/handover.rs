//! What a BootAgent leaves to the one that is executed in its place.
//!
//! The process stays the same: its id, its children, its lock. Descriptors
//! that must survive are named in one variable of the environment and are
//! open over the exec. The rule: a handover that was meant for another
//! process is none.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::{Deserialize, Serialize};

/// The variable that names the descriptors.
const VARIABLE: &str = "BOOTAGENT_HANDOVER";

/// What stands in the variable. Every field but the first may be missing: the
/// one who wrote it may be older or newer.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Words {
    /// For whom it is.
    pid: u32,
    /// Which version wrote it.
    from: String,
    lock: Option<RawFd>,
    listener: Option<RawFd>,
    caller: Option<RawFd>,
    notify: BTreeMap<String, RawFd>,
}

/// What the earlier BootAgent left.
#[derive(Debug, Default)]
pub struct Handover {
    /// Its version.
    pub from: String,
    /// The locked file.
    pub lock: Option<OwnedFd>,
    /// The control socket, listening.
    pub listener: Option<OwnedFd>,
    /// The `bootctl` that ordered it and waits for an answer.
    pub caller: Option<OwnedFd>,
    /// The notify sockets of children, by name.
    pub notify: BTreeMap<String, OwnedFd>,
}

impl Handover {
    /// What was left for this process; `None` after an ordinary start. To be
    /// called once.
    pub fn take() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        let words: Words = serde_json::from_str(&text).ok()?;
        if words.pid != std::process::id() {
            return None;
        }
        Some(Self {
            from: words.from,
            lock: words.lock.and_then(own),
            listener: words.listener.and_then(own),
            caller: words.caller.and_then(own),
            notify: words
                .notify
                .into_iter()
                .filter_map(|(name, number)| Some((name, own(number)?)))
                .collect(),
        })
    }
}

/// A descriptor that is open is ours again, and closed at the next exec.
fn own(number: RawFd) -> Option<OwnedFd> {
    let is_open = || std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    if number <= 2 || !is_open() {
        return None;
    }
    let descriptor = crate::sys::own_descriptor(number);
    set_flags(&descriptor, FdFlag::FD_CLOEXEC).ok()?;
    Some(descriptor)
}

fn set_flags(descriptor: impl AsFd, flags: FdFlag) -> nix::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFD(flags)).map(drop)
}

/// What is left to the next one: descriptors that stay with their owners here,
/// because the exec may fail.
#[derive(Debug, Default)]
pub struct Bequest<'a> {
    /// The locked file.
    pub lock: Option<BorrowedFd<'a>>,
    /// The control socket.
    pub listener: Option<BorrowedFd<'a>>,
    /// Who waits for an answer.
    pub caller: Option<BorrowedFd<'a>>,
    /// The notify sockets of children, by name.
    pub notify: BTreeMap<String, BorrowedFd<'a>>,
}

impl Bequest<'_> {
    /// Executes `program` in our place, with our own arguments. Returns only
    /// when that failed, and nothing has changed then.
    pub fn exec(&self, program: &Path) -> anyhow::Error {
        let Err(error) = self.try_exec(program);
        for descriptor in self.descriptors() {
            let _ = set_flags(descriptor, FdFlag::FD_CLOEXEC);
        }
        error
    }

    fn try_exec(&self, program: &Path) -> anyhow::Result<std::convert::Infallible> {
        let text = |text: &[u8]| CString::new(text).context("a zero byte in the arguments");
        let mut argv = vec![text(program.as_os_str().as_bytes())?];
        for word in std::env::args_os().skip(1) {
            argv.push(text(word.as_bytes())?);
        }
        let mut envs = Vec::new();
        let own = std::env::vars_os().filter(|(key, _)| key != VARIABLE);
        for (key, value) in own.chain([(VARIABLE.into(), self.words())]) {
            envs.push(text(&[key.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        for descriptor in self.descriptors() {
            set_flags(descriptor, FdFlag::empty()).context("keeping a descriptor open")?;
        }
        // Not std's exec: that would unblock the signals on its way, and one
        // that came at this moment would end us.
        nix::unistd::execve(&argv[0], &argv, &envs)
            .with_context(|| format!("executing {}", program.display()))
    }

    fn words(&self) -> OsString {
        let number = |descriptor: &BorrowedFd<'_>| descriptor.as_raw_fd();
        let words = Words {
            pid: std::process::id(),
            from: crate::host::VERSION.to_owned(),
            lock: self.lock.as_ref().map(number),
            listener: self.listener.as_ref().map(number),
            caller: self.caller.as_ref().map(number),
            notify: self
                .notify
                .iter()
                .map(|(name, descriptor)| (name.clone(), number(descriptor)))
                .collect(),
        };
        serde_json::to_string(&words)
            .expect("keys are strings")
            .into()
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let single = [self.lock, self.listener, self.caller];
        single
            .into_iter()
            .flatten()
            .chain(self.notify.values().copied())
    }
}

/// Where our program lies, also when the file we were started from has been
/// replaced since: the new one is meant.
pub fn program() -> io::Result<PathBuf> {
    // As we were called, so that a link that was switched is followed anew.
    if let Some(word) = std::env::args_os().next()
        && Path::new(&word).is_absolute()
    {
        return Ok(word.into());
    }
    let program = std::env::current_exe()?;
    let text = program.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or_else(|| program.clone(), PathBuf::from))
}

/// Where arguments that name files by relative paths begin.
pub fn directory() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
}
