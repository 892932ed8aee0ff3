//! Two servers on one PostgreSQL: what one took the other has, and behind HAProxy a
//! host does not notice which of them it talks to, or that one goes.

#[path = "../../bootserver/tests/support/cluster.rs"]
mod cluster;

use std::path::PathBuf;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use e2e::agent::{Agent, Settings};
use e2e::bundle::Bundle;
use e2e::haproxy::Haproxy;
use e2e::minisign::{Signer, Way};
use e2e::server::{Server, text};
use e2e::{binaries, http, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than any run here, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The agent of the bundles.
const NAME: &str = "worker";

/// Two servers on one database; nothing where there is no PostgreSQL.
struct Pair {
    one: Server,
    two: Server,
    folder: TempDir,
}

impl Pair {
    fn start(configuration: &str) -> Option<Self> {
        let database = at_once(cluster::shared()?.empty());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("bootserver.toml");
        let configuration = format!("trusted_proxy = \"127.0.0.1/32\"\n{configuration}");
        std::fs::write(&file, configuration).expect("a configuration");
        let one = Server::start_on(&database, &file);
        let two = one.replica();
        Some(Self { one, two, folder })
    }

    fn proxy(&self) -> Option<Haproxy> {
        match Haproxy::start([self.one.address, self.two.address]) {
            Ok(proxy) => Some(proxy),
            Err(why) => {
                println!("SKIPPED: replicas behind HAProxy: {why}");
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Simulated hosts, registered by now, that call through the proxy.
    fn fleet(&self, proxy: &Haproxy, hosts: u32, line: &str) -> Fleet {
        let enrol = format!("enrol --hosts {hosts} --connections 16");
        let mut enrolled = self.simulator(proxy, &enrol);
        let status = wait::within(PATIENCE, "the enrolment", || {
            enrolled.child.try_wait().expect("it is ours")
        });
        assert!(status.success(), "{status}");
        self.simulator(proxy, &format!("fleet --step 1 --seconds 600 {line}"))
    }

    fn simulator(&self, proxy: &Haproxy, line: &str) -> Fleet {
        let output = |name: &str| std::fs::File::create(self.path(name)).expect("a file");
        let child = Command::new(binaries::bootserver_sim())
            .args(line.split_whitespace())
            .args(["--json", "--server", &proxy.address.to_string()])
            .arg("--identities")
            .arg(self.path("fleet"))
            .arg("--tokens")
            .arg(self.one.data().join("first-start.txt"))
            .stdout(Stdio::from(output("out")))
            .stderr(Stdio::from(output("err")))
            .spawn()
            .expect("the simulator can be run");
        Fleet { child }
    }

    /// Waits until more events are stored than there are, and results.
    fn until_more_comes(&self) {
        let total = || self.two.get("/events?limit=1&total=true")["total"].as_u64();
        let before = total();
        wait::within(PATIENCE, "some events more", || {
            (total() >= before.map(|before| before + 20)).then_some(())
        });
        wait::within(PATIENCE, "a result", || {
            let results = self.two.get("/job-results?limit=1");
            results["items"].get(0).is_some().then_some(())
        });
    }

    /// Ends the simulator; returns what it found.
    fn report(&self, mut fleet: Fleet) -> Value {
        let pid = i32::try_from(fleet.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
        let status = wait::within(PATIENCE, "the end of the simulator", || {
            fleet.child.try_wait().expect("it is ours")
        });
        let read = |name| std::fs::read_to_string(self.path(name)).expect("what it said");
        let (out, err) = (read("out"), read("err"));
        let report: Value = serde_json::from_str(&out)
            .unwrap_or_else(|error| panic!("{status}: {error}: {err}{out}"));
        // What a server was at when it was killed, HAProxy answers with 502, which no
        // server says.
        let cut = report.pointer("/statuses/502").and_then(Value::as_u64);
        let cut = cut.unwrap_or_default();
        assert_eq!(report["wrong"], cut, "{err}{report:#}");
        assert_eq!(status.success(), cut == 0, "{status}: {err}{report:#}");
        report
    }
}

/// What a future gives that waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(given) => given,
        Poll::Pending => panic!("it waits"),
    }
}

/// A running simulator, which ends with its test.
struct Fleet {
    child: Child,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing that was acknowledged is missing or there twice.
fn assert_all_is_there(report: &Value) {
    for kind in ["events", "results"] {
        let acknowledged = report.pointer(&format!("/{kind}/acknowledged"));
        assert!(acknowledged.and_then(Value::as_u64) > Some(0), "{report:#}");
        for bad in ["lost", "doubled", "invented"] {
            let value = report.pointer(&format!("/{kind}/{bad}"));
            assert_eq!(value.and_then(Value::as_u64), Some(0), "{report:#}");
        }
    }
}

#[test]
fn a_signed_package_one_server_took_is_installed_from_the_other() {
    let (ours, other) = match (Signer::new(), Signer::new()) {
        (Ok(ours), Ok(other)) => (ours, other),
        (Err(why), _) | (_, Err(why)) => {
            println!("SKIPPED: signed packages: {why}");
            return;
        }
    };
    let Some(pair) = Pair::start(&format!("trusted_keys = [{:?}]", ours.key())) else {
        return;
    };
    let bytes = Bundle::new(NAME, "1.0.0", &["--ready"]).notify().build();
    let comment = format!("name={NAME} version=1.0.0");
    let signed = |by: &Signer, comment: &str| by.sign(&bytes, comment, Way::Hashed);
    for (signature, said) in [
        (String::new(), "signed packages only"),
        (signed(&other, &comment), "does not trust"),
        (signed(&ours, "name=other version=1.0.0"), "name other"),
        (
            ours.sign(b"other bytes", &comment, Way::Hashed),
            "does not fit",
        ),
        (ours.sign(&bytes, &comment, Way::Legacy), "old kind"),
    ] {
        let reply = pair.one.try_upload(&bytes, &signature);
        assert_eq!(reply.status, 422, "{}", reply.text());
        assert!(reply.text().contains(said), "{}", reply.text());
    }
    let reply = pair.one.try_upload(&bytes, &signed(&ours, &comment));
    let package = http::json("upload", 201, &reply);
    let mut settings = Settings::of(&pair.two);
    settings.keys = vec![ours.key()];
    let host = Agent::start(&settings);
    host.until_confirmed();
    let order = json!({ "action": "install", "package": text(&package, "id") });
    let job = pair.two.succeed(&host.agentsn(), order);
    assert_eq!(job["result"]["running"], "1.0.0");
    let child = host.child(NAME).expect("it is known");
    assert_eq!(child["version"], "1.0.0");
    for server in [&pair.one, &pair.two] {
        for folder in ["blobs", "tmp"] {
            assert!(!server.data().join(folder).exists(), "{folder} on a disk");
        }
    }
}

#[test]
fn a_server_killed_behind_haproxy_loses_nothing_and_does_nothing_twice() {
    let Some(mut pair) = Pair::start("") else {
        return;
    };
    let Some(proxy) = pair.proxy() else { return };
    let fleet = pair.fleet(&proxy, 200, "--events 20% --jobs 20 --twice 5%");
    pair.until_more_comes();
    pair.one.kill();
    proxy.until_down("one");
    pair.until_more_comes();
    assert_all_is_there(&pair.report(fleet));
}

#[test]
fn a_rolling_restart_behind_haproxy_is_an_error_for_nobody() {
    let Some(mut pair) = Pair::start("") else {
        return;
    };
    let Some(proxy) = pair.proxy() else { return };
    let fleet = pair.fleet(&proxy, 100, "--events 20% --jobs 5");
    pair.until_more_comes();
    pair.one.restart();
    proxy.until_up("one");
    pair.two.restart();
    proxy.until_up("two");
    pair.until_more_comes();
    let report = pair.report(fleet);
    assert_all_is_there(&report);
    assert_eq!(report["broken"], json!({}), "{report:#}");
    let statuses = report["statuses"].as_object().expect("a map");
    assert_eq!(statuses.keys().collect::<Vec<_>>(), ["200"], "{report:#}");
}
