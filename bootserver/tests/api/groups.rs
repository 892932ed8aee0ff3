//! What operators put together: groups by name, by selector and by other groups.

use serde_json::{Value, json};

use crate::harness::Server;

fn create(server: &Server, group: Value) -> Value {
    let call = server.api("POST", "/api/v1/groups");
    call.json(&group).expect(201)
}

fn id(group: &Value) -> String {
    group["id"].as_str().expect("an id").to_owned()
}

fn members(server: &Server, query: &str) -> Vec<String> {
    let list = server
        .api("GET", &format!("/api/v1/hosts?{query}"))
        .expect(200);
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let names = items
        .iter()
        .map(|host| host["hostname"].as_str().expect("a name").to_owned());
    names.collect()
}

#[test]
fn a_group_is_made_filled_nested_changed_and_deleted() {
    let server = Server::start();
    let hosts = ["h1", "h2", "h3"].map(|name| server.register(name));
    let tags = format!("/api/v1/hosts/{}/tags", hosts[0].agentsn);
    let tagged = json!({ "tags": "svc=ecs,region=eu" });
    server.api("PUT", &tags).json(&tagged).expect(200);

    let selected = json!({ "name": "selected", "selector": "region in (eu, cn),!old" });
    let selected = create(&server, selected);
    assert_eq!(selected["selector"], "region in (cn,eu),!old");
    let named = create(
        &server,
        json!({ "name": "named", "description": "two of them" }),
    );
    let path = format!("/api/v1/groups/{}", id(&named));
    let add = json!({ "add": [hosts[1].agentsn, hosts[1].agentsn] });
    let filled = server
        .api("POST", &format!("{path}/hosts"))
        .json(&add)
        .expect(200);
    assert_eq!(
        (&filled["named"], &filled["version"]),
        (&json!(1), &json!(2))
    );
    let all = json!({ "name": "all", "groups": [id(&named), id(&selected)] });
    let all = create(&server, all);
    assert_eq!(
        members(&server, &format!("group={}", id(&all))),
        ["h1", "h2"]
    );
    assert_eq!(
        members(&server, &format!("group={}&selector=!svc", id(&all))),
        ["h2"]
    );
    assert_eq!(members(&server, "selector=svc!%3Decs"), ["h2", "h3"]);

    // A change names the version it saw; nothing becomes a circle.
    let change = |version: i64, groups: Value| {
        let group = json!({ "name": "named", "groups": groups });
        let body = json!({ "version": version, "group": group });
        server.api("PUT", &path).json(&body)
    };
    assert!(
        change(2, json!([id(&all)]))
            .problem(422)
            .contains("in itself")
    );
    assert!(change(1, json!([])).problem(409).contains("meanwhile"));
    assert_eq!(change(2, json!([])).expect(200)["version"], 3);
    let in_use = server.api("DELETE", &path).problem(409);
    assert!(in_use.contains("all"), "{in_use}");
    let top = format!("/api/v1/groups/{}", id(&all));
    server.api("DELETE", &top).expect(204);
    server.api("DELETE", &path).expect(204);
    server.api("GET", &path).problem(404);
    let left = server.api("GET", "/api/v1/groups?limit=1").expect(200);
    assert_eq!(
        (&left["items"][0]["id"], &left["next"]),
        (&selected["id"], &Value::Null)
    );
}

#[test]
fn what_is_no_group_is_refused_with_a_reason() {
    let server = Server::start();
    create(&server, json!({ "name": "twin" }));
    let refused = |group: Value, status: u16| {
        let call = server.api("POST", "/api/v1/groups");
        call.json(&group).problem(status)
    };
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (group, status, why) in [
        (json!({ "name": " " }), 422, "name"),
        (json!({ "name": "n".repeat(129) }), 422, "name"),
        (json!({ "name": "a\nb" }), 422, "name"),
        (json!({ "name": "twin" }), 409, "name"),
        (
            json!({ "name": "a", "description": "d".repeat(4097) }),
            422,
            "description",
        ),
        (json!({ "name": "a", "selector": "" }), 422, "every host"),
        (json!({ "name": "a", "selector": "a b" }), 422, "selector"),
        (
            json!({ "name": "a", "groups": ["x"] }),
            422,
            "ids of groups",
        ),
        (
            json!({ "name": "a", "groups": [nobody] }),
            422,
            "do not exist",
        ),
        (json!({ "name": "a", "hosts": [] }), 422, "hosts"),
    ] {
        let detail = refused(group.clone(), status);
        assert!(detail.contains(why), "{group}: {detail}");
    }
    let bad = server
        .api("GET", "/api/v1/hosts?selector=a%20b")
        .problem(400);
    assert!(bad.contains("selector"), "{bad}");
    let path = format!("/api/v1/groups/{nobody}");
    server.api("GET", &path).problem(404);
    server.api("DELETE", &path).problem(404);
    let naming = format!("{path}/hosts");
    server.api("POST", &naming).json(&json!({})).problem(404);
    server
        .api("POST", &naming)
        .json(&json!({ "add": ["x"] }))
        .problem(422);
    assert_eq!(members(&server, &format!("group={nobody}")), [""; 0]);
}
