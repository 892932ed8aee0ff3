use std::fs::File;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::*;

struct Run {
    spawned: Spawned,
    output: File,
}

fn program(argv: &[&str]) -> (Program, File) {
    let output = tempfile::tempfile().expect("a temporary file");
    let program = Program {
        argv: argv.iter().map(OsString::from).collect(),
        envs: BTreeMap::from([("A".into(), "1;2".into())]),
        directory: "/".into(),
        account: None,
        files: None,
        output: output.try_clone().expect("cloned").into(),
        errors: None,
    };
    (program, output)
}

fn run(program: &Program, output: File) -> Run {
    let spawned = spawn(program, "boot", |_| Ok(())).expect("started");
    Run { spawned, output }
}

impl Run {
    fn finish(mut self) -> (WaitStatus, String) {
        let status = wait(self.spawned.handle.identity().pid);
        let mut text = String::new();
        self.output.rewind().expect("a file");
        self.output.read_to_string(&mut text).expect("text");
        (status, text)
    }
}

fn wait(pid: i32) -> WaitStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => assert!(Instant::now() < deadline, "{pid} still runs"),
            other => return other.expect("our child"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_child_has_only_the_given_environment_and_no_stray_descriptor() {
    let (program, output) = program(&["/bin/sh", "-c", "env; ls /proc/self/fd | wc -l"]);
    let (status, text) = run(&program, output).finish();
    assert!(
        matches!(status, WaitStatus::Exited(_, 0)),
        "{status:?} {text}"
    );
    assert!(text.contains("A=1;2\n"), "{text}");
    assert!(!text.contains("CARGO"), "{text}");
    // 0, 1, 2 and the one ls reads the folder with.
    assert_eq!(text.lines().last().map(str::trim), Some("4"), "{text}");
}

#[test]
fn a_program_that_is_not_there_says_which_step_failed() {
    let (program, _output) = program(&["/nonexistent/program"]);
    let spawned = spawn(&program, "boot", |_| Ok(())).expect("forked");
    let status = wait(spawned.handle.identity().pid);
    assert!(matches!(status, WaitStatus::Exited(_, 127)), "{status:?}");
    let failure = sys::exec_failure(&spawned.failure)
        .expect("said")
        .to_string();
    assert!(
        failure.contains("executing") && failure.contains("No such file"),
        "{failure}"
    );
}

#[test]
fn nothing_runs_when_its_record_cannot_be_written() {
    let marker = tempfile::tempdir().expect("a temporary folder");
    let file = marker.path().join("ran");
    let (program, _output) = program(&["/bin/touch", file.to_str().expect("text")]);
    let mut pid = 0;
    let error = spawn(&program, "boot", |identity| {
        pid = identity.pid;
        anyhow::bail!("the disk is full")
    });
    assert!(matches!(error, Err(SpawnError::Prepare { .. })));
    assert!(matches!(wait(pid), WaitStatus::Exited(_, 0)));
    assert!(!file.exists());
}

#[test]
fn a_child_starts_with_default_signals_in_a_session_of_its_own() {
    let (program, output) = program(&[
        "/bin/sh",
        "-c",
        "grep -E 'SigIgn|SigBlk' /proc/self/status; cut -d' ' -f1,6 /proc/$$/stat",
    ]);
    let (_, text) = run(&program, output).finish();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "SigBlk:\t0000000000000000");
    let ignored = lines[1].strip_prefix("SigIgn:\t").expect("a mask");
    let ignored = u64::from_str_radix(ignored, 16).expect("hexadecimal");
    // 32 and 33 are the C library's own and cannot be set.
    assert_eq!(ignored & 0x7fff_ffff, 0, "{text}");
    let (pid, session) = lines[2].split_once(' ').expect("two numbers");
    assert_eq!(pid, session);
}

#[test]
fn a_pidfd_signals_exactly_that_child() {
    let (program, output) = program(&["/bin/sleep", "300"]);
    let run = run(&program, output);
    run.spawned.handle.signal(Signal::SIGTERM).expect("sent");
    let (status, _) = run.finish();
    assert!(
        matches!(status, WaitStatus::Signaled(_, Signal::SIGTERM, _)),
        "{status:?}"
    );
}

#[test]
fn a_child_of_root_runs_as_its_user_with_only_its_capabilities() {
    let privilege = Privilege::of_this_process("nobody");
    if privilege == Privilege::Ourselves {
        println!("SKIPPED: running children as another user needs root");
        return;
    }
    let manifest = br#"{"name":"a","version":"1","exec":["x"],"user":"nobody","capabilities":["CAP_NET_RAW"]}"#;
    let manifest = Manifest::parse(manifest).expect("valid");
    let script = "id -u; grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status";
    let (mut program, output) = program(&["/bin/sh", "-c", script]);
    program.account = privilege.account(&manifest).expect("nobody exists");
    let (status, text) = run(&program, output).finish();
    assert!(
        matches!(status, WaitStatus::Exited(_, 0)),
        "{status:?} {text}"
    );
    assert!(text.starts_with("65534\n"), "{text}");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            text.contains(&format!("{set}:\t0000000000002000")),
            "{text}"
        );
    }
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
}

#[test]
fn an_unknown_account_or_capability_names_its_key() {
    let manifest = |text: &str| Manifest::parse(text.as_bytes()).expect("valid");
    let root = Privilege::Root {
        has_ambient: true,
        default_user: "nobody".into(),
    };
    let user = manifest(r#"{"name":"a","version":"1","exec":["x"],"user":"no-such-user"}"#);
    assert!(
        root.account(&user)
            .expect_err("refused")
            .starts_with("user:")
    );
    let capability = manifest(
        r#"{"name":"a","version":"1","exec":["x"],"user":"root","capabilities":["CAP_X"]}"#,
    );
    assert!(
        root.account(&capability)
            .expect_err("refused")
            .starts_with("capabilities:")
    );
}
