//! What no good caller sends: each route refuses it with a problem that says
//! why, and serves the next one.

use std::io::Write;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{Reply, Server, bundle};

const ID: &str = "00000000-0000-4000-8000-000000000000";

/// Every route that needs an operator: method, path, a valid body.
fn operator_routes() -> Vec<(&'static str, String, Option<Value>)> {
    vec![
        ("GET", "/api/v1/enrolment-tokens".into(), None),
        ("POST", "/api/v1/enrolment-tokens".into(), Some(json!({}))),
        ("DELETE", format!("/api/v1/enrolment-tokens/{ID}"), None),
        ("GET", "/api/v1/hosts".into(), None),
        ("GET", format!("/api/v1/hosts/{ID}"), None),
        (
            "PUT",
            format!("/api/v1/hosts/{ID}/tags"),
            Some(json!({ "tags": "" })),
        ),
        ("GET", "/api/v1/packages".into(), None),
        ("GET", format!("/api/v1/packages/{ID}"), None),
        ("DELETE", format!("/api/v1/packages/{ID}"), None),
        ("GET", "/api/v1/jobs".into(), None),
        (
            "POST",
            "/api/v1/jobs".into(),
            Some(json!({ "action": "stop", "hosts": [ID] })),
        ),
        ("GET", format!("/api/v1/jobs/{ID}"), None),
        ("POST", format!("/api/v1/jobs/{ID}/cancel"), None),
        ("GET", "/api/v1/job-results".into(), None),
        ("GET", "/api/v1/events".into(), None),
        ("GET", "/api/v1/errcodes".into(), None),
    ]
}

#[test]
fn no_route_of_operators_opens_without_an_api_token() {
    let server = Server::start();
    let host = server.register("h1");
    for (method, path, body) in operator_routes() {
        let call = || {
            let call = server.call(method, &path);
            match &body {
                Some(body) => call.json(body),
                None => call,
            }
        };
        let reply = call().send();
        assert_eq!(
            (reply.status, reply.header("www-authenticate")),
            (401, Some("Bearer")),
            "{path}"
        );
        for token in [
            &server.enrolment_token,
            &host.token,
            &"x".repeat(5000),
            &String::new(),
        ] {
            call().bearer(token).problem(401);
        }
        call().header("Authorization", "Basic YTpi").problem(401);
    }
    server
        .call("POST", "/api/v1/packages")
        .body(&bundle("a", "1", b""))
        .problem(401);
    assert_eq!(
        server.api("GET", "/api/v1/packages").expect(200)["items"],
        json!([])
    );
}

#[test]
fn a_thing_that_is_not_there_is_a_404_however_it_is_named() {
    let server = Server::start();
    for (method, path, body) in operator_routes() {
        if !path.contains(ID) || path.ends_with("jobs") {
            continue;
        }
        for name in [ID, "zzz", "..", "%00", "%ff", &"9".repeat(3000)] {
            // A path of dots is another path to any client; here it is sent as it is.
            let call = server.api(method, &path.replace(ID, name));
            match &body {
                Some(body) => call.json(body).problem(404),
                None => call.problem(404),
            };
        }
    }
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/nothing",
        "/agent",
        "/packages",
        "//",
    ] {
        server.api("GET", path).problem(404);
    }
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let server = Server::start();
    for (path, allowed) in [
        ("/agent/register", "POST"),
        ("/agent/status", "POST"),
        ("/api/v1/hosts", "GET,HEAD"),
        ("/api/v1/jobs", "POST,GET,HEAD"),
        ("/healthz", "GET,HEAD"),
    ] {
        let reply = server.api("PATCH", path).send();
        assert_eq!(reply.status, 405, "{path}");
        let mut named: Vec<_> = reply
            .header("allow")
            .unwrap_or_default()
            .split(',')
            .collect();
        let mut expected: Vec<_> = allowed.split(',').collect();
        named.sort_unstable();
        expected.sort_unstable();
        assert_eq!(named, expected, "{path}");
        assert_eq!(reply.json()["status"], 405);
    }
}

#[test]
fn a_query_that_cannot_be_is_refused() {
    let server = Server::start();
    for path in [
        "/api/v1/hosts?limit=0",
        "/api/v1/hosts?limit=501",
        "/api/v1/hosts?limit=-1",
        "/api/v1/hosts?limit=x",
        "/api/v1/hosts?unknown=1",
        "/api/v1/hosts?selector=svc%20in%20ecs)",
        "/api/v1/hosts?selector=a%20b",
        "/api/v1/hosts?hostname=a%00b",
        "/api/v1/hosts?cursor=x",
        "/api/v1/hosts?cursor=%5B%22%5Cu0000%22%2C%22b%22%5D",
        "/api/v1/jobs?state=x",
        "/api/v1/jobs?cursor=x",
        "/api/v1/jobs?host=x",
        "/api/v1/events?since=x",
        "/api/v1/events?host=x",
        "/api/v1/events?cursor=1.5",
        "/api/v1/job-results?cursor=x",
        "/api/v1/packages?cursor=1",
        "/api/v1/enrolment-tokens?limit=1&limit=2",
    ] {
        let detail = server.api("GET", path).problem(400);
        assert!(!detail.is_empty(), "{path}");
    }
}

/// Every route with a JSON body: path, method, token.
fn bodies(server: &Server) -> Vec<(&'static str, String, String)> {
    let host = server.register("h1");
    vec![
        (
            "POST",
            "/agent/register".into(),
            server.enrolment_token.clone(),
        ),
        ("POST", "/agent/status".into(), host.token),
        (
            "POST",
            "/api/v1/enrolment-tokens".into(),
            server.api_token.clone(),
        ),
        (
            "PUT",
            format!("/api/v1/hosts/{}/tags", host.agentsn),
            server.api_token.clone(),
        ),
        ("POST", "/api/v1/jobs".into(), server.api_token.clone()),
    ]
}

#[test]
fn a_body_that_is_no_good_json_is_refused_by_every_route() {
    let server = Server::start();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let in_field = format!("{{\"hostname\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    for (method, path, token) in bodies(&server) {
        let call = || server.call(method, &path).bearer(&token);
        for malformed in ["", "{", "nonsense", "\"a\u{1}\""] {
            call().text(malformed).problem(400);
        }
        for nul in [r#"{"hostname":"a\u0000b"}"#, r#"{"x\u0000":1}"#] {
            let detail = call().text(nul).problem(400);
            assert!(detail.contains("U+0000"), "{path}: {detail}");
        }
        for wrong in ["[]", "1", "null", r#"{"hostname":1}"#, r#"{"name":[]}"#] {
            let status = call().text(wrong).send().status;
            // An empty list is a struct of defaults to no route.
            assert_eq!(status, 422, "{path}: {wrong}");
        }
        for deep in [&deep, &in_field] {
            let status = call().text(deep).send().status;
            assert!([400, 422].contains(&status), "{path}: {status}");
        }
        call()
            .header("Content-Encoding", "gzip")
            .text("{}")
            .problem(415);
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        call().text(&large).problem(413);
    }
    server.api("POST", "/api/v1/jobs").body(b"{}").problem(415);
    let form = "application/x-www-form-urlencoded";
    server
        .api("POST", "/api/v1/jobs")
        .header("Content-Type", form)
        .body(b"a=b")
        .problem(415);
    server
        .api("POST", "/api/v1/packages")
        .header("Content-Encoding", "gzip")
        .body(b"x")
        .problem(415);
    server.api("GET", "/readyz").expect(200);
}

#[test]
fn values_no_host_can_have_are_refused() {
    let server = Server::start();
    let host = server.register("h1");
    for (field, value) in [
        ("agentsn", json!("not-a-uuid")),
        ("agentsn", json!("../../etc/passwd")),
        ("hostname", json!("x".repeat(256))),
        ("hostname", json!("two\nlines")),
        ("machine_id", json!("m".repeat(129))),
        ("ip", json!(vec!["10.0.0.1"; 65])),
    ] {
        let mut request = json!({ "hostname": "h", "agentsn": ID });
        request[field] = value;
        let call = server
            .call("POST", "/agent/register")
            .bearer(&server.enrolment_token);
        let detail = call.json(&request).problem(422);
        assert!(detail.contains(field), "{detail}");
    }
    let agent = |name: String| json!([{ "name": name, "status": "running" }]);
    let event = |seq: u64| json!([{ "seq": seq, "timestamp": 1, "category": "c", "message": "m" }]);
    for (field, value) in [
        ("hostname", json!("x".repeat(256))),
        ("agents", agent("n".repeat(129))),
        (
            "agents",
            json!(vec![json!({ "name": "a", "status": "running" }); 257]),
        ),
        ("events", event(u64::MAX)),
        ("uptime", json!(-1)),
        ("jobs", json!([{ "id": "a", "errcode": 70_000 }])),
        ("accepted", json!("x")),
    ] {
        let status = host.status(json!({ field: value }));
        server
            .call("POST", "/agent/status")
            .bearer(&host.token)
            .json(&status)
            .problem(422);
    }
    // A word for a state we do not know yet is no error.
    server.push(
        &host,
        json!({ "agents": [{ "name": "a", "status": "new-word" }] }),
    );
}

#[test]
fn orders_the_wire_does_not_allow_are_refused_with_the_field_named() {
    let server = Server::start();
    let host = server.register("h1");
    let many = vec![ID; 10_001];
    for (change, word) in [
        (json!({ "action": "explode" }), "action"),
        (json!({ "action": "cancel" }), "cancel"),
        (json!({ "action": 1 }), "action"),
        (json!({ "name": null }), "name"),
        (json!({ "name": "a/b" }), "a/b"),
        (json!({ "name": ".." }), ".."),
        (
            json!({ "action": "install", "url": "gopher://x/y", "name": "a" }),
            "url",
        ),
        (
            json!({ "action": "install", "url": "http://x/y", "checksum": "MD5:00" }),
            "checksum",
        ),
        (json!({ "action": "install", "name": null }), "package"),
        (json!({ "action": "install", "name": "missing" }), "name"),
        (json!({ "limits": { "CPU": "lots" } }), "CPU"),
        (json!({ "limits": { "memory": "1" } }), "memory"),
        (json!({ "envs": { "A=B": "c" } }), "envs"),
        (
            json!({ "action": "config", "name": null }),
            "svrlist or step",
        ),
        (
            json!({ "action": "config", "name": null, "step": 99_999 }),
            "step",
        ),
        (json!({ "watch": 99_999 }), "watch"),
        (json!({ "expires_in": 0 }), "expires_in"),
        (json!({ "expires_in": u64::MAX }), "expires_in"),
        (json!({ "expire_in": 1 }), "expire_in"),
        (json!({ "selector": "svc=x" }), "hosts, or selector"),
        (json!({ "hosts": [] }), "hosts, or selector"),
        (json!({ "hosts": many }), "10000"),
    ] {
        let mut order = json!({ "action": "stop", "name": "a", "hosts": [host.agentsn] });
        let fields = order.as_object_mut().expect("an object");
        fields.extend(change.as_object().expect("an object").clone());
        let detail = server.api("POST", "/api/v1/jobs").json(&order).problem(422);
        assert!(detail.contains(word), "{change}: {detail}");
    }
    for (order, word) in [
        (json!({ "tags": "svc" }), "svc"),
        (json!({ "uses": 0 }), "uses"),
        (json!({ "expires_in": 0 }), "expires_in"),
        (json!({ "name": "n".repeat(129) }), "name"),
        (json!({ "use": 1 }), "use"),
    ] {
        let detail = server
            .api("POST", "/api/v1/enrolment-tokens")
            .json(&order)
            .problem(422);
        assert!(detail.contains(word), "{detail}");
    }
    assert_eq!(
        server.api("GET", "/api/v1/jobs").expect(200)["items"],
        json!([])
    );
}

#[test]
fn what_is_no_http_is_answered_or_dropped_and_harms_nobody() {
    let server = Server::start();
    let huge = format!(
        "GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n",
        "a".repeat(200_000)
    );
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        huge.as_bytes(),
    ] {
        let mut stream = TcpStream::connect(server.address).expect("the server listens");
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
        assert!(refused, "{}", String::from_utf8_lossy(&answer));
    }
    // A body cut short is no request.
    let mut stream = TcpStream::connect(server.address).expect("the server listens");
    let head = "POST /agent/register HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n";
    write!(
        stream,
        "{head}Authorization: Bearer {}\r\n\r\n{{\"host",
        server.enrolment_token
    )
    .expect("a part goes out");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("the end of it");
    assert_eq!(Reply::read(&mut stream).status, 400);
    server.api("GET", "/readyz").expect(200);
}

/// What would be a header of its own, were it let into one as it is.
const INJECTION: &str = "x%0d%0aX-Injected:%20yes%0d%0a%0d%0a";

#[test]
fn nothing_a_caller_says_becomes_a_header() {
    let server = Server::start();
    let untouched = |what: &str, reply: Reply| {
        let injected = reply.header("x-injected");
        assert!(injected.is_none(), "{what}: {injected:?}");
        assert!(reply.status < 500, "{what}: {}", reply.text());
    };
    // Every value of a path or query, by the document; none is left out.
    let document: Value =
        serde_json::from_str(&bootserver::openapi::document()).expect("a document");
    let mut calls = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let Some(parameters) = operation["parameters"].as_array() else {
                continue;
            };
            // A header of the call cannot hold a line's end.
            let hits = parameters.iter().filter(|it| it["in"] != "header");
            for hit in hits {
                let mut url = path.clone();
                for parameter in parameters {
                    let name = parameter["name"].as_str().expect("a name");
                    let value = if parameter == hit { INJECTION } else { ID };
                    url = url.replace(&format!("{{{name}}}"), value);
                }
                if hit["in"] == "query" {
                    url.push_str(&format!(
                        "?{}={INJECTION}",
                        hit["name"].as_str().expect("a name")
                    ));
                }
                let call = server.api(&method.to_uppercase(), &url);
                untouched(&url, call.json(&json!({})).send());
                calls += 1;
            }
        }
    }
    assert!(calls > 50, "{calls}");

    // What comes back in ETag, Content-Disposition and the like: a package's names.
    for (query, file) in [
        (format!("version={INJECTION}"), bundle("seed", "1", b"")),
        (
            format!("os={INJECTION}&arch={INJECTION}"),
            bundle("seed", "1", b""),
        ),
        (String::new(), bundle("seed", "1\r\nX-Injected: yes", b"")),
        (String::new(), bundle("a\r\nX-Injected: yes", "1", b"")),
    ] {
        let upload = server.api("POST", &format!("/api/v1/packages?{query}"));
        let reply = upload.body(&file).send();
        assert_eq!(reply.status, 422, "{query}: {}", reply.text());
        untouched(&query, reply);
    }
    // Headers that are looked at and might be said again. A bare LF begins
    // another header of the request, which is none of the reply.
    let host = server.register("h1");
    for value in [
        "a\rX-Injected: yes",
        "a\nX-Injected: yes",
        "\u{e9}\u{1}",
        "\"\r X-Injected: yes",
    ] {
        for name in [
            "X-Request-Id",
            "If-Match",
            "If-None-Match",
            "Range",
            "Cookie",
            "X-Forwarded-For",
            "Origin",
        ] {
            let call = server.api("GET", &format!("/api/v1/hosts/{}", host.agentsn));
            untouched(name, call.header(name, value).send());
        }
    }
}
