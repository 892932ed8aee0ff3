//! The file of peers: read when it changes, and the last good one kept for when it is broken or gone.
//!
//! The one rule: a broken list changes nothing but what is said of it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bootagent_kit::fs;

use super::peers::{self, Entry, ListError, MAX_BYTES};

/// What tells that a file is another one than before: inode, size, and when it was changed.
type Looks = (u64, u64, i64, i64);

/// Why a list is not taken.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the list of peers cannot be read")]
    File(#[from] fs::FsError),
    #[error("{}, line 1: this is no UTF-8 text; write it again as such", .0.display())]
    Text(PathBuf),
    #[error("{}, {error}", .path.display())]
    List { path: PathBuf, error: ListError },
    #[error("the list cannot be kept for when it is broken or gone")]
    Keep(#[source] fs::FsError),
}

/// The file, and how it was when it was last read.
#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    kept: PathBuf,
    looks: Option<Looks>,
    /// Why it is not what the file says now.
    pub(super) problem: Option<String>,
}

impl List {
    /// Of this file; a copy of the last good one is kept in `state`.
    pub(super) fn new(path: PathBuf, state: &Path) -> Self {
        Self {
            path,
            kept: state.join("peers.last"),
            looks: None,
            problem: None,
        }
    }

    /// The peers, if the file is not as it was. The first time the last good ones, should it be broken.
    pub(super) fn read(&mut self, first: First) -> Option<Vec<Entry>> {
        let looks = looks(&self.path);
        if first == First::No && looks == self.looks {
            return None;
        }
        self.looks = looks;
        let read = self.parse(&self.path).and_then(|(bytes, peers)| {
            let kept = fs::write_atomic(&self.kept, &bytes, 0o600);
            kept.map_err(ReadError::Keep).map(|()| peers)
        });
        match read {
            Ok(peers) => {
                self.problem = None;
                Some(peers)
            }
            Err(error) => {
                let problem = format!("{:#}", anyhow::Error::from(error));
                log::error!("the last good list of peers stays: {problem}");
                self.problem = Some(problem);
                let kept = || self.parse(&self.kept).ok().map(|(_, peers)| peers);
                (first == First::Yes).then(kept).flatten()
            }
        }
    }

    fn parse(&self, path: &Path) -> Result<(Vec<u8>, Vec<Entry>), ReadError> {
        let bytes = fs::read_limited(path, MAX_BYTES)?;
        let text = str::from_utf8(&bytes).map_err(|_| ReadError::Text(path.to_owned()))?;
        let peers = peers::parse(text).map_err(|error| ReadError::List {
            path: path.to_owned(),
            error,
        })?;
        Ok((bytes, peers))
    }
}

/// Whether nothing was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Yes,
    No,
}

/// Reads a list only to see whether it is valid; how many peers it has.
pub fn check(path: &Path) -> Result<usize, String> {
    let list = List::new(path.to_owned(), Path::new("/"));
    let read = list.parse(path);
    read.map(|(_, peers)| peers.len())
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

fn looks(path: &Path) -> Option<Looks> {
    let it = std::fs::metadata(path).ok()?;
    Some((it.ino(), it.size(), it.mtime(), it.mtime_nsec()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_broken_list_changes_nothing_and_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers");
        let write = |text: &str| fs::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
        write("192.0.2.1\n192.0.2.2\n");
        let mut list = List::new(path.clone(), dir.path());
        assert_eq!(list.read(First::Yes).map(|it| it.len()), Some(2));
        assert_eq!(list.read(First::No), None, "it is as it was");
        write("192.0.2.1\n192.0.2.2\n192.0.2.3\nnonsense\n");
        assert_eq!(list.read(First::No), None);
        let problem = list.problem.clone().unwrap();
        assert!(problem.contains("line 4"), "{problem}");

        let mut again = List::new(path.clone(), dir.path());
        assert_eq!(again.read(First::Yes).map(|it| it.len()), Some(2));
        std::fs::remove_file(&path).unwrap();
        let mut again = List::new(path.clone(), dir.path());
        assert_eq!(again.read(First::Yes).map(|it| it.len()), Some(2));
        write("192.0.2.3\n");
        assert_eq!(again.read(First::No).map(|it| it.len()), Some(1));
        assert_eq!(again.problem, None);
    }
}
