//! Headers of packages: as the server reads rpm, deb and bundle from the file,
//! and as a host reads what rpm and dpkg-deb print.
#![no_main]

// The server's reader alone: what else a server is would only take time to build.
#[path = "../../bootserver/src"]
mod server {
    pub mod package;
}

// Where the reader finds its neighbours.
#[path = "../../bootserver/src/fleet"]
#[expect(dead_code, reason = "part of another crate")]
mod fleet {
    pub mod package_choice;
}
mod problem {
    pub(crate) fn chain(error: &dyn std::error::Error) -> String {
        error.to_string()
    }
}

use bootagent::package::{Command, Exit, Expected, Kind, Output, check, inspect};
use bootagent_protocol::AgentName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = fuzz::folder().join("package");
    std::fs::write(&path, data).expect("writable");
    let _ = server::package::inspect(std::io::Cursor::new(data));
    let _ = Kind::of(&path);
    let printed = |_: &Command| {
        Ok(Output {
            exit: Exit::Code(0),
            stdout: data.to_vec(),
            stderr: Vec::new(),
        })
    };
    let expected = Expected {
        name: AgentName::parse("a").expect("valid"),
        version: None,
    };
    for kind in [Kind::Rpm, Kind::Deb] {
        if let Ok(header) = inspect(&path, kind, &printed) {
            assert!(!header.name.is_empty() && !header.full_version().is_empty());
            let _ = check(&header, &expected);
        }
    }
});
