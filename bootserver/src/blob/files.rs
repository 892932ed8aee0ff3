//! Blobs as files, named by their sums, in folders by the first two digits. The one
//! rule: what has its name is whole and synced.

use std::io;
use std::path::{Path, PathBuf};

use super::reading::{FileBody, Readers};
use super::{BlobError, blocking, failed};
use tempfile::NamedTempFile;

/// The blobs of one data directory.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    temporary: PathBuf,
    readers: Readers,
}

impl Files {
    pub(super) fn open(directory: PathBuf, temporary: PathBuf) -> Result<Self, BlobError> {
        for path in [&directory, &temporary] {
            std::fs::create_dir_all(path).map_err(failed("creating", path))?;
        }
        let leftovers = std::fs::read_dir(&temporary).map_err(failed("listing", &temporary))?;
        for leftover in leftovers.flatten() {
            let path = leftover.path();
            std::fs::remove_file(&path).map_err(failed("removing", &path))?;
        }
        let readers = Readers::start().map_err(failed("starting threads for", &directory))?;
        Ok(Self {
            directory,
            temporary,
            readers,
        })
    }

    pub(super) async fn begin(&self) -> Result<NamedTempFile, BlobError> {
        let temporary = self.temporary.clone();
        blocking(move || {
            tempfile::Builder::new()
                .prefix("upload-")
                .tempfile_in(&temporary)
                .map_err(failed("creating a file in", &temporary))
        })
        .await
    }

    pub(super) async fn keep(&self, file: NamedTempFile, sha256: &str) -> Result<(), BlobError> {
        let path = path(&self.directory, sha256);
        blocking(move || {
            let parent = path
                .parent()
                .expect("a blob lies in a directory")
                .to_owned();
            std::fs::create_dir_all(&parent).map_err(failed("creating", &parent))?;
            file.persist(&path)
                .map_err(|error| failed("renaming to", &path)(error.error))?;
            sync_directory(&parent)?;
            sync_directory(parent.parent().unwrap_or(&parent))
        })
        .await
    }

    pub(super) async fn body(
        &self,
        sha256: &str,
        start: u64,
        end: u64,
    ) -> Result<FileBody, BlobError> {
        let path = path(&self.directory, sha256);
        let file = blocking(move || std::fs::File::open(&path).map_err(failed("opening", &path)));
        Ok(self.readers.body(file.await?, start, end))
    }

    pub(super) async fn remove(&self, sha256: &str) -> Result<(), BlobError> {
        let path = path(&self.directory, sha256);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("removing", &path)(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<String>, BlobError> {
        let directory = self.directory.clone();
        blocking(move || list(&directory)).await
    }
}

/// The SHA-256s of the blobs in a directory.
pub(super) fn list(directory: &Path) -> Result<Vec<String>, BlobError> {
    let mut names = Vec::new();
    for shard in std::fs::read_dir(directory).map_err(failed("listing", directory))? {
        let shard = shard.map_err(failed("listing", directory))?.path();
        for blob in std::fs::read_dir(&shard).map_err(failed("listing", &shard))? {
            let blob = blob.map_err(failed("listing", &shard))?;
            names.extend(blob.file_name().into_string().ok());
        }
    }
    Ok(names)
}

/// Where a blob lies.
pub(super) fn path(directory: &Path, sha256: &str) -> PathBuf {
    let shard = sha256.get(..2).unwrap_or("00");
    directory.join(shard).join(sha256)
}

fn sync_directory(path: &Path) -> Result<(), BlobError> {
    std::fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("syncing", path))
}
