//! Packages: what comes in is what goes out, to the byte and to those who may.

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Request, Server, bundle, wait_for};

fn checksum(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("SHA256:{digits}")
}

/// Bytes that do not compress and differ by `seed`.
fn filler(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        u8::try_from(state >> 56).expect("eight bits")
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn url(package: &Value) -> String {
    package["url"].as_str().expect("a url").to_owned()
}

#[test]
fn a_bundle_describes_itself_and_comes_back_to_the_byte() {
    let server = Server::start();
    let host = server.register("h1");
    let bytes = bundle("flux-push", "0.1.0-1", &filler(1, 3_000_000));
    let package = server.upload("", &bytes);
    assert_eq!(package["name"], "flux-push");
    assert_eq!(package["version"], "0.1.0-1");
    assert_eq!(
        (&package["kind"], &package["arch"]),
        (&json!("bundle"), &json!("x86_64"))
    );
    assert_eq!(package["size"], bytes.len());
    assert_eq!(package["checksum"], checksum(&bytes));
    for token in [&host.token, &server.api_token] {
        let reply = server.call("GET", &url(&package)).bearer(token).send();
        assert_eq!((reply.status, reply.body == bytes), (200, true));
        assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    }
    let head = server
        .call("HEAD", &url(&package))
        .bearer(&host.token)
        .send();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        head.header("content-length"),
        Some(bytes.len().to_string().as_str())
    );
}

#[test]
fn a_download_that_broke_goes_on_where_it_was() {
    let server = Server::start();
    let host = server.register("h1");
    let bytes = bundle("a", "1", &filler(2, 500_000));
    let package = server.upload("", &bytes);
    let path = url(&package);
    let get = || server.call("GET", &path).bearer(&host.token);
    let part = |request: Request, range: &str| request.header("Range", range).send();

    let etag = get().send().header("etag").expect("an ETag").to_owned();
    let rest = part(get().header("If-Range", &etag), "bytes=200000-");
    assert_eq!((rest.status, rest.body == bytes[200_000..]), (206, true));
    let expected = format!("bytes 200000-{}/{}", bytes.len() - 1, bytes.len());
    assert_eq!(rest.header("content-range"), Some(expected.as_str()));
    let middle = part(get(), "bytes=10-19");
    assert_eq!((middle.status, middle.body == bytes[10..20]), (206, true));
    // The beginning of another file: all of this one.
    let whole = part(get().header("If-Range", "\"other\""), "bytes=200000-");
    assert_eq!((whole.status, whole.body.len()), (200, bytes.len()));
    let beyond = part(get(), &format!("bytes={}-", bytes.len()));
    let length = format!("bytes */{}", bytes.len());
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some(length.as_str()))
    );
    let same = get().header("If-None-Match", &etag).send();
    assert_eq!((same.status, same.body.len()), (304, 0));
}

#[test]
fn nobody_reads_a_package_without_a_token() {
    let server = Server::start();
    let path = url(&server.upload("", &bundle("a", "1", b"")));
    server.call("GET", &path).problem(401);
    server
        .call("GET", &path)
        .bearer(&server.enrolment_token)
        .problem(401);
    server.api("GET", "/packages/a/other.tar.gz").problem(404);
    server.api("GET", "/packages/a/..%2f..%2flock").problem(404);
    server.api("GET", "/packages/a/%00").problem(404);
    server.api("GET", "/packages/a/%ff").problem(404);
    server.api("POST", &path).problem(405);
}

#[test]
fn uploads_at_once_are_each_whole_and_the_same_one_is_stored_once() {
    let server = Server::start();
    let files: Vec<Vec<u8>> = (0..6)
        .map(|n| bundle(&format!("a{}", n / 2), "1", &filler(n / 2, 700_000)))
        .collect();
    std::thread::scope(|scope| {
        for bytes in &files {
            let server = &server;
            scope.spawn(move || {
                let reply = server.api("POST", "/api/v1/packages").body(bytes).send();
                assert!([200, 201].contains(&reply.status), "{}", reply.text());
            });
        }
    });
    let packages = server.api("GET", "/api/v1/packages").expect(200);
    let packages = packages["items"].as_array().expect("items");
    assert_eq!(packages.len(), 3);
    for package in packages {
        let reply = server.api("GET", &url(package)).send();
        assert_eq!(package["checksum"], checksum(&reply.body));
    }
    let leftovers = std::fs::read_dir(server.data("tmp"))
        .expect("the directory")
        .count();
    assert_eq!(leftovers, 0);
}

#[test]
fn another_file_of_the_same_version_is_refused() {
    let server = Server::start();
    let package = server.upload("", &bundle("a", "1", b"one"));
    let again = server
        .api("POST", "/api/v1/packages")
        .body(&bundle("a", "1", b"one"))
        .expect(200);
    assert_eq!(again["id"], package["id"]);
    let detail = server
        .api("POST", "/api/v1/packages")
        .body(&bundle("a", "1", b"two"))
        .problem(409);
    assert!(detail.contains("another version"), "{detail}");
    assert_eq!(
        server.api("GET", &url(&package)).send().body,
        bundle("a", "1", b"one")
    );
}

#[test]
fn what_is_said_of_a_file_must_be_what_it_says() {
    let server = Server::start();
    let bytes = bundle("flux-push", "0.1.0-1", b"");
    for query in [
        "name=other",
        "name=..%2F..%2Fx",
        "version=9",
        "version=..%2Fx",
        "kind=rpm",
        "kind=zip",
        "os=a/b",
        "arch=",
        "checksum=SHA256:00",
        "checksum=SHA256:0000000000000000000000000000000000000000000000000000000000000000",
    ] {
        let reply = server
            .api("POST", &format!("/api/v1/packages?{query}"))
            .body(&bytes)
            .send();
        assert_eq!(reply.status, 422, "{query}: {}", reply.text());
        let field = query.split('=').next().unwrap_or_default();
        let errors = reply.json()["errors"].to_string();
        assert!(errors.contains(&format!("{field}: ")), "{query}: {errors}");
    }
    let sum = checksum(&bytes);
    server.upload(
        &format!("name=flux-push&version=0.1.0&kind=bundle&os=debian%2012&checksum={sum}"),
        &bytes,
    );
    for bytes in [&b""[..], b"hello", b"\x1f\x8bnot really"] {
        server
            .api("POST", "/api/v1/packages")
            .body(bytes)
            .problem(422);
    }
    let blobs = std::fs::read_dir(server.data("blobs"))
        .expect("the directory")
        .count();
    assert_eq!(blobs, 1);
}

#[test]
fn an_upload_that_is_cut_off_leaves_nothing() {
    let server = Server::start();
    let bytes = bundle("a", "1", &filler(4, 300_000));
    for sent in [0, 1, 1000, bytes.len() - 1] {
        let mut stream = std::net::TcpStream::connect(server.address).expect("a connection");
        let head = format!(
            "POST /api/v1/packages HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n\r\n",
            server.api_token,
            bytes.len()
        );
        stream.write_all(head.as_bytes()).expect("the head");
        stream.write_all(&bytes[..sent]).expect("a part");
    }
    let files = |name: &str| match std::fs::read_dir(server.data(name)) {
        Ok(entries) => entries.count(),
        Err(_) => 0,
    };
    wait_for("nothing is left", || (files("tmp") == 0).then_some(()));
    assert_eq!(files("blobs"), 0);
    let list = server.api("GET", "/api/v1/packages").expect(200);
    assert_eq!(list["items"], json!([]));
    server.upload("", &bytes);
}

#[test]
fn a_package_too_large_is_refused_before_and_while_it_comes() {
    let server = Server::start_with("max_package_bytes = 100000");
    let bytes = bundle("a", "1", &filler(3, 200_000));
    server
        .api("POST", "/api/v1/packages")
        .body(&bytes)
        .problem(413);
    // Without a length, it is known only when it has come.
    let mut chunked = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunked.extend_from_slice(&bytes);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let request = server
        .api("POST", "/api/v1/packages")
        .header("Transfer-Encoding", "chunked");
    request.raw_body(&chunked).problem(413);
    let leftovers = std::fs::read_dir(server.data("tmp"))
        .expect("the directory")
        .count();
    assert_eq!(leftovers, 0);
    server.upload("", &bundle("a", "1", b"small"));
}

#[test]
fn a_package_an_open_job_needs_stays() {
    let server = Server::start();
    let host = server.register("h1");
    let package = server.upload("", &bundle("a", "1", b""));
    let path = format!(
        "/api/v1/packages/{}",
        package["id"].as_str().expect("an id")
    );
    let order = json!({ "action": "install", "package": package["id"], "hosts": [host.agentsn] });
    let job = server.order(order).remove(0);
    let detail = server.api("DELETE", &path).problem(409);
    assert!(detail.contains(&job), "{detail}");
    server.push(
        &host,
        json!({ "jobs": [{ "id": job, "errcode": 0, "message": "" }] }),
    );
    server.api("DELETE", &path).expect(204);
    server.api("DELETE", &path).problem(404);
    server.api("GET", &url(&package)).problem(404);
    let blobs = std::fs::read_dir(server.data("blobs"))
        .expect("the directory")
        .flatten();
    let left: usize = blobs
        .map(|shard| std::fs::read_dir(shard.path()).map_or(0, Iterator::count))
        .sum();
    assert_eq!(left, 0);
    let job = server
        .api("GET", &format!("/api/v1/jobs/{job}"))
        .expect(200);
    assert_eq!(
        (&job["state"], &job["package"]),
        (&json!("succeeded"), &Value::Null)
    );
    // The same may come again.
    server.upload("", &bundle("a", "1", b""));
}

#[test]
fn a_version_as_rpm_and_dpkg_write_them_is_an_address_that_works() {
    let server = Server::start();
    let host = server.register("h1");
    let bytes = bundle("A_b-1", "2:1.0~rc1+git-3", b"x");
    let package = server.upload("os=debian%2012", &bytes);
    assert_eq!(
        package["url"],
        "/packages/A_b-1/A_b-1-2:1.0~rc1+git-3.debian-12-x86_64.tar.gz"
    );
    server.order(json!({ "action": "install", "package": package["id"], "hosts": [host.agentsn] }));
    let job = server.push(&host, json!({}))["jobs"][0].clone();
    let url = job["url"].as_str().expect("a url");
    assert_eq!(
        server.call("GET", url).bearer(&host.token).send().body,
        bytes
    );
    let escaped = url.replace('+', "%2B").replace(':', "%3A");
    assert_eq!(
        server.call("GET", &escaped).bearer(&host.token).send().body,
        bytes
    );
}

#[test]
fn orders_that_contradict_their_package_are_refused() {
    let server = Server::start();
    let host = server.register("h1");
    let package = server.upload("", &bundle("a", "1", b""));
    let zeros = format!("SHA256:{}", "0".repeat(64));
    for (field, value) in [
        ("name", json!("b")),
        ("version", json!("2")),
        ("checksum", json!(zeros)),
        ("url", json!("http://elsewhere/a.tar.gz")),
        ("package", json!("00000000-0000-4000-8000-000000000000")),
        ("action", json!("stop")),
    ] {
        let mut order =
            json!({ "action": "install", "package": package["id"], "hosts": [host.agentsn] });
        order[field] = value;
        let detail = server.api("POST", "/api/v1/jobs").json(&order).problem(422);
        assert!(!detail.is_empty(), "{field}");
    }
    assert_eq!(
        server.api("GET", "/api/v1/jobs").expect(200)["items"],
        json!([])
    );
    let elsewhere = json!({ "action": "install", "name": "a", "hosts": [host.agentsn],
                            "url": "/packages/a/missing.tar.gz" });
    server
        .api("POST", "/api/v1/jobs")
        .json(&elsewhere)
        .problem(422);
}

/// The text of a `.minisig` that says what it signs, by nobody's key.
fn minisig(comment: &str) -> String {
    let (signature, global) = ("A".repeat(92), "A".repeat(84));
    format!("untrusted comment: x\nRUQA{signature}AAA=\ntrusted comment: {comment}\n{global}AA==\n")
}

/// As a query has it.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| format!("%{byte:02X}");
    text.bytes().map(byte).collect()
}

#[test]
fn a_signature_comes_in_with_its_package_and_goes_out_with_its_jobs() {
    let server = Server::start();
    let host = server.register("h1");
    let bytes = bundle("a", "1-2", b"");
    let upload = |text: &str| {
        let query = format!("signature={}", encoded(text));
        server.api("POST", &format!("/api/v1/packages?{query}"))
    };
    for (text, said) in [
        ("hello", "four lines"),
        (&minisig("built by hand"), "name=NAME"),
        (&minisig("name=b version=1-2"), "name b"),
        (&minisig("name=a version=1-3"), "version 1-3"),
    ] {
        let reply = upload(text).body(&bytes).send();
        assert_eq!(reply.status, 422, "{text}: {}", reply.text());
        let errors = reply.json()["errors"].to_string();
        assert!(
            errors.contains("signature: ") && errors.contains(said),
            "{errors}"
        );
    }
    let good = minisig("name=A version=1");
    let package = upload(&good).body(&bytes).expect(201);
    assert_eq!(package["signature"], json!(good));
    // The same again is no other, one that says less neither; another one is.
    upload(&good).body(&bytes).expect(200);
    server
        .api("POST", "/api/v1/packages")
        .body(&bytes)
        .expect(200);
    let other = upload(&minisig("name=a version=1-2")).body(&bytes);
    assert!(other.problem(409).contains("another signature"));
    let order = |more: Value| {
        let mut order =
            json!({ "action": "install", "package": package["id"], "hosts": [host.agentsn] });
        let fields = order.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        let job = server.order(order).remove(0);
        let job = server
            .api("GET", &format!("/api/v1/jobs/{job}"))
            .expect(200);
        job["body"]["signature"].clone()
    };
    assert_eq!(order(json!({})), json!(good));
    assert_eq!(order(json!({ "signature": "theirs" })), json!("theirs"));
}

#[test]
fn a_server_with_keys_takes_no_package_hosts_would_refuse() {
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let server = Server::start_with(&format!("trusted_keys = [\"{key}\"]"));
    let bytes = bundle("a", "1", b"");
    for (query, said) in [
        (String::new(), "signed packages only"),
        (
            format!("signature={}", encoded(&minisig("name=a version=1"))),
            "does not trust",
        ),
    ] {
        let path = format!("/api/v1/packages?{query}");
        let reply = server.api("POST", &path).body(&bytes).send();
        assert_eq!(reply.status, 422, "{}", reply.text());
        let errors = reply.json()["errors"].to_string();
        assert!(errors.contains(said), "{errors}");
    }
    let packages = server.api("GET", "/api/v1/packages").expect(200);
    assert_eq!(packages["items"], json!([]));
}

#[test]
fn an_order_is_looked_at_before_it_is_given() {
    let server = Server::start();
    let host = |name: &str, os: &str, arch: &str| {
        server.register_as(json!({
            "hostname": name, "agentsn": uuid::Uuid::new_v4().to_string(), "os": os, "arch": arch,
            "machine_id": format!("machine of {name}"),
        }))
    };
    let mut hosts: Vec<_> = [
        ("h1", "rocky 9.4", "x86_64"),
        ("h2", "rocky 9.5", "x86_64"),
        ("h3", "debian 12", "x86_64"),
        ("h4", "rocky 9.4", "aarch64"),
    ]
    .iter()
    .map(|(name, os, arch)| host(name, os, arch).agentsn)
    .collect();
    let made_for = |os: &str, more: &[u8]| {
        let query = format!("os={}", encoded(os));
        let package = server.upload(&query, &bundle("a", "1", more));
        (package["id"].clone(), package["checksum"].clone())
    };
    let nine = made_for("rocky 9", b"nine");
    let debian = made_for("debian", b"debian");
    let order = json!({ "action": "install", "name": "a", "hosts": hosts });
    let look = |order: &Value| server.api("POST", "/api/v1/jobs/preview").json(order);
    let seen = look(&order).expect(200);
    assert_eq!(
        (&seen["hosts"], &seen["without_file"]),
        (&json!(4), &json!(1))
    );
    let named =
        json!([{ "agentsn": hosts[3], "hostname": "h4", "os": "rocky 9.4", "arch": "aarch64" }]);
    assert_eq!(seen["without_file_hosts"], named);
    let mut files: Vec<_> = seen["files"]
        .as_array()
        .expect("files")
        .iter()
        .map(|file| (file["package"]["id"].clone(), file["hosts"].clone()))
        .collect();
    files.sort_by_key(|(_, hosts)| hosts.as_u64());
    assert_eq!(files, [(debian.0, json!(1)), (nine.0, json!(2))]);
    // The order itself says the same, and nothing was started by looking.
    let reply = server.api("POST", "/api/v1/jobs").json(&order).send();
    assert_eq!(reply.status, 422);
    assert!(
        reply.text().contains("no file for 1 of the 4 hosts"),
        "{}",
        reply.text()
    );
    let jobs = server.api("GET", "/api/v1/jobs").expect(200);
    assert_eq!(jobs["items"], json!([]));
    hosts.pop();
    let order = json!({ "action": "install", "name": "a", "hosts": hosts });
    assert_eq!(look(&order).expect(200)["without_file"], 0);
    assert_eq!(server.order(order).len(), 3);
    // What cannot be ordered is refused in the same words.
    look(&json!({ "action": "dance", "hosts": hosts })).problem(422);
    let unknown = json!({ "action": "stop", "name": "a", "hosts": ["nobody"] });
    look(&unknown).problem(404);
}
