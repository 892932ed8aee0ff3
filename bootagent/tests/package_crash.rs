//! Bundles and kill -9: whenever it strikes, what is started next is a whole
//! version, and the next install finds its way.

#[path = "support/pack.rs"]
mod pack;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bootagent::package::Bundles;
use bootagent::package::archive::Bounds;
use pack::*;

/// Where the victim installs, when it is one.
const FOLDER: &str = "BOOTAGENT_TEST_CRASH_FOLDER";
/// Files of a version; a whole one has all of them.
const FILES: usize = 20;

fn version_with_files(version: &str) -> Pack {
    (0..FILES).fold(Pack::agent(version), |pack, number| {
        pack.file(&format!("lib/{number}"), 0o644, version.as_bytes())
    })
}

/// Installs one version, and as the victim of the test below one after the
/// other until it is killed.
#[test]
fn versions_are_installed_one_after_the_other() {
    let own = tempfile::tempdir().expect("a temporary folder");
    let victim = std::env::var_os(FOLDER);
    let folder = victim.as_deref().map_or(own.path(), Path::new);
    let bundles = Bundles::new(&folder.join("bundles"), Bounds::default());
    let packages: Vec<_> = ["1", "2", "3"]
        .map(version_with_files)
        .map(Pack::packed)
        .into();
    for bytes in packages.iter().cycle() {
        let package = folder.join("package");
        fs::write(&package, bytes).expect("written");
        let unpacked = bundles.unpack(&package, &expected(None)).expect("unpacked");
        bundles.switch(&name(), &unpacked.folder).expect("switched");
        assert_whole(&bundles);
        if victim.is_none() {
            return;
        }
    }
}

/// What is started next is complete and of one version.
fn assert_whole(bundles: &Bundles) {
    let current = bundles.current(&name()).expect("something is installed");
    let manifest = Bundles::manifest(&current).expect("a manifest");
    for number in 0..FILES {
        let text = fs::read_to_string(current.join(format!("lib/{number}"))).expect("a file");
        assert_eq!(text, manifest.version.as_str(), "{}", current.display());
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_version() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bundles = Bundles::new(&folder.path().join("bundles"), Bounds::default());
    for round in 0..25 {
        let mut victim = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "versions_are_installed_one_after_the_other"])
            .env(FOLDER, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let begun = Instant::now();
        while bundles.current(&name()).is_none() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "nothing gets installed"
            );
            thread::sleep(Duration::from_millis(2));
        }
        // Each round a little later, so that it strikes at another step.
        thread::sleep(Duration::from_micros(1700 * round));
        let early = victim.try_wait().expect("asked");
        assert_eq!(early, None, "the victim ended by itself");
        victim.kill().expect("killed");
        victim.wait().expect("gone");
        assert_whole(&bundles);
    }
    // The next install and a look at the folder: no leftovers.
    let package = folder.path().join("package");
    fs::write(&package, version_with_files("4").packed()).expect("written");
    let unpacked = bundles
        .unpack(&package, &expected(Some("4")))
        .expect("unpacked");
    bundles.switch(&name(), &unpacked.folder).expect("switched");
    bundles.prune(&name()).expect("pruned");
    assert_whole(&bundles);
    let left = fs::read_dir(folder.path().join("bundles/a"))
        .expect("listed")
        .count();
    assert!(left <= 4, "two versions and two links, not {left}");
}

#[test]
fn a_crash_between_the_two_links_is_no_loss() {
    let host = Host::new();
    let running = host.install(Pack::agent("1"));
    let next = host.unpack(Pack::agent("2")).expect("unpacked");
    // `previous` was written, `current` was not.
    symlink("1", running.with_file_name("previous")).expect("made");
    assert_eq!(
        host.bundles.previous(&name()),
        None,
        "the same is no way back"
    );
    host.bundles.prune(&name()).expect("pruned");
    assert!(running.exists() && !next.exists());
    let next = host.install(Pack::agent("2"));
    assert_eq!(host.bundles.current(&name()), Some(next));
    assert_eq!(host.bundles.previous(&name()), Some(running));
}
