//! A host finds a server that answers: in the order of its list, with every
//! way of not answering, and without pestering one that is busy.

use std::net::TcpListener;
use std::time::Duration;

use e2e::agent::{Agent, Settings};
use e2e::fake_server::{Answer, Asked, FakeServer};
use e2e::wait;
use serde_json::json;

fn settings(servers: &[&str]) -> Settings {
    Settings {
        push: "step = 1\nmin_step = 1\nconnect_timeout = 1\ntimeout = 1\n".into(),
        ..Settings::new(&servers.join(","))
    }
}

/// The second server takes over from one that answers like this.
fn the_next_one_is_asked(what: &str, answer: impl Fn() -> Answer + Send + 'static) {
    let bad = FakeServer::start_with(move |_| Some(answer()));
    let good = FakeServer::start();
    let host = Agent::start(&settings(&[&bad.address(), &good.address()]));
    host.until_confirmed();
    assert!(!bad.asked().is_empty(), "{what}: the first is asked first");
    // The one that answered is the one that is asked.
    let before = bad.asked().len();
    for _ in 0..3 {
        good.next_status();
    }
    assert_eq!(bad.asked().len(), before, "{what}");
    let log = host.log();
    assert!(
        log.contains(&bad.address()),
        "{what}: which one failed is logged: {log}"
    );
}

#[test]
fn a_server_that_answers_garbage_or_an_error_is_left_for_the_next_one() {
    let page = b"<html>Please log in</html>";
    let elsewhere = ["Location: http://127.0.0.1:1/"];
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"status\"";
    let answers = [
        ("500", Answer::of(500, &[], b"")),
        ("503 without a time", Answer::of(503, &[], b"")),
        ("a portal", Answer::of(200, &[], page)),
        ("a redirect", Answer::of(302, &elsewhere, b"")),
        ("404", Answer::of(404, &[], b"{}")),
        ("no HTTP", Answer::Bytes(b"220 ftp ready\r\n".to_vec())),
        ("hanging up", Answer::Bytes(Vec::new())),
        ("a cut body", Answer::Bytes(cut.to_vec())),
        ("2 MiB", Answer::of(200, &[], &vec![b' '; 2 << 20])),
    ];
    // Each has servers and a host of its own, so they need not wait in line.
    std::thread::scope(|scope| {
        for (what, answer) in answers {
            scope.spawn(move || the_next_one_is_asked(what, move || answer.clone()));
        }
    });
}

#[test]
fn a_server_that_accepts_and_never_answers_costs_one_timeout() {
    the_next_one_is_asked("silence", || Answer::Silence);
    // Not even accepting, only the kernel's backlog.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound").to_string();
    let good = FakeServer::start();
    let host = Agent::start(&settings(&[&address, &good.address()]));
    host.until_confirmed();
}

#[test]
fn servers_that_refuse_or_have_no_name_are_passed_over_and_doubles_are_asked_twice() {
    let good = FakeServer::start();
    let nowhere = "no-such-host.invalid:80";
    let list = ["127.0.0.1:1", "127.0.0.1:1", nowhere, &good.address()];
    let host = Agent::start(&settings(&list));
    host.until_confirmed();
    let status = host.status().expect("the daemon answers");
    let servers: Vec<_> = status["servers"].as_array().into_iter().flatten().collect();
    assert_eq!(servers.len(), 4, "never de-duplicated: {status}");
    let log = host.log();
    let refused = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("127.0.0.1:1:"));
    assert!(refused.count() >= 2, "{log}");
    assert!(log.contains("no-such-host.invalid"), "{log}");
}

#[test]
fn a_server_that_fails_later_is_left_and_jobs_arrive_by_the_other() {
    let mut answered = 0;
    let first = FakeServer::start_with(move |_| {
        answered += 1;
        (answered > 4).then(|| Answer::of(500, &[], b""))
    });
    let second = FakeServer::start();
    let host = Agent::start(&settings(&[&first.address(), &second.address()]));
    let sn = host.until_confirmed();
    second.offer(json!({ "id": "j", "action": "stop", "name": "nobody" }));
    assert_eq!(second.result("j")["errcode"], 1003);
    assert!(
        second.asked().iter().all(Asked::is_status),
        "it is registered already"
    );
    assert_eq!(second.statuses()[0].body["agentsn"], sn);
}

#[test]
fn a_busy_server_is_asked_again_when_it_said_and_its_neighbour_is_not() {
    for (status, seconds) in [(429, 2), (503, 2)] {
        let mut asked = 0;
        let busy = FakeServer::start_with(move |_| {
            asked += 1;
            let later = format!("Retry-After: {seconds}");
            (asked <= 2).then(|| Answer::of(status, &[&later], b""))
        });
        let neighbour = FakeServer::start();
        let host = Agent::start(&settings(&[&busy.address(), &neighbour.address()]));
        host.until_confirmed();
        assert_eq!(neighbour.asked().len(), 0, "{status}");
        let times: Vec<_> = busy.asked().iter().map(|asked| asked.at).collect();
        for pair in times.windows(2).take(2) {
            let waited = pair[1] - pair[0];
            assert!(
                waited >= Duration::from_millis(1900),
                "{status}: {waited:?}"
            );
        }
    }
}

#[test]
fn the_servers_of_the_first_start_hold_once_one_has_confirmed_the_host() {
    let (first, second) = (FakeServer::start(), FakeServer::start());
    // Until then another -S is taken: it may have been a typing error.
    let mut host = Agent::start(&settings(&["127.0.0.1:1"]));
    wait::until_true("the refusal", || {
        host.status()
            .is_some_and(|status| status["problem"].is_string())
    });
    host.stop();
    host.name_servers(&first.address());
    host.run();
    let sn = host.until_confirmed();
    assert_eq!(host.metafile()["svrlist"], first.address());

    host.stop();
    host.name_servers(&second.address());
    let before = first.statuses().len();
    host.run();
    wait::until_true("a status", || first.statuses().len() > before);
    assert_eq!(host.metafile()["svrlist"], first.address());
    assert_eq!((host.agentsn(), second.asked().len()), (sn, 0));
    assert!(host.log().contains("-S is ignored"));
}

#[test]
fn a_registration_that_is_not_accepted_is_tried_again() {
    let mut registered = 0;
    let fake = FakeServer::start_with(move |asked| {
        registered += usize::from(asked.is_register());
        (registered == 1).then(|| Answer::Json(json!({ "status": 7, "message": "not yet" })))
    });
    let host = Agent::start(&settings(&[&fake.address()]));
    wait::until_true("the problem", || {
        let problem = host.status().map(|status| status["problem"].to_string());
        problem.is_some_and(|problem| problem.contains("status 7"))
    });
    assert_eq!(host.metafile()["confirmed"], false);
    // A random part of 30 s.
    wait::within(Duration::from_secs(40), "the second registration", || {
        (fake.registers().len() == 2).then_some(())
    });
    host.until_confirmed();
    let registers = fake.registers();
    assert_eq!(registers[0].body["agentsn"], registers[1].body["agentsn"]);
}

#[test]
fn a_host_whose_secret_is_refused_enrols_again_with_its_token() {
    let mut is_known = false;
    let fake = FakeServer::start_with(move |asked| {
        if asked.is_register() {
            let was_known = std::mem::replace(&mut is_known, true);
            let token = if was_known { "second" } else { "first" };
            return Some(Answer::Json(json!({ "status": 0, "token": token })));
        }
        let is_first = asked.header("authorization") == Some("Bearer first");
        is_first.then(|| Answer::of(401, &[], b"{}"))
    });
    let host = Agent::start(&settings(&[&fake.address()]));
    wait::within(Duration::from_secs(40), "the second registration", || {
        (fake.registers().len() == 2).then_some(())
    });
    host.until_confirmed();
    let registers = fake.registers();
    let enrolment = Some("Bearer a-token-to-enrol-with");
    assert!(
        registers
            .iter()
            .all(|asked| asked.header("authorization") == enrolment)
    );
    assert_eq!(host.metafile()["token"], "second");
}
