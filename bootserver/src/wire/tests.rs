use bootagent_protocol::{AgentState, ErrorCode, LimitsReport};

use super::*;

fn arrival() -> Arrival {
    Arrival {
        agentsn: "sn".into(),
        number: 1,
        every: 600,
        now: 1,
    }
}

fn report(uptime: u64) -> AgentReport {
    AgentReport {
        name: "flux-push".into(),
        version: "0.1.0-1".into(),
        status: AgentState::Running,
        uptime,
        wanted: Some(AgentState::Running),
        detail: None,
        retry_in: None,
        anomalies: Some(0),
        message: Some(format!("point {uptime}")),
        pid: Some(7),
        limits: Some(LimitsReport {
            enforced_by: "cgroup2".into(),
            memory_used: Some(uptime / 2),
            cpu_seconds: Some(0.5),
            ..LimitsReport::default()
        }),
    }
}

fn status(uptime: u64) -> StatusRequest {
    StatusRequest {
        hostname: "node-1".into(),
        uptime,
        timestamp: 1_000_000,
        step: 600,
        agents: vec![report(uptime)],
        boot_id: Some("b1".into()),
        ..StatusRequest::default()
    }
}

fn record(request: StatusRequest) -> StatusRecord {
    status_record(arrival(), request).expect("a valid status")
}

#[test]
fn what_every_push_changes_is_no_content() {
    let (one, two) = (record(status(1)), record(status(2)));
    assert_eq!(one.state.digest, two.state.digest);
    let mut stopped = status(2);
    stopped.agents[0].status = AgentState::Stoped;
    assert_ne!(record(stopped).state.digest, one.state.digest);
    let mut rebooted = status(2);
    rebooted.boot_id = Some("b2".into());
    assert_ne!(record(rebooted).state.digest, one.state.digest);
}

#[test]
fn readings_come_back_to_their_agents() {
    let record = record(status(42));
    let merged = merge_readings(record.state.body.agents, record.seen.readings);
    assert_eq!(merged, vec![report(42)]);
}

#[test]
fn one_event_too_long_is_cut_and_keeps_its_neighbours() {
    let mut request = status(1);
    let event = |seq, message: String| Event {
        seq,
        message,
        ..Event::default()
    };
    request.events = vec![event(1, "é".repeat(5000)), event(2, "fine".into())];
    request.events[1].boot_id = Some("b0".into());
    let events = record(request).events;
    assert_eq!(
        (events[0].message.len(), events[1].message.as_str()),
        (4096, "fine")
    );
    assert_eq!(
        (events[0].boot_id.as_str(), events[1].boot_id.as_str()),
        ("b1", "b0")
    );
    assert_eq!(events[0].source, "bootagent");
}

#[test]
fn numbers_and_names_no_database_holds_are_refused() {
    let mut request = status(1);
    request.events = vec![Event {
        seq: u64::MAX,
        ..Event::default()
    }];
    let error = status_record(arrival(), request).expect_err("too large");
    assert_eq!(error.field, "events[].seq");
    let mut request = status(1);
    request.hostname = "x".repeat(256);
    let error = status_record(arrival(), request).expect_err("too long");
    assert_eq!(error.field, "hostname");
    let mut request = status(1);
    request.agents[0].name = "a\nb".into();
    let error = status_record(arrival(), request).expect_err("a line break");
    assert_eq!(error.field, "agents[].name");
    let mut request = status(u64::MAX);
    request.agents.clear();
    assert_eq!(record(request).seen.uptime, i64::MAX);
}

#[test]
fn a_result_keeps_its_code_even_when_it_is_unknown() {
    let mut request = status(1);
    request.jobs = vec![JobResult::new("j1", ErrorCode(9999), "new")];
    let outcome = record(request).results.remove(0);
    assert_eq!((outcome.id.as_str(), outcome.errcode), ("j1", 9999));
    assert_eq!(outcome.body["errcode"], 9999);
}

#[test]
fn an_agentsn_has_one_spelling() {
    let spelt = "BFDCC18C-B6B9-4725-9C47-37FD93DBA5B6";
    assert_eq!(agentsn(spelt), Ok(spelt.to_lowercase()));
    assert!(agentsn("").is_err());
    assert!(agentsn("../etc").is_err());
}

#[test]
fn an_order_gets_its_id_back() {
    let job = job_on_the_wire("j1", json!({"action": "stop", "name": "a"}));
    assert_eq!(job, json!({"id": "j1", "action": "stop", "name": "a"}));
}
