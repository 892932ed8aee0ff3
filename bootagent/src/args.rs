//! Arguments of `bootagent`: exactly what was typed, nothing resolved.

use std::ffi::OsString;
use std::path::PathBuf;

use log::LevelFilter;

/// What `-h` prints.
pub const HELP: &str = "\
Usage: bootagent [-T] [-c FILE] [-S LIST] [-E FILE] [-L FILE] [-l LEVEL] [-P FILE] [-V] [-h]

Supervises the sub-agents of this host and takes jobs from its servers.
Runs in the foreground; stop it with SIGTERM, its children go on running.

  -T         test configuration and environment, run nothing, change nothing
  -c FILE    configuration (default /etc/bootagent/bootagent.toml, may be missing)
  -S LIST    servers as HOST:PORT,HOST2; kept at the first start, ignored later
  -E FILE    file with the enrolment token of a new host, - for standard input
  -L FILE    append the log to FILE instead of the default one
  -l LEVEL   error, warn, info (default), debug or trace
  -P FILE    write the process id to FILE
  -V         print version and compiled-in servers
  -h         print this help
";

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub mode: Mode,
    /// `-c`
    pub config: Option<PathBuf>,
    /// `-S`
    pub servers: Option<String>,
    /// `-E`
    pub enrolment_token: Option<PathBuf>,
    /// `-L`
    pub log_file: Option<PathBuf>,
    /// `-l`
    pub level: LevelFilter,
    /// `-P`
    pub pid_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Run the daemon.
    Run,
    /// `-T`
    Test,
    /// `-V`
    Version,
    /// `-h`
    Help,
    /// `--doctor ROOT`: say why this host is offline; for `bootctl doctor`.
    Doctor(DoctorArgs),
    /// `--logger`: be the second process, which writes what children print.
    Logger(LoggerArgs),
    /// `--watcher`: watch an upgrade of BootAgent.
    Watcher,
    /// `--start-watcher PROGRAM`: start that as the watcher, where no systemd does.
    StartWatcher(PathBuf),
}

/// What `bootctl doctor` hands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorArgs {
    /// The root of the host to look at.
    pub root: PathBuf,
    /// `--json`
    pub form: Form,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line per check, for a person.
    Text,
    /// One JSON document, for a program.
    Json,
}

/// What the daemon tells its logger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggerArgs {
    /// Folder of the FIFOs.
    pub outputs: PathBuf,
    /// Folder of the logs.
    pub logs: PathBuf,
    /// Bytes before a log is rotated.
    pub max_bytes: u64,
    /// Old files kept.
    pub keep: u32,
    /// Bytes per second in the long run.
    pub rate: u64,
}

impl LoggerArgs {
    /// The words after the program's name that mean this.
    pub fn to_words(&self) -> Vec<OsString> {
        let numbers = [self.max_bytes, u64::from(self.keep), self.rate];
        let mut words = vec![
            "--logger".into(),
            self.outputs.clone().into(),
            self.logs.clone().into(),
        ];
        words.extend(numbers.map(|number| OsString::from(number.to_string())));
        words
    }
}

impl Args {
    /// Reads the words after the program's name.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut args = Self {
            mode: Mode::Run,
            config: None,
            servers: None,
            enrolment_token: None,
            log_file: None,
            level: LevelFilter::Info,
            pid_file: None,
        };
        let mut parser = lexopt::Parser::from_args(words);
        while let Some(word) = parser.next()? {
            match word {
                Short('T') => args.mode = Mode::Test,
                Short('V') | Long("version") => args.mode = Mode::Version,
                Short('h') | Long("help") => args.mode = Mode::Help,
                Short('c') => args.config = Some(parser.value()?.into()),
                Short('S') => args.servers = Some(parser.value()?.string()?),
                Short('E') => args.enrolment_token = Some(parser.value()?.into()),
                Short('L') => args.log_file = Some(parser.value()?.into()),
                Short('l') => {
                    args.level = parser.value()?.parse_with(|text| {
                        text.parse::<LevelFilter>()
                            .map_err(|_| "error, warn, info, debug or trace is expected")
                    })?;
                }
                Short('P') => args.pid_file = Some(parser.value()?.into()),
                Long("doctor") => {
                    let root = parser.value()?.into();
                    let form = Form::Text;
                    args.mode = Mode::Doctor(DoctorArgs { root, form });
                }
                Long("json") => match &mut args.mode {
                    Mode::Doctor(doctor) => doctor.form = Form::Json,
                    _ => return Err(Long("json").unexpected()),
                },
                Long("watcher") => args.mode = Mode::Watcher,
                Long("start-watcher") => args.mode = Mode::StartWatcher(parser.value()?.into()),
                Long("logger") => args.mode = Mode::Logger(parse_logger(&mut parser)?),
                other => return Err(other.unexpected()),
            }
        }
        Ok(args)
    }
}

fn parse_logger(parser: &mut lexopt::Parser) -> Result<LoggerArgs, lexopt::Error> {
    use lexopt::ValueExt;
    Ok(LoggerArgs {
        outputs: parser.value()?.into(),
        logs: parser.value()?.into(),
        max_bytes: parser.value()?.parse()?,
        keep: parser.value()?.parse()?,
        rate: parser.value()?.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, String> {
        Args::parse(words.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_documented_flag_is_read() {
        let words = "-T -c c.toml -S a:1,b -E - -L l.log -l debug -P p.pid";
        let args = parse(&words.split(' ').collect::<Vec<_>>()).expect("valid");
        assert_eq!(args.mode, Mode::Test);
        assert_eq!(args.servers.as_deref(), Some("a:1,b"));
        assert_eq!(args.enrolment_token, Some("-".into()));
        assert_eq!(args.level, LevelFilter::Debug);
    }

    #[test]
    fn the_logger_reads_back_what_the_daemon_writes() {
        let logger = LoggerArgs {
            outputs: "/run/o".into(),
            logs: "/var/log/o".into(),
            max_bytes: 10,
            keep: 5,
            rate: 7,
        };
        let args = Args::parse(logger.to_words()).expect("valid");
        assert_eq!(args.mode, Mode::Logger(logger));
    }

    #[test]
    fn a_wrong_word_is_named() {
        assert!(
            parse(&["--frobnicate"])
                .expect_err("refused")
                .contains("frobnicate")
        );
        assert!(
            parse(&["-l", "loud"])
                .expect_err("refused")
                .contains("loud")
        );
        assert!(parse(&["-c"]).is_err());
    }
}
