//! What a program tells its operator: one line per message.
//!
//! `YYYY-MM-DD HH:MM:SS [LEVEL] message (file:Lline)`, local time, to stderr
//! (coloured on a terminal) and to a file at once. The file is rotated by
//! size and count. What to log at which level is the caller's business.
//!
//! The one rule: logging never fails the program. On a full disk, or on a
//! console nobody reads, lines are counted instead of written, and the number
//! is told when it works again.

mod console;
mod file;
mod line;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};

pub(crate) use file::LogFile;
pub use file::Rotation;
pub(crate) use line::line_of;
pub use line::visible;

/// Libraries whose details would drown ours: only their warnings are shown.
const QUIET_LIBRARIES: [&str; 3] = ["ureq", "ureq_proto", "rustls"];

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log file cannot be opened.
    #[error("cannot log to the file")]
    File(#[from] crate::fs::FsError),
    /// [`init`] was called before.
    #[error("logging has begun already")]
    Twice,
}

/// Begins to log at `level`, to stderr and, if one is given, to a file that
/// is appended to and rotated at 10 MB, five former files kept. The directory
/// of the file must exist.
///
/// Also makes a panic a logged error, since nobody may be looking at stderr.
pub fn init(level: LevelFilter, file: Option<&Path>) -> Result<(), LogError> {
    init_with(level, file, Rotation::default())
}

/// As [`init`], with other limits for the file.
pub fn init_with(
    level: LevelFilter,
    file: Option<&Path>,
    rotation: Rotation,
) -> Result<(), LogError> {
    let logger = Logger {
        colour: match std::io::stderr().is_terminal() {
            true => Colour::Ansi,
            false => Colour::None,
        },
        console: Mutex::default(),
        file: match file {
            Some(path) => Some(Mutex::new(LogFile::open(path, rotation)?)),
            None => None,
        },
    };
    log::set_boxed_logger(Box::new(logger)).map_err(|_| LogError::Twice)?;
    log::set_max_level(level);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        log::error!("panic at {place}: {message}");
    }));
    Ok(())
}

#[derive(Clone, Copy)]
enum Colour {
    Ansi,
    None,
}

struct Logger {
    colour: Colour,
    console: Mutex<console::Console>,
    file: Option<Mutex<LogFile>>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let library = metadata.target().split("::").next().unwrap_or_default();
        metadata.level() <= Level::Warn || !QUIET_LIBRARIES.contains(&library)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = line::format(record);
        let plain = text.as_str();
        let shown = match self.colour {
            Colour::Ansi => line::coloured(plain, record.level()),
            Colour::None => plain.to_owned(),
        };
        {
            let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
            console.show(&mut std::io::stderr().lock(), &shown);
        }
        if let Some(file) = &self.file {
            // A panic while the file was locked leaves it as it was: usable.
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.append(plain);
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests;
