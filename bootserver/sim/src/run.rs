//! One run from its beginning to its report.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bootagent_core::schedule::Timing;

use crate::agenda::{Agenda, Beginning};
use crate::args::{Mode, Options};
use crate::drive::{self, Plan};
use crate::enrol::{Enrolment, enrol};
use crate::http::Target;
use crate::identities;
use crate::install::Installs;
use crate::ledger::{Account, StoredResult};
use crate::machine::{Kind, Machine};
use crate::orders::Operator;
use crate::random::Random;
use crate::report::{self, BeforeAfter, Faults, Herd, Report, Server, word};
use crate::stop::Stop;
use crate::world::World;
use crate::{disk, process};

/// Largest file of tokens, in bytes.
const MAX_TOKENS_BYTES: u64 = 64 * 1024;
/// Hosts of a fleet nobody gave a size.
const HOSTS: usize = 1000;
/// Longer than any run.
const LONG: Duration = Duration::from_secs(30 * 86_400);
/// How often the server's memory is looked at: the kernel goes through all pages of all
/// processes for it, and a core is busy meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What a server is entered with.
#[derive(Default)]
pub(crate) struct Tokens {
    pub(crate) api: Option<String>,
    pub(crate) enrolment: Option<String>,
}

/// Reads the lines that bootserver's first start writes.
pub(crate) fn tokens(path: Option<&Path>) -> anyhow::Result<Tokens> {
    use std::io::Read;
    let Some(path) = path else {
        return Ok(Tokens::default());
    };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        stdin.take(MAX_TOKENS_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_TOKENS_BYTES).read_to_string(&mut text))
    };
    read.with_context(|| format!("--tokens: reading {}", path.display()))?;
    let value = |key| text.lines().find_map(|line| line.strip_prefix(key));
    let value = |key| value(key).map(|text: &str| text.trim().to_owned());
    Ok(Tokens {
        api: value("api_token="),
        enrolment: value("enrolment_token="),
    })
}

/// Runs; true if nothing was wrong.
pub(crate) async fn run(options: &Options) -> anyhow::Result<bool> {
    let mut stop = Stop::new()?;
    let target = Target::resolve(&options.server, options.ca_file.as_deref()).await?;
    let target = Arc::new(target);
    let tokens = tokens(options.tokens.as_deref())?;
    let before = options.data.as_deref().map(disk::sync_time).transpose()?;
    let (kind, machines) = fleet(options, &target, &tokens, &mut stop).await?;
    if options.mode == Mode::Enrol || stop.was_asked() {
        crate::say(&format!("{} hosts are enrolled", machines.len()));
        return Ok(!stop.was_asked());
    }
    let operator = tokens
        .api
        .as_deref()
        .map(|token| Operator::new(target.clone(), token));
    let random = Random::new(options.seed ^ kind.run);
    let installs = Installs::new(options.fate.clone());
    let (mix, reuse) = (options.mix, options.reuse);
    let mut world = World::new(target, kind, machines, mix, reuse, installs, random);
    let plan = Plan {
        warm_up: options.warm_up,
        duration: match options.passes {
            Some(_) => LONG,
            None => options.duration,
        },
        passes: options.passes,
        jobs: options.jobs,
        operator: operator.clone(),
    };
    let mut report = measured(options, &plan, &mut world, &mut stop).await?;
    if let Some(operator) = &operator {
        compare(&mut report, &world, operator).await?;
    }
    if let (Some(before), Some(folder)) = (before, &options.data) {
        let after = disk::sync_time(folder)?;
        report.sync_ms = Some(BeforeAfter { before, after });
    }
    save(options, kind.seed, &world.machines)?;
    let text = match options.json {
        true => serde_json::to_string_pretty(&report).context("writing the report")? + "\n",
        false => report.table(),
    };
    crate::print(&text)?;
    Ok(report.is_clean())
}

/// The hosts: those of the file, and new ones up to the number wanted.
async fn fleet(
    options: &Options,
    target: &Arc<Target>,
    tokens: &Tokens,
    stop: &mut Stop,
) -> anyhow::Result<(Kind, Vec<Machine>)> {
    let known = match &options.identities {
        Some(path) => identities::load(path)?,
        None => None,
    };
    let mut run = [0; 8];
    getrandom::fill(&mut run).context("asking for random bytes")?;
    let mut kind = Kind {
        run: u64::from_le_bytes(run),
        seed: options.seed,
        agents: options.agents,
        step: options.step.as_secs(),
    };
    let mut machines = Vec::new();
    if let Some(known) = known {
        kind.seed = known.seed;
        machines = known.machines;
    }
    let wanted = options.hosts.unwrap_or(match machines.len() {
        0 => HOSTS,
        known => known,
    });
    if machines.len() < wanted {
        let token = tokens.enrolment.as_deref();
        let token = token.context("--tokens: an enrolment token is needed to enrol hosts")?;
        let enrolment = Enrolment {
            target: target.clone(),
            token: token.into(),
            connections: options.connections,
            rate: options.rate,
        };
        let enrolled = enrol(enrolment, kind, &mut machines, wanted, stop).await;
        // Those that are enrolled are worth keeping, whatever stopped the rest.
        if !machines.is_empty() {
            save(options, kind.seed, &machines)?;
        }
        enrolled?;
    }
    machines.truncate(wanted);
    Ok((kind, machines))
}

fn save(options: &Options, seed: u64, machines: &[Machine]) -> anyhow::Result<()> {
    let Some(path) = &options.identities else {
        return Ok(());
    };
    // A run with a part of the fleet does not forget the others.
    let mut all = machines.to_vec();
    if let Some(known) = identities::load(path)? {
        all.extend(known.machines.into_iter().skip(machines.len()));
    }
    identities::save(path, seed, &all)
}

async fn measured(
    options: &Options,
    plan: &Plan,
    world: &mut World,
    stop: &mut Stop,
) -> anyhow::Result<Report> {
    let pids = &options.pids;
    process::cpu_seconds(pids)?;
    let memory = Arc::new(std::sync::Mutex::new((0.0, 0.0)));
    let looking = (!pids.is_empty()).then(|| tokio::spawn(look(pids.clone(), memory.clone())));
    let mut cpu_before = (0.0, 0.0);
    let mut on_measure = || {
        cpu_before = (
            process::cpu_seconds(pids).unwrap_or_default(),
            process::own().cpu_seconds,
        );
    };
    match options.mode {
        Mode::Saturate => {
            let connections = options.connections.min(world.machines.len());
            drive::saturate(
                world,
                connections,
                options.reuse,
                plan,
                stop,
                &mut on_measure,
            )
            .await;
        }
        Mode::Enrol | Mode::Fleet | Mode::Herd => {
            let timing = Timing {
                step: options.step,
                ..Timing::default()
            };
            let agentsns: Vec<_> = world.machines.iter().map(|one| one.agentsn).collect();
            let seed = options.seed;
            let agentsns = agentsns.into_iter();
            let mut agenda = Agenda::new(agentsns, timing, options.beginning, options.later, seed);
            drive::fleet(world, &mut agenda, plan, stop, &mut on_measure).await;
        }
    }
    let seconds = world.tally.since.elapsed().as_secs_f64();
    if let Some(looking) = looking {
        looking.abort();
    }
    let mut report = summary(options, world, seconds);
    report.interrupted = stop.was_asked();
    let own = process::own();
    report.simulator = process::Usage {
        cpu_seconds: own.cpu_seconds - cpu_before.1,
        ..own
    };
    if !pids.is_empty() {
        // A server that was killed meanwhile is not there to be measured.
        match (process::cpu_seconds(pids), process::memory(pids)) {
            (Ok(cpu), Ok(last)) => {
                let most = *memory.lock().expect("nobody panics with it");
                report.server = Some(server(cpu - cpu_before.0, &report, most, last));
            }
            (Err(error), _) | (_, Err(error)) => crate::say(&format!("{error:#}")),
        }
    }
    Ok(report)
}

/// The most memory the server is seen with.
async fn look(pids: Vec<u32>, most: Arc<std::sync::Mutex<(f64, f64)>>) {
    loop {
        let looked = pids.clone();
        // Not on the thread of the posts: they would all be late.
        let found = tokio::task::spawn_blocking(move || process::memory(&looked)).await;
        if let Ok(Ok((rss, pss))) = found {
            let mut most = most.lock().expect("nobody panics with it");
            *most = (most.0.max(rss), most.1.max(pss));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn server(cpu_seconds: f64, report: &Report, most: (f64, f64), last: (f64, f64)) -> Server {
    let answered = report.answered.max(1) as f64;
    Server {
        cpu_seconds,
        cores: cpu_seconds / report.seconds.max(0.001),
        cpu_us_per_post: cpu_seconds * 1e6 / answered,
        posts_per_cpu_second: report.answered as f64 / cpu_seconds.max(0.001),
        rss_mb: most.0.max(last.0),
        pss_mb: most.1.max(last.1),
    }
}

fn summary(options: &Options, world: &World, seconds: f64) -> Report {
    let tally = &world.tally;
    Report {
        mode: options.mode.word(),
        hosts: world.machines.len(),
        seconds,
        posts: tally.posts,
        answered: tally.answers(),
        posts_per_second: tally.posts as f64 / seconds.max(0.001),
        latency_ms: tally.latency.quantiles(),
        lag_ms: tally.lag.quantiles(),
        statuses: tally.statuses.clone(),
        broken: tally
            .broken
            .iter()
            .map(|(broken, count)| (word(*broken), *count))
            .collect(),
        wrong: tally.wrong + tally.unreadable + world.ledger.wrong_jobs(),
        body_bytes: tally.body_bytes / tally.bodies.max(1),
        changed: tally.changed,
        faults: Faults {
            clones: tally.clones,
            register_again: tally.register_again,
            reboots: tally.reboots,
            rotations: tally.rotations,
        },
        jobs_ordered: world.ledger.orders(),
        installs: installs(&world.installs, seconds),
        herd: (options.beginning != Beginning::Steady).then(|| Herd {
            peak_to_mean: peaks(&tally.by_second, options.step.as_secs()),
            all_answered_steps: tally
                .all_answered
                .map(|took| took.as_secs_f64() / options.step.as_secs_f64()),
        }),
        ..Report::default()
    }
}

/// None if there were none.
fn installs(of: &Installs, seconds: f64) -> Option<report::Installs> {
    let counts = &of.counts;
    let is_any = counts.downloads + counts.busy > 0 || !counts.failed.is_empty();
    is_any.then(|| report::Installs {
        downloads: counts.downloads,
        bytes: counts.bytes,
        bytes_per_second: counts.bytes as f64 / seconds.max(0.001),
        busy: counts.busy,
        took_ms: counts.took.quantiles(),
        succeeded: counts.succeeded,
        failed: counts.failed.clone(),
        crashed: counts.crashed,
    })
}

/// The busiest second of each whole step against the mean of that step.
fn peaks(by_second: &[u32], step: u64) -> Vec<f64> {
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let steps = by_second.chunks_exact(step);
    steps
        .map(|seconds| {
            let sum: u64 = seconds.iter().map(|count| u64::from(*count)).sum();
            let most = seconds.iter().max().copied().unwrap_or_default();
            f64::from(most) * seconds.len() as f64 / sum.max(1) as f64
        })
        .collect()
}

/// Asks the server for everything it acknowledged.
async fn compare(report: &mut Report, world: &World, operator: &Operator) -> anyhow::Result<()> {
    let stored = operator
        .events(world.kind.run)
        .await
        .context("asking for the events")?;
    report.events = not_empty(world.ledger.compare_events(&stored));
    let stored = operator.results().await.context("asking for the results")?;
    let hosts: HashMap<_, _> = match stored.is_empty() {
        true => HashMap::new(),
        false => {
            let hosts = (0_u32..).zip(&world.machines);
            hosts
                .map(|(host, machine)| (machine.agentsn, host))
                .collect()
        }
    };
    let stored: Vec<_> = stored
        .into_iter()
        .map(|(job, agentsn, errcode)| StoredResult {
            job,
            host: hosts.get(&agentsn).copied(),
            errcode,
        })
        .collect();
    report.results = not_empty(world.ledger.compare_results(&stored));
    Ok(())
}

fn not_empty(account: Account) -> Option<Account> {
    (account != Account::default()).then_some(account)
}
