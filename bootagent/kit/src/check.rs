//! The report of `-T`: a line per check, and whether anything failed.
//!
//! The one rule: a warning is never a failure; only a failure changes the
//! exit code.

use std::error::Error;
use std::io::Write;
use std::panic::Location;
use std::path::Path;
use std::process::ExitCode;

use log::Level;
use nix::unistd::{AccessFlags, access};
use serde::de::DeserializeOwned;

use crate::args::ConfigPath;
use crate::clock::Stamp;
use crate::config::Validate;
use crate::dirs;
use crate::fs::FsError;
use crate::log::{LogFile, Rotation, line_of, visible};

/// Collects what was found, printing each line at once: `ok    message` to
/// its output, and as a log line to the log file if one is given.
pub struct Report<'out> {
    out: Box<dyn Write + 'out>,
    file: Option<LogFile>,
    oks: u32,
    warnings: u32,
    failures: u32,
}

impl Report<'static> {
    /// Begins a report on stdout. The log file is appended to, so that a test
    /// never disturbs an old log.
    pub fn new(log_file: Option<&Path>) -> Result<Self, FsError> {
        let mut report = Self::writing_to(std::io::stdout());
        if let Some(path) = log_file {
            report.log_to(path)?;
        }
        Ok(report)
    }
}

impl<'out> Report<'out> {
    /// Begins a report anywhere.
    pub fn writing_to(out: impl Write + 'out) -> Self {
        Self {
            out: Box::new(out),
            file: None,
            oks: 0,
            warnings: 0,
            failures: 0,
        }
    }

    /// Has every further line appended to a log file too.
    pub fn log_to(&mut self, path: &Path) -> Result<(), FsError> {
        self.file = Some(LogFile::open(path, Rotation::default())?);
        Ok(())
    }

    /// Something is as it should be.
    #[track_caller]
    pub fn ok(&mut self, message: impl AsRef<str>) {
        self.oks += 1;
        self.line("ok", Level::Info, message.as_ref(), Location::caller());
    }

    /// Something is not, and the program would run all the same.
    #[track_caller]
    pub fn warn(&mut self, message: impl AsRef<str>) {
        self.warnings += 1;
        self.line("warn", Level::Warn, message.as_ref(), Location::caller());
    }

    /// Something would keep the program from running.
    #[track_caller]
    pub fn fail(&mut self, message: impl AsRef<str>) {
        self.failures += 1;
        self.line("fail", Level::Error, message.as_ref(), Location::caller());
    }

    /// Whether the configuration can be used; it, if so.
    #[track_caller]
    pub fn config<C>(&mut self, path: &ConfigPath) -> Option<C>
    where
        C: DeserializeOwned + Default + Validate,
    {
        let shown = path.path().display();
        match path.load::<C>() {
            Ok(config) => {
                self.ok(match (path, path.path().exists()) {
                    (ConfigPath::Usual(_), false) => format!("no {shown}, using the defaults"),
                    _ => format!("{shown} is valid"),
                });
                Some(config)
            }
            Err(error) => {
                self.fail(chain(&error));
                None
            }
        }
    }

    /// Whether there is a state directory that can be written, or made.
    #[track_caller]
    pub fn state(&mut self) {
        let Some(state) = dirs::state() else {
            return self.warn("STATE_DIRECTORY is not set; it must be to run");
        };
        let shown = state.display();
        let mut places = state.ancestors();
        let nearest = places.find(|it| it.exists()).unwrap_or(Path::new("/"));
        match access(nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
            Ok(()) if nearest == state => self.ok(format!("{shown} is writable")),
            Ok(()) => self.ok(format!("{shown} can be made")),
            Err(error) => self.fail(format!(
                "{} is not writable: {error}; give it to the user this runs as",
                nearest.display()
            )),
        }
    }

    /// The last line: how many there were of each.
    #[track_caller]
    pub fn summary(&mut self) {
        let text = format!(
            "{} ok, {} warnings, {} failures",
            self.oks, self.warnings, self.failures
        );
        let level = match self.failures {
            0 => Level::Info,
            _ => Level::Error,
        };
        let _ = writeln!(self.out, "{text}");
        self.log(level, &text, Location::caller());
    }

    /// How many failures there were.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// 0 unless something failed.
    pub fn exit_code(&self) -> ExitCode {
        match self.failures {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    fn line(&mut self, word: &str, level: Level, message: &str, place: &Location<'_>) {
        // A reader that went away (`-T | head`) is no reason to panic.
        let _ = writeln!(self.out, "{word:<5} {}", visible(message));
        self.log(level, &format!("{word}: {message}"), place);
    }

    fn log(&mut self, level: Level, message: &str, place: &Location<'_>) {
        if let Some(file) = &mut self.file {
            let (name, number) = (place.file(), place.line());
            file.append(&line_of(Stamp::now(), level, message, name, number));
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_goes_to_the_log_file_too_and_counts_failures() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        std::fs::write(&path, "before\n").expect("written");
        let mut report = Report::new(Some(&path)).expect("begun");
        report.ok("first");
        report.warn("second");
        assert_eq!(report.failures(), 0);
        report.fail("third");
        assert_eq!(report.failures(), 1);
        let text = std::fs::read_to_string(&path).expect("read");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[0], "before");
        assert!(lines[1].contains(" [INFO] ok: first (check.rs:L"), "{text}");
        assert!(
            lines[2].contains(" [WARN] warn: second (check.rs:L"),
            "{text}"
        );
        assert!(
            lines[3].contains(" [ERROR] fail: third (check.rs:L"),
            "{text}"
        );
    }

    #[test]
    fn a_message_is_one_line_of_the_output_and_the_last_line_counts() {
        let mut out = Vec::new();
        let mut report = Report::writing_to(&mut out);
        report.ok("fine");
        report.warn("a\nok    forged\u{1b}[2J");
        report.fail("bad");
        report.summary();
        drop(report);
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let warning = "warn  a\\nok    forged\\u{1b}[2J";
        let counts = "1 ok, 1 warnings, 1 failures";
        assert_eq!(lines, ["ok    fine", warning, "fail  bad", counts]);
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_an_error() {
        assert!(Report::new(Some(Path::new("/nonexistent/a.log"))).is_err());
    }
}
