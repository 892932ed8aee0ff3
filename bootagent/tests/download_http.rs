//! Downloads over HTTP and from files that end well: whole, cut, stopped,
//! damaged on the disk, changed on the server, slow.

#[path = "support/web.rs"]
mod web;

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use bootagent::download::{Control, Limits, Progress, fetch, verify};
use bootagent_protocol::ErrorCode;
use web::*;

#[test]
fn a_file_is_fetched_and_verified() {
    let body = noise(300_000);
    let sent = body.clone();
    let web = Web::new(move |_, seen, stream| good(seen, stream, &sent, "\"a\""));
    let folder = folder();
    let reported = RefCell::new(Vec::new());
    let url = web.url("/p/a.rpm");
    let done = fetch(
        &request(&url, folder.path(), Some(checksum(&body))),
        &quick(),
        &|progress| {
            reported.borrow_mut().push(progress);
            Control::Continue
        },
    )
    .expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    assert_eq!((done.size, done.checksum), (300_000, checksum(&body)));
    let last = reported.borrow().last().copied();
    assert_eq!(
        last,
        Some(Progress {
            received: 300_000,
            total: Some(300_000)
        })
    );
    assert_eq!(names(folder.path()).len(), 1, "only the file is left");

    verify(&done.path, &checksum(&body)).expect("it is still what it was");
    let failure = verify(&done.path, &checksum(b"other")).expect_err("another checksum");
    assert_eq!(failure.code, ErrorCode::CHECKSUM_MISMATCH);

    // After a crash in the next step of the job the file is still good.
    let again = get(&url, folder.path(), Some(checksum(&body)), &quick()).expect("still there");
    assert_eq!((&again, web.seen().len()), (&done, 1));

    // After one between its name and the end of what belonged to its part.
    let sidecar = done.path.with_extension("part.json");
    fs::write(&sidecar, "{}").expect("written");
    let again = get(&url, folder.path(), Some(checksum(&body)), &quick()).expect("still there");
    assert_eq!((again, web.seen().len()), (done, 1));
    assert_eq!(names(folder.path()).len(), 1, "only the file is left");
}

#[test]
fn a_file_without_a_checksum_or_a_length_is_fetched_too() {
    let body = noise(100_000);
    let sent = body.clone();
    let web = Web::new(move |number, _, stream| {
        if number == 0 {
            head(stream, "200 OK", "")?;
            return stream.write_all(&sent);
        }
        head(stream, "200 OK", "Transfer-Encoding: chunked\r\n")?;
        for chunk in sent.chunks(9999) {
            write!(stream, "{:x}\r\n", chunk.len())?;
            stream.write_all(chunk)?;
            stream.write_all(b"\r\n")?;
        }
        stream.write_all(b"0\r\n\r\n")
    });
    let folder = folder();
    for _ in 0..2 {
        let done = get(&web.url("/"), folder.path(), None, &quick()).expect("fetched");
        assert_eq!(
            (fs::read(&done.path).expect("there"), done.checksum),
            (body.clone(), checksum(&body))
        );
    }
    assert_eq!(
        web.seen().len(),
        2,
        "without a checksum nothing is taken for granted"
    );
}

#[test]
fn a_cut_download_goes_on_where_it_broke_off() {
    let body = noise(500_000);
    // With a checksum, and without one by the ETag alone.
    for wanted in [Some(checksum(&body)), None] {
        let sent = body.clone();
        let web = Web::new(move |number, seen, stream| {
            let end = [200_000, 350_000, 500_000][number.min(2)];
            good_until(seen, stream, &sent, "\"a\"", end)
        });
        let folder = folder();
        let done = get(&web.url("/"), folder.path(), wanted, &quick()).expect("fetched");
        assert_eq!(fs::read(&done.path).expect("there"), body);
        let offsets: Vec<_> = web.seen().iter().map(Seen::offset).collect();
        assert_eq!(offsets.len(), 3);
        assert_eq!(offsets[0], 0);
        assert!(offsets[1] > 0 && offsets[1] <= 200_000, "{offsets:?}");
        assert!(
            offsets[2] > offsets[1] && offsets[2] <= 350_000,
            "{offsets:?}"
        );
        assert_eq!(web.seen()[1].header("if-range"), Some("\"a\""));
    }
}

#[test]
fn a_stopped_download_goes_on_in_the_next_run() {
    let body = noise(1_000_000);
    let sent = body.clone();
    let web = Web::new(move |_, seen, stream| good(seen, stream, &sent, "\"a\""));
    let folder = folder();
    let url = web.url("/");
    let ask = request(&url, folder.path(), Some(checksum(&body)));
    let stopped = fetch(&ask, &quick(), &|progress| match progress.received {
        0..300_000 => Control::Continue,
        _ => Control::Cancel,
    });
    refused(stopped, folder.path(), ErrorCode::CANCELLED, "stopped");
    assert_eq!(
        names(folder.path()).len(),
        2,
        "the part and what it is a part of"
    );
    let done = fetch(&ask, &quick(), &|_| Control::Continue).expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    assert!(web.seen()[1].offset() >= 300_000);

    // Another download does not inherit it, and tidies up.
    let other = web.url("/other");
    let stopped = fetch(&request(&other, folder.path(), None), &quick(), &|_| {
        Control::Cancel
    });
    refused(stopped, folder.path(), ErrorCode::CANCELLED, "stopped");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_part_that_was_damaged_on_the_disk_is_fetched_anew() {
    let body = noise(400_000);
    let sent = body.clone();
    let web = Web::new(move |_, seen, stream| good(seen, stream, &sent, "\"a\""));
    let folder = folder();
    let url = web.url("/");
    let ask = request(&url, folder.path(), Some(checksum(&body)));
    let stop = |progress: Progress| match progress.received {
        0..200_000 => Control::Continue,
        _ => Control::Cancel,
    };
    fetch(&ask, &quick(), &stop).expect_err("stopped");
    let part = names(folder.path())
        .into_iter()
        .find(|name| name.ends_with(".part"));
    let part = folder.path().join(part.expect("a part"));
    let mut bytes = fs::read(&part).expect("there");
    bytes[5] ^= 1;
    fs::write(&part, &bytes).expect("damaged");
    let done = fetch(&ask, &quick(), &|_| Control::Continue).expect("fetched anew");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    let offsets: Vec<_> = web.seen().iter().map(Seen::offset).collect();
    assert!(offsets[1] > 0 && offsets[2] == 0, "{offsets:?}");

    // So is one whose description is gone or cut.
    fs::remove_file(&done.path).expect("removed");
    fetch(&ask, &quick(), &stop).expect_err("stopped");
    let sidecar = part.with_extension("part.json");
    fs::write(&sidecar, b"{").expect("cut");
    fetch(&ask, &quick(), &|_| Control::Continue).expect("fetched anew");
    assert_eq!(web.seen().last().map(Seen::offset), Some(0));
}

#[test]
fn a_file_that_changed_meanwhile_is_never_mixed() {
    for has_etag in [true, false] {
        let (old, new) = (noise(400_000), noise(400_001)[1..].to_vec());
        let (first, second) = (old.clone(), new.clone());
        let web = Web::new(move |number, seen, stream| {
            let (body, tag) = if number == 0 {
                (&first, "\"old\"")
            } else {
                (&second, "\"new\"")
            };
            let end = if number == 0 { 150_000 } else { 400_000 };
            let tag = if has_etag { tag } else { "W/\"weak\"" };
            good_until(seen, stream, body, tag, end)
        });
        let folder = folder();
        let done =
            get(&web.url("/"), folder.path(), Some(checksum(&new)), &quick()).expect("fetched");
        assert_eq!(fs::read(&done.path).expect("there"), new, "etag {has_etag}");
    }
}

#[test]
fn without_a_checksum_and_a_strong_etag_nothing_is_resumed() {
    let body = noise(300_000);
    let sent = body.clone();
    let web = Web::new(move |number, seen, stream| {
        let end = if number == 0 { 100_000 } else { 300_000 };
        good_until(seen, stream, &sent, "W/\"a\"", end)
    });
    let folder = folder();
    let done = get(&web.url("/"), folder.path(), None, &quick()).expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    let offsets: Vec<_> = web.seen().iter().map(Seen::offset).collect();
    assert_eq!(offsets, [0, 0]);
}

#[test]
fn a_server_that_knows_no_ranges_sends_everything_again() {
    let body = noise(300_000);
    let sent = body.clone();
    let web = Web::new(move |number, _, stream| {
        head(
            stream,
            "200 OK",
            &format!("Content-Length: {}\r\n", sent.len()),
        )?;
        stream.write_all(&sent[..if number == 0 { 100_000 } else { 300_000 }])
    });
    let folder = folder();
    let done = get(
        &web.url("/"),
        folder.path(),
        Some(checksum(&body)),
        &quick(),
    )
    .expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
}

#[test]
fn a_server_with_wrong_ranges_is_asked_for_the_whole() {
    let body = noise(300_000);
    for wrong in [
        "bytes 5-299999/300000",
        "bytes 0-299999/300000",
        "nonsense",
        "",
    ] {
        let sent = body.clone();
        let web = Web::new(move |number, seen, stream| {
            if seen.offset() == 0 {
                let end = if number == 0 { 100_000 } else { 300_000 };
                return good_until(seen, stream, &sent, "\"a\"", end);
            }
            let rest = &sent[seen.offset()..];
            let length = rest.len();
            let headers = format!("Content-Range: {wrong}\r\nContent-Length: {length}\r\n");
            head(stream, "206 Partial Content", &headers)?;
            stream.write_all(rest)
        });
        let folder = folder();
        let done = get(
            &web.url("/"),
            folder.path(),
            Some(checksum(&body)),
            &quick(),
        )
        .expect(wrong);
        assert_eq!(fs::read(&done.path).expect("there"), body, "{wrong}");
    }
}

#[test]
fn a_range_that_is_not_satisfiable_is_asked_for_the_whole() {
    let body = noise(300_000);
    let sent = body.clone();
    let web = Web::new(move |number, seen, stream| match (number, seen.offset()) {
        (0, _) => good_until(seen, stream, &sent, "\"a\"", 100_000),
        (_, 0) => good(seen, stream, &sent, "\"a\""),
        _ => head(stream, "416 Range Not Satisfiable", "Content-Length: 0\r\n"),
    });
    let folder = folder();
    let done = get(
        &web.url("/"),
        folder.path(),
        Some(checksum(&body)),
        &quick(),
    )
    .expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
}

#[test]
fn a_download_that_stalls_is_resumed_elsewhere_in_time() {
    let body = noise(300_000);
    let sent = body.clone();
    let web = Web::new(move |number, seen, stream| {
        if number > 0 {
            return good(seen, stream, &sent, "\"a\"");
        }
        good_until(seen, stream, &sent, "\"a\"", 100_000)?;
        thread::sleep(Duration::from_secs(30));
        Ok(())
    });
    let folder = folder();
    let limits = Limits {
        stall: Duration::from_millis(300),
        ..quick()
    };
    let begun = Instant::now();
    let done = get(&web.url("/"), folder.path(), Some(checksum(&body)), &limits).expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(web.seen()[1].offset() > 0);
}

#[test]
fn the_rate_cap_holds_and_can_be_interrupted() {
    let body = noise(200_000);
    let sent = body.clone();
    let web = Web::new(move |_, seen, stream| good(seen, stream, &sent, "\"a\""));
    let folder = folder();
    let limits = Limits {
        rate: NonZeroU64::new(200_000),
        ..quick()
    };
    let begun = Instant::now();
    get(&web.url("/"), folder.path(), Some(checksum(&body)), &limits).expect("fetched");
    assert!(
        begun.elapsed() >= Duration::from_millis(900),
        "{:?}",
        begun.elapsed()
    );

    let crawl = Limits {
        rate: NonZeroU64::new(100),
        ..quick()
    };
    let begun = Instant::now();
    let url = web.url("/other");
    let result = fetch(
        &request(&url, folder.path(), None),
        &crawl,
        &|progress| match progress.received {
            0 => Control::Continue,
            _ => Control::Cancel,
        },
    );
    assert_eq!(
        result.map_err(|failure| failure.code),
        Err(ErrorCode::CANCELLED)
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn files_of_this_host_are_copied_and_only_files() {
    let folder = folder();
    let source = folder.path().join("with blank");
    let body = noise(100_000);
    fs::write(&source, &body).expect("written");
    let store = folder.path().join("new/tmp");
    let url = format!("file://{}/with%20blank", folder.path().display());
    let done = get(&url, &store, Some(checksum(&body)), &quick()).expect("copied");
    assert_eq!(fs::read(&done.path).expect("there"), body);

    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
    for (path, code, words) in [
        ("fifo", ErrorCode::DOWNLOAD_FAILED, "no regular file"),
        ("new", ErrorCode::DOWNLOAD_FAILED, "no regular file"),
        ("none", ErrorCode::NOT_FOUND, "does not exist"),
    ] {
        let url = format!("file://{}/{path}", folder.path().display());
        let other = folder.path().join("other");
        refused(get(&url, &other, None, &quick()), &other, code, words);
    }
    let limits = Limits {
        max_bytes: 99_999,
        ..quick()
    };
    let other = folder.path().join("other");
    refused(
        get(&url, &other, None, &limits),
        &other,
        ErrorCode::TOO_LARGE,
        "100000",
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = folder();
    let blocked = folder.path().join("file");
    fs::write(&blocked, b"x").expect("written");
    let failure = get("http://127.0.0.1:1/", &blocked, None, &quick()).expect_err("no folder");
    assert_eq!(
        failure.code,
        ErrorCode::NOT_PERSISTED,
        "{}",
        failure.describe()
    );
    assert!(
        failure.describe().contains("file"),
        "{}",
        failure.describe()
    );
}
