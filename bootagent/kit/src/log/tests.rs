use std::process::Command;

use super::*;

/// Names the log file of the copy of this test program that logs.
const LOGS_TO: &str = "KIT_TEST_LOG_FILE";

/// There is one logger per process, so each case is a process of its own.
fn logged_by_a_copy(test: &str, file: &Path) -> (String, String) {
    let output = Command::new(std::env::current_exe().expect("our path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(LOGS_TO, file)
        .output()
        .expect("our test program runs");
    let console = String::from_utf8_lossy(&output.stderr).into_owned();
    (console, std::fs::read_to_string(file).unwrap_or_default())
}

#[test]
fn a_line_goes_to_console_and_file_at_once() {
    let test = "log::tests::a_line_goes_to_console_and_file_at_once";
    if let Some(file) = std::env::var_os(LOGS_TO) {
        init(LevelFilter::Info, Some(Path::new(&file))).expect("begun");
        log::info!("hello {}", 42);
        log::debug!("not shown");
        log::info!(target: "rustls::client", "not shown");
        log::warn!(target: "rustls::client", "shown");
        assert!(matches!(
            init(LevelFilter::Info, None),
            Err(LogError::Twice)
        ));
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (console, file) = logged_by_a_copy(test, &dir.path().join("a.log"));
    let lines: Vec<&str> = file.lines().collect();
    assert_eq!(lines.len(), 2, "{file}");
    assert!(
        lines[0].contains(" [INFO] hello 42 (log/tests.rs:L"),
        "{file}"
    );
    assert!(lines[1].contains(" [WARN] shown (log/tests.rs:L"), "{file}");
    for line in lines {
        assert!(console.contains(line), "{console}");
    }
    assert!(
        !console.contains('\u{1b}'),
        "colour without a terminal: {console:?}"
    );
}

#[test]
fn a_panic_is_in_the_log_file() {
    let test = "log::tests::a_panic_is_in_the_log_file";
    if let Some(file) = std::env::var_os(LOGS_TO) {
        init(LevelFilter::Info, Some(Path::new(&file))).expect("begun");
        let thread = crate::thread::spawn("doomed", || panic!("on purpose"));
        let _ = thread.expect("spawned").join();
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (_, file) = logged_by_a_copy(test, &dir.path().join("a.log"));
    assert!(file.contains("[ERROR] panic at "), "{file}");
    assert!(file.contains("on purpose"), "{file}");
    assert!(file.contains("thread doomed panicked"), "{file}");
}

#[test]
fn a_log_directory_that_is_missing_is_named() {
    let error = LogFile::open(Path::new("/nonexistent/a.log"), Rotation::default());
    let error = error.expect_err("refused");
    assert!(error.to_string().contains("/nonexistent/a.log"), "{error}");
}
