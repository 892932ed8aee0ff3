//! Folders: there and writable, or possible to create.
//!
//! The one rule: only asked, never tried: `access` with our effective rights,
//! which also tells of read-only mounts and immutable files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bootagent_kit::fs::parent_of;
use nix::unistd::{AccessFlags, eaccess};

use super::{Check, Subject};

/// Longest path of a Unix socket, in bytes, without the closing zero.
const MAX_SOCKET_PATH: usize = 107;
/// Longest name of an agent, in bytes.
const MAX_NAME: usize = 50;

/// What a folder is to a daemon that needs it.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// There and writable.
    Ready,
    /// Missing, and this parent, which exists, lets us create it.
    Creatable(PathBuf),
    /// Neither: where it ends, why, and what to do.
    Blocked(PathBuf, String),
}

/// Every folder of the layout; one line per reason, however many it stops.
pub(super) fn folders(subject: &Subject<'_>) -> Vec<Check> {
    let folders = subject.paths.folders();
    let mut parents: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut blocked: BTreeMap<(PathBuf, String), Vec<PathBuf>> = BTreeMap::new();
    let mut ready = 0;
    for (path, _) in folders {
        match look(&path) {
            Place::Ready => ready += 1,
            Place::Creatable(parent) => *parents.entry(parent).or_default() += 1,
            Place::Blocked(at, reason) => blocked.entry((at, reason)).or_default().push(path),
        }
    }
    let mut checks = Vec::new();
    if ready > 0 {
        checks.push(Check::ok(
            "folders",
            format!("{ready} exist and are writable"),
        ));
    }
    for (parent, count) in parents {
        let text = format!(
            "{count} are missing and would be created below {}",
            parent.display()
        );
        checks.push(Check::ok("folders", text));
    }
    for ((at, reason), paths) in blocked {
        let needed = match paths.as_slice() {
            [only] if *only == at => String::new(),
            [first, rest @ ..] if !rest.is_empty() => {
                format!(" (needed for {} and {} more)", first.display(), rest.len())
            }
            paths => format!(" (needed for {})", paths[0].display()),
        };
        checks.push(Check::fail(
            "folders",
            format!("{} {reason}{needed}", at.display()),
        ));
    }
    checks
}

/// Whether the file of `-P` can be written.
pub(super) fn pid_file(subject: &Subject<'_>) -> Vec<Check> {
    let Some(path) = &subject.args.pid_file else {
        return Vec::new();
    };
    let shown = path.display();
    vec![match look(parent_of(path)) {
        Place::Ready if path.is_dir() => Check::fail(
            "pid file",
            format!("{shown} is a folder; name a file with -P"),
        ),
        Place::Ready => Check::ok("pid file", format!("{shown} can be written")),
        Place::Creatable(parent) => {
            let text = format!(
                "{shown}: its folder is missing below {}; create it",
                parent.display()
            );
            Check::fail("pid file", text)
        }
        Place::Blocked(at, reason) => {
            Check::fail("pid file", format!("{shown}: {} {reason}", at.display()))
        }
    }]
}

/// Whether the paths of our sockets fit into a socket address.
pub(super) fn sockets(subject: &Subject<'_>) -> Vec<Check> {
    let control = subject.paths.socket();
    let notify = subject.paths.notify_sockets();
    vec![judge_sockets(&control, &notify)]
}

/// Bytes left for a child's name are what its notify socket may be called.
fn judge_sockets(control: &Path, notify: &Path) -> Check {
    let length = |path: &Path| path.as_os_str().len();
    let for_name = MAX_SOCKET_PATH.saturating_sub(length(notify) + 1);
    let remedy = "choose a shorter root";
    if length(control) > MAX_SOCKET_PATH {
        let text = format!(
            "{} is {} bytes long, a socket's path has at most {MAX_SOCKET_PATH}; {remedy}",
            control.display(),
            length(control),
        );
        Check::fail("sockets", text)
    } else if for_name < MAX_NAME {
        let text = format!(
            "a socket's path has at most {MAX_SOCKET_PATH} bytes: below {} an agent's name may \
             have {for_name} of its {MAX_NAME}; {remedy}",
            notify.display(),
        );
        Check::warn("sockets", text)
    } else {
        Check::ok(
            "sockets",
            format!("paths below {} are short enough", notify.display()),
        )
    }
}

/// The nearest of `path` and its parents that exists.
pub(super) fn nearest_existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"))
}

fn look(path: &Path) -> Place {
    let blocked = |at: &Path, reason: &str| Place::Blocked(at.to_path_buf(), reason.to_owned());
    for place in path.ancestors() {
        match std::fs::metadata(place) {
            Ok(metadata) if !metadata.is_dir() => {
                return blocked(place, "is no folder; move that file away");
            }
            Ok(_) => {
                return match eaccess(place, AccessFlags::W_OK | AccessFlags::X_OK) {
                    Ok(()) if place == path => Place::Ready,
                    Ok(()) => Place::Creatable(place.to_path_buf()),
                    Err(errno) => blocked(place, &not_writable(&errno.into())),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // What is missing behind a link cannot be created in its place.
                if std::fs::symlink_metadata(place).is_ok() {
                    return blocked(
                        place,
                        "is a link to nothing; remove it or create its target",
                    );
                }
            }
            // Its parent is a file or may not be entered: that one says why.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => {
                let reason = format!("cannot be looked at: {error}; run this as the daemon's user");
                return blocked(place, &reason);
            }
        }
    }
    blocked(Path::new("/"), "cannot be looked at")
}

fn not_writable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "is mounted read-only; remount it read-write".to_owned()
        }
        io::ErrorKind::PermissionDenied if nix::unistd::geteuid().is_root() => {
            format!("is not writable: {error}; look for the immutable attribute with lsattr")
        }
        io::ErrorKind::PermissionDenied => {
            let uid = nix::unistd::geteuid();
            format!("is not writable by uid {uid}; run as root, or set root to a folder of yours")
        }
        _ => format!("is not writable: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_ready_creatable_or_blocked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("writable");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).expect("writable");
        assert_eq!(look(folder.path()), Place::Ready);
        let created = Place::Creatable(folder.path().to_path_buf());
        assert_eq!(look(&folder.path().join("a/b/c")), created);
        for (path, at, part) in [
            (file.join("below"), &file, "is no folder"),
            (file.clone(), &file, "is no folder"),
            (link.join("below"), &link, "is a link to nothing"),
        ] {
            let Place::Blocked(found, reason) = look(&path) else {
                panic!("{path:?}")
            };
            assert_eq!(&found, at);
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn the_longest_name_decides_about_sockets() {
        let judged = |length: usize| {
            let notify = PathBuf::from(format!("/{}", "x".repeat(length - 1)));
            judge_sockets(Path::new("/s"), &notify)
        };
        assert_eq!(judged(56).level, super::super::Level::Ok);
        let check = judged(60);
        assert_eq!(check.level, super::super::Level::Warn);
        assert!(check.message.contains("46 of its 50"), "{}", check.message);
        let long = PathBuf::from(format!("/{}", "x".repeat(107)));
        let check = judge_sockets(&long, Path::new("/n"));
        assert_eq!(check.level, super::super::Level::Fail);
    }
}
