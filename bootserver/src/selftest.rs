//! `bootserver serve -T`: would a server start here, and run well?
//!
//! A line per check says ok, warn or fail, with the remedy, as the agents' own
//! `-T` does. The one rule: nothing is created, locked, migrated or changed.

mod validity;

use std::fs::{self, File, TryLockError};
use std::net::TcpListener;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use crate::cli::visible;
use crate::clock::unix_millis;
use crate::config::Config;
use crate::problem::chain;
use crate::serve::tls;
use crate::store::probe::{Tables, probe};

/// 2026-01-01: no build is older, so no clock may be.
const PLAUSIBLE_MILLIS: i64 = 1_767_225_600_000;
/// A database's clock this far from ours confuses who compares times.
const MOST_MILLIS_APART: i64 = 2_000;
/// A certificate is renewed earlier than this before its end.
const CERTIFICATE_DAYS: i64 = 14;
/// Below this a server is soon full; below a sixteenth of it, it is.
const FREE_BYTES: u64 = 1 << 30;
/// Files beside connections: the database, packages, the log.
const OTHER_FILES: u64 = 256;

/// What was found, line by line.
#[derive(Debug, Default)]
pub struct Report {
    lines: String,
    failures: u32,
}

impl Report {
    /// Something is as it should be.
    pub fn ok(&mut self, name: &str, found: &str) {
        self.line("ok", name, found);
    }

    /// Something is not, and a server runs all the same.
    pub fn warn(&mut self, name: &str, found: &str) {
        self.line("warn", name, found);
    }

    /// Something keeps a server from running.
    pub fn fail(&mut self, name: &str, found: &str) {
        self.failures += 1;
        self.line("fail", name, found);
    }

    fn line(&mut self, word: &str, name: &str, found: &str) {
        let found = visible(found);
        self.lines
            .push_str(&format!("{word:<5} {name:<14}{found}\n"));
    }

    /// Every line.
    pub fn text(&self) -> &str {
        &self.lines
    }

    /// Whether a server would start.
    pub fn passed(&self) -> bool {
        self.failures == 0
    }
}

/// Looks at everything `serve` would need.
pub async fn test(config: &Config) -> Report {
    let mut report = Report::default();
    report.ok("configuration", "understood");
    let runs = data(&mut report, &config.data);
    space(&mut report, &config.data);
    database(&mut report, config).await;
    certificate(&mut report, config).await;
    for listen in &config.listen {
        let shown = listen.to_string();
        match TcpListener::bind(listen.address) {
            Ok(_) => report.ok("listen", &shown),
            Err(error) if runs && error.kind() == std::io::ErrorKind::AddrInUse => {
                report.ok("listen", &format!("{shown}, in use: a server runs"));
            }
            Err(error) => report.fail("listen", &format!("{shown}: {error}")),
        }
    }
    if let Some(socket) = &config.socket {
        let shown = socket.display();
        match socket
            .parent()
            .map(|folder| access(folder, AccessFlags::W_OK))
        {
            Some(Ok(())) => report.ok("socket", &shown.to_string()),
            Some(Err(error)) => report.fail("socket", &format!("{shown}: its folder: {error}")),
            None => report.fail("socket", &format!("{shown} is no file's path")),
        }
    }
    files(&mut report, config);
    match unix_millis() {
        now if now < PLAUSIBLE_MILLIS => report.fail(
            "clock",
            "it is before this program was made; set it, for instance with chrony",
        ),
        _ => report.ok("clock", "plausible"),
    }
    report
}

/// The data directory; tells whether a server runs on it.
fn data(report: &mut Report, path: &Path) -> bool {
    let shown = path.display();
    let Ok(found) = fs::metadata(path) else {
        let above = path.ancestors().skip(1).find(|above| above.exists());
        match above.map(|above| access(above, AccessFlags::W_OK)) {
            Some(Ok(())) => report.ok("data", &format!("{shown} will be made")),
            _ => report.fail("data", &format!("{shown} is not there and cannot be made")),
        }
        return false;
    };
    let flags = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    if !found.is_dir() {
        report.fail("data", &format!("{shown} is no folder"));
        return false;
    }
    if let Err(error) = access(path, flags) {
        report.fail("data", &format!("{shown}: {error}; whose is it?"));
        return false;
    }
    let runs = File::open(path.join("lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)));
    match runs {
        true => report.ok("data", &format!("{shown}, in use: a server runs")),
        false => report.ok("data", &shown.to_string()),
    }
    runs
}

fn space(report: &mut Report, path: &Path) {
    let there = path.ancestors().find(|there| there.exists());
    let Some(Ok(found)) = there.map(statvfs) else {
        return report.warn("space", "cannot be asked");
    };
    let free = found.blocks_available() * found.fragment_size();
    let text = format!("{} MiB free", free >> 20);
    // Some file systems count no inodes.
    if found.files() > 0 && found.files_available() < 1000 {
        let text = format!("{} inodes free; remove files", found.files_available());
        report.fail("space", &text);
    }
    match free {
        0..=67_108_863 => report.fail("space", &format!("{text}; make room")),
        67_108_864..FREE_BYTES => report.warn("space", &format!("{text}; make room soon")),
        _ => report.ok("space", &text),
    }
}

async fn database(report: &mut Report, config: &Config) {
    let shown = config.database.to_string();
    let found = match probe(&config.database).await {
        Ok(found) => found,
        Err(error) => return report.fail("database", &format!("{shown}: {}", chain(&error))),
    };
    match found.tables {
        Tables::None => report.ok("database", &format!("{shown}: its tables will be made")),
        Tables::Current => report.ok("database", &shown),
        Tables::Older => report.warn(
            "database",
            &format!("{shown}: the next start brings its tables up to date; have a backup"),
        ),
        Tables::Ahead => report.warn(
            "database",
            &format!("{shown}: a newer bootserver has added to its tables; install that one soon, rollouts are left to it"),
        ),
        Tables::Newer => report.fail(
            "database",
            &format!("{shown}: a newer bootserver has changed its tables; install that one"),
        ),
    }
    if found.ahead.abs() > MOST_MILLIS_APART {
        let text = format!(
            "the database's is {} ms from ours; set both, for instance with chrony",
            found.ahead
        );
        report.warn("clock", &text);
    }
}

async fn certificate(report: &mut Report, config: &Config) {
    let Some(files) = &config.tls else { return };
    let shown = files.certificate.display();
    let own = match tls::usable(files).await {
        Ok(own) => own,
        Err(error) => return report.fail("certificate", &format!("{error:#}")),
    };
    let now = unix_millis() / 1000;
    match validity::of(&own) {
        None => report.warn("certificate", &format!("{shown}: its dates cannot be read")),
        Some(dates) if now < dates.begin => {
            report.fail("certificate", &format!("{shown} does not hold yet"));
        }
        Some(dates) => match (dates.end - now).div_euclid(86_400) {
            ..0 => report.fail("certificate", &format!("{shown} has ended; renew it")),
            days @ 0..CERTIFICATE_DAYS => {
                let text = format!("{shown} ends in {days} days; renew it");
                report.warn("certificate", &text);
            }
            days => report.ok("certificate", &format!("{shown}, {days} days to go")),
        },
    }
}

fn files(report: &mut Report, config: &Config) {
    let places = config.listen.len() as u64;
    let wanted = config.max_connections as u64 * places + OTHER_FILES;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard < wanted => report.warn(
            "open files",
            &format!("{hard} are allowed, {wanted} may be wanted; raise LimitNOFILE"),
        ),
        Ok((_, hard)) => report.ok("open files", &format!("{hard} are allowed")),
        Err(error) => report.warn("open files", &format!("the limit: {error}")),
    }
}
