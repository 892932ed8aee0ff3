//! The half-fetched file, and what it is half of.
//!
//! ```text
//! KEY.part       the bytes so far
//! KEY.part.json  url, checksum, validator and size they belong to
//! KEY.package    the whole, verified
//! ```
//!
//! KEY is a hash of URL and checksum. The one rule: bytes are kept only while
//! it is certain what they are part of; in doubt the part is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bootagent_kit::fs::{ensure_dir, read_limited, sync_dir, write_atomic};
use bootagent_protocol::Checksum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Failure;
use super::url::Url;

/// Hexadecimal digits of a key: half a SHA-256 names enough files.
const KEY_DIGITS: usize = 32;
/// Largest description, in bytes.
const MAX_SIDECAR_BYTES: u64 = 8 * 1024;

/// What the bytes of a part belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The URL, without login and query.
    pub(super) url: String,
    /// What the whole must have.
    pub(super) checksum: Option<Checksum>,
    /// Which content it was.
    pub(super) validator: Option<String>,
    /// Size of the whole, in bytes.
    pub(super) total: Option<u64>,
}

/// One download in its folder.
#[derive(Debug)]
pub(super) struct Part {
    directory: PathBuf,
    key: String,
    url: String,
    checksum: Option<Checksum>,
}

impl Part {
    /// The part of `url` in `directory`; touches nothing.
    pub(super) fn new(directory: &Path, url: &Url, checksum: Option<Checksum>) -> Self {
        let mut hash = Sha256::new();
        hash.update(url.without_login());
        hash.update([0]);
        hash.update(checksum.map(|checksum| checksum.hex()).unwrap_or_default());
        let mut key = Checksum(hash.finalize().into()).hex();
        key.truncate(KEY_DIGITS);
        Self {
            directory: directory.to_path_buf(),
            key,
            url: url.to_string(),
            checksum,
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.part", self.key))
    }

    pub(super) fn whole(&self) -> PathBuf {
        self.directory.join(format!("{}.package", self.key))
    }

    fn sidecar(&self) -> PathBuf {
        self.directory.join(format!("{}.part.json", self.key))
    }

    /// Makes the folder and removes what other downloads left in it: jobs are
    /// serial, so nobody will come back for that.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        ensure_dir(&self.directory, 0o700)?;
        let list = |error| Failure::file("list", &self.directory, error);
        for entry in fs::read_dir(&self.directory).map_err(list)? {
            let path = entry.map_err(list)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let (key, rest) = name.split_at_checked(KEY_DIGITS).unwrap_or_default();
            let is_ours = key.bytes().all(|byte| byte.is_ascii_hexdigit())
                && [".part", ".part.json", ".package"].contains(&rest);
            if is_ours && key != self.key {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// What the bytes on the disk belong to, with their count; none when
    /// there are none or it is not certain.
    pub(super) fn resumable(&self) -> Option<(u64, Origin)> {
        let length = fs::metadata(self.path()).ok()?.len();
        let bytes = read_limited(&self.sidecar(), MAX_SIDECAR_BYTES).ok()?;
        let origin: Origin = serde_json::from_slice(&bytes).ok()?;
        let same = origin.url == self.url && origin.checksum == self.checksum;
        let certain = origin.checksum.is_some() || origin.validator.is_some();
        let inside = origin.total.is_none_or(|total| length <= total);
        (length > 0 && same && certain && inside).then_some((length, origin))
    }

    /// Begins anew: an empty part of this content.
    pub(super) fn begin(
        &self,
        validator: Option<String>,
        total: Option<u64>,
    ) -> Result<File, Failure> {
        self.remove()?;
        let origin = Origin {
            url: self.url.clone(),
            checksum: self.checksum,
            validator,
            total,
        };
        let text = serde_json::to_vec(&origin).expect("texts and numbers become JSON");
        write_atomic(&self.sidecar(), &text, 0o600)?;
        let path = self.path();
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Failure::file("create", &path, error))
    }

    /// Goes on behind the first `offset` bytes, which are hashed again: the
    /// file may have been damaged while nobody looked.
    pub(super) fn go_on(&self, offset: u64, hash: &mut Sha256) -> Result<File, Failure> {
        let path = self.path();
        let failed = |error| Failure::file("read", &path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        file.set_len(offset).map_err(failed)?;
        hash_from(&mut file, hash).map_err(failed)?;
        Ok(file)
    }

    /// The whole and verified file gets its name, durably.
    pub(super) fn complete(&self, file: &File) -> Result<PathBuf, Failure> {
        let (path, whole) = (self.path(), self.whole());
        file.sync_all()
            .map_err(|error| Failure::file("flush", &path, error))?;
        fs::rename(&path, &whole).map_err(|error| Failure::file("rename", &path, error))?;
        remove(&self.sidecar())?;
        sync_dir(&self.directory)?;
        Ok(whole)
    }

    /// Size and checksum of a whole file from before a crash, if it is there.
    pub(super) fn finished(&self) -> Option<(u64, Checksum)> {
        checksum_of(&self.whole()).ok()
    }

    /// Removes the part: nothing of it is ever resumed.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        remove(&self.path())?;
        remove(&self.sidecar())
    }
}

/// Size and checksum of the file at `path`.
pub(super) fn checksum_of(path: &Path) -> io::Result<(u64, Checksum)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let size = hash_from(&mut file, &mut hash)?;
    Ok((size, Checksum(hash.finalize().into())))
}

/// Hashes from where the file stands to its end; returns the bytes.
fn hash_from(file: &mut File, hash: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(bytes),
            count => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::file("remove", path, error))
        }
        _ => Ok(()),
    }
}
