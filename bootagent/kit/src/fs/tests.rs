use super::*;

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("readable")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("utf-8")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_written_file_has_its_content_and_mode_and_leaves_nothing_else() {
    let dir = scratch();
    let path = dir.path().join("metafile.json");
    write_atomic(&path, b"one", 0o640).expect("written");
    write_atomic(&path, b"two", 0o600).expect("replaced");
    assert_eq!(std::fs::read(&path).expect("read"), b"two");
    let mode = std::fs::metadata(&path).expect("stat").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(names(dir.path()), ["metafile.json"]);
}

#[test]
fn the_former_content_is_kept_beside_the_new() {
    let dir = scratch();
    let path = dir.path().join("m");
    for text in ["one", "two", "three"] {
        write_atomic_keeping(&path, text.as_bytes(), 0o600).expect("written");
    }
    assert_eq!(std::fs::read(&path).expect("read"), b"three");
    assert_eq!(std::fs::read(previous_path(&path)).expect("read"), b"two");
    assert_eq!(names(dir.path()), ["m", "m.previous"]);
}

#[test]
fn an_empty_file_does_not_replace_the_previous_copy() {
    let dir = scratch();
    let path = dir.path().join("m");
    write_atomic_keeping(&path, b"one", 0o600).expect("written");
    write_atomic_keeping(&path, b"two", 0o600).expect("written");
    // What a power cut leaves on a file system without our care.
    std::fs::write(&path, b"").expect("truncated");
    write_atomic_keeping(&path, b"three", 0o600).expect("written");
    assert_eq!(std::fs::read(previous_path(&path)).expect("read"), b"one");
}

#[test]
fn a_crash_between_link_and_rename_is_healed_by_the_next_write() {
    let dir = scratch();
    let path = dir.path().join("m");
    write_atomic_keeping(&path, b"one", 0o600).expect("written");
    // The state after keep_former, before the rename of the new content.
    std::fs::hard_link(&path, previous_path(&path)).expect("linked");
    write_atomic_keeping(&path, b"two", 0o600).expect("written");
    assert_eq!(std::fs::read(previous_path(&path)).expect("read"), b"one");
    assert_eq!(names(dir.path()), ["m", "m.previous"]);
}

#[test]
fn what_a_killed_writer_left_is_removed_and_nothing_else() {
    let dir = scratch();
    let name = OsStr::new("metafile.json");
    // As a kill leaves it: nobody gets to remove it.
    let left = std::mem::ManuallyDrop::new(Temporary::beside(dir.path(), name));
    left.fill(b"half", 0o600).expect("written");
    let others = ["a.tmp", ".a.tmp", ".a.1.tmp", ".a.x-1.tmp", ".a.1-.tmp"];
    for other in others {
        std::fs::write(dir.path().join(other), b"").expect("written");
    }
    std::fs::create_dir(dir.path().join(".a.1-1.tmp")).expect("made");
    let removed = remove_stale_temporaries(dir.path()).expect("listed");
    assert_eq!(removed, 1);
    assert!(!left.path.exists());
    assert_eq!(names(dir.path()).len(), others.len() + 1);
}

#[test]
fn a_missing_directory_is_named_and_the_target_is_untouched() {
    let dir = scratch();
    let path = dir.path().join("absent").join("m");
    let error = write_atomic(&path, b"x", 0o600).expect_err("no directory");
    assert!(error.is_not_found());
    assert!(error.to_string().contains("absent"), "{error}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn a_failed_replace_leaves_no_temporary_file() {
    let dir = scratch();
    let path = dir.path().join("m");
    // A non-empty directory in the way cannot be replaced, not even by root.
    std::fs::create_dir_all(path.join("child")).expect("created");
    let error = write_atomic(&path, b"x", 0o600).expect_err("in the way");
    assert_eq!(error.operation, "replace");
    assert_eq!(names(dir.path()), ["m"]);
}

#[test]
fn a_full_disk_is_recognised_and_the_old_content_stands() {
    let error = FsError::new(
        "write",
        Path::new("/var/lib/x"),
        io::Error::from_raw_os_error(nix::libc::ENOSPC),
    );
    assert!(error.is_no_space());
    assert!(error.to_string().contains("free some"), "{error}");
    // /dev/full answers ENOSPC to every write: the real thing, for anybody.
    let mut full = OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("open");
    let source = full.write_all(b"x").expect_err("full");
    assert!(FsError::new("write", Path::new("/dev/full"), source).is_no_space());
}

#[test]
fn a_rename_across_mounts_says_what_to_do() {
    let source = io::Error::from_raw_os_error(nix::libc::EXDEV);
    let error = FsError::new("rename", Path::new("/tmp/x"), source);
    assert!(error.is_cross_device());
    assert!(error.to_string().contains("different mounts"), "{error}");
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(cause.contains("Invalid cross-device link"), "{cause}");
}

#[test]
fn reading_is_bounded_also_where_stat_says_zero() {
    let dir = scratch();
    let path = dir.path().join("f");
    std::fs::write(&path, b"12345").expect("written");
    assert_eq!(read_limited(&path, 5).expect("fits"), b"12345");
    let error = read_limited(&path, 4).expect_err("too long");
    assert_eq!(error.source.kind(), io::ErrorKind::FileTooLarge);
    // /proc files say 0 in stat and are longer all the same.
    let error = read_limited(Path::new("/proc/self/status"), 10).expect_err("too long");
    assert_eq!(error.source.kind(), io::ErrorKind::FileTooLarge);
    assert!(
        !read_limited(Path::new("/proc/self/status"), 1 << 20)
            .expect("fits")
            .is_empty()
    );
}

#[test]
fn a_fifo_or_a_directory_is_refused_instead_of_waited_for() {
    let dir = scratch();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    for path in [fifo.as_path(), dir.path()] {
        let error = read_limited(path, 10).expect_err("refused");
        assert_eq!(error.source.to_string(), "not a regular file");
    }
}

#[test]
fn a_directory_is_made_with_its_parents_and_its_mode_is_set() {
    let dir = scratch();
    let path = dir.path().join("a/b/c");
    ensure_dir(&path, 0o700).expect("made");
    ensure_dir(&path, 0o750).expect("already there");
    let mode = std::fs::metadata(&path).expect("stat").permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    std::fs::write(dir.path().join("file"), b"").expect("written");
    assert!(ensure_dir(&dir.path().join("file"), 0o700).is_err());
}

/// Names the file a copy of this test program writes to.
const FILE_OF_COPY: &str = "KIT_TEST_FILE";

#[test]
fn a_kill_at_any_moment_leaves_a_whole_file_and_a_whole_previous_one() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    // A content tells its own length, so that a cut one is noticed.
    let content = |number: usize| {
        let length = number % 40_000 + 1;
        format!("{length:08} {}", "x".repeat(length)).into_bytes()
    };
    if let Some(path) = std::env::var_os(FILE_OF_COPY) {
        for number in 0.. {
            write_atomic_keeping(Path::new(&path), &content(number * 7919), 0o600)
                .expect("written");
            println!("written {number}");
        }
    }
    let dir = scratch();
    let path = dir.path().join("metafile.json");
    for lines in [1, 2, 3, 5, 8, 13, 21, 34] {
        let mut copy = Command::new(std::env::current_exe().expect("our path"))
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("fs::tests::a_kill_at_any_moment_leaves_a_whole_file_and_a_whole_previous_one")
            .env(FILE_OF_COPY, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("our test program runs");
        // Kept until after the kill: a closed pipe would end the copy first.
        let mut told = BufReader::new(copy.stdout.take().expect("piped"))
            .lines()
            .map_while(Result::ok)
            .filter(|line| line.contains("written "));
        assert_eq!(told.by_ref().take(lines).count(), lines);
        copy.kill().expect("killed");
        copy.wait().expect("reaped");
        for file in [&path, &previous_path(&path)] {
            // After the very first write there is no previous one yet.
            let Ok(bytes) = std::fs::read(file) else {
                assert!(file != &path && lines == 1, "{} is gone", file.display());
                continue;
            };
            let length: usize = String::from_utf8_lossy(&bytes[..8])
                .parse()
                .expect("a length");
            assert_eq!(bytes.len(), length + 9, "{} is cut", file.display());
        }
    }
}
