//! `bootctl sha256`: checksums of packages, as a job wants them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bootagent_protocol::Checksum;
use serde_json::json;
use sha2::{Digest, Sha256};

/// What is read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Prints a line per file; one that cannot be read is told and fails it all.
pub(crate) fn print(files: &[PathBuf], as_json: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for path in files {
        match checksum_of(path) {
            Ok(sum) if as_json => {
                found.push(json!({ "path": path.to_string_lossy(), "checksum": sum.to_string() }));
            }
            Ok(sum) => crate::show::say(format_args!("{sum}  {}", path.display())),
            Err(error) => {
                eprintln!("{}: {}: {error}", crate::args::own_name(), path.display());
                code = ExitCode::FAILURE;
            }
        }
    }
    if as_json {
        crate::show::say(serde_json::Value::from(found));
    }
    code
}

fn checksum_of(path: &Path) -> io::Result<Checksum> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Checksum(hash.finalize().into())),
            count => hash.update(&chunk[..count]),
        }
    }
}
