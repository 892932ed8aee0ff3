//! `-T`: would it run here? Looks, and changes nothing.
//!
//! The one rule: what is a failure here would keep the program from running,
//! and nothing else is.

use std::process::ExitCode;

use anyhow::Result;
use bootagent_kit::args::Options;
use bootagent_kit::check::Report;
use bootagent_kit::clock;

use crate::config::Config;
use crate::read::{self, ReadError};

/// Checks configuration and environment and prints a line for each.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut report = Report::new(options.log_file.as_deref())?;
    if let Some(config) = report.config::<Config>(&options.config) {
        check_interface(&mut report, &config);
    }
    report.state();
    Ok(report.exit_code())
}

fn check_interface(report: &mut Report, config: &Config) {
    let boot_id = match clock::boot_id() {
        Ok(boot_id) => boot_id,
        Err(error) => return report.fail(format!("the boot id cannot be read: {error}")),
    };
    let reading =
        read::choose(config.interface.as_deref()).and_then(|name| read::read(&name, &boot_id));
    match reading {
        Ok(reading) => {
            let interface = reading.interface;
            let (name, mac) = (interface.name, interface.mac);
            report.ok(format!("interface {name} {mac} can be read"));
            if !read::is_physical(&name) {
                report.warn(format!(
                    "{name} is virtual: traffic it shares with others may be counted twice"
                ));
            }
        }
        // Waited for when it runs: the network may come up later.
        Err(error @ (ReadError::NoDefaultRoute | ReadError::NoInterface(_))) => {
            report.warn(error.to_string());
        }
        Err(error) => report.fail(format!("{:#}", anyhow::Error::from(error))),
    }
}
