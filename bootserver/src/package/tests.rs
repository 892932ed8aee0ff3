use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const MANIFEST: &str = r#"{"name":"flux-push","version":"0.1.0-1","exec":["./flux-push"]}"#;

fn check(bytes: &[u8]) -> Result<Inspected, InspectError> {
    inspect(io::Cursor::new(bytes))
}

fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, *bytes)
            .expect("a valid entry");
    }
    archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .expect("writing to memory")
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let size = content.len();
        writeln!(
            bytes,
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`",
            0, 0, 0, 100_644
        )
        .expect("writing to memory");
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len() + size % 2, b'\n');
    }
    bytes
}

fn rpm_header(tags: &[(u32, &str)]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (tag, text) in tags {
        let offset = u32::try_from(data.len()).expect("small");
        for number in [*tag, 6, offset, 1] {
            entries.extend_from_slice(&number.to_be_bytes());
        }
        data.extend_from_slice(text.as_bytes());
        data.push(0);
    }
    let mut header = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    header.extend_from_slice(&u32::try_from(tags.len()).expect("small").to_be_bytes());
    header.extend_from_slice(&u32::try_from(data.len()).expect("small").to_be_bytes());
    [header, entries, data].concat()
}

fn rpm() -> Vec<u8> {
    let mut bytes = vec![0; 96];
    bytes[..4].copy_from_slice(&[0xed, 0xab, 0xee, 0xdb]);
    bytes.extend(rpm_header(&[(1000, "sig")]));
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let tags = [
        (1000, "flux-push"),
        (1001, "0.1.0"),
        (1002, "1"),
        (1022, "x86_64"),
    ];
    bytes.extend(rpm_header(&tags));
    bytes
}

fn names(inspected: Result<Inspected, InspectError>) -> (PackageKind, [Option<String>; 3]) {
    let inspected = inspected.expect("a package");
    (
        inspected.kind,
        [inspected.name, inspected.version, inspected.arch],
    )
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_bundle_is_named_by_its_manifest_wherever_tar_put_the_dot() {
    for path in ["agent.json", "./agent.json"] {
        let bytes = tar_gz(&[("flux-push", b"x"), (path, MANIFEST.as_bytes())]);
        let expected = [some("flux-push"), some("0.1.0-1"), None];
        assert_eq!(
            names(check(&bytes)),
            (PackageKind::Bundle, expected),
            "{path}"
        );
    }
}

#[test]
fn a_bundle_without_a_valid_manifest_is_refused() {
    let deeper = tar_gz(&[("flux-push-0.1.0/agent.json", MANIFEST.as_bytes())]);
    let invalid = tar_gz(&[("agent.json", br#"{"name":"a/b"}"#)]);
    let mut cut = tar_gz(&[("agent.json", MANIFEST.as_bytes())]);
    cut.truncate(cut.len() / 2);
    for (bytes, what) in [
        (deeper, "no agent.json"),
        (invalid, "agent.json: "),
        (cut, "damaged"),
    ] {
        let error = check(&bytes).expect_err("no bundle").to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn an_rpm_is_named_by_its_main_header() {
    let expected = [some("flux-push"), some("0.1.0-1"), some("x86_64")];
    assert_eq!(names(check(&rpm())), (PackageKind::Rpm, expected));
}

#[test]
fn an_rpm_cut_anywhere_is_damaged_and_never_a_panic() {
    let whole = rpm();
    for length in 8..whole.len() - 40 {
        assert!(check(&whole[..length]).is_err(), "{length}");
    }
    let mut endless = whole;
    endless[96 + 12..96 + 16].copy_from_slice(&[0xff; 4]);
    assert!(check(&endless).is_err());
}

#[test]
fn a_deb_is_named_by_its_control_file_unless_it_is_packed_otherwise() {
    let control = b"Package: flux-push\nVersion: 0.1.0-1\nArchitecture: amd64\nDescription: x\n";
    let packed = tar_gz(&[("./control", control)]);
    let deb = ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &packed)]);
    let expected = [some("flux-push"), some("0.1.0-1"), some("amd64")];
    assert_eq!(names(check(&deb)), (PackageKind::Deb, expected));
    let xz = ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"xz")]);
    assert_eq!(names(check(&xz)), (PackageKind::Deb, [None, None, None]));
    assert!(check(&ar(&[("debian-binary", b"2.0\n")])).is_err());
}

#[test]
fn what_is_no_package_is_refused() {
    for bytes in [&b""[..], b"\x1f", b"#!/bin/sh\n", b"PK\x03\x04"] {
        assert!(
            matches!(check(bytes), Err(InspectError::NoPackage)),
            "{bytes:?}"
        );
    }
}
