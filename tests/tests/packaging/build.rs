//! What is made, before it is installed: arguments, scripts, symbol versions,
//! formats, cmake.

use std::collections::BTreeSet;
use std::fs;

use super::*;

/// What CentOS 7's rpm 4.11 and its libraries satisfy, as prefixes.
const CENTOS_7: [&str; 8] = [
    "/bin/sh",
    "rpmlib(CompressedFileNames) <= 3.0.4-1",
    "rpmlib(FileDigests) <= 4.6.0-1",
    "rpmlib(PayloadFilesHavePrefix) <= 4.0-1",
    "rtld(GNU_HASH)",
    "ld-linux-x86-64.so.2()(64bit)",
    "libc.so.6()(64bit)",
    "libgcc_s.so.1()(64bit)",
];

#[test]
fn package_sh_names_the_mistake_in_its_arguments() {
    let mistakes: [(&[&str], &str); 8] = [
        (
            &[],
            "expected a name, a version and at most a kind, got 0 arguments",
        ),
        (&["BootAgent"], "got 1 arguments"),
        (&["NoAgent", "1.0-1"], "there is no agent 'NoAgent'"),
        (
            &["../BootAgent", "1.0-1"],
            "'../BootAgent' is no agent's name",
        ),
        (
            &["BootAgent", "1.2.1"],
            "'1.2.1' is no version; write VERSION-RELEASE, such as 1.2.1-1",
        ),
        (
            &["BootAgent", "1.2.1-1", "msi"],
            "'msi' is no kind of package",
        ),
        (
            &["BootAgent", "1.2.1-1", "bundle"],
            "BootAgent has no bundle",
        ),
        (
            &["bootserver", "1.2.1-1", "bundle"],
            "bootserver has no bundle",
        ),
    ];
    for (arguments, message) in mistakes {
        let output = package_sh(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}: {said}");
        assert!(
            said.contains("usage: contrib/package.sh"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn every_script_is_clean() {
    if !have("shellcheck", "shellcheck") {
        return;
    }
    let files = succeed(
        Command::new("git")
            .current_dir(repository())
            .args(["ls-files", "*.sh", ".ci/run"]),
    );
    let files: Vec<_> = files
        .lines()
        .filter(|file| *file != "packaging/steps.sh")
        .collect();
    assert!(files.contains(&"contrib/package.sh"), "{files:?}");
    succeed(
        Command::new("shellcheck")
            .current_dir(repository())
            .args(["-x", "-P", "SCRIPTDIR"])
            .args(files),
    );
}

#[test]
fn scriptlets_are_clean_posix_sh_as_they_are_packaged() {
    if !(have("shellcheck", "shellcheck") && have("dash", "dash")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut scriptlets = 0;
    for package in made().new.iter().chain(&made().agent) {
        let target = folder.path().join(file_name(package));
        if file_name(package).ends_with(".deb") {
            succeed(Command::new("dpkg-deb").arg("-e").args([package, &target]));
            for entry in fs::read_dir(&target).expect("control files") {
                let path = entry.expect("an entry").path();
                if fs::read(&path).expect("readable").starts_with(b"#!/bin/sh") {
                    check_scriptlet(&path);
                    scriptlets += 1;
                }
            }
        } else if file_name(package).ends_with(".rpm") {
            fs::create_dir(&target).expect("created");
            for moment in ["PREIN", "POSTIN", "PREUN", "POSTUN"] {
                let query = format!("%{{{moment}PROG}}\\n%{{{moment}}}");
                let text = succeed(
                    Command::new("rpm")
                        .args(["-qp", "--qf", &query])
                        .arg(package),
                );
                let Some(script) = text.strip_prefix("/bin/sh\n") else {
                    assert!(text.starts_with("(none)"), "{moment}: {text}");
                    continue;
                };
                let path = target.join(moment);
                fs::write(&path, script).expect("written");
                check_scriptlet(&path);
                scriptlets += 1;
            }
        }
    }
    // Four and four of BootAgent, two and three of the sub-agent.
    assert_eq!(scriptlets, 13);
}

pub(super) fn check_scriptlet(path: &Path) {
    // A scriptlet uses a part of the shared steps.
    succeed(
        Command::new("shellcheck")
            .args(["-s", "sh", "-e", "SC2317"])
            .arg(path),
    );
    succeed(Command::new("dash").arg("-n").arg(path));
}

#[test]
fn rpms_are_readable_and_installable_on_centos_7() {
    if !have("rpm", "rpm") {
        return;
    }
    for package in [&made().new[0], &made().agent[0]] {
        let query = "%{PAYLOADFORMAT} %{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO} %{BUILDHOST} %{ARCH}";
        let header = succeed(
            Command::new("rpm")
                .args(["-qp", "--qf", query])
                .arg(package),
        );
        assert_eq!(header, "cpio gzip 8 localhost x86_64");
        let requires = succeed(Command::new("rpm").args(["-qp", "--requires"]).arg(package));
        for requirement in requires.lines() {
            let known = CENTOS_7.contains(&requirement)
                || ["libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6"]
                    .iter()
                    .any(|library| requirement == format!("{library}()(64bit)"))
                || requirement.contains("(GLIBC_2.")
                || requirement.starts_with("libgcc_s.so.1(GCC_");
            assert!(known, "{}: {requirement}", file_name(package));
        }
    }
}

#[test]
fn debs_are_readable_since_2014() {
    if !have("ar", "binutils") {
        return;
    }
    for package in [&made().new[1], &made().agent[1]] {
        let members = succeed(Command::new("ar").arg("t").arg(package));
        assert_eq!(members, "debian-binary\ncontrol.tar.gz\ndata.tar.gz\n");
    }
}

#[test]
fn nothing_packaged_needs_more_than_centos_7_has() {
    if !(have("objdump", "binutils") && have("rpm2archive", "rpm")) {
        return;
    }
    let made = made();
    let mut programs = BTreeSet::new();
    for package in made.new.iter().chain(&made.agent) {
        let folder = tempfile::tempdir().expect("a folder");
        unpack(package, folder.path());
        let files = succeed(
            Command::new("find")
                .arg(folder.path())
                .args(["-type", "f", "-perm", "-100"]),
        );
        for file in files.lines() {
            let dynamic = succeed(Command::new("objdump").args(["-p", file]));
            let symbols = succeed(Command::new("objdump").args(["-T", file]));
            needs_at_most(&symbols, "GLIBC_", &[2, 17]);
            needs_at_most(&symbols, "GCC_", &[4, 8, 0]);
            let libraries: Vec<_> = dynamic
                .lines()
                .filter_map(|line| line.trim().strip_prefix("NEEDED"))
                .map(str::trim)
                .collect();
            let known = [
                "libc.so.6",
                "libm.so.6",
                "libdl.so.2",
                "libpthread.so.0",
                "librt.so.1",
            ]
            .into_iter()
            .chain(["libgcc_s.so.1", "ld-linux-x86-64.so.2"])
            .collect::<Vec<_>>();
            assert!(libraries.contains(&"libc.so.6"), "{file}: {libraries:?}");
            assert!(
                libraries.iter().all(|library| known.contains(library)),
                "{file}: {libraries:?}"
            );
            let name = Path::new(file).file_name().expect("a name").to_owned();
            programs.insert((file_name(package).to_owned(), name));
        }
    }
    // Two programs in two packages, one in three.
    assert_eq!(programs.len(), 7, "{programs:?}");
}

/// Fails when a symbol is newer than `most`, or when there is none at all.
fn needs_at_most(symbols: &str, prefix: &str, most: &[u32]) {
    let versions: Vec<Vec<u32>> = symbols
        .split_whitespace()
        .filter_map(|word| word.trim_matches(['(', ')']).strip_prefix(prefix))
        .map(|version| {
            version
                .split('.')
                .filter_map(|part| part.parse().ok())
                .collect()
        })
        .collect();
    assert!(
        prefix != "GLIBC_" || !versions.is_empty(),
        "no {prefix} symbols in: {symbols}"
    );
    for version in versions {
        assert!(
            version.as_slice() <= most,
            "{prefix}{version:?} in: {symbols}"
        );
    }
}

fn unpack(package: &Path, folder: &Path) {
    let name = file_name(package);
    if name.ends_with(".deb") {
        succeed(Command::new("dpkg-deb").arg("-x").args([package, folder]));
    } else if name.ends_with(".rpm") {
        let archive = folder.join("archive.tgz");
        let file = fs::File::create(&archive).expect("created");
        let rpm = fs::File::open(package).expect("readable");
        let status = Command::new("rpm2archive")
            .arg("-")
            .stdin(rpm)
            .stdout(file)
            .status();
        assert!(status.expect("rpm2archive runs").success());
        succeed(
            Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .arg("-C")
                .arg(folder),
        );
        fs::remove_file(&archive).expect("removed");
    } else {
        succeed(
            Command::new("tar")
                .arg("-xzf")
                .arg(package)
                .arg("-C")
                .arg(folder),
        );
    }
}

#[test]
fn packages_are_made_again_only_when_something_has_changed() {
    // The sources may have changed since the other tests made theirs.
    let arguments = ["flux-push", AGENT, "bundle"];
    let first = package_sh(&arguments);
    let path = PathBuf::from(String::from_utf8_lossy(&first.stdout).trim_end());
    let made_at = || {
        fs::metadata(&path)
            .and_then(|file| file.modified())
            .expect("made")
    };
    let before = made_at();
    let output = package_sh(&arguments);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("is up to date"),
        "{output:?}"
    );
    assert_eq!(made_at(), before);
}

#[test]
fn cmake_hands_the_server_list_to_cargo() {
    if !(have("cmake", "cmake") && have("make", "make")) {
        return;
    }
    let source = repository().join("cmake-compat");
    // Kept between runs: it holds cargo's output too.
    let build = repository().join("target/cmake");
    fs::create_dir_all(&build).expect("created");
    // Of a clone that was moved, cmake refuses its own notes.
    let _ = fs::remove_file(build.join("CMakeCache.txt"));
    let servers = "booter.cargo.com:8080,192.168.9.1:9090";
    succeed(
        Command::new("cmake")
            .current_dir(&build)
            .arg(&source)
            .arg("-DCMAKE_BUILD_TYPE=Debug")
            .arg(format!("-DBOOT_SERVER_ADDR={servers}")),
    );
    succeed(Command::new("make").current_dir(&build));
    let version = succeed(Command::new(build.join("target/debug/bootagent")).arg("-V"));
    assert!(version.contains(servers), "{version}");

    let folder = tempfile::tempdir().expect("a folder");
    let destination = format!("DESTDIR={}", folder.path().display());
    succeed(
        Command::new("make")
            .current_dir(&build)
            .args(["install", &destination]),
    );
    let installed = succeed(Command::new(folder.path().join("usr/sbin/bootagent")).arg("-V"));
    assert_eq!(installed, version);
    assert!(folder.path().join("usr/bin/bootagentctl").exists());
    assert!(!folder.path().join("usr/bin/bootctl").exists());
}

#[test]
fn cmake_refuses_a_build_type_it_cannot_hand_on() {
    if !have("cmake", "cmake") {
        return;
    }
    let build = tempfile::tempdir().expect("a folder");
    let output = Command::new("cmake")
        .current_dir(build.path())
        .arg(repository().join("cmake-compat"))
        .arg("-DCMAKE_BUILD_TYPE=RelWithDebInfo")
        .output()
        .expect("cmake runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("RelWithDebInfo; it must be Debug or Release"),
        "{said}"
    );
}
