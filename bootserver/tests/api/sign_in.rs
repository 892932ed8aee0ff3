//! Signing in and out, and what stands between a password and whoever guesses.

use serde_json::json;

use crate::harness::{Server, command};

const GOOD: &str = "correct horse battery";

#[test]
fn the_first_password_is_for_choosing_another() {
    let server = Server::start();
    let once = server.admin_password.clone();
    let session = server.sign_in("Admin", &once);
    let elsewhere = server.sign_in("admin", &once);
    let who = server
        .call("GET", "/api/v1/session")
        .bearer(&session)
        .expect(200);
    assert_eq!(
        (&who["name"], &who["role"]),
        (&json!("admin"), &json!("admin"))
    );
    assert_eq!(who["must_change_password"], true);
    server
        .call("GET", "/api/v1/hosts")
        .bearer(&session)
        .problem(403);
    let change = |current: &str, new: &str| {
        server
            .call("PUT", "/api/v1/session/password")
            .bearer(&session)
            .json(&json!({ "current": current, "new": new }))
            .send()
    };
    for (current, new) in [
        (once.as_str(), "short"),
        (&once, "admin-admin-admin"),
        (&once, &once),
        ("another", GOOD),
    ] {
        assert_eq!(change(current, new).status, 422, "{new}");
    }
    assert_eq!(change(&once, GOOD).status, 204);
    server
        .call("GET", "/api/v1/hosts")
        .bearer(&session)
        .expect(200);
    server
        .call("GET", "/api/v1/session")
        .bearer(&elsewhere)
        .problem(401);
    let again = json!({ "name": "admin", "password": once });
    server
        .call("POST", "/api/v1/session")
        .json(&again)
        .problem(401);
    let third = server.sign_in("admin", GOOD);
    server
        .call("DELETE", "/api/v1/session")
        .bearer(&third)
        .expect(204);
    server
        .call("GET", "/api/v1/session")
        .bearer(&third)
        .problem(401);
    server
        .call("GET", "/api/v1/session")
        .bearer(&session)
        .expect(200);
    assert!(!server.log().contains(&once) && !server.log().contains(GOOD));
}

#[test]
fn a_browsers_cookie_opens_nothing_that_another_site_asks_for() {
    let server = Server::start();
    server.user("ann", "admin", GOOD);
    let reply = server
        .call("POST", "/api/v1/session")
        .json(&json!({ "name": "ann", "password": GOOD, "deliver": "cookie" }))
        .send();
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.json()["token"], json!(null));
    let set = reply.header("set-cookie").expect("a cookie").to_owned();
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Strict"),
        "{set}"
    );
    let cookie = set.split(';').next().expect("a pair");
    let call = |method: &str, path: &str| server.call(method, path).header("Cookie", cookie);
    call("GET", "/api/v1/users").expect(200);
    let order = json!({ "name": "t", "role": "viewer" });
    let create = || call("POST", "/api/v1/api-tokens").json(&order);
    let why = create().problem(403);
    assert!(why.contains("X-Requested-With"), "{why}");
    create()
        .header("Origin", "https://elsewhere.example")
        .problem(403);
    create().header("X-Requested-With", "console").expect(201);
    // A bearer token is never sent by a browser on its own.
    call("POST", "/api/v1/api-tokens")
        .bearer(&server.api_token)
        .json(&order)
        .expect(201);
    let out = call("DELETE", "/api/v1/session")
        .header("X-Requested-With", "console")
        .send();
    assert_eq!(out.status, 204);
    assert!(
        out.header("set-cookie")
            .is_some_and(|set| set.contains("Max-Age=0"))
    );
    call("GET", "/api/v1/users").problem(401);
}

#[test]
fn whoever_guesses_learns_nothing_and_is_slowed_down() {
    let server = Server::start();
    server.user("ann", "viewer", GOOD);
    let attempt = |name: &str, password: &str| {
        server
            .call("POST", "/api/v1/session")
            // One id for all, so that whole answers can be compared.
            .header("X-Request-Id", "same")
            .json(&json!({ "name": name, "password": password }))
            .send()
    };
    let wrong = attempt("ann", "wrong horse battery");
    let nobody = attempt("nobody", "wrong horse battery");
    let no_name = attempt("no name", "x");
    assert_eq!((wrong.status, wrong.text()), (nobody.status, nobody.text()));
    assert_eq!(
        (wrong.status, wrong.text()),
        (no_name.status, no_name.text())
    );
    assert_eq!(wrong.status, 401);
    // One attempt more is paid for every 30 s, so a slow machine may fit in a few.
    let mut tried = 1;
    let refused = loop {
        let reply = attempt("ann", "wrong horse battery");
        if reply.status == 429 {
            break reply;
        }
        assert_eq!(reply.status, 401);
        tried += 1;
        assert!(tried < 60, "nobody stops it");
    };
    assert!(tried >= 10, "{tried}");
    let wait = refused
        .header("retry-after")
        .and_then(|text| text.parse::<u64>().ok());
    assert!(
        wait.is_some_and(|seconds| (1..=30).contains(&seconds)),
        "{wait:?}"
    );
    // Others are not held up.
    server.sign_in("admin", &server.admin_password);
    // And whoever may read the database can let them in again.
    let done = command()
        .args(["reset-password", "ann", "--data"])
        .arg(server.data(""))
        .output()
        .expect("the program runs");
    assert!(done.status.success(), "{done:?}");
    let file = server.data("password-of-ann.txt");
    let text = std::fs::read_to_string(&file).expect("the password");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&file)
        .expect("the file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let once = text
        .trim()
        .strip_prefix("ann_password=")
        .expect("a password");
    assert!(!String::from_utf8_lossy(&done.stdout).contains(once));
    assert_eq!(attempt("ann", GOOD).status, 401);
    let session = server.sign_in("ann", once);
    let who = server
        .call("GET", "/api/v1/session")
        .bearer(&session)
        .expect(200);
    assert_eq!(who["must_change_password"], true);
    let unknown = command()
        .args(["reset-password", "bob", "--data"])
        .arg(server.data(""))
        .output()
        .expect("the program runs");
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no user bob"));
}

#[test]
fn sessions_are_listed_and_ended_by_their_user_and_by_admins() {
    let server = Server::start();
    let ann = server.user("ann", "viewer", GOOD);
    let bob = server.user("bob", "operator", GOOD);
    let (one, two) = (server.sign_in("ann", GOOD), server.sign_in("ann", GOOD));
    let list = |token: &str, query: &str| {
        let path = format!("/api/v1/sessions{query}");
        server.call("GET", &path).bearer(token).send()
    };
    let own = list(&one, "").json();
    // The one in which the password was chosen is a third.
    assert_eq!(own["items"].as_array().map(Vec::len), Some(3));
    assert_eq!(list(&one, &format!("?user={bob}")).status, 403);
    let theirs = list(&server.api_token, &format!("?user={ann}")).json();
    assert_eq!(theirs["items"], own["items"]);
    let who = server
        .call("GET", "/api/v1/session")
        .bearer(&two)
        .expect(200);
    let path = format!(
        "/api/v1/sessions/{}",
        who["session"].as_str().expect("an id")
    );
    let other = server.sign_in("bob", GOOD);
    server.call("DELETE", &path).bearer(&other).problem(404);
    server.call("DELETE", &path).bearer(&one).expect(204);
    server
        .call("GET", "/api/v1/session")
        .bearer(&two)
        .problem(401);
    server
        .call("GET", "/api/v1/session")
        .bearer(&one)
        .expect(200);
}
