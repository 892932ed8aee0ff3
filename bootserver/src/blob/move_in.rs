//! Files of packages that go into a PostgreSQL database: those that servers of
//! before kept beside it, and those of a SQLite database that is imported. The one
//! rule: a file is removed only when its bytes are in the database, whole, or no
//! package there has them.

use std::path::Path;

use tokio::io::AsyncReadExt;

use super::files::{list, path};
use super::{BlobError, Blobs, Finished, failed};
use crate::store::postgres::chunk::{CHUNK_BYTES, Chunks};

/// What becomes of files whose bytes are in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// They stay: they are of a SQLite database.
    Stay,
    /// They go.
    Go,
}

/// Takes the files in `directory` into the database, those that a package there
/// needs. Returns how many were missing there.
pub async fn move_in(chunks: &Chunks, directory: &Path, after: Files) -> Result<u64, BlobError> {
    if !directory.exists() {
        return Ok(0);
    }
    let mut moved = 0;
    for sha256 in list(directory)? {
        let file = path(directory, &sha256);
        if chunks.find(&sha256).await?.is_none() && chunks.is_named(&sha256).await? {
            let finished = upload(chunks, &file).await?;
            if finished.sha256 != sha256 {
                let (shown, found) = (file.display(), finished.sha256);
                tracing::error!("{shown} is damaged and stays: its SHA-256 is {found}");
                continue;
            }
            moved += u64::from(adopt(chunks, finished).await?);
        }
        if after == Files::Go {
            std::fs::remove_file(&file).map_err(failed("removing", &file))?;
            // The last file of a folder empties it.
            let _ = file.parent().map(std::fs::remove_dir);
        }
    }
    if after == Files::Go {
        let _ = std::fs::remove_dir(directory);
    }
    Ok(moved)
}

/// Puts the bytes of a blob among `directory`'s files into the database, where they
/// wait for their package.
pub async fn upload_file(
    chunks: &Chunks,
    directory: &Path,
    sha256: &str,
) -> Result<Finished, BlobError> {
    let finished = upload(chunks, &path(directory, sha256)).await?;
    match finished.sha256 == sha256 {
        true => Ok(finished),
        false => Err(BlobError::Missing {
            sha256: sha256.to_owned(),
        }),
    }
}

async fn upload(chunks: &Chunks, file: &Path) -> Result<Finished, BlobError> {
    let opened = tokio::fs::File::open(file).await;
    let mut opened = opened.map_err(failed("opening", file))?;
    let mut upload = Blobs::rows(chunks.clone()).begin().await?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = opened.read(&mut buffer).await;
        match read.map_err(failed("reading", file))? {
            0 => return upload.finish().await,
            read => upload.write(&buffer[..read]).await?,
        }
    }
}

async fn adopt(chunks: &Chunks, finished: Finished) -> Result<bool, BlobError> {
    let sha256 = finished.sha256.clone();
    let kept = Blobs::rows(chunks.clone()).keep(finished).await?;
    let Some(id) = kept.id() else {
        return Ok(false);
    };
    let is_adopted = chunks.adopt(id, &sha256).await?;
    if is_adopted {
        kept.done();
    }
    Ok(is_adopted)
}
