//! What the server tells of itself: metrics, and a line per request.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Request, Server, wait_for};

/// The value of a sample, whose name and labels are given to the letter.
fn sample(text: &str, name: &str) -> f64 {
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

fn metrics(server: &Server) -> String {
    let address = server.metrics.expect("an address of its own");
    let reply = Request::at(address, "GET", "/metrics").send();
    assert_eq!(reply.status, 200);
    let kind = reply.header("content-type").expect("a type");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    reply.text()
}

const OWN_ADDRESS: &str = "metrics_listen = \"127.0.0.1:0\"";

#[test]
fn metrics_count_what_was_asked_by_route_and_never_by_host() {
    let server = Server::start_with(OWN_ADDRESS);
    let host = server.register("h1");
    for _ in 0..3 {
        server.push(&host, json!({}));
    }
    let path = format!("/api/v1/hosts/{}", host.agentsn);
    server.api("GET", &path).expect(200);
    server.call("GET", "/nowhere/at/all").problem(404);
    server.call("BREW", "/healthz").problem(405);
    let text = metrics(&server);
    let requests = |labels: &str| {
        sample(
            &text,
            &format!("bootserver_http_requests_total{{{labels}}}"),
        )
    };
    let status = r#"class="status",method="POST",route="/agent/status",status="200""#;
    assert_eq!(requests(status), 3.0);
    let host_route =
        r#"class="operator",method="GET",route="/api/v1/hosts/{agentsn}",status="200""#;
    assert_eq!(requests(host_route), 1.0);
    let nowhere = r#"class="other",method="GET",route="",status="404""#;
    assert_eq!(requests(nowhere), 1.0);
    let invented = r#"class="other",method="other",route="/healthz",status="405""#;
    assert_eq!(requests(invented), 1.0);
    let latency = r#"bootserver_http_request_duration_seconds_count{class="status"}"#;
    assert_eq!(sample(&text, latency), 3.0);
    assert_eq!(sample(&text, "bootserver_ingest_batch_statuses_sum"), 3.0);
    assert!(sample(&text, "process_open_fds") > 3.0);
    assert!(sample(&text, "process_resident_memory_bytes") > 1e6);
    assert!(
        !text.contains(&host.agentsn) && !text.contains("nowhere"),
        "{text}"
    );
}

#[test]
fn metrics_say_how_many_hosts_stand_how() {
    let server = Server::start_with(OWN_ADDRESS);
    server.push(&server.register("h1"), json!({}));
    server.register("h2");
    // The server looks every few seconds.
    wait_for("the hosts to be counted", || {
        let text = metrics(&server);
        let has = |line: &str| text.lines().any(|one| one == line);
        let counted = has(r#"bootserver_hosts{state="online"} 1"#);
        (counted && has(r#"bootserver_hosts{state="new"} 1"#)).then_some(())
    });
}

#[test]
fn metrics_need_a_token_where_everybody_comes() {
    let server = Server::start_with(OWN_ADDRESS);
    server.call("GET", "/metrics").problem(401);
    let host = server.register("h1");
    server
        .call("GET", "/metrics")
        .bearer(&host.token)
        .problem(401);
    let reply = server.api("GET", "/metrics").send();
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("bootserver_build_info{version="));
    // Where no token is needed, nothing else is served.
    let address = server.metrics.expect("an address of its own");
    for path in ["/", "/api/v1/hosts", "/healthz", "/agent/status"] {
        Request::at(address, "GET", path)
            .bearer(&server.api_token)
            .problem(404);
    }
}

#[test]
fn promtool_has_nothing_to_say_of_the_metrics() {
    let check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut check = match check {
        Ok(check) => check,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED: promtool is not installed (Debian package prometheus)");
            return;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    let server = Server::start_with(OWN_ADDRESS);
    let host = server.register("h1");
    server.push(&host, json!({}));
    let text = metrics(&server);
    let mut input = check.stdin.take().expect("its input");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("it reads");
    drop(input);
    let output = check.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}\n{text}"
    );
}

/// The lines of a log in JSON that tell of requests.
fn requests(server: &Server) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines
        .filter(|line| line["request_id"].is_string())
        .collect()
}

#[test]
fn a_log_in_json_has_one_line_per_request_and_its_id() {
    let server = Server::start_with("log_format = \"json\"");
    let host = server.register("h1");
    server.push(&host, json!({}));
    let reply = server
        .api("POST", "/api/v1/enrolment-tokens?secret=in-the-query")
        .header("X-Request-Id", "my-id.1")
        .json(&json!({}))
        .send();
    assert_eq!(reply.header("x-request-id"), Some("my-id.1"));
    let reply = server.call("GET", "/api/v1/hosts").send();
    let made = reply.header("x-request-id").expect("an id").to_owned();
    assert_eq!(reply.json()["request_id"], json!(made));
    // No word that could end a line or a field is taken over.
    let reply = server
        .call("GET", "/healthz")
        .header("X-Request-Id", "a\" level=error")
        .send();
    assert!(
        reply
            .header("x-request-id")
            .is_some_and(|id| !id.contains('"'))
    );

    let lines = wait_for("the lines", || {
        let lines = requests(&server);
        (lines.len() >= 5).then_some(lines)
    });
    assert_eq!(lines.len(), 5, "{lines:#?}");
    let line = |path: &str| {
        let line = lines.iter().find(|line| line["path"] == path);
        line.unwrap_or_else(|| panic!("no {path} in {lines:#?}"))
    };
    assert_eq!(line("/agent/status")["level"], "DEBUG");
    let change = line("/api/v1/enrolment-tokens");
    assert_eq!(
        (&change["level"], &change["request_id"], &change["method"]),
        (&json!("INFO"), &json!("my-id.1"), &json!("POST"))
    );
    let refused = line("/api/v1/hosts");
    assert_eq!(
        (&refused["request_id"], &refused["status"]),
        (&json!(made), &json!(401))
    );
    let log = server.log();
    for secret in ["in-the-query", &server.api_token, &host.token] {
        assert!(!log.contains(secret), "{log}");
    }
}
