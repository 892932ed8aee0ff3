//! Downloads over HTTP that must not succeed, from servers that do what
//! servers do: refuse, lie about sizes, redirect in circles, drip, are busy;
//! and who gets to see the token.

#[path = "support/web.rs"]
mod web;

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use bootagent::download::{Control, Limits, Request, fetch};
use bootagent_kit::Secret;
use bootagent_protocol::ErrorCode;
use web::*;

#[test]
fn a_wrong_checksum_is_named_and_nothing_is_kept() {
    let body = noise(100_000);
    let sent = body.clone();
    let web = Web::new(move |_, seen, stream| good(seen, stream, &sent, "\"a\""));
    let folder = folder();
    let wanted = checksum(b"something else");
    let result = get(&web.url("/"), folder.path(), Some(wanted), &quick());
    refused(
        result,
        folder.path(),
        ErrorCode::CHECKSUM_MISMATCH,
        &checksum(&body).hex(),
    );
    assert_eq!(names(folder.path()), Vec::<String>::new());
    assert_eq!(web.seen().len(), 1, "the same bytes would come again");
}

#[test]
fn what_is_not_there_is_not_asked_for_twice() {
    for (status, code, words) in [
        ("404 Not Found", ErrorCode::NOT_FOUND, "404"),
        ("410 Gone", ErrorCode::NOT_FOUND, "410"),
        ("401 Unauthorized", ErrorCode::DOWNLOAD_FAILED, "401"),
        ("403 Forbidden", ErrorCode::DOWNLOAD_FAILED, "403"),
        ("204 No Content", ErrorCode::DOWNLOAD_FAILED, "204"),
        ("418 Teapot", ErrorCode::DOWNLOAD_FAILED, "418"),
    ] {
        let web = Web::new(move |_, _, stream| head(stream, status, "Content-Length: 0\r\n"));
        let folder = folder();
        let result = get(&web.url("/p/a"), folder.path(), None, &quick());
        refused(result, folder.path(), code, words);
        assert_eq!(web.seen().len(), 1, "{status}");
    }
}

#[test]
fn a_server_in_trouble_is_asked_again_a_few_times() {
    let body = noise(1000);
    let sent = body.clone();
    let web = Web::new(move |number, seen, stream| match number {
        0 => head(stream, "500 Internal Server Error", "Content-Length: 0\r\n"),
        1 => stream.write_all(b"garbage\r\n\r\n"),
        _ => good(seen, stream, &sent, "\"a\""),
    });
    let folder_one = folder();
    get(
        &web.url("/"),
        folder_one.path(),
        Some(checksum(&body)),
        &quick(),
    )
    .expect("fetched");

    let web = Web::new(|_, _, stream| head(stream, "502 Bad Gateway", "Content-Length: 0\r\n"));
    let folder = folder();
    let result = get(&web.url("/"), folder.path(), None, &quick());
    refused(result, folder.path(), ErrorCode::DOWNLOAD_FAILED, "502");
    assert_eq!(web.seen().len(), 3);
}

#[test]
fn a_server_that_always_cuts_at_the_same_byte_is_given_up() {
    let sent = noise(100_000);
    let body = sent.clone();
    let web = Web::new(move |_, seen, stream| good_until(seen, stream, &sent, "\"a\"", 50_000));
    let folder = folder();
    let result = get(
        &web.url("/"),
        folder.path(),
        Some(checksum(&body)),
        &quick(),
    );
    refused(
        result,
        folder.path(),
        ErrorCode::DOWNLOAD_FAILED,
        "broke off",
    );
    assert!(web.seen().len() <= 5, "{} tries", web.seen().len());
}

#[test]
fn a_refused_connection_is_a_failure_in_time() {
    let port = TcpListener::bind("127.0.0.1:0")
        .expect("free")
        .local_addr()
        .expect("bound")
        .port();
    let folder = folder();
    let url = format!("http://127.0.0.1:{port}/");
    let result = get(&url, folder.path(), None, &quick());
    refused(
        result,
        folder.path(),
        ErrorCode::DOWNLOAD_FAILED,
        "cannot be reached",
    );
}

#[test]
fn a_server_that_never_answers_costs_the_stall_time_only() {
    let web = Web::new(|_, _, _| {
        thread::sleep(Duration::from_secs(30));
        Ok(())
    });
    let folder = folder();
    let limits = Limits {
        stall: Duration::from_millis(300),
        tries: 2,
        ..quick()
    };
    let begun = Instant::now();
    let result = get(&web.url("/"), folder.path(), None, &limits);
    refused(
        result,
        folder.path(),
        ErrorCode::DOWNLOAD_TIMED_OUT,
        "in time",
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_server_that_drips_is_cut_at_the_deadline() {
    // One byte each 20 ms, of the head or of the body: never silent.
    for of_head in [true, false] {
        let web = Web::new(move |_, _, stream| {
            if of_head {
                stream.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: ")?;
            } else {
                head(stream, "200 OK", "Content-Length: 1000000\r\n")?;
            }
            loop {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(20));
            }
        });
        let folder = folder();
        let limits = Limits {
            deadline: Duration::from_secs(1),
            ..quick()
        };
        let begun = Instant::now();
        let result = get(&web.url("/"), folder.path(), None, &limits);
        refused(
            result,
            folder.path(),
            ErrorCode::DOWNLOAD_TIMED_OUT,
            "within 1 s",
        );
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn an_endless_or_huge_file_is_stopped_at_the_limit() {
    let endless = Web::new(|_, _, stream| {
        head(stream, "200 OK", "")?;
        loop {
            stream.write_all(&[7; 4096])?;
        }
    });
    let claimed =
        Web::new(|_, _, stream| head(stream, "200 OK", "Content-Length: 99999999999\r\n"));
    let limits = Limits {
        max_bytes: 1_000_000,
        ..quick()
    };
    for web in [endless, claimed] {
        let folder = folder();
        let largest = Cell::new(0);
        let url = web.url("/");
        let result = fetch(&request(&url, folder.path(), None), &limits, &|progress| {
            largest.set(largest.get().max(progress.received));
            Control::Continue
        });
        refused(result, folder.path(), ErrorCode::TOO_LARGE, "1000000");
        assert!(largest.get() <= 1_000_000, "{}", largest.get());
        assert_eq!(names(folder.path()), Vec::<String>::new());
        assert_eq!(web.seen().len(), 1);
    }
}

#[test]
fn more_bytes_than_there_is_space_for_are_not_begun() {
    let web =
        Web::new(|_, _, stream| head(stream, "200 OK", "Content-Length: 999999999999999\r\n"));
    let folder = folder();
    let limits = Limits {
        max_bytes: u64::MAX,
        ..quick()
    };
    let result = get(&web.url("/"), folder.path(), None, &limits);
    refused(
        result,
        folder.path(),
        ErrorCode::NO_SPACE,
        "bytes are needed",
    );
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn redirects_are_followed_and_loops_are_not() {
    let body = noise(1000);
    let sent = body.clone();
    let web = Web::new(move |_, seen, stream| match seen.path() {
        "/from" => head(
            stream,
            "302 Found",
            "Location: to?x=1\r\nContent-Length: 0\r\n",
        ),
        "/to?x=1" => good(seen, stream, &sent, "\"a\""),
        "/a" => head(stream, "301 Moved", "Location: /b\r\nContent-Length: 0\r\n"),
        "/b" => head(stream, "307 Moved", "Location: /a\r\nContent-Length: 0\r\n"),
        "/nowhere" => head(stream, "302 Found", "Content-Length: 0\r\n"),
        "/ftp" => head(
            stream,
            "302 Found",
            "Location: ftp://127.0.0.1/x\r\nContent-Length: 0\r\n",
        ),
        "/file" => head(
            stream,
            "302 Found",
            "Location: file:///etc/passwd\r\nContent-Length: 0\r\n",
        ),
        longer => {
            let location = format!("Location: {longer}x\r\nContent-Length: 0\r\n");
            head(stream, "302 Found", &location)
        }
    });
    let folder = folder();
    let done = get(&web.url("/from"), folder.path(), None, &quick()).expect("followed");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    fs::remove_file(&done.path).expect("removed");
    for (path, words) in [
        ("/a", "loop"),
        ("/x", "more than 5 times"),
        ("/nowhere", "where to"),
        ("/ftp", "out of http"),
        ("/file", "out of http"),
    ] {
        let before = web.seen().len();
        let result = get(&web.url(path), folder.path(), None, &quick());
        refused(result, folder.path(), ErrorCode::DOWNLOAD_FAILED, words);
        assert!(web.seen().len() - before <= 6, "{path}");
    }
}

#[test]
fn the_token_goes_to_own_servers_only_and_never_further() {
    let body = noise(1000);
    let sent = body.clone();
    let stranger = Web::new(move |_, seen, stream| good(seen, stream, &sent, "\"a\""));
    let location = stranger.url("/p");
    let own = Web::new(move |_, _, stream| {
        head(
            stream,
            "302 Found",
            &format!("Location: {location}\r\nContent-Length: 0\r\n"),
        )
    });
    let folder = folder();
    let token = Secret::new("sesame");
    let (base, servers) = (own.server(), [own.server()]);
    let ask = Request {
        base: Some(&base),
        own_servers: &servers,
        token: Some(&token),
        ..request("/p", folder.path(), None)
    };
    fetch(&ask, &quick(), &|_| Control::Continue).expect("fetched");
    assert_eq!(own.seen()[0].header("authorization"), Some("Bearer sesame"));
    assert_eq!(stranger.seen()[0].header("authorization"), None);

    // A job cannot send the token elsewhere by naming another server.
    let url = stranger.url("/p");
    let ask = Request {
        url: &url,
        base: None,
        ..ask
    };
    fetch(&ask, &quick(), &|_| Control::Continue).expect("fetched");
    assert_eq!(stranger.seen()[1].header("authorization"), None);
}

#[test]
fn a_login_in_the_url_is_sent_there_and_shown_nowhere() {
    let web = Web::new(|_, seen, stream| match seen.path() {
        "/a" => head(stream, "302 Found", "Location: /b\r\nContent-Length: 0\r\n"),
        _ => head(stream, "404 Not Found", "Content-Length: 0\r\n"),
    });
    let folder = folder();
    let url = format!("http://user:hunter2@127.0.0.1:{}/a?key=hunter2", web.port);
    let failure = get(&url, folder.path(), None, &quick()).expect_err("not there");
    assert!(
        !failure.describe().contains("hunter2"),
        "{}",
        failure.describe()
    );
    let expected = Some("Basic dXNlcjpodW50ZXIy");
    assert_eq!(web.seen()[0].header("authorization"), expected);

    let url = format!("http://user:hunter2@127.0.0.1:{}/a", web.port);
    get(&url, folder.path(), None, &quick()).expect_err("not there");
    assert_eq!(
        web.seen()[2].header("authorization"),
        None,
        "a redirect leaves it behind"
    );
}

#[test]
fn a_busy_server_is_waited_for_as_long_as_it_says() {
    let body = noise(1000);
    let sent = body.clone();
    let web = Web::new(move |number, seen, stream| match number {
        0 => head(
            stream,
            "429 Too Many Requests",
            "Retry-After: 1\r\nContent-Length: 0\r\n",
        ),
        1 => head(
            stream,
            "503 Service Unavailable",
            "Retry-After: 0\r\nContent-Length: 0\r\n",
        ),
        _ => good(seen, stream, &sent, "\"a\""),
    });
    let folder = folder();
    let begun = Instant::now();
    let limits = Limits {
        tries: 1,
        ..quick()
    };
    let done = get(&web.url("/"), folder.path(), Some(checksum(&body)), &limits).expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_server_that_is_busy_beyond_the_deadline_is_not_waited_for() {
    let web = Web::new(|_, _, stream| {
        head(
            stream,
            "503 Service Unavailable",
            "Retry-After: 3600\r\nContent-Length: 0\r\n",
        )
    });
    let folder = folder();
    let begun = Instant::now();
    let result = get(&web.url("/"), folder.path(), None, &quick());
    refused(result, folder.path(), ErrorCode::DOWNLOAD_TIMED_OUT, "busy");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}
