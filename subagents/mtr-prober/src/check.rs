//! `-T`: would it run here? Looks, and changes nothing.
//!
//! The one rule: what is a failure here would keep the program from running,
//! and nothing else is.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Result;
use bootagent_kit::args::Options;
use bootagent_kit::check::Report;

use crate::api::listen;
use crate::config::{Config, Listen};
use crate::engine::{BeginError, Engine, Settings, UNPRIVILEGED};
use crate::mesh::{list, peers};
use crate::socket::Rights;

/// Checks configuration and environment and prints a line for each.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut report = Report::new(options.log_file.as_deref())?;
    if let Some(config) = report.config::<Config>(&options.config) {
        check_token(&mut report, &config);
        check_places(&mut report, &config);
        check_lines(&mut report, &config);
        check_mesh(&mut report, &config);
    }
    check_engine(&mut report);
    report.state();
    Ok(report.exit_code())
}

fn check_token(report: &mut Report<'_>, config: &Config) {
    match config.token() {
        Ok(Some(_)) => report.ok("the token can be read"),
        Ok(None) => {}
        Err(error) => report.fail(format!("{:#}", anyhow::Error::from(error))),
    }
}

fn check_places(report: &mut Report<'_>, config: &Config) {
    if config.listen.is_empty() {
        report.warn("`listen` is empty: nobody can order a measurement");
    }
    for place in &config.listen {
        // A Unix socket cannot be tried without making it.
        let Listen::Tcp(address) = place else {
            continue;
        };
        match TcpListener::bind(address) {
            Ok(_) => report.ok(format!("{place} is free")),
            // Tried again while it runs; and it may be ourselves who has it.
            Err(error) => {
                let holder = listen::holder(place).map(|it| format!(", {it} has it"));
                report.warn(format!("{place}: {error}{}", holder.unwrap_or_default()));
            }
        }
    }
}

fn check_lines(report: &mut Report<'_>, config: &Config) {
    for name in config.lines.keys() {
        match config.source(Some(name)) {
            Ok(_) => report.ok(format!("line {name} has its source")),
            // The line may come up later.
            Err(error) => report.warn(format!("line {name}: {error}")),
        }
    }
}

fn check_mesh(report: &mut Report<'_>, config: &Config) {
    match config.mesh.keys() {
        Ok(keys) if keys.is_empty() => {}
        Ok(_) => report.ok("the group's key can be read"),
        Err(error) => report.fail(format!("{:#}", anyhow::Error::from(error))),
    }
    let Some(path) = &config.mesh.peers_file else {
        return;
    };
    match list::check(path) {
        Ok(count) => {
            report.ok(format!("{} has {count} peers", path.display()));
            if let Some(said) = peers::beyond_budget(count, config.budget) {
                report.warn(said);
            }
        }
        // The last good list would be used, and the program runs without any.
        Err(error) => report.warn(error),
    }
}

fn check_engine(report: &mut Report<'_>) {
    match Engine::start(Settings::default()) {
        Ok((engine, _)) => match engine.rights() {
            Rights::Raw => report.ok(format!(
                "probes can be sent, with a receive buffer of {} bytes",
                engine.receive_buffer()
            )),
            Rights::Ping => report.warn(format!(
                "without CAP_NET_RAW there are {UNPRIVILEGED} measurements at once at most, and no peer is pinged; give it to the program for more"
            )),
            Rights::Nothing => report.warn(BeginError::NotPermitted.to_string()),
        },
        Err(error) => report.fail(format!("{:#}", anyhow::Error::from(error))),
    }
}
