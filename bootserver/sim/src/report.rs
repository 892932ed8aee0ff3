//! What a run showed: for a person, or as JSON for a script.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::disk::Sync;
use crate::http::Broken;
use crate::latency::Quantiles;
use crate::ledger::Account;
use crate::process::Usage;

/// Everything that was measured. Times are milliseconds unless their name says
/// otherwise.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) mode: &'static str,
    pub(crate) hosts: usize,
    pub(crate) seconds: f64,
    /// Whether a signal ended it early.
    pub(crate) interrupted: bool,
    pub(crate) posts: u64,
    pub(crate) answered: u64,
    pub(crate) posts_per_second: f64,
    pub(crate) latency_ms: Quantiles,
    /// How late this program was itself; more than a few milliseconds, and the
    /// latency is its own.
    pub(crate) lag_ms: Quantiles,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) broken: BTreeMap<&'static str, u64>,
    /// Answers nobody should get; jobs for the wrong host.
    pub(crate) wrong: u64,
    pub(crate) body_bytes: u64,
    pub(crate) changed: u64,
    pub(crate) faults: Faults,
    pub(crate) events: Option<Account>,
    pub(crate) results: Option<Account>,
    pub(crate) jobs_ordered: u64,
    pub(crate) installs: Option<Installs>,
    pub(crate) herd: Option<Herd>,
    pub(crate) server: Option<Server>,
    pub(crate) simulator: Usage,
    pub(crate) sync_ms: Option<BeforeAfter>,
}

/// What was done to the server on purpose, and came back.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Faults {
    pub(crate) clones: u64,
    pub(crate) register_again: u64,
    pub(crate) reboots: u64,
    pub(crate) rotations: u64,
}

/// Packages that jobs brought, from the run's first second on.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Installs {
    pub(crate) downloads: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_second: f64,
    /// How often the server had no place.
    pub(crate) busy: u64,
    /// From the first try to the last byte.
    pub(crate) took_ms: Quantiles,
    pub(crate) succeeded: u64,
    /// By error code.
    pub(crate) failed: BTreeMap<u16, u64>,
    /// Succeeded, and crashed after that.
    pub(crate) crashed: u64,
}

/// How evenly a fleet came back.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Herd {
    /// Per step: the busiest second against the mean.
    pub(crate) peak_to_mean: Vec<f64>,
    /// Until every host had an answer, in steps; none if that did not happen.
    pub(crate) all_answered_steps: Option<f64>,
}

/// The server's processes, its database's included.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Server {
    pub(crate) cpu_seconds: f64,
    pub(crate) cores: f64,
    pub(crate) cpu_us_per_post: f64,
    pub(crate) posts_per_cpu_second: f64,
    pub(crate) rss_mb: f64,
    pub(crate) pss_mb: f64,
}

/// The disk, before and after.
#[derive(Debug, Serialize)]
pub(crate) struct BeforeAfter {
    pub(crate) before: Sync,
    pub(crate) after: Sync,
}

/// What a broken call is called in a report.
pub(crate) fn word(broken: Broken) -> &'static str {
    match broken {
        Broken::Refused => "refused",
        Broken::TimedOut => "timed out",
        Broken::Cut => "cut",
        Broken::Unreadable => "unreadable",
        Broken::Injected => "cut on purpose",
    }
}

impl Report {
    /// Whether the server did all it promised.
    pub(crate) fn is_clean(&self) -> bool {
        let accounts = [&self.events, &self.results];
        self.wrong == 0 && accounts.into_iter().flatten().all(Account::is_clean)
    }

    /// For a person.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            writeln!(text, "{name:<22}{value}").expect("a string takes it");
        };
        let ended = if self.interrupted {
            ", interrupted"
        } else {
            ""
        };
        row(
            "run",
            format!(
                "{}, {} hosts, {:.1} s{ended}",
                self.mode, self.hosts, self.seconds
            ),
        );
        row(
            "posts",
            format!(
                "{} ({:.0}/s), {} answered with 2xx, {} bytes each, {} changed",
                self.posts, self.posts_per_second, self.answered, self.body_bytes, self.changed
            ),
        );
        row("latency ms", quantiles(&self.latency_ms));
        row("own lateness ms", quantiles(&self.lag_ms));
        for (status, count) in &self.statuses {
            row(&format!("status {status}"), count.to_string());
        }
        for (word, count) in &self.broken {
            row(word, count.to_string());
        }
        row("wrong answers", self.wrong.to_string());
        for (name, account) in [("events", &self.events), ("results", &self.results)] {
            if let Some(account) = account {
                row(
                    name,
                    format!(
                        "{} sent, {} acknowledged, {} lost, {} doubled, {} invented",
                        account.sent,
                        account.acknowledged,
                        account.lost,
                        account.doubled,
                        account.invented
                    ),
                );
            }
        }
        if self.jobs_ordered > 0 {
            row("jobs ordered", self.jobs_ordered.to_string());
        }
        if let Some(installs) = &self.installs {
            row(
                "packages",
                format!(
                    "{} fetched, {:.1} MB/s, told {} times that the server is busy",
                    installs.downloads,
                    installs.bytes_per_second / 1e6,
                    installs.busy
                ),
            );
            row("fetching ms", quantiles(&installs.took_ms));
            let failed = installs.failed.values().sum::<u64>();
            row(
                "installs",
                format!(
                    "{} succeeded, {} of them crashed, {failed} failed",
                    installs.succeeded, installs.crashed
                ),
            );
        }
        let faults = &self.faults;
        for (name, count) in [
            ("posts of clones", faults.clones),
            ("told to register", faults.register_again),
            ("boots", faults.reboots),
            ("new secrets", faults.rotations),
        ] {
            if count > 0 {
                row(name, count.to_string());
            }
        }
        if let Some(herd) = &self.herd {
            let peaks: Vec<_> = herd
                .peak_to_mean
                .iter()
                .map(|it| format!("{it:.2}"))
                .collect();
            row("peak / mean per step", peaks.join(" "));
            let all = herd.all_answered_steps;
            let all = all.map_or("not in this run".into(), |steps| {
                format!("{steps:.2} steps")
            });
            row("all hosts answered", all);
        }
        if let Some(server) = &self.server {
            row(
                "server CPU",
                format!(
                    "{:.2} s, {:.3} cores, {:.1} us per post, {:.0} posts per CPU-second",
                    server.cpu_seconds,
                    server.cores,
                    server.cpu_us_per_post,
                    server.posts_per_cpu_second
                ),
            );
            row(
                "server memory",
                format!(
                    "{:.1} MB PSS, {:.1} MB RSS, most seen",
                    server.pss_mb, server.rss_mb
                ),
            );
        }
        let own = &self.simulator;
        row(
            "this program",
            format!("{:.2} s CPU, {:.1} MB", own.cpu_seconds, own.rss_mb),
        );
        if let Some(sync) = &self.sync_ms {
            let shown = |it: &Sync| format!("{:.2} (p99 {:.2})", it.p50, it.p99);
            row(
                "4 KB with fdatasync",
                format!(
                    "{} ms before, {} ms after",
                    shown(&sync.before),
                    shown(&sync.after)
                ),
            );
        }
        text
    }
}

fn quantiles(of: &Quantiles) -> String {
    let Quantiles {
        p50,
        p90,
        p99,
        p999,
        max,
    } = of;
    format!("p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}, p99.9 {p999:.2}, max {max:.2}")
}
