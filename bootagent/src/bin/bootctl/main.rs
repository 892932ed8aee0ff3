//! The `bootctl` program: a person's way to the daemon of this host. Packages
//! call it bootagentctl, because the other name belongs to systemd.
//!
//! [`args`] is what was typed, [`show`] what is printed; `doctor` is done by
//! bootagent itself, which has everything the checks need.

mod args;
mod doctor;
mod sha256;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use args::{Args, Order};
use bootagent::control::client::ask;
use bootagent::control::{Reply, Request};
use bootagent::paths::Paths;
use show::Extent;

/// Longest wait for an answer: an agent may have an hour to stop.
const ANSWER_WITHIN: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    let args = match args::parse(lexopt::Parser::from_env()) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{}: {error}\n\n{}", args::own_name(), args::help());
            return ExitCode::from(2);
        }
    };
    let done = match &args.order {
        Order::Print(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Order::Sha256(files) => Ok(sha256::print(files, args.as_json)),
        Order::Doctor { config } => doctor::run(&args, config.as_deref()),
        Order::Ask(request, extent) => answer(&args, request, *extent),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{}: {error:#}", args::own_name());
        ExitCode::FAILURE
    })
}

fn answer(args: &Args, request: &Request, extent: Extent) -> anyhow::Result<ExitCode> {
    let packet = ask(&Paths::new(&args.root).socket(), request, ANSWER_WITHIN)?;
    let reply: Reply = serde_json::from_slice(&packet)
        .context("the daemon's answer is of another version: restart it after an upgrade")?;
    if args.as_json {
        println!("{}", String::from_utf8_lossy(&packet));
    } else {
        show::show(extent, &reply);
    }
    Ok(match reply {
        Reply::Failed(_) => ExitCode::FAILURE,
        Reply::Status(_) | Reply::Jobs(_) | Reply::Events(_) | Reply::Done(_) => ExitCode::SUCCESS,
    })
}
