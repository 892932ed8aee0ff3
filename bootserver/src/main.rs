//! The `bootserver` program: arguments, logging, exit code.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bootserver::backup;
use bootserver::config::{Config, LogFormat, OneOrMany, Settings};
use bootserver::data_dir;
use bootserver::store::address::AddressText;
use tracing_subscriber::EnvFilter;

/// Also that of SQLite: a status allocates about 150 times, and what the C library does
/// for that is a sixth of its cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
bootserver: the control platform of BootAgent

The platform itself:

  serve                    run it
  migrate                  bring the database up to date, and end
  backup DIR               copy a SQLite database and the packages to a new folder,
                           while the server runs
  restore DIR              put such a copy where there is no database; open jobs end
  close-jobs               end all open jobs, after a pg_restore
  import FILE              copy a SQLite file, and the packages in blobs beside it,
                           into an empty PostgreSQL database
  reset-password NAME      give a user a one-time password, while the server runs or not
  openapi                  print the OpenAPI document
  -T                       test configuration and machine for serve; changes nothing
  -V, --version            print the version
  -h, --help               print this help

Their options, which win over the configuration:
  -c, --config FILE        configuration (TOML)
  --listen ADDRESS:PORT    where to listen [0.0.0.0:8080]; may be repeated; port 0 takes
                           a free one; http:// or https:// may stand before it
  --tls-cert FILE          certificate chain (PEM): TLS is spoken; read again when it changes
  --tls-key FILE           its key (PEM)
  --trusted-proxy CIDR     whose X-Forwarded-For and -Proto count; may be repeated
  --socket FILE            Unix socket on which root of this machine needs no token
  --metrics-listen A:P     serves /metrics without a token, and nothing else
  --data DIR               database, packages, lock [/var/lib/bootserver]
  --database DATABASE      SQLite file [DIR/bootserver.db] or postgres://USER@HOST/NAME
  --database-file FILE     its first line says the same, and may hold a password
  --address-file FILE      gets ADDRESS:PORT once requests are served
  -l, --log-level LEVEL    error, warn, info, debug, trace [info]
  --log-format FORMAT      text or json [text]

The first start makes the user admin with a one-time password, an API token and an
enrolment token. They are printed to a terminal, and otherwise written to DIR/first-start.txt, which only its owner reads.
";

enum Command {
    Serve(Box<Config>),
    /// `-T`: look whether `serve` would work.
    Test(anyhow::Result<Box<Config>>),
    Task(Task, Box<Config>),
    OpenApi,
    Version,
    Help,
}

/// What is done to the database itself, while no server runs; a backup also
/// while one does.
enum Task {
    Migrate,
    Backup(PathBuf),
    Restore(PathBuf),
    CloseJobs,
    Import(PathBuf),
    ResetPassword(PathBuf),
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if bootserver::cli::is_meant(&words) {
        return bootserver::cli::run(words);
    }
    match run(words) {
        Ok(code) => code,
        Err(error) => {
            // The log may not be set up yet, and this must be seen.
            let _ = writeln!(std::io::stderr(), "bootserver: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: Vec<OsString>) -> anyhow::Result<ExitCode> {
    match parse(words)? {
        Command::Serve(config) => {
            log_to_stderr(&config.log_level, config.log_format)?;
            let runtime = runtime()?;
            let served = runtime.block_on(bootserver::serve::serve(*config));
            // What still runs on a thread of its own is not worth the wait.
            runtime.shutdown_timeout(Duration::from_secs(1));
            served?;
        }
        Command::Test(config) => return test(config),
        Command::Task(task, config) => {
            log_to_stderr(&config.log_level, config.log_format)?;
            let done = runtime()?.block_on(perform(task, &config));
            given(&config.data)?;
            let told = done?;
            print(&format!("{told}\n"))?;
        }
        Command::OpenApi => print(&bootserver::openapi::document())?,
        Command::Version => print(&format!("bootserver {}\n", bootserver::VERSION))?,
        Command::Help => print(&format!("{HELP}\n{}", bootserver::cli::help()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn test(config: anyhow::Result<Box<Config>>) -> anyhow::Result<ExitCode> {
    let report = match config {
        Ok(config) => runtime()?.block_on(bootserver::selftest::test(&config)),
        Err(error) => {
            let mut report = bootserver::selftest::Report::default();
            report.fail("configuration", &format!("{error:#}"));
            report
        }
    };
    print(report.text())?;
    Ok(match report.passed() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("starting the runtime")
}

/// Root did it, and the server is another user.
fn given(data: &Path) -> anyhow::Result<()> {
    match data_dir::give_to_owner(data) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let what = format!("giving what was made in {} to its owner", data.display());
            Err(error).context(what)
        }
        _ => Ok(()),
    }
}

/// Does it, and returns what is said of it.
async fn perform(task: Task, config: &Config) -> anyhow::Result<String> {
    // Databases and packages are nobody else's to read.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    match task {
        Task::Migrate => backup::migrate(config).await,
        Task::Backup(to) => backup::backup(config, &to).await,
        Task::Restore(from) => backup::restore(config, &from).await,
        Task::CloseJobs => backup::close_jobs(config).await,
        Task::Import(from) => backup::import(config, &from).await,
        Task::ResetPassword(name) => {
            let name = name.to_string_lossy();
            bootserver::reset_password::reset_password(config, &name).await
        }
    }
}

fn parse(arguments: Vec<OsString>) -> anyhow::Result<Command> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_args(arguments);
    let command = match parser.next()? {
        Some(Value(word)) if word == "openapi" => Command::OpenApi,
        Some(Value(word)) if COMMANDS.iter().any(|(known, _)| word == *known) => {
            parse_work(&word, &mut parser)?
        }
        Some(Short('T')) => parse_work(OsStr::new("-T"), &mut parser)?,
        Some(Short('V') | Long("version")) => Command::Version,
        Some(Short('h') | Long("help")) => Command::Help,
        Some(Value(word)) => bail!("{word:?} is no command; bootserver -h lists them"),
        Some(other) => return Err(wrong(other)),
        None => bail!("a command is expected; bootserver -h lists them"),
    };
    match parser.next()? {
        Some(rest) => Err(wrong(rest)),
        None => Ok(command),
    }
}

fn wrong(argument: lexopt::Arg<'_>) -> anyhow::Error {
    anyhow!("{}; bootserver -h explains", argument.unexpected())
}

/// Commands that read the configuration, and what each is about beside it.
const COMMANDS: [(&str, Option<&str>); 7] = [
    ("serve", None),
    ("migrate", None),
    ("backup", Some("DIR")),
    ("restore", Some("DIR")),
    ("close-jobs", None),
    ("import", Some("FILE")),
    ("reset-password", Some("NAME")),
];

fn parse_work(word: &OsStr, parser: &mut lexopt::Parser) -> anyhow::Result<Command> {
    use lexopt::prelude::*;
    let about = COMMANDS.iter().find(|(known, _)| word == *known);
    let about = about.and_then(|(_, about)| *about);
    let mut path = None;
    let mut flags = Settings::default();
    let mut file = None;
    let mut is_test = word == "-T";
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') | Long("config") => file = Some(PathBuf::from(parser.value()?)),
            Long("listen") => OneOrMany::add(&mut flags.listen, parser.value()?.string()?),
            Long("tls-cert") => flags.tls_cert = Some(parser.value()?.into()),
            Long("tls-key") => flags.tls_key = Some(parser.value()?.into()),
            Long("trusted-proxy") => {
                OneOrMany::add(&mut flags.trusted_proxy, parser.value()?.string()?);
            }
            Long("socket") => flags.socket = Some(parser.value()?.into()),
            Long("metrics-listen") => flags.metrics_listen = Some(parser.value()?.string()?),
            Long("log-format") => flags.log_format = Some(parser.value()?.parse()?),
            Long("data") => flags.data = Some(parser.value()?.into()),
            Long("database") => {
                let text = parser.value()?.string()?;
                let text = AddressText::argument(&text).context("--database")?;
                flags.database = Some(text);
            }
            Long("database-file") => flags.database_file = Some(parser.value()?.into()),
            Long("address-file") => flags.address_file = Some(parser.value()?.into()),
            Short('l') | Long("log-level") => flags.log_level = Some(parser.value()?.string()?),
            Short('T') if word == "serve" => is_test = true,
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Value(value) if about.is_some() && path.is_none() => path = Some(PathBuf::from(value)),
            other => return Err(wrong(other)),
        }
    }
    let config = (|| {
        let file = file.map(|path| Settings::from_file(&path)).transpose()?;
        let config = flags.or(file.unwrap_or_default()).into_config()?;
        Ok(Box::new(config))
    })();
    if is_test {
        return Ok(Command::Test(config));
    }
    let config = config?;
    let path = match (about, path) {
        (Some(about), None) => bail!("{about} is expected; bootserver -h explains"),
        (_, path) => path.unwrap_or_default(),
    };
    let task = match word.to_str() {
        Some("migrate") => Task::Migrate,
        Some("backup") => Task::Backup(path),
        Some("restore") => Task::Restore(path),
        Some("close-jobs") => Task::CloseJobs,
        Some("import") => Task::Import(path),
        Some("reset-password") => Task::ResetPassword(path),
        _ => return Ok(Command::Serve(config)),
    };
    Ok(Command::Task(task, config))
}

fn log_to_stderr(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level).with_context(|| {
        format!("log level {level:?}: error, warn, info, debug or trace is expected")
    })?;
    // It would tell each statement in full at `debug`.
    let quiet = "sqlx=warn".parse().context("the filter of the database")?;
    let filter = filter.add_directive(quiet);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init(),
    }
    Ok(())
}

/// To standard output; a reader that went away is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}
