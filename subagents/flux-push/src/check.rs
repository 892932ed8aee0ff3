//! `-T`: would it run here? Looks, and changes nothing.
//!
//! The one rule: what is a failure here would keep the program from running,
//! and nothing else is.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use bootagent_kit::args::{ConfigPath, Options};
use bootagent_kit::check::Report;
use bootagent_kit::{clock, dirs};
use nix::unistd::{AccessFlags, access};

use crate::config::Config;
use crate::read::{self, ReadError};

/// Checks configuration and environment and prints a line for each.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut report = Report::new(options.log_file.as_deref())?;
    let path = options.config.path().display();
    match options.config.load::<Config>() {
        Ok(config) => {
            let found = match (&options.config, options.config.path().exists()) {
                (ConfigPath::Usual(_), false) => format!("no {path}, using the defaults"),
                _ => format!("{path} is valid"),
            };
            report.ok(found);
            check_interface(&mut report, &config);
        }
        Err(error) => report.fail(format!("{:#}", anyhow::Error::from(error))),
    }
    check_state(&mut report);
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

fn check_state(report: &mut Report) {
    let Some(state) = dirs::state() else {
        return report.warn("STATE_DIRECTORY is not set; it must be to run");
    };
    let shown = state.display();
    let nearest = nearest_existing(&state);
    match access(nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) if nearest == state => report.ok(format!("{shown} is writable")),
        Ok(()) => report.ok(format!("{shown} can be made")),
        Err(error) => report.fail(format!(
            "{} is not writable: {error}; give it to the user this runs as",
            nearest.display()
        )),
    }
}

/// The path itself, or what of it exists.
fn nearest_existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"))
}
