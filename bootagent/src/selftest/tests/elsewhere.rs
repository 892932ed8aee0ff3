//! Faults of another world: mounts in a namespace of their own, and the
//! rights of an ordinary user. The test program starts itself again there,
//! which needs root.

use std::process::Command;

use super::*;

/// Holds the folder of the host for the copy of this program elsewhere.
const INSIDE: &str = "SELFTEST_TEST_FOLDER";
/// A mount namespace of its own.
const UNSHARE: [&str; 4] = ["unshare", "--mount", "--propagation", "private"];
/// The rights of nobody.
const NOBODY: [&str; 5] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--",
];

/// Runs the test `name` again, started by the words of `world`, on a host
/// whose folders exist, after `script` was run in its root. There, `judge`
/// sees the report.
fn elsewhere(world: &[&str], name: &str, script: &str, judge: impl FnOnce(&Report)) {
    if let Some(folder) = std::env::var_os(INSIDE) {
        let nobody = Nobody::new();
        let args = TestHost::new().0.args;
        // The program outside removes the folder.
        let config = Some(PathBuf::from(folder).join("bootagent.toml"));
        let args = Args {
            config,
            servers: Some(nobody.address()),
            ..args
        };
        let mut out = Vec::new();
        let verdict = run(&args, &mut out);
        judge(&Report {
            verdict,
            text: String::from_utf8(out).expect("text"),
        });
        return;
    }
    let program = std::env::current_exe().expect("our path");
    let run = |script: &str, folder: &Path, root: &Path| {
        Command::new(world[0])
            .args(&world[1..])
            .args(["sh", "-e", "-c"])
            .arg(format!("cd \"$1\"; {script}"))
            .arg("sh")
            .args([root, &program])
            .arg(format!("selftest::tests::elsewhere::{name}"))
            .env(INSIDE, folder)
            .output()
    };
    let probe = run("test -x \"$2\"", Path::new("/"), Path::new("/"));
    if !probe.is_ok_and(|output| output.status.success()) {
        skip(&format!(
            "{name}: {} needs root, and a program all may run",
            world[0]
        ));
        return;
    }
    let (host, _nobody) = TestHost::new();
    set_mode(host.folder.path(), 0o755);
    host.paths().ensure().expect("created");
    store(&host, &metafile());
    let script = format!("{script}; exec \"$2\" --exact \"$3\" --nocapture");
    let output = run(&script, host.folder.path(), &host.root()).expect("it ran before");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn a_temporary_folder_on_another_mount_is_explained() {
    let script = "mount -t tmpfs tmpfs var/lib/bootagent/tmp";
    elsewhere(
        &UNSHARE,
        "a_temporary_folder_on_another_mount_is_explained",
        script,
        |report| {
            let parts = [
                "Invalid cross-device link",
                "bootagent/tmp (tmpfs)",
                "put both on one",
            ];
            report
                .has_verdict(Verdict::Failed)
                .says("fail", "one mount", &parts);
        },
    );
}

#[test]
fn a_bind_mount_of_the_same_device_is_another_mount_too() {
    let script = "mount --bind var/lib/bootagent/tmp var/lib/bootagent/tmp";
    elsewhere(
        &UNSHARE,
        "a_bind_mount_of_the_same_device_is_another_mount_too",
        script,
        |report| {
            let part = "Invalid cross-device link";
            report
                .has_verdict(Verdict::Failed)
                .says("fail", "one mount", &["the metafile", part]);
        },
    );
}

#[test]
fn a_read_only_mount_is_named() {
    let script = "mount -t tmpfs -o ro tmpfs var/log/bootagent";
    elsewhere(&UNSHARE, "a_read_only_mount_is_named", script, |report| {
        let parts = ["var/log/bootagent", "mounted read-only", "remount"];
        report
            .has_verdict(Verdict::Failed)
            .says("fail", "folders", &parts);
    });
}

#[test]
fn a_full_file_system_fails_and_a_scarce_one_warns() {
    let script = "mount -t tmpfs -o size=64k tmpfs var/log/bootagent; \
                  mount -t tmpfs -o size=8m tmpfs run/bootagent";
    elsewhere(
        &UNSHARE,
        "a_full_file_system_fails_and_a_scarce_one_warns",
        script,
        |report| {
            report
                .has_verdict(Verdict::Failed)
                .says("fail", "space", &["var/log/bootagent", "free some"])
                .says("warn", "space", &["run/bootagent", "2004"]);
        },
    );
}

#[test]
fn a_mount_that_forbids_execution_is_named() {
    let script = "mount -t tmpfs -o noexec tmpfs var/lib/bootagent/bundles";
    elsewhere(
        &UNSHARE,
        "a_mount_that_forbids_execution_is_named",
        script,
        |report| {
            report
                .has_verdict(Verdict::Passed)
                .says("warn", "execution", &["bundles", "noexec"]);
        },
    );
}

#[test]
fn an_ordinary_user_is_told_what_needs_root() {
    elsewhere(
        &NOBODY,
        "an_ordinary_user_is_told_what_needs_root",
        "true",
        |report| {
            report
                .has_verdict(Verdict::Failed)
                .says(
                    "fail",
                    "folders",
                    &["var/log/bootagent is not writable by uid 65534"],
                )
                .says("fail", "metafile", &["cannot read", "Permission denied"])
                .says("warn", "privilege", &["uid 65534", "run as root"]);
        },
    );
}
