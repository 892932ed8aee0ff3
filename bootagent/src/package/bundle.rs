//! Sub-agents that come as a bundle: unpacked beside what runs, then switched.
//!
//! ```text
//! bundles/NAME/1.0      a version, complete and never written again
//! bundles/NAME/1.0@2    the same version installed again, while 1.0 ran
//! bundles/NAME/current  -> one of them; what is started next
//! bundles/NAME/previous -> the one before, for rollback
//! ```
//!
//! It starts, stops and checks nothing. The one rule: a folder that `current`
//! or `previous` names is never changed, so what runs is undisturbed; whatever
//! else is in `bundles/NAME` is a leftover and may go.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use bootagent_kit::fs::{FsError, ensure_dir, read_limited, sync_dir};
use bootagent_protocol::{AgentName, ErrorCode, MAX_MANIFEST_BYTES, Manifest, Version};

use super::archive::{self, Bounds, Node, Walk};
use super::unpack::{fill, flush};
use crate::download::{Failure, space};

/// The manifest, at the top of a bundle.
pub const MANIFEST: &str = "agent.json";
/// The two links; no version may have their names.
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";
/// Where a bundle is unpacked until it is complete. One name, since jobs are
/// serial: what a crash left there goes at the next try.
const UNPACKING: &str = ".unpacking";
/// A link on its way to its name.
const SWITCHING: &str = ".switching";
/// Inodes that must be free before a bundle is unpacked.
const INODES_WANTED: u64 = 256;

/// What the job says about the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The agent the package must be.
    pub name: AgentName,
    /// The version it must have, where the job says one.
    pub version: Option<Version>,
}

/// A bundle that is unpacked and complete, and not yet what is started.
#[derive(Debug)]
pub struct Unpacked {
    /// Its folder below `bundles/NAME`, absolute when the store's path is.
    pub folder: PathBuf,
    /// How it is run.
    pub manifest: Manifest,
}

/// Whether something was there to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It was there and is gone.
    Removed,
    /// There was nothing of that name.
    Absent,
}

/// The folder `bundles`.
#[derive(Debug, Clone)]
pub struct Bundles {
    directory: PathBuf,
    bounds: Bounds,
}

impl Bundles {
    /// The bundles below `directory`, each within `bounds`.
    pub fn new(directory: &Path, bounds: Bounds) -> Self {
        Self {
            directory: directory.to_path_buf(),
            bounds,
        }
    }

    /// Unpacks the bundle at `package` beside what runs.
    ///
    /// # Errors
    /// 4001 for an archive that is refused, 4004 for a manifest that is none,
    /// 3004 for another name or version than `expected`, 2004 and 6002 from
    /// the disk. Nothing is left behind and nothing has changed.
    pub fn unpack(&self, package: &Path, expected: &Expected) -> Result<Unpacked, Failure> {
        let home = self.home(&expected.name);
        // The manifest first: a package of something else is not unpacked.
        let manifest = read_manifest(package, &self.bounds)?;
        check_expected(&manifest, expected)?;
        ensure_dir(&self.directory, 0o755)?;
        self.prune(&expected.name)?;
        ensure_dir(&home, 0o755)?;
        space::require(&home, 0, INODES_WANTED)?;
        let unpacking = home.join(UNPACKING);
        let unpacked = fill(package, &unpacking, &self.bounds)
            .and_then(|files| check_programs(&unpacking, &manifest).map(|()| files))
            .and_then(|files| flush(&unpacking, &files))
            .and_then(|()| place(&unpacking, &home, manifest.version.as_str()));
        match unpacked {
            Ok(folder) => Ok(Unpacked { folder, manifest }),
            Err(failure) => {
                // The failure is what counts; a leftover goes at the next try.
                let _ = remove_tree(&unpacking);
                let _ = self.prune(&expected.name);
                Err(failure)
            }
        }
    }

    /// Makes `folder`, as [`Bundles::unpack`] or [`Bundles::previous`] gave
    /// it, what is started next; what was current becomes previous.
    ///
    /// At every instant `current` names a complete version. Switching to what
    /// is current already changes nothing.
    pub fn switch(&self, name: &AgentName, folder: &Path) -> Result<(), Failure> {
        let home = self.home(name);
        let target = match (folder.parent(), folder.file_name()) {
            (Some(parent), Some(target)) if parent == home && folder.is_dir() => Path::new(target),
            _ => {
                let error = io::Error::from(io::ErrorKind::NotFound);
                return Err(Failure::file("switch to", folder, error));
            }
        };
        if let Some(current) = self.link(name, CURRENT) {
            if current.file_name() == folder.file_name() {
                return Ok(());
            }
            let former = current.file_name().map(Path::new).unwrap_or(&current);
            point(&home, PREVIOUS, former)?;
            // Else a power cut may keep the second link alone, and a rollback
            // would go one version too far.
            sync_dir(&home)?;
        }
        point(&home, CURRENT, target)?;
        Ok(sync_dir(&home)?)
    }

    /// The folder that is started next; none when nothing is installed.
    pub fn current(&self, name: &AgentName) -> Option<PathBuf> {
        self.link(name, CURRENT)
    }

    /// The folder before, to roll back to.
    pub fn previous(&self, name: &AgentName) -> Option<PathBuf> {
        let previous = self.link(name, PREVIOUS)?;
        (Some(&previous) != self.current(name).as_ref()).then_some(previous)
    }

    /// What was current before is not wanted back: removes it, and everything
    /// else that is not current.
    pub fn forget_previous(&self, name: &AgentName) -> Result<(), Failure> {
        remove_tree(&self.home(name).join(PREVIOUS))?;
        self.prune(name)
    }

    /// The manifest of a folder.
    ///
    /// # Errors
    /// 4004 when there is none or it is invalid.
    pub fn manifest(folder: &Path) -> Result<Manifest, Failure> {
        let path = folder.join(MANIFEST);
        let bytes = read_limited(&path, MAX_MANIFEST_BYTES).map_err(|error| {
            Failure::new(ErrorCode::MANIFEST_INVALID, "no readable manifest").because(error)
        })?;
        parse_manifest(&bytes)
    }

    /// Removes everything of `name` but what is current and previous: older
    /// versions, one that was unpacked and given up, leftovers of a crash.
    pub fn prune(&self, name: &AgentName) -> Result<(), Failure> {
        let home = self.home(name);
        let kept = [self.current(name), self.previous(name)];
        let entries = match fs::read_dir(&home) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Failure::file("list", &home, error)),
        };
        for entry in entries {
            let path = entry
                .map_err(|error| Failure::file("list", &home, error))?
                .path();
            let is_link = path
                .file_name()
                .is_some_and(|name| name == CURRENT || name == PREVIOUS);
            if !is_link && !kept.iter().flatten().any(|folder| *folder == path) {
                remove_tree(&path)?;
            }
        }
        if kept.iter().all(Option::is_none) {
            // Nothing is installed: the empty folder would only mislead.
            remove_tree(&home)?;
        }
        Ok(())
    }

    /// Removes every version of `name`, at once by name and then from the
    /// disk. What still runs keeps its open files.
    pub fn remove(&self, name: &AgentName) -> Result<Removal, Failure> {
        // No name begins with a dot, so this is no agent's folder.
        let doomed = self.directory.join(format!(".removed-{name}"));
        remove_tree(&doomed)?;
        let home = self.home(name);
        match fs::rename(&home, &doomed) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Absent),
            Err(error) => return Err(Failure::file("remove", &home, error)),
        }
        sync_dir(&self.directory)?;
        remove_tree(&doomed)?;
        Ok(Removal::Removed)
    }

    fn home(&self, name: &AgentName) -> PathBuf {
        self.directory.join(name.as_str())
    }

    /// Where a link leads, if it leads to a folder beside it.
    fn link(&self, name: &AgentName, link: &str) -> Option<PathBuf> {
        let home = self.home(name);
        let target = fs::read_link(home.join(link)).ok()?;
        let mut components = target.components();
        let (Some(Component::Normal(folder)), None) = (components.next(), components.next()) else {
            return None;
        };
        let folder = home.join(folder);
        folder.is_dir().then_some(folder)
    }
}

/// The manifest inside the bundle at `package`, without unpacking it.
///
/// # Errors
/// 4004 when there is none at the top or it is invalid, 4001 when the archive
/// is refused before it is reached.
pub fn read_manifest(package: &Path, bounds: &Bounds) -> Result<Manifest, Failure> {
    let mut bytes: Option<Vec<u8>> = None;
    archive::walk(package, bounds, &mut |path, node, reader| {
        if path != Path::new(MANIFEST) || !matches!(node, Node::File(..)) {
            return Ok(Walk::On);
        }
        let mut found = Vec::new();
        let read = reader.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut found);
        read.map_err(|error| archive::unreadable(package, error))?;
        bytes = Some(found);
        Ok(Walk::Done)
    })?;
    let bytes = bytes.ok_or_else(|| {
        Failure::new(
            ErrorCode::MANIFEST_INVALID,
            "the bundle has no agent.json at its top; pack it with tar -C FOLDER -czf BUNDLE .",
        )
    })?;
    parse_manifest(&bytes)
}

fn parse_manifest(bytes: &[u8]) -> Result<Manifest, Failure> {
    Manifest::parse(bytes)
        .map_err(|error| Failure::new(ErrorCode::MANIFEST_INVALID, "agent.json").because(error))
}

fn check_expected(manifest: &Manifest, expected: &Expected) -> Result<(), Failure> {
    let mismatch = |what: &str, is: &str, wanted: &str| {
        Failure::new(
            ErrorCode::PACKAGE_MISMATCH,
            format!(
                "the bundle's {what} is {is}, the job says {wanted}; correct the job or the package"
            ),
        )
    };
    let (name, version) = (manifest.name.as_str(), manifest.version.as_str());
    if manifest.name != expected.name {
        return Err(mismatch("name", name, expected.name.as_str()));
    }
    if let Some(wanted) = expected
        .version
        .as_ref()
        .filter(|wanted| wanted.as_str() != version)
    {
        return Err(mismatch("version", version, wanted.as_str()));
    }
    if version == CURRENT || version == PREVIOUS {
        return Err(Failure::new(
            ErrorCode::PACKAGE_MISMATCH,
            format!("the version {version} has the name of a link; give it a number"),
        ));
    }
    Ok(())
}

/// What is named relative to the manifest must be in the bundle and runnable:
/// found out now, while the old version still runs.
fn check_programs(folder: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let check = manifest.check.as_ref().map(|argv| ("check", argv));
    for (key, argv) in [("exec", &manifest.exec)].into_iter().chain(check) {
        let program = Path::new(&argv[0]);
        if program.is_absolute() {
            continue;
        }
        let invalid = |why: &str| {
            Failure::new(
                ErrorCode::MANIFEST_INVALID,
                format!("{key}: {} {why}", program.display()),
            )
        };
        if program
            .components()
            .any(|component| component == Component::ParentDir)
        {
            return Err(invalid(
                "leaves the bundle; name a file in it or an absolute path",
            ));
        }
        let metadata = fs::metadata(folder.join(program));
        match metadata {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => {}
            Ok(_) => return Err(invalid("is not executable; chmod +x it before packing")),
            Err(error) => return Err(invalid("is not in the bundle").because(error)),
        }
    }
    Ok(())
}

/// Gives the complete folder its name: the version, or the first free
/// `VERSION@N` where that version is current or previous.
fn place(unpacking: &Path, home: &Path, version: &str) -> Result<PathBuf, Failure> {
    let again = (2..).map(|number: u32| format!("{version}@{number}"));
    let folder = std::iter::once(version.to_owned())
        .chain(again)
        .map(|name| home.join(name))
        .find(|folder| fs::symlink_metadata(folder).is_err())
        .expect("the numbers do not run out: all but two folders were pruned");
    fs::rename(unpacking, &folder).map_err(|error| Failure::file("rename", unpacking, error))?;
    sync_dir(home)?;
    Ok(folder)
}

/// Points `home/link` at `target`, atomically.
fn point(home: &Path, link: &str, target: &Path) -> Result<(), Failure> {
    let switching = home.join(SWITCHING);
    remove_tree(&switching)?;
    symlink(target, &switching).map_err(|error| Failure::file("create", &switching, error))?;
    let link = home.join(link);
    fs::rename(&switching, &link).map_err(|error| Failure::file("switch", &link, error))
}

/// Removes a file, link or folder; it need not exist.
fn remove_tree(path: &Path) -> Result<(), Failure> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FsError::new("remove", path, error).into())
        }
        _ => Ok(()),
    }
}
