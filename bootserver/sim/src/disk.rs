//! How long the disk takes to make a write safe: what every acknowledgement
//! waits for.

use std::io::{Seek, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

use crate::latency::Histogram;

/// Writes that are measured.
const WRITES: usize = 100;
/// Bytes of each: a page of a database.
const BYTES: usize = 4096;

/// Milliseconds of a write with fdatasync.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Sync {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Measures in a folder, in a file that is gone afterwards.
pub(crate) fn sync_time(folder: &Path) -> anyhow::Result<Sync> {
    let measured = || -> std::io::Result<Sync> {
        let mut file = tempfile::tempfile_in(folder)?;
        let mut histogram = Histogram::new();
        for _ in 0..WRITES {
            let begun = Instant::now();
            file.rewind()?;
            file.write_all(&[1; BYTES])?;
            file.sync_data()?;
            histogram.add(begun.elapsed());
        }
        let found = histogram.quantiles();
        Ok(Sync {
            p50: found.p50,
            p99: found.p99,
        })
    };
    measured().with_context(|| format!("--data: measuring the disk in {}", folder.display()))
}
