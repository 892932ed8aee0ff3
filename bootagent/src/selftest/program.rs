//! Whether a program could be executed, by us and by a child's account.
//!
//! The one rule: what only the mode bits say is a warning, because an access
//! control list may say more.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use caps::Capability;
use nix::unistd::{AccessFlags, eaccess};

use super::Check;
use crate::sys::Account;

/// What the kernel reads of a script's first line.
const MAX_FIRST_LINE: u64 = 256;

/// What stands in the way of a program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Nobody can run it.
    Sure(String),
    /// By its mode bits the account may not.
    Likely(String),
}

impl Obstacle {
    /// As a line; `what` says whose program it is.
    pub(super) fn into_check(self, name: &'static str, what: &str) -> Check {
        match self {
            Self::Sure(text) => Check::fail(name, format!("{what}: {text}")),
            Self::Likely(text) => Check::warn(name, format!("{what}: {text}")),
        }
    }
}

/// The first obstacle for `program` run as `account`, ourselves without one.
pub(super) fn obstacle(program: &Path, account: Option<&Account>) -> Option<Obstacle> {
    let shown = program.display();
    let metadata = match std::fs::metadata(program) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Some(Obstacle::Sure(format!(
                "{shown}: {error}; install it again"
            )));
        }
    };
    if !metadata.is_file() {
        return Some(Obstacle::Sure(format!(
            "{shown} is no file; correct the manifest"
        )));
    }
    if let Err(errno) = eaccess(program, AccessFlags::X_OK) {
        let remedy = "chmod +x it, and look for noexec in its mount";
        return Some(Obstacle::Sure(format!(
            "{shown} cannot be executed: {}; {remedy}",
            errno.desc()
        )));
    }
    if let Some(interpreter) = interpreter(program)
        && !interpreter.exists()
    {
        let text = format!(
            "{shown} needs {}, which is missing; install it",
            interpreter.display()
        );
        return Some(Obstacle::Sure(text));
    }
    account
        .and_then(|account| by_mode(program, &metadata, account))
        .map(Obstacle::Likely)
}

/// The program behind `#!`, if it is a script.
fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    File::open(program)
        .ok()?
        .take(MAX_FIRST_LINE)
        .read_to_end(&mut start)
        .ok()?;
    let line = start
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = line
        .split(|byte| *byte == b' ' || *byte == b'\t')
        .filter(|word| !word.is_empty());
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(words.next()?)))
}

fn by_mode(program: &Path, metadata: &Metadata, account: &Account) -> Option<String> {
    if account.capabilities.contains(&Capability::CAP_DAC_OVERRIDE) {
        return None;
    }
    let real = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_path_buf());
    let uid = account.uid;
    let mut folders: Vec<&Path> = real.ancestors().skip(1).collect();
    folders.reverse();
    for folder in folders {
        let is_closed = |metadata: Metadata| !may_execute(&metadata, account);
        if std::fs::metadata(folder).is_ok_and(is_closed) {
            let shown = folder.display();
            return Some(format!(
                "uid {uid} may not enter {shown}; chmod o+x {shown}"
            ));
        }
    }
    (!may_execute(metadata, account)).then(|| {
        let shown = real.display();
        format!("uid {uid} may not execute {shown}; chmod o+rx {shown}")
    })
}

/// The execute bit that holds for the account: owner, group or others.
fn may_execute(metadata: &Metadata, account: &Account) -> bool {
    let mode = metadata.permissions().mode();
    if metadata.uid() == account.uid {
        mode & 0o100 != 0
    } else if metadata.gid() == account.gid || account.groups.contains(&metadata.gid()) {
        mode & 0o010 != 0
    } else {
        mode & 0o001 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(uid: u32) -> Account {
        let (capabilities, dropped) = (caps::CapsHashSet::new(), Vec::new());
        Account {
            uid,
            gid: uid,
            groups: vec![uid],
            capabilities,
            dropped,
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions).expect("it is ours");
    }

    #[test]
    fn every_obstacle_is_told_apart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = folder.path().join("program");
        let text = |account: Option<&Account>| match obstacle(&program, account) {
            Some(Obstacle::Sure(text)) => format!("sure: {text}"),
            Some(Obstacle::Likely(text)) => format!("likely: {text}"),
            None => "none".into(),
        };
        assert!(text(None).contains("sure") && text(None).contains("install it again"));
        std::fs::write(&program, "#! /bin/sh -e\n").expect("writable");
        set_mode(&program, 0o644);
        assert!(text(None).contains("cannot be executed"), "{}", text(None));
        set_mode(&program, 0o755);
        assert_eq!(text(None), "none");
        // Its owner may enter, others may not.
        set_mode(folder.path(), 0o700);
        let own = std::fs::metadata(&program).expect("written").uid();
        assert_eq!(text(Some(&account(own))), "none");
        let foreign = text(Some(&account(own + 1)));
        assert!(
            foreign.contains("likely") && foreign.contains("may not enter"),
            "{foreign}"
        );
        set_mode(folder.path(), 0o755);
        assert_eq!(text(Some(&account(own + 1))), "none");
        set_mode(&program, 0o700);
        let foreign = text(Some(&account(own + 1)));
        assert!(foreign.contains("may not execute"), "{foreign}");
        std::fs::write(&program, "#!/nonexistent/python9\n").expect("writable");
        assert!(
            text(None).contains("/nonexistent/python9"),
            "{}",
            text(None)
        );
    }
}
