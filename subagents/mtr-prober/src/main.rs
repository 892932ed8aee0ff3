//! The program: takes its words and measures.
//!
//! The one rule: every error is shown once, with its causes, where whoever typed the words looks.

use std::process::ExitCode;

use anyhow::{Result, bail};
use mtr_prober::command::{self, Words};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mtr-prober: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let first = words.next().unwrap_or_default();
    match first.to_str() {
        Some("trace") => command::run(&Words::parse(words)?),
        Some("-V" | "--version") => {
            println!("mtr-prober {VERSION}");
            Ok(())
        }
        Some("-h" | "--help") => {
            println!(
                "mtr-prober: measures the way to a host\n\n\
                 Usage: mtr-prober trace [OPTIONS] HOST\n\n{}",
                command::HELP
            );
            Ok(())
        }
        _ => bail!("say `trace HOST`; -h tells more"),
    }
}
