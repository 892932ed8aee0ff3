//! What was typed.
//!
//! The one rule: what is not sensible is refused here, with the option's name.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lexopt::prelude::*;

use crate::agenda::Beginning;
use crate::http::Reuse;
use crate::identities::MAX_HOSTS;
use crate::install::Fate;
use crate::world::Mix;

pub(crate) const HELP: &str = "\
bootserver-sim: a fleet of simulated hosts that tries and measures bootserver

bootserver-sim enrol [options]     enrol hosts and save who they are
bootserver-sim saturate [options]  closed loop: as many posts as the server takes
bootserver-sim fleet [options]     open loop: every host calls when it would
bootserver-sim herd [options]      the same, after an outage
bootserver-sim -V | -h             version | this text
bootserver-sim MODE -T [options]   test options and environment, run nothing

The server, and whom it knows:
  -s, --server URL       [http[s]://]HOST[:PORT], required
  --ca-file FILE         what to trust, for https://
  --tokens FILE          lines api_token=... and enrolment_token=..., as the first
                         start of bootserver writes them; - is stdin
  --identities FILE      the fleet: read if it is there, written when it has grown
  --hosts N              hosts of the fleet [1000]; missing ones are enrolled
  --rate N               registrations per second at most [no bound]

How they call:
  --seconds N            how long [30]
  --warm-up N            seconds before that are not counted [0]
  --passes N             closed loop: ends when each host has called so often,
                         however long it takes
  --connections N        calls out at once in closed loop, and while enrolling [128]
  --connection KIND      closed loop: `keep` or `new` for each post [keep]
  --step N               open loop: seconds between two statuses of a host [600]
  --later N              open loop: begins so many seconds later, with the hosts
                         whose turn it is then [0]
  --outage N             herd: seconds the server was away [60]
  --power-on             herd: the hosts were away, and all start at once

What they say, and what goes wrong; shares of all statuses as 0.1 or 10%:
  --agents N             sub-agents of each host [2]
  --changed SHARE        content that changed [10%]
  --events SHARE         a new event [0]
  --jobs N               jobs ordered per second [0]; each has a result. Packages
                         that others order are fetched and checked, and then:
  --install-fails SHARE  the installer fails [0]
  --rolls-back SHARE     the new version ends while it is watched [0]
  --crashes SHARE        it is installed, and crashes after that [0]
  --bad-version VERSION  these three befall this version alone
  --reboot SHARE         the host boots instead [0]
  --clone SHARE          it comes from a clone [0]
  --abort SHARE          cut off, in or after the request [0]
  --slow SHARE           the body takes two seconds [0]
  --twice SHARE          sent twice at once [0]
  --garbage SHARE        bytes that are no request beside it [0]
  --seed N               another fleet, another order of chance [1]

What is measured beside it:
  --pids PID,PID         CPU and memory of these processes and all below them
  --data DIR             time of a sync in this folder, before and after
  --json                 the report as JSON

Every acknowledged event and result is asked for in the end: exit code 1 if one is
missing or there twice, or if an answer was wrong. SIGINT ends a run early.
";

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Enrol,
    Saturate,
    Fleet,
    Herd,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::Saturate => "saturate",
            Self::Fleet => "fleet",
            Self::Herd => "herd",
        }
    }
}

/// Everything that was typed, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) test: bool,
    pub(crate) server: String,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) tokens: Option<PathBuf>,
    pub(crate) identities: Option<PathBuf>,
    pub(crate) hosts: Option<usize>,
    pub(crate) rate: Option<f64>,
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) passes: Option<u64>,
    pub(crate) connections: usize,
    pub(crate) reuse: Reuse,
    pub(crate) step: Duration,
    pub(crate) later: Duration,
    pub(crate) beginning: Beginning,
    pub(crate) agents: u32,
    pub(crate) mix: Mix,
    pub(crate) fate: Fate,
    pub(crate) jobs: f64,
    pub(crate) seed: u64,
    pub(crate) pids: Vec<u32>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) json: bool,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    Run(Box<Options>),
    Version,
    Help,
}

pub(crate) fn parse(arguments: Vec<OsString>) -> anyhow::Result<Command> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mode = match parser.next()? {
        Some(Value(word)) => match word.to_str() {
            Some("enrol") => Mode::Enrol,
            Some("saturate") => Mode::Saturate,
            Some("fleet") => Mode::Fleet,
            Some("herd") => Mode::Herd,
            _ => return Err(Value(word).unexpected().into()),
        },
        Some(Short('V') | Long("version")) => return Ok(Command::Version),
        Some(Short('h') | Long("help")) => return Ok(Command::Help),
        Some(other) => return Err(other.unexpected().into()),
        None => {
            bail!("enrol, saturate, fleet or herd is expected; bootserver-sim -h explains them")
        }
    };
    let mut options = Options::of(mode);
    let mut server = None;
    let mut outage = Duration::from_secs(60);
    let mut power_on = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Short('T') | Long("test") => options.test = true,
            Short('s') | Long("server") => server = Some(parser.value()?.string()?),
            Long("ca-file") => options.ca_file = Some(parser.value()?.into()),
            Long("tokens") => options.tokens = Some(parser.value()?.into()),
            Long("identities") => options.identities = Some(parser.value()?.into()),
            Long("hosts") => {
                options.hosts = Some(number(&mut parser, "--hosts", 1, MAX_HOSTS as u64)? as usize);
            }
            Long("rate") => {
                options.rate = Some(number(&mut parser, "--rate", 1, 1_000_000)? as f64);
            }
            Long("seconds") => {
                options.duration = seconds(number(&mut parser, "--seconds", 1, 604_800)?);
            }
            Long("warm-up") => {
                options.warm_up = seconds(number(&mut parser, "--warm-up", 0, 86_400)?);
            }
            Long("passes") => {
                options.passes = Some(number(&mut parser, "--passes", 1, 1_000_000)?);
            }
            Long("connections") => {
                options.connections = number(&mut parser, "--connections", 1, 100_000)? as usize;
            }
            Long("connection") => options.reuse = reuse(&parser.value()?.string()?)?,
            Long("step") => options.step = seconds(number(&mut parser, "--step", 1, 3600)?),
            Long("later") => options.later = seconds(number(&mut parser, "--later", 0, 86_400)?),
            Long("outage") => outage = seconds(number(&mut parser, "--outage", 1, 604_800)?),
            Long("power-on") => power_on = true,
            Long("agents") => options.agents = number(&mut parser, "--agents", 0, 256)? as u32,
            Long("changed") => options.mix.changed = share(&mut parser, "--changed")?,
            Long("events") => options.mix.events = share(&mut parser, "--events")?,
            Long("reboot") => options.mix.reboot = share(&mut parser, "--reboot")?,
            Long("clone") => options.mix.clone = share(&mut parser, "--clone")?,
            Long("abort") => options.mix.abort = share(&mut parser, "--abort")?,
            Long("slow") => options.mix.slow = share(&mut parser, "--slow")?,
            Long("twice") => options.mix.twice = share(&mut parser, "--twice")?,
            Long("garbage") => options.mix.garbage = share(&mut parser, "--garbage")?,
            Long("jobs") => options.jobs = number(&mut parser, "--jobs", 0, 100_000)? as f64,
            Long("install-fails") => options.fate.failed = share(&mut parser, "--install-fails")?,
            Long("rolls-back") => options.fate.rolled_back = share(&mut parser, "--rolls-back")?,
            Long("crashes") => options.fate.crashing = share(&mut parser, "--crashes")?,
            Long("bad-version") => {
                options.fate.bad_version = Some(parser.value()?.string()?);
            }
            Long("seed") => options.seed = number(&mut parser, "--seed", 0, u64::MAX)?,
            Long("pids") => options.pids = pids(&parser.value()?.string()?)?,
            Long("data") => options.data = Some(parser.value()?.into()),
            Long("json") => options.json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    options.server = server.context("--server: where the server is must be said")?;
    options.beginning = match (mode, power_on) {
        (Mode::Herd, true) => Beginning::PowerOn,
        (Mode::Herd, false) => Beginning::AfterOutage(outage),
        (_, true) => bail!("--power-on: only a herd begins so"),
        (_, false) => Beginning::Steady,
    };
    ensure!(
        mode == Mode::Saturate || options.passes.is_none(),
        "--passes: only a closed loop, saturate, counts them"
    );
    ensure!(
        mode != Mode::Enrol || options.identities.is_some(),
        "--identities: where to save the fleet must be said"
    );
    ensure!(
        options.jobs == 0.0 || options.tokens.is_some(),
        "--jobs: an order needs the API token; name its file by --tokens"
    );
    Ok(Command::Run(Box::new(options)))
}

impl Options {
    fn of(mode: Mode) -> Self {
        Self {
            mode,
            test: false,
            server: String::new(),
            ca_file: None,
            tokens: None,
            identities: None,
            hosts: None,
            rate: None,
            duration: seconds(30),
            warm_up: Duration::ZERO,
            passes: None,
            connections: 128,
            // An open loop is a fleet: a connection per push, as BootAgent has.
            reuse: match mode {
                Mode::Saturate => Reuse::Always,
                Mode::Enrol | Mode::Fleet | Mode::Herd => Reuse::Never,
            },
            step: seconds(600),
            later: Duration::ZERO,
            beginning: Beginning::Steady,
            agents: 2,
            mix: Mix {
                changed: 0.1,
                ..Mix::default()
            },
            fate: Fate::default(),
            jobs: 0.0,
            seed: 1,
            pids: Vec::new(),
            data: None,
            json: false,
        }
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn number(parser: &mut lexopt::Parser, name: &str, least: u64, most: u64) -> anyhow::Result<u64> {
    let text = parser.value()?.string()?;
    let number = text.parse().ok().filter(|it| (least..=most).contains(it));
    number.with_context(|| format!("{name}: {text:?} is no number from {least} to {most}"))
}

/// `0.1` or `10%`.
fn share(parser: &mut lexopt::Parser, name: &str) -> anyhow::Result<f64> {
    let text = parser.value()?.string()?;
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse().ok(),
    };
    let share = share.filter(|it| (0.0..=1.0).contains(it));
    share.with_context(|| format!("{name}: {text:?} is no share from 0 to 1, or 0% to 100%"))
}

fn reuse(word: &str) -> anyhow::Result<Reuse> {
    match word {
        "keep" => Ok(Reuse::Always),
        "new" => Ok(Reuse::Never),
        _ => bail!("--connection: keep or new is expected, not {word:?}"),
    }
}

fn pids(text: &str) -> anyhow::Result<Vec<u32>> {
    let pids = text.split(',').map(|pid| pid.trim().parse());
    pids.collect::<Result<_, _>>()
        .with_context(|| format!("--pids: {text:?} is no list of process ids such as 12,34"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> anyhow::Result<Options> {
        let words = line.split_whitespace().map(OsString::from).collect();
        match parse(words)? {
            Command::Run(options) => Ok(*options),
            other => bail!("{other:?}"),
        }
    }

    #[test]
    fn an_open_loop_opens_a_connection_per_post_and_a_closed_one_keeps_them() {
        let fleet = options("fleet -s a").expect("valid");
        assert_eq!(
            (fleet.reuse, fleet.beginning),
            (Reuse::Never, Beginning::Steady)
        );
        let saturate = options("saturate -s a --changed 25% --pids 1,2").expect("valid");
        assert_eq!((saturate.reuse, saturate.pids), (Reuse::Always, vec![1, 2]));
        assert!((saturate.mix.changed - 0.25).abs() < 1e-9);
        let herd = options("herd -s a --outage 5").expect("valid");
        assert_eq!(herd.beginning, Beginning::AfterOutage(seconds(5)));
        assert_eq!(
            options("herd -s a --power-on").expect("valid").beginning,
            Beginning::PowerOn
        );
    }

    #[test]
    fn what_is_not_sensible_is_named() {
        for (line, word) in [
            ("", "enrol, saturate"),
            ("dance", "dance"),
            ("fleet", "--server"),
            ("fleet -s a --hosts 0", "--hosts"),
            ("fleet -s a --hosts many", "--hosts"),
            ("fleet -s a --passes 1", "--passes"),
            ("fleet -s a --step 4000", "--step"),
            ("fleet -s a --changed 2", "--changed"),
            ("fleet -s a --changed 101%", "--changed"),
            ("fleet -s a --events NaN", "--events"),
            ("fleet -s a --crashes 7", "--crashes"),
            ("fleet -s a --pids x", "--pids"),
            ("fleet -s a --power-on", "--power-on"),
            ("fleet -s a --jobs 3", "--tokens"),
            ("saturate -s a --connection maybe", "--connection"),
            ("enrol -s a", "--identities"),
            ("fleet -s a --wat", "wat"),
        ] {
            let error = options(line).expect_err(line);
            let text = format!("{error:#}");
            assert!(text.contains(word), "{line}: {text}");
        }
    }

    #[test]
    fn the_help_names_every_option_there_is() {
        let source = include_str!("args.rs");
        let arms = source.split("Long(\"").skip(1);
        for name in arms.filter_map(|rest| rest.split('"').next()) {
            if !["help", "version", "test"].contains(&name) {
                assert!(HELP.contains(&format!("--{name} ")), "{name}");
            }
        }
    }
}
