//! Walks a bundle (`.tar.gz`) as a list of plain files and folders.
//!
//! It refuses whatever could leave the folder it is unpacked into, gain rights
//! there, or fill the machine; it writes nothing. The one rule: the bytes of
//! an archive are hostile, and no size in it is believed before it is bounded.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bootagent_protocol::ErrorCode;
use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType, PaxExtensions};

use crate::download::Failure;

/// Longest path of an entry, in bytes, and its deepest nesting.
const MAX_PATH_BYTES: usize = 1024;
const MAX_DEPTH: usize = 32;
/// Longest single name, in bytes: what every Linux file system takes.
const MAX_COMPONENT_BYTES: usize = 255;
/// Largest long-name or pax record, in bytes: read into memory.
const MAX_RECORD_BYTES: u64 = 16 * 1024;
/// Mode bits that give rights away: setuid and setgid.
const SET_ID_BITS: u32 = 0o6000;

/// How much a bundle may bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Files and folders.
    pub entries: usize,
    /// Bytes of the unpacked archive.
    pub unpacked_bytes: u64,
    /// Unpacked bytes per packed byte, looked at beyond `ratio_from` bytes:
    /// a program rarely packs better than 10 to 1, a bomb 1000 to 1.
    pub ratio: u64,
    /// Unpacked bytes below which the ratio does not matter.
    pub ratio_from: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        let mebibyte = 1024 * 1024;
        Self {
            entries: 10_000,
            unpacked_bytes: 1024 * mebibyte,
            ratio: 200,
            ratio_from: 32 * mebibyte,
        }
    }
}

/// Whether a file may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// Mode 0755.
    Program,
    /// Mode 0644.
    Data,
}

/// What an entry is. There is nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder,
    /// A regular file of this many bytes.
    File(u64, Execution),
}

/// Whether the walk goes on after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// To the next entry.
    On,
    /// What was looked for has been found.
    Done,
}

/// What is done with each entry: its relative path, what it is, its bytes.
pub type Visit<'a> = dyn FnMut(&Path, Node, &mut dyn Read) -> Result<Walk, Failure> + 'a;

/// Calls `visit` for every file and folder of the bundle at `package`.
///
/// # Errors
/// 4001 names the entry that is refused, and why; errors of `visit` pass.
pub fn walk(package: &Path, bounds: &Bounds, visit: &mut Visit<'_>) -> Result<(), Failure> {
    let file = File::open(package).map_err(|error| Failure::file("open", package, error))?;
    let packed = file
        .metadata()
        .map_err(|error| Failure::file("read", package, error))?
        .len();
    let by_ratio = packed.saturating_mul(bounds.ratio).max(bounds.ratio_from);
    let limit = bounds.unpacked_bytes.min(by_ratio);
    let mut archive = Archive::new(Bounded {
        inner: MultiGzDecoder::new(file),
        left: limit,
    });
    let damaged = |error: io::Error| unreadable(package, error);

    let mut names = Names {
        bounds,
        seen: HashSet::new(),
    };
    let mut pending: Option<PathBuf> = None;
    // Raw: tar's own handling of long names reads them whole, however long.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => {
                let mut record = read_record(&mut entry, package)?;
                while record.last() == Some(&0) {
                    record.pop();
                }
                pending = Some(names.text(&record)?.into());
                continue;
            }
            EntryType::XHeader => {
                let record = read_record(&mut entry, package)?;
                pending = read_pax(&record, &names)?.or(pending);
                continue;
            }
            // What `git archive` writes: a comment for the whole archive.
            EntryType::XGlobalHeader => {
                read_record(&mut entry, package)?;
                continue;
            }
            _ => {}
        }
        let raw = match pending.take() {
            Some(long) => long.into_os_string().into_encoded_bytes(),
            None => entry.header().path_bytes().into_owned(),
        };
        let text = names.text(&raw)?.to_owned();
        let mode = entry.header().mode().map_err(damaged)?;
        let size = entry.size();
        let node = node_of(kind, &text, mode, size).map_err(|why| refuse(&text, &why))?;
        if size > limit {
            return Err(too_large(limit));
        }
        let Some(path) = names.accept(&text)? else {
            continue;
        };
        if visit(&path, node, &mut entry)? == Walk::Done {
            return Ok(());
        }
    }
    // The end of the archive is not the end of the file: only there gzip
    // compares its checksum.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
    Ok(())
}

/// The refusal of an entry: 4001.
pub(super) fn refuse(entry: &str, why: &str) -> Failure {
    let entry = bootagent_protocol::truncate(entry, 200);
    Failure::new(
        ErrorCode::INSTALLER_FAILED,
        format!(
            "bundle refused, entry {entry:?}: {why}; nothing was changed, pack it without that entry"
        ),
    )
}

fn node_of(kind: EntryType, text: &str, mode: u32, size: u64) -> Result<Node, String> {
    if mode & SET_ID_BITS != 0 {
        return Err(format!(
            "setuid and setgid are not allowed (mode {mode:04o})"
        ));
    }
    match kind {
        EntryType::Directory => Ok(Node::Folder),
        // Before POSIX a folder was a file whose name ends with a slash.
        EntryType::Regular if text.ends_with('/') && size == 0 => Ok(Node::Folder),
        EntryType::Regular if mode & 0o111 != 0 => Ok(Node::File(size, Execution::Program)),
        EntryType::Regular => Ok(Node::File(size, Execution::Data)),
        EntryType::Link | EntryType::GNULongLink => Err("hard links are not allowed".into()),
        EntryType::Symlink => Err("symbolic links are not allowed".into()),
        EntryType::Char | EntryType::Block => Err("devices are not allowed".into()),
        EntryType::Fifo => Err("FIFOs are not allowed".into()),
        EntryType::GNUSparse => Err("sparse files are not allowed".into()),
        other => Err(format!(
            "entries of type {:?} are not allowed",
            char::from(other.as_byte())
        )),
    }
}

/// Which names were seen and may come.
struct Names<'a> {
    bounds: &'a Bounds,
    seen: HashSet<PathBuf>,
}

impl Names<'_> {
    fn text<'t>(&self, raw: &'t [u8]) -> Result<&'t str, Failure> {
        let shown = || String::from_utf8_lossy(raw);
        let text = str::from_utf8(raw).map_err(|_| refuse(&shown(), "the name is not UTF-8"))?;
        if text.chars().any(char::is_control) {
            return Err(refuse(text, "control characters are not allowed"));
        }
        Ok(text)
    }

    /// The entry's path, relative and free of `.` and `..`; none for the root
    /// folder itself.
    fn accept(&mut self, text: &str) -> Result<Option<PathBuf>, Failure> {
        let why = |why: &str| refuse(text, why);
        if text.starts_with('/') {
            return Err(why("absolute paths are not allowed"));
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(why("the path has more than 1024 bytes"));
        }
        let mut path = PathBuf::new();
        for component in text.split('/') {
            match component {
                "" | "." => continue,
                ".." => return Err(why("\"..\" is not allowed")),
                long if long.len() > MAX_COMPONENT_BYTES => {
                    return Err(why("a name has more than 255 bytes"));
                }
                plain => path.push(plain),
            }
        }
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        if path.components().count() > MAX_DEPTH {
            return Err(why("nested deeper than 32 folders"));
        }
        if self.seen.len() >= self.bounds.entries {
            let limit = self.bounds.entries;
            return Err(why(&format!("more than {limit} files and folders")));
        }
        if !self.seen.insert(path.clone()) {
            return Err(why("it is there twice"));
        }
        Ok(Some(path))
    }
}

/// Reads an entry that describes the next one, bounded.
fn read_record(entry: &mut impl Read, package: &Path) -> Result<Vec<u8>, Failure> {
    let mut record = Vec::new();
    let mut bounded = entry.take(MAX_RECORD_BYTES + 1);
    bounded
        .read_to_end(&mut record)
        .map_err(|error| unreadable(package, error))?;
    if record.len() as u64 > MAX_RECORD_BYTES {
        return Err(refuse(
            "long name",
            "a name or attribute record has more than 16 KiB",
        ));
    }
    Ok(record)
}

/// The path in a pax record, if it has one. A size there would contradict the
/// header's, which is what gets read.
fn read_pax(record: &[u8], names: &Names<'_>) -> Result<Option<PathBuf>, Failure> {
    let mut path = None;
    for extension in PaxExtensions::new(record) {
        let extension = extension.map_err(|_| refuse("pax", "an attribute record is damaged"))?;
        match extension.key_bytes() {
            b"path" => path = Some(names.text(extension.value_bytes())?.into()),
            b"size" => return Err(refuse("pax", "files beyond 8 GiB are not allowed")),
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(refuse("pax", "sparse files are not allowed"));
            }
            _ => {}
        }
    }
    Ok(path)
}

/// Ends with an error of its own where `left` bytes have been read.
struct Bounded<Inner> {
    inner: Inner,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the unpacked archive is larger than allowed")]
struct OverLimit;

impl<Inner: Read> Read for Bounded<Inner> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other(OverLimit))?;
        Ok(count)
    }
}

fn too_large(limit: u64) -> Failure {
    Failure::new(
        ErrorCode::INSTALLER_FAILED,
        format!("bundle refused: it unpacks to more than {limit} bytes; nothing was changed"),
    )
}

/// What a failed read of the archive means; also used while its files are
/// copied.
pub(super) fn unreadable(package: &Path, error: io::Error) -> Failure {
    if has_over_limit(&error) {
        return Failure::new(
            ErrorCode::INSTALLER_FAILED,
            "bundle refused: it unpacks to more than is allowed, in bytes or in ratio; nothing was changed",
        );
    }
    Failure::new(
        ErrorCode::INSTALLER_FAILED,
        format!(
            "bundle {} is damaged, pack and upload it again",
            package.display()
        ),
    )
    .because(error)
}

/// tar wraps the errors of its reader in errors of its own.
fn has_over_limit(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error
        .get_ref()
        .map(|inner| inner as &(dyn std::error::Error + 'static));
    while let Some(inner) = cause {
        if inner.is::<OverLimit>() {
            return true;
        }
        cause = match inner.downcast_ref::<io::Error>() {
            Some(nested) => nested.get_ref().map(|inner| inner as _),
            None => inner.source(),
        };
    }
    false
}
