//! Bundles on a real disk: unpacked beside what runs, switched, rolled back,
//! pruned and removed.

#[path = "support/pack.rs"]
mod pack;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bootagent::package::{Bundles, Kind, Removal};
use pack::*;
use tar::EntryType;

#[test]
fn a_bundle_is_unpacked_with_our_modes_and_switched_at_once() {
    let host = Host::new();
    let pack = Pack::agent("1.0")
        .file("lib/deep/data", 0o666, b"x")
        .folder("open/")
        .entry(b"old/", EntryType::Regular, 0o755, 0, b"");
    let folder = host.unpack(pack).expect("unpacked");
    assert_eq!(
        host.bundles.current(&name()),
        None,
        "nothing is switched yet"
    );
    assert_eq!(folder.file_name().and_then(|n| n.to_str()), Some("1.0"));
    for (path, wanted) in [
        (".", 0o755),
        ("agent.json", 0o644),
        ("run", 0o755),
        ("lib/deep", 0o755),
        ("lib/deep/data", 0o644),
        ("open", 0o755),
        ("old", 0o755),
    ] {
        assert_eq!(mode(&folder.join(path)), wanted, "{path}");
    }
    host.bundles.switch(&name(), &folder).expect("switched");
    assert_eq!(host.bundles.current(&name()), Some(folder.clone()));
    assert_eq!(host.bundles.previous(&name()), None);
    let manifest = Bundles::manifest(&folder).expect("a manifest");
    assert_eq!(manifest.version.as_str(), "1.0");
}

#[test]
fn owners_in_the_archive_do_not_count() {
    use std::os::unix::fs::MetadataExt;
    let host = Host::new();
    let folder = host.unpack(Pack::agent("1")).expect("unpacked");
    let own = fs::metadata(host.folder.path()).expect("there").uid();
    assert_eq!(fs::metadata(folder.join("run")).expect("there").uid(), own);
}

#[test]
fn an_upgrade_keeps_one_version_for_rollback_and_no_more() {
    let host = Host::new();
    let first = host.install(Pack::agent("1"));
    let second = host.install(Pack::agent("2"));
    assert_eq!(host.bundles.previous(&name()), Some(first.clone()));
    let third = host.install(Pack::agent("3"));
    host.bundles.prune(&name()).expect("pruned");
    assert_eq!(host.bundles.current(&name()), Some(third.clone()));
    assert_eq!(host.bundles.previous(&name()), Some(second.clone()));
    assert!(!first.exists() && second.exists() && third.exists());

    host.bundles.switch(&name(), &second).expect("rolled back");
    assert_eq!(host.bundles.current(&name()), Some(second.clone()));
    assert_eq!(host.bundles.previous(&name()), Some(third));
    host.bundles
        .switch(&name(), &second)
        .expect("again is nothing");
    assert_eq!(host.bundles.current(&name()), Some(second));
}

#[test]
fn the_same_version_again_does_not_touch_the_one_that_runs() {
    let host = Host::new();
    let running = host.install(Pack::agent("1"));
    let before = fs::read(running.join("run")).expect("there");
    let changed = Pack::default()
        .file(
            "agent.json",
            0o644,
            br#"{"name":"a","version":"1","exec":["./run"]}"#,
        )
        .file("run", 0o755, b"#!/bin/sh\nexit 7\n");
    let again = host.install(changed);
    assert_ne!(again, running);
    assert_eq!(fs::read(running.join("run")).expect("still there"), before);
    assert_eq!(host.bundles.current(&name()), Some(again.clone()));
    let third = host.install(Pack::agent("1"));
    assert_eq!(host.bundles.previous(&name()), Some(again));
    assert!(running.exists(), "previous until the third was switched to");
    let fourth = host.install(Pack::agent("1"));
    assert_eq!(host.bundles.previous(&name()), Some(third));
    assert_eq!(fourth, running, "a name that is free again is used again");
}

#[test]
fn a_version_given_up_before_the_switch_is_pruned() {
    let host = Host::new();
    let running = host.install(Pack::agent("1"));
    let before = host.tree();
    let given_up = host.unpack(Pack::agent("2")).expect("unpacked");
    host.bundles.prune(&name()).expect("pruned");
    assert!(!given_up.exists());
    assert_eq!(host.tree(), before);
    assert_eq!(host.bundles.current(&name()), Some(running));
}

#[test]
fn what_a_crash_left_is_gone_after_the_next_install() {
    let host = Host::new();
    let home = host.folder.path().join("bundles/a");
    fs::create_dir_all(home.join(".unpacking/half")).expect("made");
    fs::write(home.join(".unpacking/half/file"), b"x").expect("made");
    std::os::unix::fs::symlink("1", home.join(".switching")).expect("made");
    fs::create_dir_all(host.folder.path().join("bundles/.removed-a/x")).expect("made");
    host.install(Pack::agent("1"));
    assert_eq!(
        host.tree(),
        [
            "bundles/.removed-a",
            "bundles/.removed-a/x",
            "bundles/a",
            "bundles/a/1",
            "bundles/a/1/agent.json",
            "bundles/a/1/run",
            "bundles/a/current -> 1",
        ]
    );
    assert_eq!(
        host.bundles.remove(&name()).expect("removed"),
        Removal::Removed
    );
    assert_eq!(host.tree(), Vec::<String>::new());
    assert_eq!(
        host.bundles.remove(&name()).expect("absent"),
        Removal::Absent
    );
}

#[test]
fn names_of_every_length_are_read() {
    let host = Host::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(250));
    let pax = format!("p/{}", "q".repeat(240));
    let pack = Pack::agent("1")
        .long_name(&long)
        .file("cut", 0o644, b"long")
        .pax("path", &pax)
        .file("cut", 0o644, b"pax")
        .pax("mtime", "1.5")
        .file("plain", 0o644, b"plain");
    let folder = host.unpack(pack).expect("unpacked");
    assert_eq!(fs::read(folder.join(long)).expect("there"), b"long");
    assert_eq!(fs::read(folder.join(pax)).expect("there"), b"pax");
    assert_eq!(fs::read(folder.join("plain")).expect("there"), b"plain");
}

#[test]
fn what_a_real_tar_packs_is_unpacked() {
    let host = Host::new();
    let source = host.folder.path().join("source");
    fs::create_dir_all(source.join("lib")).expect("made");
    let manifest = br#"{"name":"a","version":"1","exec":["bin"]}"#;
    fs::write(source.join("agent.json"), manifest).expect("made");
    fs::write(source.join("bin"), SCRIPT).expect("made");
    fs::set_permissions(source.join("bin"), fs::Permissions::from_mode(0o700)).expect("made");
    fs::write(source.join("lib").join("n".repeat(180)), b"x").expect("made");
    for format in ["gnu", "pax", "ustar"] {
        let package = host.folder.path().join("package");
        let status = std::process::Command::new("tar")
            .args(["--format", format, "-C"])
            .arg(&source)
            .arg("-czf")
            .arg(&package)
            .arg(".")
            .status();
        let Ok(status) = status else {
            println!("SKIPPED: there is no program tar here");
            return;
        };
        if format == "ustar" {
            // ustar cannot hold that name; then there is nothing to unpack.
            assert!(!status.success());
            continue;
        }
        assert!(status.success(), "tar --format {format}");
        assert_eq!(Kind::of(&package).expect("a kind"), Kind::Bundle);
        let unpacked = host
            .bundles
            .unpack(&package, &expected(Some("1")))
            .expect("unpacked");
        assert_eq!(mode(&unpacked.folder.join("bin")), 0o755);
        assert!(unpacked.folder.join("lib").join("n".repeat(180)).exists());
    }
}

#[test]
fn only_a_folder_of_that_agent_can_become_current() {
    let host = Host::new();
    let running = host.install(Pack::agent("1"));
    let elsewhere = host.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    host.bundles
        .switch(&name(), &elsewhere)
        .expect_err("not beside current");
    host.bundles
        .switch(&name(), &running.with_file_name("2"))
        .expect_err("not there");
    // A link that leads out is not followed.
    let current = running.with_file_name("current");
    fs::remove_file(&current).expect("removed");
    std::os::unix::fs::symlink("../../elsewhere", &current).expect("made");
    assert_eq!(host.bundles.current(&name()), None);
}
