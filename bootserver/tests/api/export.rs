//! Whole lists, for spreadsheets and other programs.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Reply, Server, wait_for};

/// The body of a reply that came in chunks, to its end.
fn whole(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    let mut rest = reply.body.as_slice();
    let mut all = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n");
        let end = end.expect("the length of a chunk");
        let length = std::str::from_utf8(&rest[..end]).expect("digits");
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            return String::from_utf8(all).expect("text");
        }
        all.extend(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
}

fn export(server: &Server, path: &str) -> String {
    whole(&server.api("GET", &format!("/api/v1/exports/{path}")).send())
}

fn rows(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn an_export_has_the_rows_of_the_list_and_no_cell_is_a_formula() {
    let server = Server::start();
    let hosts = ["h1", "h2", "h3"].map(|name| server.register(name));
    let formula = "=HYPERLINK(\"http://x\")";
    let path = format!("/api/v1/hosts/{}", hosts[0].agentsn);
    let edit = server.api("PATCH", &path).header("if-match", "*");
    edit.json(&json!({ "display_name": formula })).expect(200);
    let tags = json!({ "tags": "svc=ecs" });
    for host in &hosts[..2] {
        let path = format!("/api/v1/hosts/{}/tags", host.agentsn);
        server.api("PUT", &path).json(&tags).expect(200);
    }
    let listed = |query: &str| {
        let list = server.api("GET", &format!("/api/v1/hosts?{query}"));
        list.expect(200)["items"].clone()
    };
    for query in ["", "selector=svc%3Decs", "sort=-created&hostname=h"] {
        let exported = rows(&export(&server, &format!("hosts?{query}")));
        assert_eq!(json!(exported), listed(query), "{query}");
    }
    let csv = server
        .api("GET", "/api/v1/exports/hosts?hostname=h1")
        .header("accept", "text/csv")
        .send();
    let kind = csv.header("content-type").expect("a type");
    assert!(kind.starts_with("text/csv"), "{kind}");
    let file = csv.header("content-disposition").expect("a name");
    assert!(file.contains("hosts.csv"), "{file}");
    let text = whole(&csv);
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("agentsn,hostname,display_name,"),
        "{text}"
    );
    let cells = format!(
        "\"{}\",\"h1\",\"'=HYPERLINK(\"\"http://x\"\")\",",
        hosts[0].agentsn
    );
    assert!(lines[1].starts_with(&cells), "{text}");
    // Whoever is restricted to some hosts gets no others.
    let scoped = server.token("viewer", Some("svc=ecs"));
    let mine = server.call("GET", "/api/v1/exports/hosts").bearer(&scoped);
    assert_eq!(rows(&whole(&mine.send())).len(), 2);
    let audit = server.call("GET", "/api/v1/exports/audit").bearer(&scoped);
    audit.problem(403);
    for (query, why) in [
        ("limit=1", "every row"),
        ("total=true", "every row"),
        ("format=xml", "ndjson or csv"),
        ("format=csv&nothing=1", "nothing"),
        ("format=csv&selector=a%20b", "selector"),
        ("cursor=x", "cursor"),
    ] {
        let path = format!("/api/v1/exports/hosts?{query}");
        let detail = server.api("GET", &path).problem(400);
        assert!(detail.contains(why), "{query}: {detail}");
    }
}

/// More jobs than are read at once.
const MANY: usize = 130;

#[test]
fn an_export_is_longer_than_a_page() {
    let server = Server::start();
    let host = server.register("h1");
    let other = server.register("h2");
    let order = |host: &str| json!({ "action": "stop", "name": "x", "hosts": [host] });
    let mut ids: Vec<String> = (0..MANY)
        .flat_map(|_| server.order(order(&host.agentsn)))
        .collect();
    server.order(order(&other.agentsn));
    ids.reverse();
    let query = format!("jobs?state=open&host={}", host.agentsn);
    let jobs = rows(&export(&server, &query));
    let found: Vec<&str> = jobs.iter().filter_map(|job| job["id"].as_str()).collect();
    assert_eq!(found, ids);
    let csv = export(&server, &format!("{query}&format=csv"));
    assert_eq!(csv.matches("\r\n").count(), MANY + 1);
    let audit = rows(&export(&server, "audit?action=job.create"));
    assert_eq!(audit.len(), MANY + 1);
    assert_eq!(export(&server, "events?format=csv").lines().count(), 1);
    assert_eq!(export(&server, "events"), "");
}

#[test]
fn who_reads_no_more_of_an_export_gives_its_place_back() {
    let server = Server::start_with(
        "request_timeout = 5\n[budget.export]\nat_once = 1\nper_second = 1000\n",
    );
    let host = server.register("h1");
    // More than the kernel takes off the server's hands.
    let line = "x".repeat(4000);
    for part in 0..15 {
        let event = |number: i64| {
            json!({ "seq": part * 100 + number, "timestamp": 1, "category": "crash",
                    "message": line, "tail": [line, line, line] })
        };
        let events: Vec<Value> = (0..50).map(event).collect();
        server.push(&host, json!({ "events": events }));
    }
    let mut idle = TcpStream::connect(server.address).expect("the server listens");
    idle.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!(
        "GET /api/v1/exports/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        server.api_token
    );
    idle.write_all(head.as_bytes()).expect("the head goes out");
    let mut some = [0; 1000];
    idle.read_exact(&mut some).expect("the first rows");
    // The only place is free when nobody took anything for the time of a request.
    let events = || server.api("GET", "/api/v1/exports/events").send();
    let all = wait_for("the place", || {
        Some(events()).filter(|reply| reply.status == 200)
    });
    assert_eq!(whole(&all).lines().count(), 15 * 50);
    // What the other one has does not look whole.
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{} bytes", rest.len());
}
