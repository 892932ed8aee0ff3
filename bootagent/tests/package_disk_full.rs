//! A disk that is full, in bytes or in inodes: found out before anything is
//! written, nothing left behind, nothing disturbed.

#[path = "support/pack.rs"]
mod pack;
#[path = "support/small_disk.rs"]
mod small_disk;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::io::Write;

use bootagent::package::archive::Bounds;
use bootagent::package::{Bundles, Expected};
use bootagent_protocol::{AgentName, ErrorCode};
use pack::Pack;
use small_disk::on_disk;
use web::{Web, get, head, names, quick, refused};

#[test]
fn a_download_does_not_fill_the_disk() {
    let known = Web::new(|_, _, stream| {
        head(stream, "200 OK", "Content-Length: 10000000\r\n")?;
        stream.write_all(&vec![7; 10_000_000])
    });
    let endless = Web::new(|_, _, stream| {
        head(stream, "200 OK", "")?;
        loop {
            stream.write_all(&[7; 4096])?;
        }
    });
    for (web, words) in [(known, "bytes are needed"), (endless, "bytes are needed")] {
        on_disk("size=24m", |disk| {
            refused(
                get(&web.url("/"), disk, None, &quick()),
                disk,
                ErrorCode::NO_SPACE,
                words,
            );
            assert_eq!(
                names(disk),
                Vec::<String>::new(),
                "nothing is left in the way"
            );
        });
    }
}

#[test]
fn a_disk_without_inodes_is_full_too() {
    let web = Web::new(|_, _, stream| {
        head(stream, "200 OK", "Content-Length: 1\r\n")?;
        stream.write_all(b"x")
    });
    on_disk("size=64m,nr_inodes=4", |disk| {
        let result = get(&web.url("/"), disk, None, &quick());
        refused(result, disk, ErrorCode::NO_SPACE, "inodes");
        assert_eq!(names(disk), Vec::<String>::new());
    });
}

#[test]
fn a_bundle_that_does_not_fit_leaves_what_runs_alone() {
    // 12 MB that pack to next to nothing, in files that fit one by one.
    let large = (0..4).fold(Pack::agent("2"), |pack, number| {
        pack.file(&format!("data{number}"), 0o644, &vec![0; 3_000_000])
    });
    let large = large.packed();
    on_disk("size=26m", |disk| {
        let bundles = Bundles::new(&disk.join("bundles"), Bounds::default());
        let name = AgentName::parse("a").expect("valid");
        let expected = Expected {
            name: name.clone(),
            version: None,
        };
        let package = disk.join("package");
        fs::write(&package, Pack::agent("1").packed()).expect("written");
        let running = bundles.unpack(&package, &expected).expect("it fits").folder;
        bundles.switch(&name, &running).expect("switched");

        fs::write(&package, &large).expect("written");
        let failure = bundles
            .unpack(&package, &expected)
            .expect_err("it does not fit");
        assert_eq!(failure.code, ErrorCode::NO_SPACE, "{}", failure.describe());
        assert_eq!(names(&disk.join("bundles/a")), ["1", "current"]);
        assert_eq!(bundles.current(&name), Some(running));
    });
}
