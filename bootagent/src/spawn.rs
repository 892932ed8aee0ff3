//! Starting a process, in the order that loses none and doubles none:
//! fork, cgroup, run record, exec.
//!
//! The child waits between fork and exec until its record is written. If we
//! die before that, it ends without having run; if we die after, the next
//! BootAgent finds it by its record.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bootagent_protocol::Manifest;

use crate::account;
use crate::process::{Handle, Identity};
use crate::sys::{self, Account, ExecPlan};

/// What is to be run.
#[derive(Debug)]
pub struct Program {
    /// argv; the first word is the program's path.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub envs: BTreeMap<OsString, OsString>,
    /// Where it starts.
    pub directory: PathBuf,
    /// Whom it runs as; `None` means as ourselves.
    pub account: Option<Account>,
    /// Open files of one process.
    pub files: Option<u64>,
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error; `None` means with standard output.
    pub errors: Option<OwnedFd>,
}

/// A process that was let go.
#[derive(Debug)]
pub struct Spawned {
    /// Who it is.
    pub handle: Handle,
    /// Says why exec failed, if it did; see [`sys::exec_failure`].
    pub failure: OwnedFd,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A word or a variable holds a zero byte.
    #[error("a zero byte in {0:?}")]
    ZeroByte(OsString),
    /// fork, a pipe or /dev/null.
    #[error("starting {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cgroup or the run record could not be written.
    #[error("preparing {}", program.display())]
    Prepare {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
}

/// Starts `program`. `prepare` runs between fork and exec and puts the new
/// process into its cgroup and onto disk; if it fails nothing has run.
pub fn spawn(
    program: &Program,
    boot_id: &str,
    prepare: impl FnOnce(&Identity) -> anyhow::Result<()>,
) -> Result<Spawned, SpawnError> {
    let path = PathBuf::from(program.argv.first().cloned().unwrap_or_default());
    let start = |source| SpawnError::Start {
        program: path.clone(),
        source,
    };
    let plan = plan(program)?.map_err(start)?;
    let forked = sys::fork_exec(&plan).map_err(start)?;
    let handle = Handle::of_child(forked.pid, boot_id).map_err(start)?;
    // Dropping `forked` here closes its pipe: the child ends and is reaped
    // like any other.
    prepare(handle.identity()).map_err(|source| SpawnError::Prepare {
        program: path.clone(),
        source,
    })?;
    let failure = forked.go().map_err(start)?;
    Ok(Spawned { handle, failure })
}

fn plan(program: &Program) -> Result<io::Result<ExecPlan>, SpawnError> {
    let text = |text: &OsStr| {
        CString::new(text.as_bytes()).map_err(|_| SpawnError::ZeroByte(text.to_owned()))
    };
    let argv = program
        .argv
        .iter()
        .map(|word| text(word))
        .collect::<Result<Vec<_>, _>>()?;
    let pair = |(key, value): (&OsString, &OsString)| {
        let mut pair = key.clone();
        pair.push("=");
        pair.push(value);
        text(&pair)
    };
    let envs = program
        .envs
        .iter()
        .map(pair)
        .collect::<Result<Vec<_>, _>>()?;
    let (path, directory) = (
        argv.first().cloned().unwrap_or_default(),
        text(program.directory.as_os_str())?,
    );
    let files = || -> io::Result<[OwnedFd; 3]> {
        let input = std::fs::File::open("/dev/null")?.into();
        let errors = program
            .errors
            .as_ref()
            .unwrap_or(&program.output)
            .try_clone()?;
        Ok([input, program.output.try_clone()?, errors])
    };
    Ok(files().map(|[input, output, errors]| ExecPlan {
        program: path,
        argv,
        envs,
        directory,
        output,
        errors,
        input,
        account: program.account.clone(),
        files: program.files,
    }))
}

/// The first word of an argv, resolved against the folder of its manifest.
pub fn resolve(argv: &[String], folder: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = argv.iter().map(OsString::from).collect();
    if let Some(first) = words.first_mut() {
        *first = folder.join(first.as_os_str()).into_os_string();
    }
    words
}

/// How children get their account on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Privilege {
    /// As root: each child as its own user.
    Root {
        /// Whether the kernel lets another user keep capabilities over exec.
        has_ambient: bool,
        /// Whom a child runs as whose manifest names no user.
        default_user: String,
    },
    /// As an ordinary user: everything runs as ourselves.
    Ourselves,
}

impl Privilege {
    /// What this process may do.
    pub fn of_this_process(default_user: &str) -> Self {
        if nix::unistd::geteuid().is_root() {
            let default_user = default_user.to_owned();
            Self::Root {
                has_ambient: sys::has_ambient_capabilities(),
                default_user,
            }
        } else {
            Self::Ourselves
        }
    }

    /// The account of a manifest's child; the error names the key.
    pub fn account(&self, manifest: &Manifest) -> Result<Option<Account>, String> {
        let Self::Root {
            has_ambient,
            default_user,
        } = self
        else {
            return Ok(None);
        };
        let user = manifest.user.as_ref().unwrap_or(default_user);
        let capabilities = capabilities(&manifest.capabilities)?;
        let gid = match &manifest.group {
            None => None,
            Some(name) => Some(
                account::group(name)
                    .ok_or_else(|| format!("group: there is no group {name:?} on this host"))?,
            ),
        };
        let account = account::user(user, gid)
            .ok_or_else(|| format!("user: there is no account {user:?} on this host"))?;
        // Without ambient capabilities only uid 0 keeps any over exec.
        let keeps_root = !*has_ambient && !capabilities.is_empty();
        let bounding = caps::read(None, caps::CapSet::Bounding).unwrap_or_default();
        Ok(Some(Account {
            uid: if keeps_root { 0 } else { account.uid },
            gid: account.gid,
            groups: account.groups,
            dropped: bounding.difference(&capabilities).copied().collect(),
            capabilities,
        }))
    }
}

fn capabilities(names: &[String]) -> Result<caps::CapsHashSet, String> {
    let parse = |name: &String| {
        name.parse::<caps::Capability>()
            .map_err(|_| format!("capabilities: {name:?} is none, CAP_NET_RAW would be one"))
    };
    names.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
