//! Files that must survive: written whole or not at all.
//!
//! Every file a host program wants to find again after a power cut goes
//! through [`write_atomic`]. Reading is bounded; nothing here interprets what
//! is in a file.
//!
//! The one rule: at every instant the path holds either the old content or
//! the new one, complete.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a former content is called: `NAME` and this.
const PREVIOUS_SUFFIX: &str = ".previous";

/// Tells the temporary files of one process apart.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// A file operation that failed: which one, on what, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}{}", .path.display(), remedy(.source))]
pub struct FsError {
    /// What was tried, as a verb: `create`, `read`, `rename`.
    pub operation: &'static str,
    /// The object it was tried on.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FsError {
    /// Names the operation and the object of an IO error.
    pub fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// The disk, its inodes or the quota are used up.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// The two paths of a rename or link are on different mounts.
    pub fn is_cross_device(&self) -> bool {
        self.source.kind() == io::ErrorKind::CrossesDevices
    }
}

/// What to do about an error, where it is always the same.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::CrossesDevices => {
            " (the temporary directory and the target are on different mounts: put both on one)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (no space or no inodes left: free some)"
        }
        io::ErrorKind::ReadOnlyFilesystem => " (mounted read-only: remount it read-write)",
        _ => "",
    }
}

/// Writes `bytes` to `path` so that a crash leaves the old content or the new.
///
/// `mode` is given to the file whatever the umask says. The directory must
/// exist. On an error no temporary file is left, and the old content stands,
/// unless it was the directory that could not be synced: then the new one does.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    replace(path, bytes, mode, Former::Dropped).map(drop)
}

/// Like [`write_atomic`], and hands out the file that now stands at `path`, to
/// append to it. On an error it is not said which of the two stands there.
pub fn write_atomic_open(path: &Path, bytes: &[u8], mode: u32) -> Result<File, FsError> {
    replace(path, bytes, mode, Former::Dropped)
}

/// Like [`write_atomic`], and keeps the former content beside it, where
/// [`previous_path`] says.
///
/// An empty file is no content worth keeping: it does not replace a previous
/// copy.
pub fn write_atomic_keeping(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    replace(path, bytes, mode, Former::Kept).map(drop)
}

/// Where [`write_atomic_keeping`] keeps the former content of `path`.
pub fn previous_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PREVIOUS_SUFFIX);
    PathBuf::from(name)
}

/// Reads a file of at most `max_bytes`; a longer one is an error of kind
/// [`io::ErrorKind::FileTooLarge`], and anything but a regular file is refused.
pub fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FsError> {
    let fail = |source| FsError::new("read", path, source);
    // Without O_NONBLOCK the open of a FIFO would wait for its writer for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        let reason = "not a regular file";
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    let too_large = || {
        let reason = format!("longer than {max_bytes} bytes");
        fail(io::Error::new(io::ErrorKind::FileTooLarge, reason))
    };
    if metadata.len() > max_bytes {
        return Err(too_large());
    }
    // Files below /proc and /sys say 0 and are longer, and any file may grow
    // while it is read: the limit holds for what is read, not for what stat says.
    let capacity = usize::try_from(metadata.len()).unwrap_or(0);
    let mut bytes = Vec::with_capacity(capacity);
    let mut bounded = file.take(max_bytes.saturating_add(1));
    bounded.read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large());
    }
    Ok(bytes)
}

/// Creates the directory and its parents where they are missing; what was
/// created is on the disk when this returns.
///
/// `mode` is for `path` itself, also when it exists already and is ours to
/// change; parents that are created get 0755.
pub fn ensure_dir(path: &Path, mode: u32) -> Result<(), FsError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|it| !it.exists()).collect();
    ensure_dir_unsynced(path, mode)?;
    for made in missing.into_iter().filter(|it| !it.as_os_str().is_empty()) {
        sync_dir(parent_of(made))?;
    }
    Ok(())
}

/// The same, and a power cut may take what was created back: for whoever must
/// not wait for the disk.
pub fn ensure_dir_unsynced(path: &Path, mode: u32) -> Result<(), FsError> {
    let fail = |source| FsError::new("create directory", path, source);
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(fail)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(fail(error)),
    }
    let metadata = std::fs::metadata(path).map_err(fail)?;
    if metadata.permissions().mode() & 0o7777 != mode {
        let wanted = std::fs::Permissions::from_mode(mode);
        match std::fs::set_permissions(path, wanted) {
            Ok(()) => {}
            // A directory of somebody else's, /run for instance, is as it is.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(FsError::new("set the mode of", path, error)),
        }
    }
    Ok(())
}

/// Makes the names in a directory durable: what was created, renamed or
/// removed there is on the disk when this returns.
pub fn sync_dir(path: &Path) -> Result<(), FsError> {
    let fail = |source| FsError::new("sync directory", path, source);
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(fail)
}

/// Locks the file at `path`, which is made with `mode` where it is missing, until the file that is
/// handed out is closed. None when another process, or another part of this one, has it locked.
pub fn try_lock(path: &Path, mode: u32) -> Result<Option<File>, FsError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(mode)
        .open(path)
        .map_err(|e| FsError::new("open", path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(e)) => Err(FsError::new("lock", path, e)),
    }
}

/// The directory a file stands in; `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What becomes of a file's former content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Former {
    Dropped,
    Kept,
}

fn replace(path: &Path, bytes: &[u8], mode: u32, former: Former) -> Result<File, FsError> {
    let Some(name) = path.file_name() else {
        let reason = "the path names no file";
        let source = io::Error::new(io::ErrorKind::InvalidInput, reason);
        return Err(FsError::new("write", path, source));
    };
    let directory = parent_of(path);
    let temporary = Temporary::beside(directory, name);
    let file = temporary.fill(bytes, mode)?;
    if former == Former::Kept {
        keep_former(path, directory, name)?;
    }
    std::fs::rename(&temporary.path, path).map_err(|e| FsError::new("replace", path, e))?;
    sync_dir(directory)?;
    Ok(file)
}

/// Gives the present content of `path` its second name. A hard link, not a
/// rename: `path` itself must hold a good copy at every instant.
fn keep_former(path: &Path, directory: &Path, name: &OsStr) -> Result<(), FsError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FsError::new("read", path, error)),
    }
    let link = Temporary::beside(directory, name);
    std::fs::hard_link(path, &link.path)
        .map_err(|e| FsError::new("keep the former content of", path, e))?;
    let previous = previous_path(path);
    std::fs::rename(&link.path, &previous).map_err(|e| FsError::new("replace", &previous, e))
    // When both names are already one file, rename does nothing and leaves
    // the link; dropping `link` removes it.
}

/// Removes what a [`write_atomic`] left in `directory` whose process was
/// killed; returns how many files. Only for whoever alone writes there.
pub fn remove_stale_temporaries(directory: &Path) -> Result<usize, FsError> {
    let failed = |e| FsError::new("list", directory, e);
    let mut removed = 0;
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_temporary(&entry.file_name().to_string_lossy()) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|e| FsError::new("remove stale", &path, e))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a name is one that [`Temporary::beside`] makes: `.NAME.PID-N.tmp`.
fn is_temporary(name: &str) -> bool {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let middle = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".tmp"));
    middle
        .and_then(|middle| middle.rsplit_once('.'))
        .and_then(|(_, end)| end.split_once('-'))
        .is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

/// A temporary name, removed again unless it was renamed away.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn beside(directory: &Path, name: &OsStr) -> Self {
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{number}.tmp", std::process::id()));
        Self {
            path: directory.join(temporary),
        }
    }

    fn fill(&self, bytes: &[u8], mode: u32) -> Result<File, FsError> {
        let fail = |operation| move |e| FsError::new(operation, &self.path, e);
        // A process with our pid that was killed here may have left the name.
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(fail("remove stale")(e));
            }
            _ => {}
        }
        // Never wider than wanted, not even for a moment: created 0600, then
        // given its mode before the content.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode & 0o600)
            .open(&self.path)
            .map_err(fail("create"))?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .map_err(fail("set the mode of"))?;
        file.write_all(bytes).map_err(fail("write"))?;
        file.sync_all().map_err(fail("sync"))?;
        Ok(file)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already when the rename succeeded; nothing to do about it else.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests;
