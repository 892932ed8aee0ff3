//! Writes the entries of a bundle into a new folder, and to the disk.
//!
//! [`archive`] decides what an entry may be; here it becomes a file of ours
//! with a mode of ours. The one rule: nothing is written outside the new
//! folder, which holds no link and which nobody else may enter meanwhile.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::archive::{self, Bounds, Execution, Node, Walk};
use crate::download::{Failure, space};

/// Beyond so many files one flush of the whole file system is quicker than
/// one for each.
const FLUSH_EACH: usize = 32;

/// Unpacks into the new folder `folder` and returns the files and folders.
pub(super) fn fill(
    package: &Path,
    folder: &Path,
    bounds: &Bounds,
) -> Result<Vec<PathBuf>, Failure> {
    make_folder(folder)?;
    // Whoever may not enter cannot use a half-unpacked program.
    set_mode(folder, 0o700)?;
    let mut made = vec![folder.to_path_buf()];
    archive::walk(package, bounds, &mut |path, node, reader| {
        let target = folder.join(path);
        let parent = path.parent().unwrap_or(Path::new(""));
        make_parents(folder, parent, &mut made).map_err(|error| conflict(path, error))?;
        match node {
            Node::Folder => {
                make_below(&target, &mut made).map_err(|error| conflict(path, error))?;
            }
            Node::File(size, execution) => {
                space::require(folder, size, 1)?;
                write_file(package, &target, size, execution, reader)
                    .map_err(|error| conflict(path, error))?;
                made.push(target);
            }
        }
        Ok(Walk::On)
    })?;
    set_mode(folder, 0o755)?;
    Ok(made)
}

/// A file where a folder is needed, or the reverse, is the archive's fault.
fn conflict(path: &Path, failure: Failure) -> Failure {
    let kind = failure
        .cause
        .as_ref()
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists) => archive::refuse(
            &path.to_string_lossy(),
            "it is a file in one place and a folder in another",
        ),
        _ => failure,
    }
}

fn make_parents(folder: &Path, parent: &Path, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let mut path = folder.to_path_buf();
    for component in parent.components() {
        path.push(component);
        make_below(&path, made)?;
    }
    Ok(())
}

fn make_below(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => {
            let error = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(Failure::file("create", path, error));
        }
        Err(_) => {}
    }
    make_folder(path)?;
    made.push(path.to_path_buf());
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir(path).map_err(|error| Failure::file("create", path, error))?;
    set_mode(path, 0o755)
}

/// The daemon's umask does not decide: exactly `mode`.
fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| Failure::file("set the mode of", path, error))
}

fn write_file(
    package: &Path,
    target: &Path,
    size: u64,
    execution: Execution,
    reader: &mut dyn Read,
) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(|error| Failure::file("create", target, error))?;
    let mut buffer = vec![0; 64 * 1024];
    let mut written = 0;
    loop {
        // Reading and writing fail for different reasons, so not io::copy.
        let count = reader
            .read(&mut buffer)
            .map_err(|error| archive::unreadable(package, error))?;
        if count == 0 {
            break;
        }
        io::Write::write_all(&mut file, &buffer[..count])
            .map_err(|error| Failure::file("write", target, error))?;
        written += count as u64;
    }
    if written != size {
        let error = io::Error::from(io::ErrorKind::UnexpectedEof);
        return Err(archive::unreadable(package, error));
    }
    let mode = match execution {
        Execution::Program => 0o755,
        Execution::Data => 0o644,
    };
    set_mode(target, mode)
}

/// Everything unpacked is on the disk before a link may name it.
pub(super) fn flush(folder: &Path, made: &[PathBuf]) -> Result<(), Failure> {
    let open = |path: &Path| File::open(path).map_err(|error| Failure::file("open", path, error));
    if made.len() > FLUSH_EACH {
        return nix::unistd::syncfs(open(folder)?)
            .map_err(|error| Failure::file("flush", folder, error.into()));
    }
    for path in made {
        open(path)?
            .sync_all()
            .map_err(|error| Failure::file("flush", path, error))?;
    }
    Ok(())
}
