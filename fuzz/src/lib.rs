//! What the targets share. Each target feeds one kind of foreign bytes to the
//! code that takes them on a host or on the server, and checks what must hold
//! of the outcome: not to panic is not enough.

use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

/// A folder of this process. It is emptied by who uses it; what a crash leaves
/// goes with the `TMPDIR` that contrib/fuzz.sh gives.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| tempfile::tempdir().expect("a temporary folder"))
        .path()
}
