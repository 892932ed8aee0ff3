//! The program: takes its words and measures, tests or runs.
//!
//! The one rule: every error is shown once, with its causes, where whoever typed the words looks.

use std::process::ExitCode;

use anyhow::{Context, Result};
use bootagent_kit::args::{Options, Program, Request};
use bootagent_kit::{dirs, log as logging};
use mtr_prober::command::{self, Words};
use mtr_prober::config::Config;
use mtr_prober::{check, daemon};

const PROGRAM: Program = Program {
    name: "mtr-prober",
    version: env!("CARGO_PKG_VERSION"),
    summary: "measures the way to many targets and says where loss begins",
};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).peekable();
    let outcome = match words.next_if(|word| word == "trace") {
        Some(_) => trace(words.collect()),
        None => serve(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("mtr-prober: {error:#}");
        ExitCode::FAILURE
    })
}

fn trace(words: Vec<std::ffi::OsString>) -> Result<ExitCode> {
    let words = Words::parse(words)?;
    // Whoever may not read it, or finds it damaged, measures all the same.
    let config = match PROGRAM.parse([]) {
        Ok(Request::Run(options)) => options.config.load::<Config>().unwrap_or_default(),
        _ => Config::default(),
    };
    command::run(&words, &config).map(|()| ExitCode::SUCCESS)
}

fn serve() -> Result<ExitCode> {
    match PROGRAM.parse_env()? {
        Request::Print(text) => {
            println!("{text}");
            if text.contains("Usage") {
                println!(
                    "\n       mtr-prober trace [OPTIONS] HOST\n\n{}",
                    command::HELP
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Request::Test(options) => check::run(&options),
        Request::Run(options) => run(&options),
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    logging::init(options.level, options.log_file.as_deref())?;
    let state = dirs::state().context(
        "STATE_DIRECTORY is not set to an absolute path; \
         BootAgent and systemd set it, by hand give it yourself",
    );
    match state.and_then(|state| daemon::run(&options.config, &state)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            // Here and not in main: the log file must have it too.
            log::error!("{error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}
