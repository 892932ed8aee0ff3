//! A disk so small that a test fills it: a tmpfs in a mount namespace of one
//! thread, so that it is gone with the thread whatever happens.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs `test` with a tmpfs of these `options`; says aloud where it cannot.
pub(crate) fn on_disk(options: &str, test: impl FnOnce(&Path) + Send) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let on_small_disk = || {
        let none: Option<&str> = None;
        let private = unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
            .and_then(|()| {
                let flags = MsFlags::empty();
                mount(
                    Some("tmpfs"),
                    folder.path(),
                    Some("tmpfs"),
                    flags,
                    Some(options),
                )
            });
        match private {
            Ok(()) => test(folder.path()),
            Err(error) => println!("SKIPPED: a tmpfs cannot be mounted here: {error}"),
        }
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(on_small_disk);
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
