//! `mtr-prober trace HOST`: one measurement, printed when it ends; by the daemon of this machine if it
//! runs, else by an engine of its own.
//!
//! The one rule: what there is by Ctrl-C is printed.

mod client;

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::Daemon;
use lexopt::{Arg, Parser, ValueExt};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::clock;
use crate::config::Config;
use crate::engine::{End, Engine, Event, Settings, Spec};
use crate::format::text::{self, Labels, Width};
use crate::format::{Numbers, csv, mtr_json};
use crate::order::{LAST_TTL, Order, is_one_host};
use crate::packet::{Family, MAX_SIZE};
use crate::report::{Cause, Report, State};
use crate::verdict::{Language, fault_clause};

/// What `-h` prints of it.
pub const HELP: &str = "\
  HOST                address or name
  --count N           rounds, 1 to 1000 (10)
  --interval SECONDS  from one round to the next, 0.2 to 60 (1)
  --size BYTES        of a probe with its IP header (64)
  --max-ttl N         the farthest hop, 1 to 30 (30)
  --source WHICH      address, interface or line the probes leave by
  -4, -6              the family, where a name has both
  --report, --wide, --csv, --mtr-json
                      as mtr prints it (--report)
  --json              everything there is to know
  --own               by an engine of its own, also where the daemon runs";

/// How often Ctrl-C is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// How the outcome is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Report,
    Wide,
    Csv,
    MtrJson,
    Json,
}

/// The words of the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    host: String,
    family: Option<Family>,
    count: u32,
    interval: Duration,
    size: u16,
    max_ttl: u8,
    source: Option<String>,
    format: Format,
    by: By,
}

/// Who measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The daemon, if it runs.
    Anybody,
    /// An engine of our own.
    Ourselves,
}

impl Words {
    /// Reads what follows `trace`.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let words: Vec<OsString> = words.into_iter().collect();
        let mut parser = Parser::from_args(words);
        let mut host = None;
        let mut read = Self {
            host: String::new(),
            family: None,
            count: 10,
            interval: Duration::from_secs(1),
            size: 64,
            max_ttl: 30,
            source: None,
            format: Format::Report,
            by: By::Anybody,
        };
        while let Some(word) = parser.next()? {
            match word {
                Arg::Short('4') => read.family = Some(Family::V4),
                Arg::Short('6') => read.family = Some(Family::V6),
                Arg::Long("count") => read.count = parser.value()?.parse()?,
                Arg::Long("interval") => read.interval = seconds(&parser.value()?.string()?)?,
                Arg::Long("size") => read.size = parser.value()?.parse()?,
                Arg::Long("max-ttl") => read.max_ttl = parser.value()?.parse()?,
                Arg::Long("source") => read.source = Some(parser.value()?.string()?),
                Arg::Long("report") => read.format = Format::Report,
                Arg::Long("wide") => read.format = Format::Wide,
                Arg::Long("csv") => read.format = Format::Csv,
                Arg::Long("mtr-json") => read.format = Format::MtrJson,
                Arg::Long("json") => read.format = Format::Json,
                Arg::Long("own") => read.by = By::Ourselves,
                Arg::Value(word) if host.is_none() => host = Some(word.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        read.host = host.context("trace needs the address or name of a host")?;
        if !(1..=1_000).contains(&read.count) {
            bail!("--count is 1 to 1000, not {}", read.count);
        }
        if !(1..=30).contains(&read.max_ttl) {
            bail!("--max-ttl is 1 to 30, not {}", read.max_ttl);
        }
        Ok(read)
    }
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse().unwrap_or(f64::NAN);
    if !(0.2..=60.0).contains(&seconds) {
        bail!("--interval is 0.2 to 60 seconds, not {text}");
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Measures and prints. `config` says where the daemon listens.
pub fn run(words: &Words, config: &Config) -> Result<()> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one does not wait for what there is.
        let at_once = signal_hook::flag::register_conditional_shutdown(signal, 1, stopped.clone());
        at_once.context("catching Ctrl-C")?;
        signal_hook::flag::register(signal, stopped.clone()).context("catching Ctrl-C")?;
    }
    // The API measures as far as any host is.
    let is_usual = words.by == By::Anybody && words.max_ttl == LAST_TTL;
    let daemon = is_usual.then(|| Daemon::find(config)).flatten();
    let report = match daemon {
        Some(daemon) => daemon.measure(words, &stopped)?,
        None => by_ourselves(words, config, &stopped)?,
    };
    print(&report, words.format)
}

fn by_ourselves(words: &Words, config: &Config, stopped: &AtomicBool) -> Result<Report> {
    let order = Order {
        asked: words.host.clone(),
        address: None,
        family: words.family,
        count: words.count,
        interval: words.interval,
        size: words.size,
        source: words.source.clone(),
        cause: Cause::Command,
        reference: None,
    };
    let (mut report, source) = order.report(config)?;
    let target = resolve(&words.host, words.family)?;
    let least = Family::of(target).min_size();
    if !(least..=MAX_SIZE).contains(&words.size) {
        bail!("--size is {least} to {MAX_SIZE} bytes, not {}", words.size);
    }
    report.locate(source, target)?;
    let mut spec = order.spec(target, source);
    spec.plan.last_ttl = words.max_ttl;
    measure(spec, report, stopped)
}

fn resolve(host: &str, family: Option<Family>) -> Result<IpAddr> {
    let found = (host, 0)
        .to_socket_addrs()
        .with_context(|| format!("the name {host:?} is not known"))?;
    let wanted = |address: &IpAddr| family.is_none_or(|family| Family::of(*address) == family);
    let address = found.map(|address| address.ip()).find(wanted);
    let address = address.with_context(|| format!("{host} has no address of this family"))?;
    is_one_host(address).map_err(anyhow::Error::msg)?;
    Ok(address)
}

fn measure(spec: Spec, mut report: Report, stopped: &AtomicBool) -> Result<Report> {
    // One trace shares with nobody.
    let settings = Settings {
        responder_rate: None,
        ..Settings::default()
    };
    let (engine, events) = Engine::start(settings)?;
    let handle = engine.begin(spec)?;
    let results = loop {
        match events.recv_timeout(LOOK) {
            Ok(Event::Ended {
                end: End::NotBegun(reason),
                ..
            }) => bail!("{reason}"),
            Ok(Event::Ended { results, .. }) => break *results,
            Ok(Event::Pings { .. }) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the engine has ended"),
            Err(RecvTimeoutError::Timeout) => {
                if stopped.load(Ordering::Relaxed) {
                    engine.stop(handle)?;
                }
            }
        }
    };
    report.state = match stopped.load(Ordering::Relaxed) {
        true => State::Stopped,
        false => State::Finished,
    };
    report.started_at = results.part.as_ref().map(|part| part.started_at);
    report.ended_at = Some(clock::instant());
    report.parts = results.part.into_iter().collect();
    report.timeline = results.timeline;
    report.faults = results.faults;
    Ok(report)
}

fn print(report: &Report, format: Format) -> Result<()> {
    let part = report.parts.first();
    let table = |width| {
        text::table(
            &report.node,
            report.started_at,
            part,
            Numbers::Own,
            width,
            Labels::Hidden,
        )
    };
    let text = match format {
        Format::Report => table(Width::Narrow),
        Format::Wide => table(Width::Wide),
        Format::Csv => csv::table(report, part, Numbers::Own),
        Format::MtrJson => mtr_json::document(report, part, Numbers::Own),
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing the report")?;
    for fault in &report.faults {
        let clause = fault_clause(fault, Language::English);
        eprintln!("mtr-prober: doubt these numbers: {clause}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Words> {
        Words::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_its_bounds() {
        for (line, part) in [
            ("", "needs the address"),
            ("a b", "unexpected argument"),
            ("a --count 0", "1 to 1000"),
            ("a --count 1001", "1 to 1000"),
            ("a --interval 0.1", "0.2 to 60"),
            ("a --interval soon", "0.2 to 60"),
            ("a --max-ttl 31", "1 to 30"),
            ("a --loud", "--loud"),
        ] {
            let error = format!("{:#}", parse(line).expect_err(line));
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn addresses_of_no_one_host_are_refused() {
        for host in ["224.0.0.1", "0.0.0.0", "255.255.255.255", "ff02::1", "::"] {
            let error = resolve(host, None).expect_err(host).to_string();
            assert!(error.contains("not the address of one host"), "{error}");
        }
        assert!(resolve("127.0.0.1", Some(Family::V6)).is_err());
        assert!(resolve("::1", Some(Family::V6)).is_ok());
    }
}
