//! What the mesh costs, and how soon its snapshot is taken.

use std::fs::read_to_string;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use mtr_prober::archive::thread::Keeper;
use mtr_prober::archive::{Archive, Options};
use mtr_prober::clock;
use mtr_prober::config::Config;
use mtr_prober::engine::Engine;
use mtr_prober::mesh::watch::Watch;

use crate::responder::{Reply, Responder};
use crate::world::Node;
use crate::{WATCHED, pss_of, settings, target, thread_seconds};

/// The mesh with so many peers, each with a name and all with the group's key: what its threads cost, and when the last
/// probe of the snapshot leaves after one peer is lost.
pub(crate) fn measure(count: u16) {
    let node = Node::new();
    let cut = Arc::new(AtomicBool::new(false));
    let (is_cut, (seen, probes)) = (cut.clone(), channel());
    let _responder = Responder::start(&node, move |probe| {
        let lost = is_cut.load(Ordering::Relaxed) && IpAddr::from(probe.to) == target(1);
        if lost && probe.ttl < 64 {
            let _ = seen.send((Instant::now(), probe.ttl));
        }
        let router = Ipv4Addr::new(10, 1, probe.ttl, 0);
        match probe.ttl {
            10.. if lost => None,
            10.. => Some((probe.to, Reply::Echo, Duration::ZERO)),
            _ => Some((router, Reply::Exceeded(Vec::new()), Duration::ZERO)),
        }
    });
    let state = tempfile::tempdir().expect("a directory");
    let (peers, key) = (state.path().join("peers"), state.path().join("key"));
    let list = (1..=count).map(|it| format!("{} name=n{it}\n", target(it)));
    std::fs::write(&peers, list.collect::<String>()).expect("written");
    std::fs::write(&key, "the key of the group").expect("written");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("set");
    let mut config = Config::default();
    if count > 0 {
        config.mesh.peers_file = Some(peers);
        config.mesh.key_file = Some(key);
    }
    node.within(move || {
        let before = pss_of("self");
        let (engine, _events) = Engine::start(settings()).expect("root");
        let engine = Arc::new(engine);
        let archive = Archive::open(state.path(), Options::default(), clock::instant());
        let (keeper, _) = Keeper::start(archive.expect("opened").0).expect("a thread");
        let folder = state.path().to_owned();
        let status = mtr_prober::status::Status::default();
        let started = Watch::start(config, engine.clone(), keeper, status, folder);
        let (watch, thread) = started.expect("a thread");
        std::thread::sleep(WATCHED);
        let spent = || thread_seconds("engine") + thread_seconds("mesh");
        let wakes = || thread_wakes("engine") + thread_wakes("mesh");
        let (began, cpu, woken, sent) = (Instant::now(), spent(), wakes(), engine.counters());
        std::thread::sleep(WATCHED);
        let long = began.elapsed().as_secs_f64();
        let (share, woken) = (100.0 * (spent() - cpu) / long, (wakes() - woken) / long);
        let sent_now = engine.counters().expect("it lives").sent;
        let rate = (sent_now - sent.expect("it lives").sent) as f64 / long;
        let pss = pss_of("self") - before;
        println!(
            "| {count} peers at 1 Hz | {share:.1} % of a core ({rate:.0} packets and {woken:.1} wake-ups a second), {pss:.0} MB |"
        );
        if count > 0 {
            let onset = Instant::now();
            cut.store(true, Ordering::Relaxed);
            let mut last = (Duration::ZERO, 0);
            while let Ok((at, ttl)) = probes.recv_timeout(WATCHED)
                && ttl > last.1
            {
                last = (at - onset, ttl);
            }
            let took = last.0.as_secs_f64();
            println!("| all of a peer's is lost: its snapshot's last probe leaves after | {took:.2} s |");
        }
        watch.end();
        thread.join().expect("it ends");
    });
}

/// How often threads of this name were woken.
fn thread_wakes(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("ours");
    let paths = tasks.flatten().map(|task| task.path());
    let texts = paths.filter_map(|path| {
        let comm = read_to_string(path.join("comm")).unwrap_or_default();
        (comm.trim() == name).then(|| read_to_string(path.join("status")).ok())?
    });
    let counts = texts.filter_map(|text| {
        let line = text
            .lines()
            .find_map(|it| it.strip_prefix("voluntary_ctxt_switches:"));
        line?.trim().parse::<f64>().ok()
    });
    counts.sum()
}
