//! Who may call what: every route of the document, with every kind of caller.

use serde_json::Value;

use crate::harness::Server;

/// A route as the document has it.
struct Route {
    id: String,
    method: String,
    path: String,
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
                path: filled(path),
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

/// The path with something in its holes that names nothing.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part.starts_with('{') {
        true => "00000000-0000-4000-8000-000000000000",
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
