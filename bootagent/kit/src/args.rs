//! The options every sub-agent answers alike: `-T -V -h -c -L -l`.
//!
//! Only these are understood; what a sub-agent wants beyond them belongs in
//! its configuration file.
//!
//! The one rule: `-V` and `-h` work whatever else is wrong, and `-T` runs and
//! changes nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser, ValueExt};
use log::LevelFilter;
use serde::de::DeserializeOwned;

use crate::config::{self, ConfigError, Validate};
use crate::dirs;

/// Where a configuration is looked for without `-c` and without
/// `CONFIGURATION_DIRECTORY`.
const FALLBACK_CONFIGURATION: &str = "/etc/bootagent";

/// Why the command line is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// An option nobody knows, or one without its value.
    #[error("the command line is not understood; -h tells what is")]
    Syntax(#[from] lexopt::Error),
    /// `-l` with a word that is no level.
    #[error("{0:?} is no log level; use error, warn, info, debug or trace")]
    Level(String),
}

/// Who the program is.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name, which is also the name of its configuration file.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it is for, in one line.
    pub summary: &'static str,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Run.
    Run(Options),
    /// Test configuration and environment (`-T`), report, change nothing.
    Test(Options),
    /// Print this text and end (`-V`, `-h`).
    Print(String),
}

/// The options that go with running and testing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the configuration is.
    pub config: ConfigPath,
    /// File to log to besides stderr.
    pub log_file: Option<PathBuf>,
    /// What is logged.
    pub level: LevelFilter,
}

/// Where the configuration is, and whether it must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigPath {
    /// Named with `-c`: must exist.
    Named(PathBuf),
    /// The usual place: may be absent.
    Usual(PathBuf),
}

impl ConfigPath {
    /// The path either way.
    pub fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Usual(path) => path,
        }
    }

    /// Loads the configuration; the defaults where it may be absent and is.
    pub fn load<T>(&self) -> Result<T, ConfigError>
    where
        T: DeserializeOwned + Validate + Default,
    {
        match self {
            Self::Named(path) => config::load(path, config::MAX_CONFIG_BYTES),
            Self::Usual(path) => config::load_or_default(path, config::MAX_CONFIG_BYTES),
        }
    }
}

impl Program {
    /// Reads the command line of this process.
    pub fn parse_env(&self) -> Result<Request, ArgsError> {
        self.parse(std::env::args_os().skip(1))
    }

    /// Reads a command line without the program's name.
    pub fn parse(&self, args: impl IntoIterator<Item = OsString>) -> Result<Request, ArgsError> {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut parser = Parser::from_args(args);
        let mut options = Options {
            config: self.usual_config(),
            log_file: None,
            level: LevelFilter::Info,
        };
        let mut make: fn(Options) -> Request = Request::Run;
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('h') | Arg::Long("help") => return Ok(Request::Print(self.help())),
                Arg::Short('V') | Arg::Long("version") => {
                    return Ok(Request::Print(format!("{} {}", self.name, self.version)));
                }
                Arg::Short('T') => make = Request::Test,
                Arg::Short('c') => options.config = ConfigPath::Named(parser.value()?.into()),
                Arg::Short('L') => options.log_file = Some(parser.value()?.into()),
                Arg::Short('l') => options.level = parse_level(&parser.value()?.string()?)?,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(make(options))
    }

    fn usual_config(&self) -> ConfigPath {
        let directory = dirs::configuration().unwrap_or_else(|| FALLBACK_CONFIGURATION.into());
        ConfigPath::Usual(directory.join(format!("{}.toml", self.name)))
    }

    fn help(&self) -> String {
        let Self { name, summary, .. } = self;
        let usual = self.usual_config();
        let usual = usual.path().display();
        format!(
            "{name}: {summary}

Usage: {name} [-T] [-c FILE] [-L LOGFILE] [-l LEVEL] [-V] [-h]

  -T          test configuration and environment, run nothing, change nothing
  -c FILE     configuration file (now {usual}, optional)
  -L LOGFILE  append the log to this file too
  -l LEVEL    error, warn, info (default), debug or trace
  -V          print the version
  -h          print this text"
        )
    }
}

/// Reads a log level in any case.
pub fn parse_level(text: &str) -> Result<LevelFilter, ArgsError> {
    match text.parse() {
        Ok(LevelFilter::Off) | Err(_) => Err(ArgsError::Level(text.to_owned())),
        Ok(level) => Ok(level),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program {
        name: "sample",
        version: "1.2.3",
        summary: "shows how it is done",
    };

    fn parse(line: &str) -> Result<Request, ArgsError> {
        PROGRAM.parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_shared_options_are_understood() {
        let named = Options {
            config: ConfigPath::Named("/tmp/x.toml".into()),
            log_file: Some("/tmp/x.log".into()),
            level: LevelFilter::Debug,
        };
        let line = "-c /tmp/x.toml -L /tmp/x.log -l DEBUG";
        assert_eq!(parse(line).expect("valid"), Request::Run(named.clone()));
        assert_eq!(
            parse(&format!("-T {line}")).expect("valid"),
            Request::Test(named)
        );
        let Request::Run(usual) = parse("").expect("valid") else {
            panic!("not a run");
        };
        assert_eq!(
            usual.config.path().file_name(),
            Some("sample.toml".as_ref())
        );
        assert_eq!(usual.level, LevelFilter::Info);
    }

    #[test]
    fn version_and_help_are_answered() {
        assert_eq!(
            parse("-V").expect("valid"),
            Request::Print("sample 1.2.3".into())
        );
        for line in ["-h", "--help", "-T -h"] {
            let Request::Print(text) = parse(line).expect("valid") else {
                panic!("no help");
            };
            for option in ["-T", "-c FILE", "-L LOGFILE", "-l LEVEL", "-V", "-h"] {
                assert!(text.contains(option), "{option} is not in {text}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_remedy() {
        for (line, part) in [
            ("-x", "-h tells"),
            ("--wrong", "-h tells"),
            ("stray", "-h tells"),
            ("-c", "-h tells"),
            ("-l loud", "use error"),
            ("-l off", "use error"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn a_named_configuration_must_exist_and_the_usual_one_may_be_absent() {
        #[derive(Debug, Default, serde::Deserialize)]
        struct Empty {}
        impl Validate for Empty {
            fn validate(&self) -> Result<(), config::Invalid> {
                Ok(())
            }
        }
        let absent = PathBuf::from("/nonexistent/x.toml");
        assert!(ConfigPath::Usual(absent.clone()).load::<Empty>().is_ok());
        assert!(ConfigPath::Named(absent).load::<Empty>().is_err());
    }
}
