//! Bundles that are refused: evil, damaged, too large, or not what the job
//! says. None of them leaves a trace.

#[path = "support/pack.rs"]
mod pack;

use std::path::Path;

use bootagent::package::Expected;
use bootagent::package::archive::Bounds;
use bootagent_protocol::{AgentName, ErrorCode};
use tar::EntryType;

use pack::*;

#[test]
fn an_evil_entry_is_named_and_leaves_nothing_behind() {
    let long = "x/".repeat(33) + "f";
    let cases: Vec<(&str, Pack)> = vec![
        (
            "\"..\" is not allowed",
            Pack::agent("9").file("../escaped", 0o644, b"x"),
        ),
        (
            "\"..\" is not allowed",
            Pack::agent("9").file("lib/../../escaped", 0o644, b"x"),
        ),
        (
            "\"..\" is not allowed",
            Pack::agent("9")
                .long_name("../escaped")
                .file("a", 0o644, b"x"),
        ),
        (
            "\"..\" is not allowed",
            Pack::agent("9")
                .pax("path", "../escaped")
                .file("a", 0o644, b"x"),
        ),
        (
            "absolute",
            Pack::agent("9").file("/etc/escaped", 0o644, b"x"),
        ),
        (
            "absolute",
            Pack::agent("9")
                .pax("path", "/etc/escaped")
                .file("a", 0o644, b"x"),
        ),
        (
            "symbolic",
            Pack::agent("9")
                .link("l", EntryType::Symlink, "/etc")
                .file("l/x", 0o644, b"x"),
        ),
        (
            "hard",
            Pack::agent("9").link("l", EntryType::Link, "/etc/shadow"),
        ),
        (
            "device",
            Pack::agent("9").entry(b"dev", EntryType::Char, 0o666, 0, b""),
        ),
        (
            "device",
            Pack::agent("9").entry(b"dev", EntryType::Block, 0o666, 0, b""),
        ),
        (
            "FIFO",
            Pack::agent("9").entry(b"fifo", EntryType::Fifo, 0o666, 0, b""),
        ),
        (
            "sparse",
            Pack::agent("9").entry(b"s", EntryType::GNUSparse, 0o644, 0, b""),
        ),
        (
            "sparse",
            Pack::agent("9")
                .pax("GNU.sparse.major", "1")
                .file("s", 0o644, b"x"),
        ),
        (
            "8 GiB",
            Pack::agent("9")
                .pax("size", "99999999999")
                .file("s", 0o644, b"x"),
        ),
        (
            "type 'V'",
            Pack::agent("9").entry(b"v", EntryType::new(b'V'), 0o644, 0, b""),
        ),
        ("setuid", Pack::agent("9").file("su", 0o4755, SCRIPT)),
        ("setuid", Pack::agent("9").file("sg", 0o2755, SCRIPT)),
        (
            "setuid",
            Pack::agent("9").entry(b"sgd", EntryType::Directory, 0o2755, 0, b""),
        ),
        (
            "twice",
            Pack::agent("9").file("run", 0o755, b"#!/bin/sh\nrm -rf /\n"),
        ),
        (
            "twice",
            Pack::agent("9")
                .file("lib/x", 0o644, b"")
                .file(".//lib/./x", 0o644, b""),
        ),
        (
            "a folder in another",
            Pack::agent("9")
                .file("f", 0o644, b"")
                .file("f/x", 0o644, b""),
        ),
        (
            "a folder in another",
            Pack::agent("9")
                .file("f/x", 0o644, b"")
                .file("f", 0o644, b""),
        ),
        (
            "control characters",
            Pack::agent("9").file("a\nb", 0o644, b""),
        ),
        (
            "UTF-8",
            Pack::agent("9").entry(b"\xff\xfe", EntryType::Regular, 0o644, 0, b""),
        ),
        (
            "255 bytes",
            Pack::agent("9")
                .long_name(&"x".repeat(256))
                .file("a", 0o644, b""),
        ),
        (
            "1024 bytes",
            Pack::agent("9").long_name(&"x/".repeat(600)).folder("a"),
        ),
        ("32 folders", Pack::agent("9").file(&long, 0o644, b"")),
        (
            "16 KiB",
            Pack::agent("9")
                .long_name(&"x".repeat(20_000))
                .file("a", 0o644, b""),
        ),
    ];
    for (why, pack) in cases {
        let host = Host::new();
        let running = host.install(Pack::agent("1"));
        let before = host.tree();
        let (code, message) = host.unpack(pack).expect_err(why);
        assert_eq!(code, ErrorCode::INSTALLER_FAILED, "{message}");
        assert!(message.contains(why), "{why} is not said by {message:?}");
        assert_eq!(host.tree(), before, "{why}");
        assert_eq!(host.bundles.current(&name()), Some(running));
        assert!(!host.folder.path().join("bundles/a/escaped").exists());
        assert!(!host.folder.path().join("bundles/escaped").exists());
        assert!(!Path::new("/etc/escaped").exists());
    }
}

#[test]
fn a_first_install_that_is_refused_leaves_no_folder() {
    let host = Host::new();
    host.unpack(Pack::agent("1").link("l", EntryType::Symlink, "x"))
        .expect_err("refused");
    assert_eq!(host.tree(), Vec::<String>::new());
}

#[test]
fn bombs_are_stopped_by_size_ratio_and_count() {
    let small = Bounds {
        unpacked_bytes: 64 * 1024,
        ..Bounds::default()
    };
    let ratio = Bounds {
        ratio: 10,
        ratio_from: 64 * 1024,
        ..Bounds::default()
    };
    let few = Bounds {
        entries: 5,
        ..Bounds::default()
    };
    let zeros = vec![0; 1024 * 1024];
    let files = (0..9).fold(Pack::agent("1"), |pack, n| {
        pack.file(&format!("f{n}"), 0o644, b"x")
    });
    // A size that is claimed is refused before a byte of it is written; one
    // that hides between the entries is stopped where the bound is.
    let hidden = |bounds: &Bounds| {
        let pack = Pack::agent("1");
        let count = bounds.unpacked_bytes.min(1024 * 1024);
        let filler = vec![0; usize::try_from(count).expect("small")];
        pack.entry(
            b"g",
            EntryType::XGlobalHeader,
            0o644,
            filler.len() as u64,
            &filler,
        )
    };
    let huge = Pack::agent("1").entry(b"huge", EntryType::Regular, 0o644, 1 << 60, b"x");
    for (bounds, pack, why) in [
        (
            small.clone(),
            Pack::agent("1").file("zeros", 0o644, &zeros),
            "unpacks to more",
        ),
        (
            ratio,
            Pack::agent("1").file("zeros", 0o644, &zeros),
            "unpacks to more",
        ),
        (Bounds::default(), huge, "unpacks to more"),
        (small.clone(), hidden(&small), "16 KiB"),
        (few, files, "more than 5"),
    ] {
        let host = Host::bounded(bounds);
        let (code, message) = host.unpack(pack).expect_err(why);
        assert_eq!(code, ErrorCode::INSTALLER_FAILED, "{message}");
        assert!(message.contains(why), "{why} is not said by {message:?}");
        assert_eq!(host.tree(), Vec::<String>::new());
    }
}

#[test]
fn bytes_after_the_last_entry_are_bounded_too() {
    let bounds = Bounds {
        unpacked_bytes: 64 * 1024,
        ..Bounds::default()
    };
    let host = Host::bounded(bounds);
    let mut pack = Pack::agent("1");
    pack.0.resize(1024 * 1024, 0);
    let (code, message) = host.unpack(pack).expect_err("a bomb in the padding");
    assert_eq!(code, ErrorCode::INSTALLER_FAILED, "{message}");
    assert_eq!(host.tree(), Vec::<String>::new());
}

#[test]
fn a_damaged_archive_is_refused_wherever_it_is_cut() {
    let whole = Pack::agent("1").file("data", 0o644, &[7; 5000]).packed();
    let host = Host::new();
    let running = host.install(Pack::agent("0"));
    let before = host.tree();
    for cut in [3, 20, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        let (code, message) = host.unpack_bytes(&whole[..cut]).expect_err("cut");
        let fits = [ErrorCode::INSTALLER_FAILED, ErrorCode::MANIFEST_INVALID].contains(&code);
        assert!(fits, "{cut}: {code} {message}");
        assert_eq!(host.tree(), before, "cut at {cut}");
    }
    let mut flipped = whole.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 0xff;
    host.unpack_bytes(&flipped)
        .expect_err("a wrong checksum of gzip");
    assert_eq!(host.bundles.current(&name()), Some(running));
}

#[test]
fn a_manifest_must_be_there_valid_and_name_what_is_in_the_bundle() {
    let manifest = |text: &str| Pack::default().file("agent.json", 0o644, text.as_bytes());
    let exec = |exec: &str| {
        manifest(&format!(
            r#"{{"name":"a","version":"1","exec":["{exec}"]}}"#
        ))
    };
    let cases = [
        (
            "no agent.json",
            Pack::default().file("a/agent.json", 0o644, b"{}"),
        ),
        ("no agent.json", Pack::default().folder("agent.json/")),
        ("not a valid manifest", manifest("{")),
        (
            "limit",
            manifest(r#"{"name":"a","version":"1","exec":["x"],"limit":{}}"#),
        ),
        ("not in the bundle", exec("./run")),
        (
            "leaves the bundle",
            exec("../run").file("run", 0o755, SCRIPT),
        ),
        ("not executable", exec("run").file("run", 0o644, SCRIPT)),
        ("not executable", exec("run").folder("run")),
    ];
    for (why, pack) in cases {
        let host = Host::new();
        let (code, message) = host.unpack(pack).expect_err(why);
        assert_eq!(code, ErrorCode::MANIFEST_INVALID, "{message}");
        assert!(message.contains(why), "{why} is not said by {message:?}");
        assert_eq!(host.tree(), Vec::<String>::new());
    }
}

#[test]
fn a_bundle_of_something_else_is_refused() {
    let host = Host::new();
    let package = host.write(&Pack::agent("1").packed());
    let other = Expected {
        name: AgentName::parse("b").expect("valid"),
        version: None,
    };
    for expected in [expected(Some("2")), other] {
        let failure = host
            .bundles
            .unpack(&package, &expected)
            .expect_err("refused");
        assert_eq!(failure.code, ErrorCode::PACKAGE_MISMATCH, "{failure}");
    }
    let (code, _) = host
        .unpack(Pack::agent("current"))
        .expect_err("the name of a link");
    assert_eq!(code, ErrorCode::PACKAGE_MISMATCH);
    assert_eq!(host.tree(), Vec::<String>::new());
}
