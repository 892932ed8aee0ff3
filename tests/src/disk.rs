//! A disk so small that a test fills it: a tmpfs among mounts that only one
//! thread, and what it starts, can see.
//!
//! The one rule: it is gone with that thread, whatever happens.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Bytes the disk takes at once.
const PAGE: usize = 4096;
/// What takes its room.
const BALLAST: &str = "ballast";
/// What each of the files begins with that take its inodes.
const EMPTY: &str = "empty-";

/// A small disk, mounted until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Disk(PathBuf);

impl Disk {
    /// Runs `test` in a thread with mounts of its own; says aloud where that
    /// cannot be.
    pub fn apart(test: impl FnOnce() + Send) {
        let none: Option<&str> = None;
        let run = || {
            let private = unshare(CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none));
            match private {
                Ok(()) => test(),
                Err(error) => println!("SKIPPED: a disk cannot be mounted here: {error}"),
            }
        };
        std::thread::scope(|scope| {
            if let Err(panic) = scope.spawn(run).join() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    /// Mounts one with these options of a tmpfs; only in [`Disk::apart`].
    ///
    /// # Panics
    /// When that fails.
    pub fn mount(at: &Path, options: &str) -> Self {
        std::fs::create_dir_all(at).expect("a folder");
        let (kind, flags) = (Some("tmpfs"), MsFlags::empty());
        mount(kind, at, kind, flags, Some(options)).expect("a small disk");
        Self(at.to_path_buf())
    }

    /// Takes all room that is left.
    ///
    /// # Panics
    /// When there is more than a small disk has.
    pub fn fill(&self) {
        use std::io::Write;
        let mut options = std::fs::OpenOptions::new();
        let ballast = options.create(true).append(true).open(self.0.join(BALLAST));
        let mut ballast = ballast.expect("a file");
        for _ in 0..16_384 {
            if ballast.write_all(&[7; PAGE]).is_err() {
                return;
            }
        }
        panic!("{} is not full after 64 MiB", self.0.display());
    }

    /// Takes every inode that is left, and no room: what is open can grow.
    ///
    /// # Panics
    /// When there are more than a small disk has.
    pub fn use_up_inodes(&self) {
        for number in 0..16_384 {
            if std::fs::File::create(self.0.join(format!("{EMPTY}{number}"))).is_err() {
                return;
            }
        }
        panic!("{} has more than 16,384 inodes", self.0.display());
    }

    /// Gives the inodes back.
    ///
    /// # Panics
    /// When the disk cannot be read.
    pub fn free_inodes(&self) {
        for entry in std::fs::read_dir(&self.0).expect("readable").flatten() {
            if entry.file_name().to_string_lossy().starts_with(EMPTY) {
                std::fs::remove_file(entry.path()).expect("removable");
            }
        }
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn free(&self) {
        std::fs::remove_file(self.0.join(BALLAST)).expect("it was filled");
    }
}

impl Drop for Disk {
    /// The folder it lies over could not be removed, and would be left behind.
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
