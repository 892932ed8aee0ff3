//! The configuration file and the log file of this test.
//!
//! The one rule: what the daemon would silently take a default for is said.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bootagent_kit::fs::FsError;

use super::{Check, chain};
use crate::args::Args;
use crate::config::Config;
use crate::paths::Paths;

const NAME: &str = "configuration";

/// Whether the report goes to the file of `-L` too.
pub(super) fn log_file(path: &Path, opened: Result<(), FsError>) -> Check {
    match opened {
        Ok(()) => Check::ok("log", format!("appended to {}", path.display())),
        Err(error) => {
            let text = format!(
                "{}; name a file in a folder that exists with -L",
                chain(error)
            );
            Check::fail("log", text)
        }
    }
}

/// Reads the configuration as the daemon would; `None` when it would not
/// start with it.
pub(super) fn load(args: &Args) -> (Vec<Check>, Option<Config>) {
    let path = args.config.clone().unwrap_or_else(default_path);
    let shown = path.display();
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(error) => return (vec![Check::fail(NAME, chain(error))], None),
    };
    let check = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.permissions().mode() & 0o002 != 0 => {
            let text = format!("{shown} can be written by everybody; chmod o-w {shown}");
            Check::warn(NAME, text)
        }
        Ok(_) => Check::ok(
            NAME,
            format!("{shown} is valid, root is {}", config.root.display()),
        ),
        Err(_) if args.config.is_some() => {
            let text = format!("there is no {shown}, every default holds; check the path after -c");
            Check::warn(NAME, text)
        }
        Err(_) => Check::ok(NAME, format!("there is no {shown}, every default holds")),
    };
    (vec![check], Some(config))
}

fn default_path() -> PathBuf {
    Paths::new(Path::new("/")).config()
}
