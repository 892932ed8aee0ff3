//! BootAgent's own upgrade under systemd, by hand and by a job: the children
//! do not notice, and a new version that is none is taken back.

use std::fs;
use std::time::Duration;

use e2e::fake_server::{Answer, FakeServer};
use e2e::own_package::{CRASHES, build_deb, stage_bad};
use e2e::wait;
use serde_json::{Value, json};

use super::*;

/// Until a new version has reported, or is taken back. The watcher's patience
/// in these tests is 20 s, and a machine under load is slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(240);
/// The version of the new ones that are not any good.
pub(super) const BAD: &str = "9.9.9-1";
/// A program that passes every test and then hangs.
pub(super) const HANGS: &str = "#!/bin/sh\n\
    case $1 in -V) echo bootagent 9.9.9-1 x86_64; exit;; -T) exit;; esac\n\
    exec sleep 100000000\n";
/// A good program that does not know a key of the configuration.
const REFUSES: &str = "#!/bin/sh\n\
    [ \"$1\" != -T ] || exec /usr/sbin/bootagent.real \"$@\" -c /root/new.toml\n\
    exec /usr/sbin/bootagent.real \"$@\"\n";
/// bootagent.toml: short times, but not so short that load looks like a hang.
pub(super) const CONFIG: &str =
    "[jobs]\nconfirm_timeout = 20\n[push]\nconnect_timeout = 2\ntimeout = 5\n";
/// A child; what it does must not matter.
pub(super) const CHILD: &str =
    r#"{ "name": "sleeper", "version": "1", "exec": ["/bin/sleep", "100000"], "user": "root" }"#;

/// A kind of package.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Rpm,
    Deb,
}

impl Kind {
    pub(super) fn install(self, version: &str) -> String {
        match self {
            Self::Rpm => format!("rpm -U /root/bootagent-{version}.x86_64.rpm"),
            Self::Deb => format!("dpkg -i /root/bootagent_{version}_amd64.deb"),
        }
    }

    fn installed(self) -> &'static str {
        match self {
            Self::Rpm => "rpm -q --qf '%{VERSION}-%{RELEASE}' bootagent",
            Self::Deb => "dpkg-query -W -f '${Version}' bootagent",
        }
    }

    pub(super) fn of(self, packages: &[PathBuf]) -> &Path {
        &packages[usize::from(self == Self::Deb)]
    }
}

/// What must stay the same.
#[derive(Debug, PartialEq)]
struct Processes {
    daemon: String,
    child: String,
}

fn processes(machine: &Machine) -> Processes {
    Processes {
        daemon: run(machine, "systemctl show -p MainPID --value bootagent"),
        child: run(machine, "pgrep -xf '/bin/sleep 100000'"),
    }
}

/// The version that answers, and that systemd is content with it.
#[track_caller]
fn answers(machine: &Machine, version: &str) {
    let asked = format!(
        "bootctl status | grep -q '^bootagent-{version}-' && systemctl -q is-active bootagent"
    );
    let came = machine.wait_until(&asked, PATIENCE);
    came.unwrap_or_else(|error| panic!("{error:#}"));
}

/// A host with the old version, a child and a server.
fn host(machine: &Machine, kind: Kind, server: &FakeServer) -> Processes {
    server.hurry();
    run(
        machine,
        &format!(
            "mkdir -p /etc/bootagent /usr/lib/bootagent/agents/sleeper
             echo 'BOOTAGENT_OPTIONS=\"-S {}\"' > /etc/bootagent/options
             printf '{CONFIG}' > /etc/bootagent/bootagent.toml
             echo '{CHILD}' > /usr/lib/bootagent/agents/sleeper/agent.json
             {}",
            server.address(),
            kind.install(OLD)
        ),
    );
    answers(machine, OLD);
    let child = machine.wait_until("pgrep -xf '/bin/sleep 100000'", PATIENCE);
    child.expect("the child runs");
    server.next_status();
    processes(machine)
}

/// A server that gives packages away, and says what `script` says of a status.
pub(super) fn server(
    packages: Vec<PathBuf>,
    mut script: impl FnMut() -> Option<Answer> + Send + 'static,
) -> FakeServer {
    FakeServer::start_with(move |asked| {
        if asked.is_status() {
            return script();
        }
        let name = asked.path().strip_prefix("/packages/")?;
        let package = packages.iter().find(|path| file_name(path) == name)?;
        Some(Answer::of(200, &[], &fs::read(package).expect("made")))
    })
}

pub(super) fn order(id: &str, package: &Path, version: &str) -> Value {
    let sum = succeed(Command::new("sha256sum").arg(package));
    let sum = sum.split(' ').next().expect("a sum");
    json!({
        "id": id,
        "action": "upgrade",
        "name": "BootAgent",
        "version": version,
        "url": format!("/packages/{}", file_name(package)),
        "checksum": format!("SHA256:{sum}"),
    })
}

pub(super) fn result(server: &FakeServer, id: &str) -> Value {
    wait::within(PATIENCE, "the result of the job", || {
        server.results(id).first().cloned()
    })
}

/// Nobody watches any more.
#[track_caller]
fn no_watcher_is_left(machine: &Machine) {
    let gone =
        "! systemctl -q is-active bootagent-watcher && ! systemctl -q is-failed bootagent-watcher";
    let came = machine.wait_until(gone, PATIENCE);
    came.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn an_upgrade_by_hand_keeps_daemon_and_children() {
    for kind in [Kind::Rpm, Kind::Deb] {
        let Some(machine) = machine(First::Systemd) else {
            return;
        };
        machine.inside(|| {
            let server = server(Vec::new(), || None);
            let before = host(&machine, kind, &server);
            let said = run(&machine, &kind.install(NEW));
            let wanted = format!("bootagent {NEW} runs in place of {OLD}");
            assert!(said.contains(&wanted), "{said}");
            answers(&machine, NEW);
            assert_eq!(processes(&machine), before);
            assert_eq!(run(&machine, kind.installed()), NEW);
            let executed = format!("readlink /proc/{}/exe", before.daemon.trim());
            assert_eq!(run(&machine, &executed), "/usr/sbin/bootagent\n");
            // After a reboot in the middle of an upgrade its watcher is there
            // without anybody's help.
            run(
                &machine,
                "systemctl show -p Wants --value multi-user.target | grep -qw bootagent-watcher.service",
            );
            // Where it does not run, it stays so.
            run(&machine, "systemctl stop bootagent");
            run(
                &machine,
                &kind.install(NEW).replace("-U", "-U --replacepkgs"),
            );
            run(&machine, "! systemctl -q is-active bootagent");
            let child = run(&machine, "pgrep -xf '/bin/sleep 100000'");
            assert_eq!(child, before.child);
        });
    }
}

#[test]
fn a_job_upgrades_bootagent_itself_by_rpm() {
    a_job_upgrades(Kind::Rpm);
}

#[test]
fn a_job_upgrades_bootagent_itself_by_deb() {
    a_job_upgrades(Kind::Deb);
}

fn a_job_upgrades(kind: Kind) {
    let Some(machine) = machine(First::Systemd) else {
        return;
    };
    machine.inside(|| {
        let package = kind.of(&made().new).to_path_buf();
        let server = server(vec![package.clone()], || None);
        let before = host(&machine, kind, &server);
        server.offer(order("1", &package, NEW));
        let done = result(&server, "1");
        assert_eq!(done["errcode"], 0, "{done}");
        assert_eq!(
            (&done["tried"], &done["running"]),
            (&json!(NEW), &json!(NEW))
        );
        answers(&machine, NEW);
        assert_eq!(processes(&machine), before);
        assert_eq!(run(&machine, kind.installed()), NEW);
        no_watcher_is_left(&machine);
        // One result, and a second order of the same is done at once.
        server.succeed(order("2", &package, NEW));
        assert_eq!(processes(&machine), before);
        let results = server.results("1");
        assert!(results.iter().all(|again| *again == done), "{results:?}");
    });
}

#[test]
fn a_new_version_that_crashes_is_taken_back() {
    is_taken_back(Kind::Rpm, CRASHES, "ended again and again");
}

#[test]
fn a_new_version_that_hangs_is_taken_back() {
    is_taken_back(Kind::Deb, HANGS, "did not answer");
}

#[test]
fn a_new_version_that_reaches_no_server_is_taken_back() {
    // A good program that is alone in its network.
    is_taken_back(
        Kind::Rpm,
        "#!/bin/sh\n[ \"$1\" != -V ] || exec /usr/sbin/bootagent.real -V\n\
         exec unshare --net /usr/sbin/bootagent.real \"$@\"\n",
        "reached no server",
    );
}

/// A package of a version that is no good: the new one, with `script` as its
/// program.
pub(super) fn bad_package(kind: Kind, folder: &Path, script: &str) -> PathBuf {
    let stage = folder.join("stage");
    let target = folder.join("made");
    fs::create_dir_all(&target).expect("created");
    let deb = Kind::Deb.of(&made().new);
    let needs_real = script.contains("bootagent.real");
    let version = if needs_real { NEW } else { BAD };
    stage_bad(deb, NEW, version, script, &stage).expect("staged");
    if kind == Kind::Deb {
        let package = target.join("bad.deb");
        build_deb(&stage, &package).expect("packed");
        return package;
    }
    fs::remove_dir_all(stage.join("DEBIAN")).expect("removed");
    let (number, release) = version.split_once('-').expect("a release");
    let spec = folder.join("bad.spec");
    fs::write(
        &spec,
        format!(
            "Name: bootagent\nVersion: {number}\nRelease: {release}\nSummary: bad\nLicense: none\n\
             %description\nbad\n%install\ncp -a {}/. %{{buildroot}}/\n%files\n/usr/sbin/*\n\
             /usr/bin/bootagentctl\n/usr/lib/systemd/system/bootagent*.service\n\
             /usr/lib/systemd/system/multi-user.target.wants/*\n/usr/lib/tmpfiles.d/bootagent.conf\n\
             /usr/share/doc/bootagent\n/usr/share/man/man*/*\n/usr/share/bash-completion/completions/*\n",
            stage.display()
        ),
    )
    .expect("written");
    succeed(
        Command::new("rpmbuild")
            .args(["--quiet", "-bb", "--target", "x86_64-linux"])
            .args([
                "--define",
                &format!("_topdir {}", folder.join("top").display()),
            ])
            .args(["--define", &format!("_rpmdir {}", target.display())])
            .args(["--define", "_rpmfilename bad.rpm"])
            .args(["--define", "debug_package %{nil}"])
            .args(["--define", "__os_install_post %{nil}"])
            .args(["--define", "_build_id_links none"])
            .args(["--define", "_binary_payload w9.gzdio"])
            .args(["--define", "_binary_filedigest_algorithm 8"])
            .args(["--define", "__requires_exclude .*"])
            .arg(&spec),
    );
    target.join("bad.rpm")
}

fn is_taken_back(kind: Kind, script: &str, cause: &str) {
    let Some(machine) = machine(First::Systemd) else {
        return;
    };
    if kind == Kind::Rpm && !have("rpmbuild", "rpm") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let package = bad_package(kind, folder.path(), script);
    let version = if script.contains("real") { NEW } else { BAD };
    machine.inside(|| {
        let old = kind.of(&made().old).to_path_buf();
        let server = server(vec![package.clone(), old.clone()], || None);
        let before = host(&machine, kind, &server);
        server.offer(order("1", &package, version));
        let done = result(&server, "1");
        assert_eq!(done["errcode"], 4006, "{done}");
        assert_eq!(
            (&done["tried"], &done["running"]),
            (&json!(version), &json!(OLD)),
            "{done}"
        );
        let said = done["cause"].as_str().unwrap_or_default();
        assert!(said.contains(cause), "{done}");
        // It was installed by hand, so there was no package to go back to.
        assert!(
            done["message"].to_string().contains("saved program"),
            "{done}"
        );
        answers(&machine, OLD);
        assert_eq!(processes(&machine).child, before.child);
        no_watcher_is_left(&machine);
        assert!(run(&machine, "/usr/sbin/bootagent -V").contains(OLD));
        let results = server.results("1");
        assert!(results.iter().all(|again| *again == done), "{results:?}");
    });
}

#[test]
fn a_new_version_that_fails_its_own_test_never_takes_over() {
    let Some(machine) = machine(First::Systemd) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let kind = Kind::Deb;
    let bad = bad_package(kind, folder.path(), REFUSES);
    machine.put(&bad, "/root/bad.deb").expect("copied");
    machine.inside(|| {
        let server = server(vec![bad.clone()], || None);
        let before = host(&machine, kind, &server);
        run(&machine, "echo 'gone = 1' > /root/new.toml");
        // By hand: what runs goes on, and the operator is told why.
        let said = run(&machine, "dpkg -i /root/bad.deb");
        for part in [
            "is not used",
            "configuration",
            "gone",
            "bootagentctl reexec",
        ] {
            assert!(said.contains(part), "{said}");
        }
        answers(&machine, OLD);
        assert_eq!(processes(&machine), before);
        // Once it is put right, it is taken over as the message says.
        run(&machine, ": > /root/new.toml; bootagentctl reexec");
        answers(&machine, NEW);
        assert_eq!(processes(&machine).child, before.child);
        // By a job: it is taken back before it ever runs.
        let old = kind.install(OLD);
        run(
            &machine,
            &format!("echo 'gone = 1' > /root/new.toml; {old}; systemctl restart bootagent"),
        );
        answers(&machine, OLD);
        let daemon = processes(&machine);
        server.offer(order("1", &bad, NEW));
        let done = result(&server, "1");
        assert_eq!(done["errcode"], 4006, "{done}");
        assert_eq!(done["running"], OLD, "{done}");
        let cause = done["cause"].as_str().unwrap_or_default();
        assert!(cause.contains("-T: configuration:"), "{done}");
        answers(&machine, OLD);
        assert_eq!(processes(&machine), daemon);
        no_watcher_is_left(&machine);
    });
}

#[test]
fn a_kept_package_is_what_an_upgrade_goes_back_to() {
    let Some(machine) = machine(First::Systemd) else {
        return;
    };
    let kind = Kind::Deb;
    let folder = tempfile::tempdir().expect("a folder");
    let bad = bad_package(kind, folder.path(), CRASHES);
    machine.inside(|| {
        let good = kind.of(&made().new).to_path_buf();
        let server = server(vec![bad.clone(), good.clone()], || None);
        let before = host(&machine, kind, &server);
        server.offer(order("1", &good, NEW));
        assert_eq!(result(&server, "1")["errcode"], 0);
        server.offer(order("2", &bad, BAD));
        let done = result(&server, "2");
        assert_eq!(done["errcode"], 4006, "{done}");
        assert_eq!(done["running"], NEW, "{done}");
        assert!(
            done["message"].to_string().contains("is installed again"),
            "{done}"
        );
        answers(&machine, NEW);
        assert_eq!(run(&machine, kind.installed()), NEW);
        assert_eq!(processes(&machine).child, before.child);
        no_watcher_is_left(&machine);
    });
}

#[test]
fn a_server_in_trouble_takes_nothing_back() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let Some(machine) = machine(First::Systemd) else {
        return;
    };
    machine.inside(|| {
        let package = Kind::Rpm.of(&made().new).to_path_buf();
        // 0: well; then 429, 503 and 500 in turn.
        let trouble = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&trouble);
        let server = server(vec![package.clone()], move || {
            let turn = shared.load(Ordering::SeqCst);
            if turn == 0 {
                return None;
            }
            shared.store(turn % 3 + 1, Ordering::SeqCst);
            let (status, headers): (u16, &[&str]) = match turn {
                1 => (429, &["Retry-After: 1"]),
                2 => (503, &["Retry-After: 1"]),
                _ => (500, &[]),
            };
            Some(Answer::of(status, headers, b"{}"))
        });
        let before = host(&machine, Kind::Rpm, &server);
        server.offer(order("1", &package, NEW));
        wait::within(PATIENCE, "the download", || {
            server
                .asked()
                .iter()
                .any(|asked| asked.path().starts_with("/packages/"))
                .then_some(())
        });
        trouble.store(1, Ordering::SeqCst);
        answers(&machine, NEW);
        // The old program has asked for the new one's sake, and was told the
        // same, more often than it takes to give up a new one.
        let asked = "test $(grep -c 'asked: Refused' /var/log/bootagent/watcher.log) -ge 3";
        machine.wait_until(asked, PATIENCE).expect("it asks");
        run(&machine, "systemctl -q is-active bootagent-watcher");
        assert_eq!(processes(&machine), before);
        // Both crash: systemd starts both again, and the upgrade goes on.
        run(
            &machine,
            "systemctl kill --kill-who=main -s KILL bootagent-watcher bootagent",
        );
        answers(&machine, NEW);
        let watches = machine.wait_until("systemctl -q is-active bootagent-watcher", PATIENCE);
        watches.expect("it is started again");
        // Nor is a stop by an operator a reason to take anything back.
        run(
            &machine,
            "systemctl stop bootagent; sleep 25; systemctl start bootagent",
        );
        answers(&machine, NEW);
        trouble.store(0, Ordering::SeqCst);
        run(&machine, "bootctl reexec");
        let done = result(&server, "1");
        assert_eq!(done["errcode"], 0, "{done}");
        answers(&machine, NEW);
        assert_eq!(processes(&machine).child, before.child);
        no_watcher_is_left(&machine);
    });
}
