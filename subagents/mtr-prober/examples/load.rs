//! What measuring costs: many traces at once by our engine and by Debian's mtr on the same network, and what the engine
//! holds under steady load. `contrib/bench.sh probe` runs it, as root; `--only PART` is one of contestants, limited,
//! orders, steady and mesh.
//!
//! The network has no loss and takes no time: what a contestant reports of either is its own.

#[path = "load/bare.rs"]
mod bare;
#[path = "load/mesh.rs"]
mod mesh;
#[path = "../tests/support/responder.rs"]
#[expect(dead_code, reason = "the tests use what this does not")]
mod responder;
#[path = "../tests/support/sys.rs"]
mod sys;
#[path = "../tests/support/world.rs"]
#[expect(dead_code, reason = "the tests use what this does not")]
mod world;

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mtr_prober::engine::{Engine, Event, Settings, Spec, Urgency};
use mtr_prober::socket::Source;
use mtr_prober::trace::{Keep, Plan};
use responder::{Reply, Responder};
use world::{Chain, Limits, Node};

/// How long a steady load is watched, after as long to settle.
const WATCHED: Duration = Duration::from_secs(10);

/// Ticks of /proc/stat in a second, on every Linux there is.
const TICKS: f64 = 100.0;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let with = |word: &str| words.iter().position(|it| it == word);
    let only = with("--only").map(|at| words.get(at + 1).expect("a part").as_str());
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    if wanted("contestants") {
        println!(
            "| 500 traces, 10 rounds, 6 hops | seconds | CPU-s, machine | CPU-s, ours | PSS | false loss | false RTT |"
        );
        println!("|---|---|---|---|---|---|---|");
        engine_on(&Chain::new(5, Limits::Lifted), 500);
        if with("--with-mtr").is_some() {
            mtr_on(&Chain::new(5, Limits::Lifted), 500);
        }
        if let Some(at) = with("--with-trippy") {
            trippy_on(&Chain::new(5, Limits::Lifted), 500, &words[at + 1]);
        }
        println!();
    }
    if wanted("limited") {
        println!(
            "| 500 traces, 10 rounds, 6 hops, routers as Linux limits them | rows | own | joint | false loss | answers of a router |"
        );
        println!("|---|---|---|---|---|---|");
        limited("sharing", Some(1));
        limited("not sharing", None);
        println!();
    }
    if wanted("orders") {
        println!("| 500 orders within a second, 2,000 traces live | p50 | p99 | worst |");
        println!("|---|---|---|---|");
        orders();
        println!();
    }
    if wanted("steady") {
        println!("| steady load | the engine's thread, % of a core | PSS |");
        println!("|---|---|---|");
        steady(2_000);
        println!();
    }
    if wanted("mesh") {
        println!("| mesh | what |");
        println!("|---|---|");
        mesh::measure(0);
        mesh::measure(5_000);
    }
}

fn target(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    [10, 99, high, low].into()
}

fn spec(target: IpAddr, ttls: std::ops::RangeInclusive<u8>, rounds: Option<u32>) -> Spec {
    Spec {
        plan: Plan {
            target,
            first_ttl: *ttls.start(),
            last_ttl: *ttls.end(),
            rounds,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            keep: if rounds.is_some() {
                Keep::Timeline
            } else {
                Keep::Sums
            },
        },
        source: Source::default(),
        size: 64,
        urgency: Urgency::Usual,
    }
}

fn settings() -> Settings {
    Settings {
        budget: 200_000,
        responder_rate: None,
        ..Settings::default()
    }
}

/// One row of the table of contestants.
struct Row {
    began: Instant,
    machine: f64,
    own: f64,
}

impl Row {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            machine: machine_seconds(),
            own: process_seconds(),
        }
    }

    fn end(&self, name: &str, pss: f64, lost: f64, rtt: f64) {
        println!(
            "| {name} | {:.1} | {:.1} | {:.2} | {pss:.0} MB | {lost:.2} % | {rtt:.3} ms |",
            self.began.elapsed().as_secs_f64(),
            machine_seconds() - self.machine,
            process_seconds() - self.own,
        );
    }
}

fn engine_on(chain: &Chain, count: u16) {
    chain.source().within(|| {
        let before = pss_of("self");
        let row = Row::begin();
        let (engine, events) = Engine::start(settings()).expect("root");
        for number in 1..=count {
            engine
                .begin(spec(target(number), 1..=30, Some(10)))
                .expect("a place");
        }
        std::thread::sleep(Duration::from_secs(5));
        let pss = pss_of("self") - before;
        let (mut sent, mut lost, mut rtt, mut timed) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..count {
            let hops = ended(&events);
            for hop in hops {
                sent += f64::from(hop.own.sent);
                lost += f64::from(hop.own.lost());
                rtt += hop.statistics.mean * f64::from(hop.statistics.timed);
                timed += f64::from(hop.statistics.timed);
            }
        }
        row.end(
            "mtr-prober",
            pss,
            100.0 * lost / sent,
            rtt / timed / 1_000.0,
        );
    });
}

/// Many at once behind routers that answer once a second: what their rows say of routers that lose nothing.
fn limited(name: &str, responder_rate: Option<u32>) {
    const COUNT: u16 = 500;
    let chain = Chain::new(5, Limits::Usual);
    chain.source().within(|| {
        let settings = Settings {
            responder_rate,
            ..settings()
        };
        let (engine, events) = Engine::start(settings).expect("root");
        for number in 1..=COUNT {
            let spec = spec(target(number), 1..=30, Some(10));
            engine.begin(spec).expect("a place");
        }
        let (mut own, mut joint) = (0, 0);
        let (mut sent, mut lost) = (0.0, 0.0);
        let mut answers: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for _ in 0..COUNT {
            // The target's row is nobody's to share.
            for hop in ended(&events).iter().filter(|hop| hop.ttl < 6) {
                own += u32::from(hop.own.sent > 0 && hop.group.is_none());
                joint += u32::from(hop.group.is_some());
                sent += f64::from(hop.own.sent);
                lost += f64::from(hop.own.lost());
                for responder in &hop.responders {
                    *answers.entry(responder.address).or_default() += responder.received;
                }
            }
        }
        let rows = f64::from(COUNT) * 5.0;
        let least = answers.values().min().copied().unwrap_or(0);
        println!(
            "| {name} | {rows:.0} | {:.1} % | {:.1} % | {:.2} % | {least} at least |",
            100.0 * f64::from(own) / rows,
            100.0 * f64::from(joint) / rows,
            100.0 * lost / sent,
        );
    });
}

/// How long who orders waits for his id, while thousands are measured.
fn orders() {
    const LIVE: u16 = 2_000;
    const ORDERS: u16 = 500;
    let (node, _responder) = thirty_hops();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("api");
    let config = folder.path().join("mtr-prober.toml");
    // As much as all these want.
    let text = format!("listen = [{socket:?}]\nbudget = 80000\n");
    std::fs::write(&config, text).expect("written");
    let program = std::env::current_exe().expect("ours");
    let program = program.ancestors().nth(2).expect("its folder");
    let mut command = node.command(&program.join("mtr-prober").to_string_lossy());
    command.env("STATE_DIRECTORY", folder.path()).arg("-c");
    command.arg(&config).stderr(Stdio::null());
    let _program = Ended(command.spawn().expect("it is built"));
    while UnixStream::connect(&socket).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    for number in 1..=LIVE {
        order(&socket, number, 1_000);
    }
    std::thread::sleep(WATCHED / 2);
    let began = Instant::now();
    let next = AtomicU16::new(0);
    let mut waited: Vec<Duration> = std::thread::scope(|scope| {
        let generator = || {
            let mut waited = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= ORDERS {
                    return waited;
                }
                // From when it was to be sent, whatever held us up.
                let due = began + Duration::from_millis(2) * u32::from(number);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                order(&socket, LIVE + 1 + number, 10);
                waited.push(due.elapsed());
            }
        };
        let threads: Vec<_> = (0..32).map(|_| scope.spawn(generator)).collect();
        let ended = threads.into_iter().map(|it| it.join().expect("it ends"));
        ended.flatten().collect()
    });
    waited.sort();
    let at = |share: usize| waited[(waited.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    println!(
        "| mtr-prober | {:.1} ms | {:.1} ms | {:.1} ms |",
        at(50),
        at(99),
        at(100)
    );
}

/// A program, ended with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn order(socket: &Path, number: u16, count: u32) {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    let target = target(number);
    let text = format!(
        "GET /api/mtr?ip={target}&count={count} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("text");
    assert!(reply.starts_with("HTTP/1.1 202 "), "{reply}");
}

fn ended(events: &Receiver<Event>) -> Vec<mtr_prober::report::Hop> {
    loop {
        let event = events.recv_timeout(Duration::from_secs(120));
        if let Event::Ended { results, .. } = event.expect("they end") {
            return results.part.map(|part| part.hops).unwrap_or_default();
        }
    }
}

fn mtr_on(chain: &Chain, count: u16) {
    let row = Row::begin();
    let mut children: Vec<_> = (1..=count)
        .map(|number| {
            let mut command = chain.source().command("mtr");
            command.args(["-n", "--csv", "-c", "10", &target(number).to_string()]);
            command.stdout(Stdio::piped()).stderr(Stdio::null());
            command.spawn().expect("mtr is installed")
        })
        .collect();
    std::thread::sleep(Duration::from_secs(5));
    let pss = children.iter().map(|child| family_pss(child.id())).sum();
    let (mut sent, mut lost, mut rtt) = (0.0, 0.0, 0.0);
    for child in &mut children {
        let mut text = String::new();
        let output = child.stdout.as_mut().expect("piped");
        output.read_to_string(&mut text).expect("text");
        child.wait().expect("it ends");
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let number =
                |at: usize| -> f64 { fields.get(at).and_then(|it| it.parse().ok()).unwrap_or(0.0) };
            let (share, count, mean) = (number(6), number(7), number(10));
            sent += count;
            lost += count * share / 100.0;
            rtt += mean * count * (1.0 - share / 100.0);
        }
    }
    row.end("mtr 0.95", pss, 100.0 * lost / sent, rtt / (sent - lost));
}

/// The program of contrib/bench/trippy.
fn trippy_on(chain: &Chain, count: u16, program: &str) {
    let row = Row::begin();
    let mut command = chain.source().command(program);
    command.arg(count.to_string()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().expect("it is built");
    std::thread::sleep(Duration::from_secs(5));
    let pss = family_pss(child.id());
    let mut text = String::new();
    let output = child.stdout.as_mut().expect("piped");
    output.read_to_string(&mut text).expect("text");
    child.wait().expect("it ends");
    let numbers: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
    let [sent, lost, millis, received] = numbers[..] else {
        panic!("{text:?}");
    };
    row.end(
        "trippy-core 0.13",
        pss,
        100.0 * lost / sent,
        millis / received,
    );
}

/// A node all of whose targets answer at the 30th hop, and the network behind it.
fn thirty_hops() -> (Node, Responder) {
    let node = Node::new();
    let responder = Responder::start(&node, |probe| {
        let router = Ipv4Addr::new(10, 1, probe.ttl, 0);
        match probe.ttl {
            30.. => Some((probe.to, Reply::Echo, Duration::ZERO)),
            _ => Some((router, Reply::Exceeded(Vec::new()), Duration::ZERO)),
        }
    });
    (node, responder)
}

fn steady(count: u16) {
    let (node, _responder) = thirty_hops();
    node.within(|| {
        let before = pss_of("self");
        let (engine, events) = Engine::start(settings()).expect("root");
        for number in 1..=count {
            // Thousands at once are more than it takes in an instant.
            while engine
                .begin(spec(target(number), 1..=30, Some(1_000)))
                .is_err()
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let drain = |long: Duration| {
            let until = Instant::now() + long;
            while let left = until.saturating_duration_since(Instant::now())
                && !left.is_zero()
            {
                let _ = events.recv_timeout(left);
            }
        };
        drain(WATCHED);
        let (began, cpu) = (Instant::now(), thread_seconds("engine"));
        drain(WATCHED);
        let share = 100.0 * (thread_seconds("engine") - cpu) / began.elapsed().as_secs_f64();
        let counters = engine.counters().expect("it lives");
        println!(
            "| {count} traces of 30 hops, once a second | {share:.1} % ({} packets a second, {} thrown away) | {:.0} MB |",
            counters.sent / (2 * WATCHED.as_secs()),
            counters.dropped,
            pss_of("self") - before
        );
    });
    let (node, _responder) = thirty_hops();
    node.within(|| {
        let name = "bare";
        let (share, sent, received) = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            let exchange = move || {
                let cpu = thread_seconds(name);
                let rate = u64::from(count) * 30;
                let (sent, received) = bare::exchange(rate, count, WATCHED);
                (thread_seconds(name) - cpu, sent, received)
            };
            let thread = thread.spawn_scoped(scope, exchange).expect("a thread");
            thread.join().expect("it ends")
        });
        let seconds = WATCHED.as_secs_f64();
        println!(
            "| as many packets by the calls alone | {:.1} % ({:.0} packets a second, {} without an answer) | - |",
            100.0 * share / seconds,
            sent as f64 / seconds,
            sent - received,
        );
    });
}

fn fields(path: &str) -> Vec<String> {
    let text = read_to_string(path).unwrap_or_default();
    // What is in brackets is a name and may have blanks.
    let rest = text.rsplit_once(')').map_or(&text[..], |(_, rest)| rest);
    rest.split_whitespace().map(String::from).collect()
}

fn ticks(fields: &[String], at: &[usize]) -> f64 {
    let of = |at: &usize| fields.get(*at)?.parse::<f64>().ok();
    at.iter().filter_map(of).sum::<f64>() / TICKS
}

/// Everything but idle and waiting.
fn machine_seconds() -> f64 {
    ticks(&fields("/proc/stat"), &[1, 2, 3, 6, 7])
}

fn process_seconds() -> f64 {
    ticks(&fields("/proc/self/stat"), &[11, 12, 13, 14])
}

fn thread_seconds(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("ours");
    let paths = tasks.flatten().map(|task| task.path());
    let named = paths.filter(|path| {
        let comm = read_to_string(path.join("comm")).unwrap_or_default();
        comm.trim() == name
    });
    let seconds = named.map(|path| ticks(&fields(&path.join("stat").to_string_lossy()), &[11, 12]));
    seconds.sum()
}

/// Megabytes of a process.
fn pss_of(pid: &str) -> f64 {
    let text = read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1_024.0
}

/// Of a process and all below it.
fn family_pss(pid: u32) -> f64 {
    let below = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below = below.split_whitespace().filter_map(|pid| pid.parse().ok());
    pss_of(&pid.to_string()) + below.map(family_pss).sum::<f64>()
}
