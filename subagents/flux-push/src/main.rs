//! The program: takes its options and tests or runs.
//!
//! The one rule: every error is shown once, with its causes, where an
//! operator looks for it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bootagent_kit::args::{Options, Program, Request};
use bootagent_kit::{dirs, log as logging};

use flux_push::config::Config;
use flux_push::{check, sample};

const PROGRAM: Program = Program {
    name: "flux-push",
    version: env!("CARGO_PKG_VERSION"),
    summary: "counts the traffic of one interface on the 5-minute grid",
};

fn main() -> ExitCode {
    let outcome = match PROGRAM.parse_env() {
        Ok(Request::Print(text)) => {
            println!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Request::Test(options)) => check::run(&options),
        Ok(Request::Run(options)) => run(&options),
        Err(error) => Err(error.into()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("flux-push: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    logging::init(options.level, options.log_file.as_deref())?;
    let outcome = options
        .config
        .load::<Config>()
        .map_err(anyhow::Error::from)
        .and_then(|config| sample::run(&config, &state_directory()?));
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            // Here and not in main: the log file must have it too.
            log::error!("{error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn state_directory() -> Result<PathBuf> {
    dirs::state().context(
        "STATE_DIRECTORY is not set to an absolute path; \
         BootAgent and systemd set it, by hand give it yourself",
    )
}
