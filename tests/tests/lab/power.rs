//! The power fails while jobs are done, and the disk turns up in another
//! machine.
//!
//! The disk with BootAgent's state notes each write and flush, and the server
//! how long that record was whenever it was told a result. So of every moment
//! it is known what had been promised by then. The one rule: whatever part of
//! the unflushed writes survives, what was promised is there, and nothing is
//! there that was never ordered.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::agent::{Agent, Settings};
use e2e::fake_server::{Answer, Asked, FakeServer};
use e2e::lab::cut::{WriteLog, copy_disk, make_disk, unpack};
use e2e::lab::{Disk, Guest, Lab, obstacle};
use e2e::wait;
use serde_json::{Value, json};

/// Jobs that are done before the power may fail.
const JOBS: usize = 24;
/// Moments of the record that are looked at.
const MOMENTS: usize = 24;
/// A job takes a second in a guest; more when others use the machine.
const LONG: Duration = Duration::from_secs(900);
/// The step of a host nobody ordered another one for.
const STEP: u64 = 600;
/// Seed of the moments and of what survives them; printed by a failure.
const SEED: &str = "LAB_SEED";

/// What the guest's host runs: a child the jobs stop and start, and one that
/// fails all the time, so that there are events too.
const CHILDREN: &str = r#"
    child obeys '{"type": "notify"}' /bin/sh -c 'systemd-notify --ready; exec sleep 987654'
    child fails '{}' /bin/false
"#;

/// Makes the guest a host of the server at `port`.
fn enrol(port: &str) -> String {
    format!(
        "printf '%s\\n' '[push]' 'min_step = 1' 'step = {STEP}' '[restart]' 'check = 1' 'holdoff = 1' \
         'max_anomalies = 1000' >$configuration
         printf 'BOOTAGENT_OPTIONS=\"-S 10.0.2.2:{port}\"\\n' >/etc/bootagent/options
         systemctl restart bootagent
         {CHILDREN}"
    )
}

/// Job `number` of the row that is ordered, one after the other.
fn job(number: usize) -> Value {
    let id = format!("job-{number}");
    match number % 3 {
        0 => json!({ "id": id, "action": "config", "step": 1000 + number }),
        1 => json!({ "id": id, "action": "stop", "name": "obeys" }),
        _ => json!({ "id": id, "action": "start", "name": "obeys" }),
    }
}

/// Step of the host and whether the child is wanted, once so many jobs are
/// done.
fn intent_after(jobs: usize) -> (u64, bool) {
    let step = (0..jobs).rev().find(|number| number % 3 == 0);
    let step = step.map_or(STEP, |number| 1000 + number as u64);
    let order = (0..jobs).rev().find(|number| number % 3 != 0);
    (step, order.is_none_or(|number| number % 3 == 2))
}

/// What the server knows.
#[derive(Default)]
struct Book {
    /// For each job that was told done, in their order: how long the record of
    /// writes was then.
    done: Vec<u64>,
    /// The identity and secret of the host, as it first said and was given.
    agentsn: String,
    /// The boot that is told to register again, once it has sent a status.
    stranger: Option<String>,
    /// What a job failed with before the power cut. The one that was being
    /// done then goes on in a machine that has no such child yet, and may fail.
    trouble: Option<String>,
    was_cut: bool,
}

const TOKEN: &str = "the-first-secret";
const NEW_AGENTSN: &str = "b5a7b1c2-3d4e-4f50-8a6b-7c8d9e0f1a2b";
const NEW_TOKEN: &str = "the-second-secret";

/// A server that orders one job after the other, and does not know a host that
/// comes back as a stranger.
fn server(book: &Arc<Mutex<Book>>, record: PathBuf) -> FakeServer {
    let book = Arc::clone(book);
    FakeServer::start_with(move |asked| {
        let mut book = book.lock().expect("nobody panics with it");
        answer(&mut book, asked, &record)
    })
}

fn answer(book: &mut Book, asked: &Asked, record: &Path) -> Option<Answer> {
    if asked.is_register() {
        if book.stranger.is_some() {
            let reply = json!({ "status": 0, "agentsn": NEW_AGENTSN, "token": NEW_TOKEN });
            return Some(Answer::Json(reply));
        }
        book.agentsn = e2e::server::text(&asked.body, "agentsn");
        return Some(Answer::Json(json!({ "status": 0, "token": TOKEN })));
    }
    if !asked.is_status() {
        return None;
    }
    let is_old = asked.body["agentsn"] == book.agentsn.as_str();
    if book
        .stranger
        .as_deref()
        .is_some_and(|boot| asked.body["boot_id"] == boot)
        && is_old
    {
        return Some(Answer::Json(json!({ "status": 0, "register": true })));
    }
    for result in asked.body["jobs"].as_array().into_iter().flatten() {
        if result["errcode"] != 0 && !book.was_cut {
            book.trouble = Some(result.to_string());
        }
        if result["id"] == format!("job-{}", book.done.len()) {
            let length = std::fs::metadata(record).map_or(0, |file| file.len());
            book.done.push(length);
        }
    }
    // On a new system disk the child is missing at first.
    let mut agents = asked.body["agents"].as_array().into_iter().flatten();
    let is_able = is_old && agents.any(|agent| agent["name"] == "obeys");
    let jobs = if is_able {
        vec![job(book.done.len())]
    } else {
        Vec::new()
    };
    Some(Answer::Json(json!({ "status": 0, "jobs": jobs })))
}

#[test]
fn what_was_promised_survives_a_power_cut_and_a_copied_disk_gets_an_identity_of_its_own() {
    if let Some(reason) = obstacle() {
        println!("SKIPPED: {reason}");
        return;
    }
    let lab = Lab::get();
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().expect("LAB_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    };
    println!("{SEED}={seed}");
    let mut chance = Chance(seed);
    let (empty, disk, record) = (lab.path("empty"), lab.path("state"), lab.path("record"));
    make_disk(&empty, 64).expect("an empty disk");
    copy_disk(&empty, disk.clone()).expect("a disk");
    std::fs::write(&record, b"").expect("an empty record");

    let book = Arc::new(Mutex::new(Book::default()));
    let server = server(&book, record.clone());
    let address = server.address();
    let port = address.rsplit(':').next().expect("a port");
    let mut guest = Guest::boot(Disk::LoggedState(&disk, &record)).unwrap_or_else(fail);
    let first_boot = guest.boot_id.clone();
    guest.succeed("enrol", &enrol(port)).unwrap_or_else(fail);
    let jobs = JOBS + chance.below(4);
    let done = || {
        let book = book.lock().expect("nobody panics with it");
        assert_eq!(book.trouble, None);
        book.done.len()
    };
    wait::within(LONG, "enough jobs done", || (done() >= jobs).then_some(()));
    // Between two jobs, or in one.
    std::thread::sleep(Duration::from_millis(chance.below(1500) as u64));
    guest.cut_power();

    let mut log = WriteLog::read(&record).expect("a record of the writes");
    let (promised, agentsn) = {
        let mut book = book.lock().expect("nobody panics with it");
        book.was_cut = true;
        (book.done.clone(), book.agentsn.clone())
    };
    let from = log.index_at(promised[0]);
    assert!(from < log.count(), "the record is read to its end");
    println!(
        "{} writes and flushes, {} jobs",
        log.count(),
        promised.len()
    );
    for _ in 0..MOMENTS {
        let moment = from + chance.below(log.count() - from);
        let after = copy_disk(&empty, lab.path("after")).expect("a disk");
        let (length, keeps) = (log.length_after(moment), chance.below(3));
        log.cut(&after, moment, || chance.survives(keeps))
            .expect("a disk after a power cut");
        let known = promised
            .iter()
            .filter(|promise| **promise <= length)
            .count();
        println!("after {moment} of {}, {known} jobs promised", log.count());
        all_is_there(&after, &agentsn, known);
        std::fs::remove_file(&after).expect("ours");
    }

    // The last moment of all, in another machine: it has its own machine-id.
    let moved = copy_disk(&empty, lab.path("moved")).expect("a disk");
    log.cut(&moved, log.count() - 1, || chance.survives(2))
        .expect("a disk after a power cut");
    let before = server.statuses();
    let old = before.last().expect("statuses").body.clone();
    let mut guest = Guest::boot(Disk::State(&moved)).unwrap_or_else(fail);
    assert_ne!(guest.boot_id, first_boot);
    let boot_id = guest.boot_id.clone();
    guest.succeed("enrol", &enrol(port)).unwrap_or_else(fail);
    let of_boot = |asked: &Asked| asked.body["boot_id"] == boot_id.as_str();
    let status = wait::within(LONG, "a status of the second boot", || {
        server.statuses().into_iter().find(of_boot)
    });
    // A server can see that it is the same host, elsewhere.
    assert_eq!(status.body["agentsn"], agentsn.as_str());
    assert_ne!(status.body["machine_id"], old["machine_id"]);
    assert!(status.body["machine_id"].is_string(), "{}", status.body);
    // It goes on where the first one was.
    let done_before = promised.len();
    wait::within(LONG, "a job of the second boot", || {
        (done() > done_before + 1).then_some(())
    });

    // Told to register again, it does so as the old one and goes on as the new.
    book.lock().expect("nobody panics with it").stranger = Some(boot_id.clone());
    let again = wait::within(LONG, "a registration of the second boot", || {
        server.registers().into_iter().find(of_boot)
    });
    assert_eq!(again.body["agentsn"], agentsn.as_str());
    assert_eq!(
        again.header("authorization"),
        Some(&*format!("Bearer {TOKEN}"))
    );
    let renamed = wait::within(LONG, "a status of the new identity", || {
        let mut statuses = server.statuses().into_iter();
        statuses.find(|asked| asked.body["agentsn"] == NEW_AGENTSN)
    });
    assert!(of_boot(&renamed));
    assert_eq!(
        renamed.header("authorization"),
        Some(&*format!("Bearer {NEW_TOKEN}"))
    );
    let kept = guest
        .succeed(
            "identity",
            "jq -r .agentsn $state/metafile.json; kill_daemon; jq -r .agentsn $state/metafile.json",
        )
        .unwrap_or_else(fail);
    assert_eq!(kept.matches(NEW_AGENTSN).count(), 2, "{kept}");
}

fn fail<T>(error: impl std::fmt::Display) -> T {
    panic!("{error:#}")
}

/// Starts a real BootAgent on what the disk holds: it is who it was, wants
/// what the server was told, and knows each result that was sent.
fn all_is_there(disk: &Path, agentsn: &str, known: usize) {
    // Without a network: the servers it knows are the guest's.
    let settings = Settings {
        launcher: ["unshare", "--net"].map(str::to_owned).to_vec(),
        enrolment_token: None,
        ..Settings::new("")
    };
    let mut agent = Agent::prepare(&settings);
    let folder = agent.path("var/lib/bootagent");
    std::fs::create_dir_all(&folder).expect("a folder");
    unpack(disk, &folder).unwrap_or_else(fail);
    let metafile = std::fs::read(folder.join("metafile.json")).expect("a metafile");
    let metafile: Value = serde_json::from_slice(&metafile).expect("a whole metafile");
    assert_eq!(metafile["agentsn"], agentsn);
    assert_eq!(metafile["token"], TOKEN);
    let found = (
        metafile["step"].as_u64().expect("a step"),
        metafile["children"]["obeys"]["wanted_running"] == true,
    );
    // The job after the last one told may have begun.
    let possible = [intent_after(known), intent_after(known + 1)];
    assert!(
        possible.contains(&found),
        "{found:?}, not one of {possible:?}"
    );

    agent.run();
    let status = wait::until("an answer of the next daemon", || agent.status());
    assert_eq!(status["agentsn"], agentsn);
    let jobs: Value = serde_json::from_str(&agent.ask(&["--json", "jobs"])).expect("JSON");
    let jobs = jobs["jobs"].as_array().expect("jobs").clone();
    for number in 0..known {
        let id = format!("job-{number}");
        let result = jobs
            .iter()
            .find(|job| job[0] == id)
            .map(|job| &job[1]["errcode"]);
        assert_eq!(result, Some(&json!(0)), "{id}: {jobs:?}");
    }
}

/// Chance that can be repeated (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // Zero would stay zero.
        let mut number = self.0.max(1);
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        self.0 = number;
        number
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap_or(0) % end
    }

    /// Whether a part survives: none does, all do, or each may.
    fn survives(&mut self, keeps: usize) -> bool {
        match keeps {
            0 => false,
            1 => true,
            _ => self.next() & (1 << 20) != 0,
        }
    }
}
