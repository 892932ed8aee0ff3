//! The data directory: one process owns it, for life.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// A directory this process owns until it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held, not used: the kernel lets go of it when the process ends.
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another server has it.
    #[error(
        "another bootserver (pid {pid}) uses {}; stop it, or give this one another --data", path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who has it, as it wrote itself.
        pid: String,
    },
    /// The system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |source| DataDirError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

impl DataDir {
    /// Takes the directory; makes it, for its owner alone, if it is not there.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("creating the data directory", path))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("opening", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&lock_path).unwrap_or_default();
                let pid = pid.trim().to_owned();
                return Err(DataDirError::InUse {
                    path: path.to_owned(),
                    pid,
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking", &lock_path)(error)),
        }
        let write = |lock: &mut File| {
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())
        };
        write(&mut lock).map_err(failed("writing", &lock_path))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// A path in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// What root made in a data directory of somebody else becomes theirs: a server
/// that runs as that user could not open it. The one rule: no link is followed, so
/// that nobody is given what lies elsewhere.
pub fn give_to_owner(path: &Path) -> io::Result<()> {
    let folder = File::open(path)?;
    let owner = folder.metadata()?;
    match geteuid().is_root() && owner.uid() != 0 {
        true => give(&folder, &owner),
        false => Ok(()),
    }
}

fn give(folder: &File, owner: &fs::Metadata) -> io::Result<()> {
    // By its descriptor: its name may mean another folder in a moment.
    let folder = format!("/proc/self/fd/{}", folder.as_raw_fd());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // It belongs to the file system.
        if entry.file_name() == "lost+found" {
            continue;
        }
        let found = entry.metadata()?;
        if found.uid() == 0 {
            lchown(entry.path(), Some(owner.uid()), Some(owner.gid()))?;
        }
        if found.is_dir() {
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            let mut options = OpenOptions::new();
            let inner = options.read(true).custom_flags(flags.bits());
            give(&inner.open(entry.path())?, owner)?;
        }
    }
    Ok(())
}

/// Writes a file whole or not at all, and so that it survives a power cut.
pub fn write_atomic(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn what_root_makes_is_given_to_the_owner_of_the_directory_and_nothing_elsewhere_is() {
        if !geteuid().is_root() {
            println!("SKIPPED: only root may give files away");
            return;
        }
        let elsewhere = tempfile::TempDir::new().expect("a folder");
        let file = elsewhere.path().join("file");
        fs::write(&file, "").expect("written");
        let data = tempfile::TempDir::new().expect("a folder");
        let inner = data.path().join("blobs/00");
        fs::create_dir_all(&inner).expect("made");
        fs::write(inner.join("blob"), "").expect("written");
        symlink(&file, data.path().join("link")).expect("made");
        symlink(elsewhere.path(), data.path().join("folder")).expect("made");
        let owner = |path: &Path| fs::metadata(path).expect("there").uid();

        give_to_owner(data.path()).expect("done");
        assert_eq!(owner(&inner), 0, "root's own stays root's");
        chown(data.path(), Some(7), Some(7)).expect("given");
        give_to_owner(data.path()).expect("done");
        assert_eq!((owner(&inner), owner(&inner.join("blob"))), (7, 7));
        assert_eq!((owner(&file), owner(elsewhere.path())), (0, 0));
    }
}
