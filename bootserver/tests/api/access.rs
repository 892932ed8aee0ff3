//! Who may call what: every route of the document, with every kind of caller.

use serde_json::{Value, json};

use crate::harness::{Reply, Server, TestHost, bundle, wait_for};

/// A route as the document has it.
struct Route {
    id: String,
    method: String,
    path: String,
    /// The path as the document has it, with holes where ids are.
    template: String,
    /// Nobody needs a token.
    open: bool,
    /// What an operator needs, if operators may call it at all.
    operator: Option<Needed>,
    host: bool,
    enrolment: bool,
}

/// What a route asks of an operator.
struct Needed {
    role: Role,
    /// Whether a scope excludes.
    fleet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Role {
    Viewer,
    Operator,
    Admin,
}

/// Whose token is shown.
#[derive(Debug, Clone, Copy)]
enum Caller {
    Nobody,
    Stranger,
    Host,
    Enrolment,
    Operator {
        role: Role,
        scoped: bool,
    },
    /// A session that began with a one-time password.
    Fresh,
}

/// A new route must say here, by its document, who may call it.
fn routes() -> Vec<Route> {
    let document: Value =
        serde_json::from_str(&bootserver::openapi::document()).expect("the document is JSON");
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            let security = operation["security"].as_array();
            let security = security.unwrap_or_else(|| panic!("{id} does not say who may call it"));
            let find = |scheme: &str| security.iter().find_map(|way| way.get(scheme));
            routes.push(Route {
                operator: find("operator").map(|words| needed(&id, words)),
                host: find("host").is_some(),
                enrolment: find("enrolment").is_some(),
                open: security.iter().any(|way| way == &serde_json::json!({})),
                method: method.to_uppercase(),
                path: filled(path, NOTHING),
                template: path.clone(),
                id,
            });
        }
    }
    assert!(routes.len() >= 20, "only {} routes", routes.len());
    // The one that ends what others need.
    routes.sort_by_key(|route| route.id == "sign_out");
    routes
}

fn needed(id: &str, words: &Value) -> Needed {
    let words: Vec<&str> = words
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let (role, fleet) = match words.as_slice() {
        ["viewer"] => (Role::Viewer, false),
        ["viewer", "fleet"] => (Role::Viewer, true),
        ["operator"] => (Role::Operator, false),
        ["operator", "fleet"] => (Role::Operator, true),
        ["admin", "fleet"] => (Role::Admin, true),
        other => panic!("{id}: {other:?} is no role of ours"),
    };
    Needed { role, fleet }
}

/// An id that nothing has.
const NOTHING: &str = "00000000-0000-4000-8000-000000000000";

/// The path with an id in its holes.
fn filled(path: &str, id: &str) -> String {
    let parts = path.split('/').map(|part| match part.starts_with('{') {
        true => id,
        false => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The refusal, or none when the caller is let in.
fn refusal(route: &Route, caller: Caller) -> Option<u16> {
    if route.open {
        return None;
    }
    match caller {
        Caller::Nobody | Caller::Stranger => Some(401),
        Caller::Host => (!route.host).then_some(401),
        Caller::Enrolment => (!route.enrolment).then_some(401),
        Caller::Fresh => match &route.operator {
            None => Some(401),
            Some(_) => {
                let own = ["get_session", "sign_out", "change_password"];
                (!own.contains(&route.id.as_str())).then_some(403)
            }
        },
        Caller::Operator { role, scoped } => match &route.operator {
            None => Some(401),
            Some(needed) => (role < needed.role || (scoped && needed.fleet)).then_some(403),
        },
    }
}

#[test]
fn every_route_refuses_whom_its_document_does_not_name_and_nobody_else() {
    let server = Server::start();
    let host = server.register("h1");
    let mut callers = vec![
        (Caller::Nobody, None),
        (Caller::Stranger, Some(format!("api-{}", "0".repeat(64)))),
        (Caller::Host, Some(host.token.clone())),
        (Caller::Enrolment, Some(server.enrolment_token.clone())),
        (
            Caller::Fresh,
            Some(server.sign_in("admin", &server.admin_password)),
        ),
    ];
    let roles = [
        (Role::Viewer, "viewer"),
        (Role::Operator, "operator"),
        (Role::Admin, "admin"),
    ];
    for (role, word) in roles {
        for selector in [None, Some("svc=ecs")] {
            let scoped = selector.is_some();
            let token = server.token(word, selector);
            callers.push((Caller::Operator { role, scoped }, Some(token)));
        }
    }
    for route in routes() {
        for (caller, token) in &callers {
            let mut request = server.call(&route.method, &route.path);
            if let Some(token) = token {
                request = request.bearer(token);
            }
            // Nothing that is let in finds enough here to do anything.
            let status = request.json(&serde_json::json!({})).status();
            let at = format!("{} as {caller:?}: {status}", route.id);
            match refusal(&route, *caller) {
                Some(expected) => assert_eq!(status, expected, "{at}"),
                None => assert!(status != 401 && status != 403, "{at}"),
            }
        }
    }
}

/// Real things, none of which is in the scope of the callers below.
struct Things {
    host: String,
    job: String,
    group: String,
    user: String,
    session: String,
    api_token: String,
    enrolment_token: String,
    package: String,
    package_file: String,
    rollouts: Rollouts,
    assignments: Assignments,
}

/// One for each thing that can be said to it.
struct Assignments {
    unconfirmed: String,
    running: String,
    paused: String,
}

impl Assignments {
    fn make(server: &Server) -> Self {
        server.upload("", &bundle("b", "1.0", b"b"));
        let group = server.api("POST", "/api/v1/groups");
        let group = group.json(&json!({ "name": "assigned" })).expect(201);
        let group = group["id"].as_str().expect("an id");
        let new =
            |plan: Value| json!({ "group": group, "agent": "b", "version": "1.0", "plan": plan });
        let id = |made: Value| made["id"].as_str().expect("an id").to_owned();
        let make = || {
            id(server
                .api("POST", "/api/v1/assignments")
                .json(&new(json!({})))
                .expect(201))
        };
        let ann = server.sign_in("ann", "correct horse battery");
        let unconfirmed = server.call("POST", "/api/v1/assignments").bearer(&ann);
        let unconfirmed = unconfirmed.json(&new(json!({ "confirmation": "second_user" })));
        let paused = make();
        server
            .api("POST", &format!("/api/v1/assignments/{paused}/pause"))
            .expect(200);
        Self {
            unconfirmed: id(unconfirmed.expect(201)),
            running: make(),
            paused,
        }
    }
}

/// One for each thing that can be said to it.
struct Rollouts {
    unconfirmed: String,
    to_pause: String,
    paused: String,
    to_abort: String,
    ended: String,
}

impl Rollouts {
    fn make(server: &Server, host: &TestHost) -> Self {
        let upgrade = json!({ "action": "upgrade", "name": "x", "version": "2",
            "url": "http://127.0.0.1/x", "checksum": format!("SHA256:{}", "0".repeat(64)) });
        let new = |plan: Value| json!({ "order": upgrade, "targets": { "hosts": [host.agentsn] }, "plan": plan });
        let path = |id: &str| format!("/api/v1/rollouts/{id}");
        let id = |made: Value| made["id"].as_str().expect("an id").to_owned();
        let is = |id: String, phase: &str| {
            wait_for(phase, || {
                let rollout = server.api("GET", &path(&id)).expect(200);
                (rollout["phase"] == phase).then_some(())
            });
            id
        };
        let make = || {
            id(server
                .api("POST", "/api/v1/rollouts")
                .json(&new(json!({})))
                .expect(201))
        };
        let ended = make();
        let job = wait_for("a job", || {
            server.push(host, json!({}))["jobs"].get(0).cloned()
        });
        let failed = json!([{ "id": job["id"], "errcode": 2001, "message": "" }]);
        server.push(host, json!({ "jobs": failed }));
        let ann = server.sign_in("ann", "correct horse battery");
        let unconfirmed = server.call("POST", "/api/v1/rollouts").bearer(&ann);
        let unconfirmed = unconfirmed.json(&new(json!({ "confirmation": "second_user" })));
        let paused = is(make(), "running");
        server
            .api("POST", &format!("{}/pause", path(&paused)))
            .expect(200);
        Self {
            ended: is(ended, "ended"),
            unconfirmed: is(id(unconfirmed.expect(201)), "unconfirmed"),
            to_pause: is(make(), "running"),
            to_abort: is(make(), "running"),
            paused,
        }
    }
}

impl Things {
    fn make(server: &Server) -> Self {
        let id = |made: &Value| made["id"].as_str().expect("an id").to_owned();
        let make = |path: &str, body: Value| id(&server.api("POST", path).json(&body).expect(201));
        let host = server.register("elsewhere");
        let happened = json!({ "events": [
            { "seq": 1, "timestamp": 1, "category": "crash", "message": "m" },
        ] });
        server.push(&host, happened);
        let user = server.user("ann", "admin", "correct horse battery");
        let rollouts = Rollouts::make(server, &host);
        let host = host.agentsn;
        let bob = server.user("bob", "viewer", "correct horse battery");
        server.sign_in("bob", "correct horse battery");
        let sessions = format!("/api/v1/sessions?user={bob}");
        let sessions = server.api("GET", &sessions).expect(200);
        let package = server.upload("", &bundle("a", "1.0", b"a"));
        let order = json!({ "action": "stop", "name": "x", "hosts": [host] });
        let group = make("/api/v1/groups", json!({ "name": "elsewhere" }));
        let add = json!({ "add": [host] });
        let members = format!("/api/v1/groups/{group}/hosts");
        server.api("POST", &members).json(&add).expect(200);
        let api_token = json!({ "name": "theirs", "role": "viewer" });
        Self {
            job: server.order(order).remove(0),
            api_token: make("/api/v1/api-tokens", api_token),
            enrolment_token: make("/api/v1/enrolment-tokens", json!({ "name": "theirs" })),
            session: id(&sessions["items"][0]),
            package: id(&package),
            package_file: package["url"].as_str().expect("a path").to_owned(),
            rollouts,
            assignments: Assignments::make(server),
            host,
            group,
            user,
        }
    }

    /// The path of a route with one of them, and what would change it. A new route
    /// with an id needs a row here.
    fn row(&self, route: &Route) -> (String, Value) {
        let (thing, body) = match route.id.as_str() {
            "download_package" => return (self.package_file.clone(), Value::Null),
            "get_host" | "list_host_changes" | "delete_host" | "revoke_host"
            | "rotate_host_secret" => (&self.host, Value::Null),
            "edit_host" => (&self.host, json!({ "display_name": "mine" })),
            "set_host_tags" => (&self.host, json!({ "tags": "svc=ecs" })),
            "get_job" | "cancel_job" => (&self.job, Value::Null),
            "get_group" | "delete_group" => (&self.group, Value::Null),
            "change_group" => (&self.group, json!({ "name": "mine" })),
            "name_group_hosts" => (&self.group, json!({ "remove": [self.host] })),
            "change_group_hosts" => (&self.group, json!({ "action": "add", "expected_hosts": 2 })),
            "get_user" | "delete_user" | "reset_password" => (&self.user, Value::Null),
            "change_user" => (&self.user, json!({ "display_name": "mine" })),
            "end_session" => (&self.session, Value::Null),
            "get_api_token" | "revoke_api_token" => (&self.api_token, Value::Null),
            "get_enrolment_token" | "revoke_enrolment_token" => {
                (&self.enrolment_token, Value::Null)
            }
            "get_package" | "delete_package" => (&self.package, Value::Null),
            "get_rollout" | "list_rollout_targets" => (&self.rollouts.ended, Value::Null),
            "get_assignment"
            | "list_assignment_hosts"
            | "delete_assignment"
            | "pause_assignment"
            | "retry_assignment" => (&self.assignments.running, Value::Null),
            "change_assignment" => (&self.assignments.running, json!({ "name": "mine" })),
            "confirm_assignment" => (&self.assignments.unconfirmed, Value::Null),
            "resume_assignment" => (&self.assignments.paused, Value::Null),
            "confirm_rollout" => (&self.rollouts.unconfirmed, Value::Null),
            "pause_rollout" => (&self.rollouts.to_pause, Value::Null),
            "resume_rollout" => (&self.rollouts.paused, Value::Null),
            "abort_rollout" => (&self.rollouts.to_abort, Value::Null),
            "retry_rollout" | "revert_rollout" => (&self.rollouts.ended, json!({})),
            other => panic!("{other}: a route with an id needs a row here"),
        };
        (filled(&route.template, thing), body)
    }

    /// Everything one can see of them.
    fn seen(&self, server: &Server) -> Vec<Value> {
        let seen = [
            format!("/api/v1/hosts/{}", self.host),
            format!("/api/v1/hosts/{}/changes", self.host),
            format!("/api/v1/jobs/{}", self.job),
            format!("/api/v1/groups/{}", self.group),
            format!("/api/v1/rollouts/{}", self.rollouts.ended),
            format!("/api/v1/users/{}", self.user),
            "/api/v1/users".to_owned(),
            "/api/v1/enrolment-tokens".to_owned(),
            "/api/v1/packages".to_owned(),
            // Whatever is changed is written down here.
            "/api/v1/audit?limit=500".to_owned(),
        ];
        let seen = seen.iter();
        seen.map(|path| server.api("GET", path).expect(200))
            .collect()
    }
}

fn call(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> Reply {
    let call = server.call(method, path).bearer(token);
    let call = call.header("if-match", "*");
    match body {
        Value::Null => call.send(),
        body => call.json(body).send(),
    }
}

/// A refusal without the id of its request.
fn refused(reply: &Reply) -> (u16, Value) {
    let mut problem = reply.json();
    if let Some(fields) = problem.as_object_mut() {
        fields.remove("request_id");
    }
    (reply.status, problem)
}

/// One restricted by tags and one by a group, in each role.
fn restricted(server: &Server) -> Vec<(Role, String)> {
    let group = json!({ "name": "restricts", "selector": "svc=ecs" });
    let group = server
        .api("POST", "/api/v1/groups")
        .json(&group)
        .expect(201);
    let mut callers = Vec::new();
    for (role, word) in [
        (Role::Viewer, "viewer"),
        (Role::Operator, "operator"),
        (Role::Admin, "admin"),
    ] {
        for set in [
            json!({ "tags": "svc=ecs" }),
            json!({ "group": group["id"] }),
        ] {
            let token = json!({ "name": "mine", "role": word, "scope": [set] });
            let made = server
                .api("POST", "/api/v1/api-tokens")
                .json(&token)
                .expect(201);
            callers.push((role, made["token"].as_str().expect("a token").to_owned()));
        }
    }
    callers
}

#[test]
fn what_is_out_of_a_scope_is_for_every_route_as_if_it_were_not_there() {
    let server = Server::start();
    let mine = server.register("mine");
    let tags = format!("/api/v1/hosts/{}/tags", mine.agentsn);
    let tagged = json!({ "tags": "svc=ecs" });
    server.api("PUT", &tags).json(&tagged).expect(200);
    let things = Things::make(&server);
    let callers = restricted(&server);
    let before = things.seen(&server);
    let mut routes = routes();
    routes.retain(|route| route.template.contains('{') && route.operator.is_some());
    for route in &routes {
        let (path, body) = things.row(route);
        let needed = route.operator.as_ref().expect("it is for operators");
        for (role, token) in &callers {
            let reply = call(&server, token, &route.method, &path, &body);
            let at = format!("{} as {role:?}: {}", route.id, reply.text());
            // A package is no host's.
            if ["get_package", "download_package"].contains(&route.id.as_str()) {
                assert_eq!(reply.status, 200, "{}", route.id);
                continue;
            }
            let is_forbidden = *role < needed.role || needed.fleet;
            let expected = if is_forbidden { 403 } else { 404 };
            assert_eq!(reply.status, expected, "{at}");
            let nothing = call(&server, token, &route.method, &route.path, &body);
            assert_eq!(refused(&reply), refused(&nothing), "{at}");
        }
    }
    for (role, token) in &callers {
        for list in ["events", "jobs", "job-results"] {
            let of = |host: &str| format!("/api/v1/{list}?host={host}");
            let listed = |path: String| call(&server, token, "GET", &path, &Value::Null).json();
            let theirs = listed(of(&things.host));
            assert_eq!(theirs, listed(of(NOTHING)), "{list} as {role:?}");
            assert_eq!(theirs["items"], json!([]), "{list} as {role:?}");
        }
        let order = json!({ "action": "stop", "name": "x", "hosts": [things.host] });
        let ordered = call(&server, token, "POST", "/api/v1/jobs", &order);
        let expected = if *role < Role::Operator { 403 } else { 404 };
        assert_eq!(ordered.status, expected, "{}", ordered.text());
    }
    assert_eq!(things.seen(&server), before);
    // All of it would have been done, had it been theirs.
    routes.sort_by_key(|route| (route.method == "DELETE", route.id.starts_with("revoke")));
    for route in &routes {
        let (path, body) = things.row(route);
        let reply = call(&server, &server.api_token, &route.method, &path, &body);
        assert!(reply.status < 300, "{}: {}", route.id, reply.text());
    }
}
