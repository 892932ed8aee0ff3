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
        let seen = format!("\"{version}\"");
        server
            .api("PUT", &path)
            .header("if-match", &seen)
            .json(&group)
    };
    let unseen = json!({ "name": "named" });
    server.api("PUT", &path).json(&unseen).problem(428);
    assert!(
        change(2, json!([id(&all)]))
            .problem(422)
            .contains("in itself")
    );
    assert!(change(1, json!([])).problem(412).contains("meanwhile"));
    assert_eq!(change(2, json!([])).expect(200)["version"], 3);
    let stale = server.api("DELETE", &path).header("if-match", "\"2\"");
    stale.problem(412);
    let in_use = server.api("DELETE", &path).problem(409);
    assert!(in_use.contains("all"), "{in_use}");
    let top = format!("/api/v1/groups/{}", id(&all));
    server.api("DELETE", &top).expect(204);
    server.api("DELETE", &path).expect(204);
    server.api("GET", &path).problem(404);
    let host = format!("/api/v1/hosts/{}", hosts[0].agentsn);
    let shown = server.api("GET", &host).expect(200);
    assert_eq!(
        shown["groups"],
        json!([{ "id": id(&selected), "name": "selected" }])
    );
    // Who may not see groups is not told their names by a host.
    let scoped = server.token("viewer", Some("svc=ecs"));
    let shown = server.call("GET", &host).bearer(&scoped).expect(200);
    assert_eq!(shown["groups"], json!([]));
    let scope = json!([{ "group": id(&selected) }]);
    let token = json!({ "name": "t", "role": "viewer", "scope": scope });
    let made = server.api("POST", "/api/v1/api-tokens").json(&token);
    let scoped = made.expect(201)["token"].as_str().expect("one").to_owned();
    let shown = server.call("GET", &host).bearer(&scoped).expect(200);
    assert_eq!(shown["groups"][0]["name"], "selected");
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

#[test]
fn an_order_for_a_group_goes_to_its_hosts_if_they_are_as_many_as_expected() {
    let server = Server::start();
    let hosts = ["h1", "h2", "h3"].map(|name| server.register(name));
    let group = id(&create(&server, json!({ "name": "two" })));
    let add = json!({ "add": [hosts[0].agentsn, hosts[1].agentsn] });
    let naming = format!("/api/v1/groups/{group}/hosts");
    server.api("POST", &naming).json(&add).expect(200);
    let order = |more: Value| {
        let mut order = json!({ "action": "stop", "name": "x" });
        let fields = order.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        server.api("POST", "/api/v1/jobs").json(&order)
    };
    let detail = order(json!({ "group": group, "expected_hosts": 3 })).problem(409);
    assert!(detail.contains("there are 2"), "{detail}");
    let none = server.api("GET", "/api/v1/jobs").expect(200);
    assert_eq!(none["items"], json!([]));
    let ordered = order(json!({ "group": group, "expected_hosts": 2 })).expect(201);
    let mut told: Vec<_> = ordered["jobs"].as_array().expect("jobs").iter().collect();
    told.sort_by_key(|job| job["agentsn"].as_str());
    let mut expected = [&hosts[0].agentsn, &hosts[1].agentsn];
    expected.sort();
    let told: Vec<_> = told.iter().map(|job| job["agentsn"].as_str()).collect();
    assert_eq!(told, expected.map(|agentsn| Some(agentsn.as_str())));
    order(json!({ "group": group, "hosts": [hosts[2].agentsn] })).problem(422);
    let nobody = "00000000-0000-4000-8000-000000000000";
    order(json!({ "group": nobody })).problem(422);
    // Both must hold, and nobody orders what is outside of what they may see.
    order(json!({ "group": group, "selector": "svc=ecs" })).problem(422);
    let tags = format!("/api/v1/hosts/{}/tags", hosts[0].agentsn);
    let tagged = json!({ "tags": "svc=ecs" });
    server.api("PUT", &tags).json(&tagged).expect(200);
    let scoped = server.token("operator", Some("svc=ecs"));
    let mine = server.call("POST", "/api/v1/jobs").bearer(&scoped);
    let mine = mine.json(&json!({ "action": "stop", "name": "x", "group": group }));
    let mine = mine.expect(201);
    assert_eq!(mine["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(mine["jobs"][0]["agentsn"], json!(hosts[0].agentsn));
}
