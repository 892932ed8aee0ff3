//! The `bootserver-sim` program: simulated hosts that try and measure a
//! server.
//!
//! It speaks the protocol's own types at the times of bootagent-core's own
//! schedule. One thread does everything, so that the cores are the server's.

mod agenda;
mod args;
mod disk;
mod drive;
mod enrol;
mod http;
mod identities;
mod install;
mod latency;
mod ledger;
mod machine;
mod orders;
mod post;
mod process;
mod random;
mod report;
mod run;
mod selftest;
mod stop;
mod tally;
mod world;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use args::Command;

fn main() -> ExitCode {
    match begin() {
        Ok(code) => code,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn begin() -> anyhow::Result<ExitCode> {
    let options = match args::parse(std::env::args_os().skip(1).collect())? {
        Command::Version => {
            print(&format!("bootserver-sim {}\n", env!("CARGO_PKG_VERSION")))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Help => {
            print(args::HELP)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Run(options) => options,
    };
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let is_good = match options.test {
        true => runtime.block_on(selftest::test(&options))?,
        false => runtime.block_on(run::run(&options))?,
    };
    Ok(match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Progress, and what is wrong.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "bootserver-sim: {text}");
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

/// Each call takes a file; the usual soft limit of 1024 is far below a fleet.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        say(&format!("the limit of open files stays as it is: {error}"));
    }
}
