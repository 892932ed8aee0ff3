//! `mtr-prober trace HOST`: one measurement by an engine of its own, printed when it ends.
//!
//! The one rule: what there is by Ctrl-C is printed.

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt};
use signal_hook::consts::{SIGINT, SIGTERM};
use uuid::Uuid;

use crate::clock;
use crate::engine::{Engine, Event, Settings, Spec, Tell, Urgency};
use crate::format::text::{self, Labels, Width};
use crate::format::{Numbers, csv, mtr_json};
use crate::packet::{Family, MAX_SIZE};
use crate::report::{self, Cause, Parameters, Report, State, Target};
use crate::socket::{self, Source};
use crate::trace::{Keep, Plan};
use crate::verdict::{Language, fault_clause};

/// What `-h` prints of it.
pub const HELP: &str = "\
  HOST                address or name
  --count N           rounds, 1 to 1000 (10)
  --interval SECONDS  from one round to the next, 0.2 to 60 (1)
  --size BYTES        of a probe with its IP header (64)
  --max-ttl N         the farthest hop, 1 to 30 (30)
  --source WHICH      address or interface the probes leave by
  -4, -6              the family, where a name has both
  --report, --wide, --csv, --mtr-json
                      as mtr prints it (--report)
  --json              everything there is to know";

/// A probe not answered after this long is lost; as `mtr`'s grace period.
const TIMEOUT: Duration = Duration::from_secs(5);

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

/// Measures and prints.
pub fn run(words: &Words) -> Result<()> {
    let accepted_at = clock::instant();
    let target = resolve(&words.host, words.family)?;
    let least = Family::of(target).min_size();
    if !(least..=MAX_SIZE).contains(&words.size) {
        bail!("--size is {least} to {MAX_SIZE} bytes, not {}", words.size);
    }
    let asked = words.source.as_deref();
    let source = asked.map_or(Ok(Source::default()), Source::parse)?;
    let address = source.address_to(target)?;
    let report = Report {
        id: Uuid::now_v7(),
        state: State::Accepted,
        cause: Cause::Command,
        reference: None,
        tool: concat!("mtr-prober ", env!("CARGO_PKG_VERSION")).to_owned(),
        node: nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        target: Target {
            asked: words.host.clone(),
            address: Some(target),
        },
        source: report::Source {
            asked: words.source.clone(),
            address: Some(address),
            interface: socket::interface_of(address),
            ..report::Source::default()
        },
        parameters: Parameters {
            count: words.count,
            interval_ms: u32::try_from(words.interval.as_millis()).expect("at most a minute"),
            size: words.size,
        },
        accepted_at,
        started_at: None,
        ended_at: None,
        parts: Vec::new(),
        timeline: Vec::new(),
        faults: Vec::new(),
        problem: None,
    };
    let spec = Spec {
        plan: Plan {
            target,
            first_ttl: 1,
            last_ttl: words.max_ttl,
            rounds: Some(words.count),
            interval: words.interval,
            timeout: TIMEOUT,
            keep: Keep::Timeline,
        },
        source,
        size: words.size,
        urgency: Urgency::Usual,
        tell: Tell::End,
    };
    print(&measure(spec, report)?, words.format)
}

fn resolve(host: &str, family: Option<Family>) -> Result<IpAddr> {
    let found = (host, 0)
        .to_socket_addrs()
        .with_context(|| format!("the name {host:?} is not known"))?;
    let wanted = |address: &IpAddr| family.is_none_or(|family| Family::of(*address) == family);
    let address = found.map(|address| address.ip()).find(wanted);
    let address = address.with_context(|| format!("{host} has no address of this family"))?;
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_multicast() || address.is_unspecified() || broadcast {
        bail!("{address} is not the address of one host");
    }
    Ok(address)
}

fn measure(spec: Spec, mut report: Report) -> Result<Report> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stopped.clone()).context("catching Ctrl-C")?;
    }
    // One trace shares with nobody.
    let settings = Settings {
        responder_rate: None,
        ..Settings::default()
    };
    let (engine, events) = Engine::start(settings)?;
    let handle = engine.begin(spec)?;
    let results = loop {
        match events.recv_timeout(LOOK) {
            Ok(Event::Ended { results, .. }) => break *results,
            Ok(Event::Outcomes(_)) => {}
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
