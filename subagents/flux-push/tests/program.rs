//! The real program on the real loopback: what BootAgent and systemd see.
//!
//! The one rule: only processes started here are signalled, and each is
//! reaped.

#[path = "support/harness.rs"]
mod harness;

use std::io::Read;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use flux_push::series::{Mark, Point};
use harness::Fixture;
use nix::sys::signal::Signal;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends `count` kilobytes through the loopback.
fn traffic(count: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("an address");
    for _ in 0..count {
        socket.send_to(&[7; 1024], address).expect("sent");
        socket.recv(&mut [0; 1024]).expect("received");
    }
}

#[test]
fn it_says_ready_keeps_points_on_the_grid_and_ends_at_once() {
    let fixture = Fixture::new("interface = \"lo\"\ninterval = 1\n");
    let running = fixture.start();
    let status = fixture.message("STATUS=");
    assert!(
        status.contains("point 1 at ") && status.contains(": lo tx "),
        "{status}"
    );
    fixture.message("READY=1");
    traffic(100);
    for number in 2..=4 {
        fixture.message(&format!("STATUS=point {number} at "));
    }
    let asked = Instant::now();
    let output = running.stop();
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    fixture.message("STOPPING=1");

    let points = fixture.points();
    assert_eq!(points[0].marks, [Mark::Start]);
    assert_eq!(points[0].grid, None);
    let sent: u64 = points.iter().filter_map(|point| point.tx_delta).sum();
    assert!(sent >= 100 * 1024, "{sent}");
    for pair in points.windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1);
        assert_eq!(pair[1].tx_delta, Some(pair[1].tx - pair[0].tx));
        assert_eq!(pair[1].interface.mac, "00:00:00:00:00:00");
        let grid = pair[1].grid.expect("on the grid");
        assert!(pair[1].wall_ms >= grid * 1000, "{pair:?}");
    }
}

#[test]
fn after_a_kill_the_series_goes_on_without_a_gap() {
    let fixture = Fixture::new("interface = \"lo\"\ninterval = 1\n");
    let mut told = 0;
    for round in 1..=3 {
        let running = fixture.start();
        fixture.message("READY=1");
        let status = fixture.message("STATUS=point ");
        traffic(10);
        told = status["STATUS=point ".len()..]
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number");
        running.signal(Signal::SIGKILL);
        running.end();
        // Messages of the killed one must not be taken for the next one's.
        fixture.notify.set_nonblocking(true).expect("set");
        while fixture.notify.recv(&mut [0; 1024]).is_ok() {}
        fixture.notify.set_nonblocking(false).expect("set");
        let starts = |point: &&Point| point.marks.contains(&Mark::Start);
        assert_eq!(fixture.points().iter().filter(starts).count(), round);
    }
    let points = fixture.points();
    assert!(
        points.len() as u64 >= told,
        "told {told}, kept {}",
        points.len()
    );
    for pair in points.windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1);
        assert_eq!(pair[1].tx_delta, Some(pair[1].tx - pair[0].tx));
    }
}

#[test]
fn a_missing_interface_is_waited_for_and_said() {
    let fixture = Fixture::new("interface = \"none0\"\n");
    let running = fixture.start();
    let status = fixture.message("STATUS=no point");
    assert!(status.contains("there is no interface none0"), "{status}");
    let output = running.stop();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_second_instance_ends_with_the_reason() {
    let fixture = Fixture::new("interface = \"lo\"\n");
    let first = fixture.start();
    fixture.message("READY=1");
    let second = fixture.start().end();
    assert_eq!(second.status.code(), Some(1));
    let shown = text(&second.stderr);
    assert!(shown.contains("stop the other flux-push"), "{shown}");
    assert_eq!(first.stop().status.code(), Some(0));
}

#[test]
fn a_wrong_configuration_is_named_with_line_and_key() {
    let fixture = Fixture::new("interval = 300\ninterfase = \"lo\"\n");
    for argument in ["-T", "-linfo"] {
        let output = fixture.command().arg(argument).output().expect("run");
        assert_eq!(output.status.code(), Some(1));
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert!(
            shown.contains("flux-push.toml, line 2, key interfase"),
            "{shown}"
        );
    }
}

#[test]
fn a_test_reports_and_changes_nothing() {
    let fixture = Fixture::new("interface = \"lo\"\n");
    let log = fixture.dir.path().join("test.log");
    let output = fixture
        .command()
        .arg("-T")
        .arg("-L")
        .arg(&log)
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for line in [
        "is valid",
        "ok    interface lo",
        "warn  lo is virtual",
        "can be made",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
    let logged = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(logged.lines().count(), shown.lines().count(), "{logged}");
    assert!(!fixture.dir.path().join("state").exists());
}

#[test]
fn a_state_directory_that_cannot_be_used_fails_the_test_and_the_run() {
    let fixture = Fixture::new("interface = \"lo\"\n");
    let file = fixture.dir.path().join("file");
    std::fs::write(&file, b"").expect("written");
    for state in [Some(file.join("below")), None] {
        let mut command = fixture.command();
        match &state {
            Some(path) => command.env("STATE_DIRECTORY", path),
            None => command.env_remove("STATE_DIRECTORY"),
        };
        let output = command.output().expect("run");
        assert_eq!(output.status.code(), Some(1));
        let shown = text(&output.stderr);
        assert!(
            shown.contains("STATE_DIRECTORY") || shown.contains("below"),
            "{shown}"
        );
        // A test may run before there is a state directory: then it warns.
        let output = command.arg("-T").output().expect("run");
        let (code, line) = match state {
            Some(_) => (1, "fail  "),
            None => (0, "warn  STATE_DIRECTORY"),
        };
        assert_eq!(output.status.code(), Some(code));
        assert!(text(&output.stdout).contains(line), "{output:?}");
    }
}

#[test]
fn version_and_help_are_answered_without_anything_else() {
    let run = |argument: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_flux-push"))
            .env_clear()
            .arg(argument)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut shown = String::new();
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_to_string(&mut shown).expect("text");
        (child.wait().expect("reaped").code(), shown)
    };
    let (code, shown) = run("-V");
    assert_eq!(code, Some(0));
    assert_eq!(
        shown.trim(),
        concat!("flux-push ", env!("CARGO_PKG_VERSION"))
    );
    let (code, shown) = run("-h");
    assert_eq!(code, Some(0));
    assert!(shown.contains("Usage: flux-push"), "{shown}");
}

#[test]
fn the_manifest_is_valid_and_names_this_program() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/agent.json");
    let text = std::fs::read(path).expect("read");
    let manifest = bootagent_protocol::Manifest::parse(&text).expect("valid");
    assert_eq!(manifest.name.as_str(), "flux-push");
    assert_eq!(manifest.exec, ["./flux-push"]);
    assert_eq!(
        manifest.check.as_deref(),
        Some(&["./flux-push".to_owned(), "-T".to_owned()][..])
    );
    assert_eq!(manifest.agent_type, bootagent_protocol::AgentType::Notify);
}

#[test]
fn a_frozen_program_marks_what_it_missed_and_keeps_the_traffic() {
    let fixture = Fixture::new("interface = \"lo\"\ninterval = 1\n");
    let running = fixture.start();
    fixture.message("READY=1");
    fixture.point_where(|point| point.grid.is_some());
    running.signal(Signal::SIGSTOP);
    let frozen = SystemTime::now();
    traffic(50);
    // The condition is time itself: five grid times must pass.
    while frozen.elapsed().expect("forward") < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(50));
    }
    running.signal(Signal::SIGCONT);
    let missed = |point: &Point| point.marks.iter().any(|m| matches!(m, Mark::Missed(3..)));
    let woken = fixture.point_where(missed);
    assert!(
        woken.tx_delta.is_some_and(|tx| tx >= 50 * 1024),
        "{woken:?}"
    );
    assert!(woken.span_ms.is_some_and(|span| span >= 4000), "{woken:?}");
    assert_eq!(running.stop().status.code(), Some(0));
}

#[test]
fn a_full_disk_costs_points_and_no_traffic() {
    // The size limit of a file stands for the full disk: the write that
    // reaches it is cut short, the next one fails.
    let fixture = Fixture::new("interface = \"lo\"\ninterval = 1\n");
    let plain = fixture.command();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -f 2 && trap '' XFSZ && exec \"$0\" \"$@\""])
        .arg(plain.get_program())
        .args(plain.get_args())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in plain.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    let running = harness::Running::spawn(&mut limited);
    fixture.message("READY=1");
    let status = fixture.message("STATUS=no point");
    assert!(status.contains("cannot append to"), "{status}");
    let kept = fixture.points();
    traffic(50);
    // It lives, and says so again at the next grid time.
    fixture.message("STATUS=no point");
    assert_eq!(running.stop().status.code(), Some(0));
    assert_eq!(fixture.points(), kept);

    // With room again the next point holds what was sent meanwhile.
    let running = fixture.start();
    let last = kept.last().expect("a point");
    let next = fixture.point_where(|point| point.number == last.number + 1);
    assert!(next.tx_delta.is_some_and(|tx| tx >= 50 * 1024), "{next:?}");
    assert_eq!(running.stop().status.code(), Some(0));
}
