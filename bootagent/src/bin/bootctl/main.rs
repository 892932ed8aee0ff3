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

/// Longest wait for what the daemon has at hand: one that hangs is told.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Longest wait for what takes its time: an agent may have an hour to stop.
const DONE_WITHIN: Duration = Duration::from_secs(3600);

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
            show::say(text.trim_end());
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
    let within = match request {
        Request::Status | Request::Jobs | Request::Events | Request::Call => ANSWER_WITHIN,
        Request::Start { .. }
        | Request::Stop { .. }
        | Request::StopAll
        | Request::Restart { .. }
        | Request::Reexec => DONE_WITHIN,
    };
    let answer = ask(&Paths::new(&args.root).socket(), request, within)?;
    let reply: Reply = serde_json::from_slice(&answer)
        .context("the daemon's answer is of another version: restart it after an upgrade")?;
    if args.as_json {
        show::say(String::from_utf8_lossy(&answer));
    } else {
        show::show(extent, &reply);
    }
    Ok(match reply {
        Reply::Failed(_) => ExitCode::FAILURE,
        Reply::Status(_) | Reply::Jobs(_) | Reply::Events(_) | Reply::Done(_) => ExitCode::SUCCESS,
    })
}
