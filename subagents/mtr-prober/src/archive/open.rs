//! Finding what a former process left, whatever it was doing when it ended.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use bootagent_kit::date::Date;
use bootagent_kit::fs::{self, FsError};
use uuid::Uuid;

use super::segment::{GONE, REPORTS, Segment};
use super::tail::{Found, Tail};
use super::{Archive, ArchiveError, Kept, Options, Write, chain};
use crate::report::{Instant, Report, State};

/// The directory below the state directory.
const DIRECTORY: &str = "reports";
const LOCK_FILE: &str = "lock";
const STATE_FILE: &str = "state.json";
const MAX_STATE_BYTES: u64 = 4096;
/// What is said of a measurement that a crash ended.
const INTERRUPTED: &str = "mtr-prober or the machine ended while this was measured; it is never run again: ask for a new one";

impl Archive {
    /// Opens the archive below `state`. What a crash interrupted ends now: it is handed out, and
    /// already kept.
    pub fn open(
        state: &Path,
        options: Options,
        now: Instant,
    ) -> Result<(Self, Vec<Report>), ArchiveError> {
        let directory = state.join(DIRECTORY);
        fs::ensure_dir(&directory, 0o750)?;
        let lock = lock(&directory)?;
        fs::remove_stale_temporaries(&directory)?;
        let mut kept = read_state(&directory.join(STATE_FILE))?;
        let today = Date::of_unix(now.unix_ms.div_euclid(1000));

        let mut segments = find(&directory)?;
        let last = segments.pop_if(|it| !it.is_gone && !it.is_sealed());
        let (tail, found) = match last {
            Some(last) => Tail::open(last)?,
            None => {
                let number = segments.last().map_or(1, |it| it.number + 1);
                let tail = Tail::create(&directory, number, today, &super::Open::new())?;
                (tail, Found::default())
            }
        };
        if found.torn > 0 {
            log::warn!("{} torn bytes cut off the newest reports", found.torn);
        }
        if found.damaged > 0 {
            log::error!("the newest reports are damaged at {} places", found.damaged);
        }
        kept.torn_bytes += found.torn;
        kept.damaged += found.damaged;

        let mut newest: BTreeSet<Uuid> = tail.entries.iter().map(|it| it.summary.id).collect();
        for segment in &mut segments {
            take_in(segment, &mut newest)?;
        }
        while newest.len() > super::upload::FIRST {
            newest.pop_first();
        }
        let mut archive = Self {
            directory,
            options,
            segments,
            tail,
            open: found.open,
            newest,
            unwritten: std::collections::VecDeque::new(),
            kept,
            syncs: 0,
            trouble: None,
            lock,
        };
        if found.torn > 0 || found.damaged > 0 {
            // A full disk must not keep the engine from starting; the count then begins anew.
            if let Err(error) = archive.keep() {
                log::warn!("the damage is not counted for ever: {}", chain(&error));
            }
        }
        let interrupted = archive.interrupt(now);
        Ok((archive, interrupted))
    }

    /// Ends what was open.
    fn interrupt(&mut self, now: Instant) -> Vec<Report> {
        let ended = |report: Report| Report {
            state: State::Interrupted,
            ended_at: Some(now),
            problem: Some(INTERRUPTED.to_owned()),
            ..report
        };
        let open = self
            .open
            .values()
            .filter_map(|json| serde_json::from_slice(json).ok());
        let interrupted: Vec<Report> = open.map(ended).collect();
        if !interrupted.is_empty() {
            let batch: Vec<Write<'_>> = interrupted.iter().map(Write::Ended).collect();
            // What cannot be written now waits in memory, and is open again after the next crash.
            let _ = self.commit(&batch, now.unix_ms);
        }
        interrupted
    }

    pub(super) fn keep(&self) -> Result<(), ArchiveError> {
        let json = serde_json::to_vec(&self.kept).expect("numbers are always JSON");
        fs::write_atomic(&self.directory.join(STATE_FILE), &json, 0o640)?;
        Ok(())
    }
}

/// The files of all days by their numbers.
fn find(directory: &Path) -> Result<Vec<Segment>, ArchiveError> {
    let mut segments: Vec<Segment> = Vec::new();
    for folder in list(directory)? {
        let name = folder
            .file_name()
            .and_then(|it| it.to_str())
            .unwrap_or_default();
        let Ok(day) = name.parse::<Date>() else {
            continue;
        };
        fs::remove_stale_temporaries(&folder)?;
        for path in list(&folder)? {
            let stem = path
                .file_stem()
                .and_then(|it| it.to_str())
                .unwrap_or_default();
            let suffix = path
                .extension()
                .and_then(|it| it.to_str())
                .unwrap_or_default();
            let Ok(number) = stem.parse() else {
                continue;
            };
            if [REPORTS, GONE].contains(&suffix) {
                segments.push(Segment::new(folder.clone(), number, day));
            }
        }
    }
    segments.sort_by_key(|it| it.number);
    segments.dedup_by_key(|it| it.number);
    for segment in &mut segments {
        segment.is_gone = segment.path(GONE).exists();
    }
    Ok(segments)
}

/// Learns what is in a complete file, and completes what a crash left half done.
fn take_in(segment: &mut Segment, newest: &mut BTreeSet<Uuid>) -> Result<(), ArchiveError> {
    if segment.is_gone {
        segment.remove_reports()?;
        let ids = segment.gone_ids()?;
        segment.ids = ids.iter().fold(segment.ids, |(least, most), id| {
            (least.min(*id), most.max(*id))
        });
        segment.count = ids.len() as u64;
    } else {
        let entries = segment.entries()?;
        segment.count_in(&entries, &segment.marks()?);
        for entry in &entries {
            newest.insert(entry.summary.id);
            if newest.len() > super::upload::FIRST {
                newest.pop_first();
            }
        }
    }
    segment.bytes = segment.measure();
    Ok(())
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, FsError> {
    let fail = |e| FsError::new("list", directory, e);
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(directory).map_err(fail)?;
    entries
        .map(|entry| entry.map(|it| it.path()).map_err(fail))
        .collect()
}

fn lock(directory: &Path) -> Result<File, ArchiveError> {
    let lock = fs::try_lock(&directory.join(LOCK_FILE), 0o640)?;
    lock.ok_or_else(|| ArchiveError::Locked(directory.to_owned()))
}

/// A state that is missing or unreadable costs the counts, not reports.
fn read_state(path: &Path) -> Result<Kept, ArchiveError> {
    match fs::read_limited(path, MAX_STATE_BYTES) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            log::warn!(
                "{} is damaged, its counts begin anew: {error}",
                path.display()
            );
            Kept::default()
        })),
        Err(error) if error.is_not_found() => Ok(Kept::default()),
        Err(error) => Err(error.into()),
    }
}
