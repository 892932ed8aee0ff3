//! What the scenarios about jobs that go wrong have in common: a host on which
//! an agent runs, and a server that may order anything.
//!
//! The one rule: whatever was refused, [`Stage::assert_undisturbed`] holds.

use std::path::PathBuf;

use e2e::agent::{Agent, Settings};
use e2e::bundle::{Bundle, checksum};
use e2e::fake_server::{Answer, Asked, FakeServer};
use e2e::minisign::{Signer, Way};
use e2e::process::Process;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The agent that runs beforehand, and must go on doing so.
pub(crate) const NAME: &str = "worker";

/// A job that is refused: its error code, and words of its message.
pub(crate) type Refusal = (Value, u16, &'static [&'static str]);

/// The scene.
pub(crate) struct Stage {
    pub(crate) host: Agent,
    pub(crate) fake: FakeServer,
    running: Process,
    files: TempDir,
}

impl Stage {
    /// A stage with further tables of bootagent.toml.
    pub(crate) fn new(tables: &str) -> Self {
        Self::with_script(tables, |_| None)
    }

    /// The same with a server that answers what `script` says.
    pub(crate) fn with_script(
        tables: &str,
        script: impl FnMut(&Asked) -> Option<Answer> + Send + 'static,
    ) -> Self {
        Self::build(tables, None, script)
    }

    /// The same on a host that trusts `signer` alone.
    pub(crate) fn trusting(signer: &Signer) -> Self {
        Self::build("", Some(signer), |_| None)
    }

    fn build(
        tables: &str,
        signer: Option<&Signer>,
        script: impl FnMut(&Asked) -> Option<Answer> + Send + 'static,
    ) -> Self {
        let fake = FakeServer::start_with(script);
        let mut settings = Settings::new(&fake.address()).with(tables);
        settings.keys = signer.map(Signer::key).into_iter().collect();
        let host = Agent::start(&settings);
        host.until_confirmed();
        let files = tempfile::tempdir().expect("a temporary folder");
        let worker = Bundle::new(NAME, "1.0.0", &["--lock", "alone", "--ready"]).notify();
        let worker = worker.build();
        let mut install = package_job(&files, "install-worker", NAME, &worker);
        if let Some(signer) = signer {
            let comment = format!("name={NAME} version=1.0.0");
            install["signature"] = json!(signer.sign(&worker, &comment, Way::Hashed));
        }
        fake.succeed(install);
        let running = host.process(NAME).expect("it runs");
        Self {
            host,
            fake,
            running,
            files,
        }
    }

    /// The process of the agent that runs beforehand.
    pub(crate) fn running(&self) -> Process {
        self.running
    }

    /// A job that installs `package` from a file of this machine.
    pub(crate) fn install(&self, id: &str, name: &str, package: &[u8]) -> Value {
        package_job(&self.files, id, name, package)
    }

    /// Offers all jobs at once; each is refused as its row says.
    pub(crate) fn refuses(&self, rows: &[Refusal]) {
        for (job, ..) in rows {
            self.fake.offer(job.clone());
        }
        for (job, code, words) in rows {
            let id = e2e::server::text(job, "id");
            let result = self.fake.result(&id);
            let message = e2e::server::text(&result, "message");
            assert_eq!(result["errcode"], *code, "{id}: {message}");
            for word in *words {
                assert!(message.contains(word), "{word:?} is not in {id}: {message}");
            }
        }
        self.assert_undisturbed();
    }

    /// What ran before runs, is what it was, and nothing else is there.
    pub(crate) fn assert_undisturbed(&self) {
        assert_eq!(self.host.process(NAME), Some(self.running));
        let child = self.host.child(NAME).expect("it is known");
        assert_eq!(
            (&child["status"], &child["version"]),
            (&json!("running"), &json!("1.0.0"))
        );
        assert_eq!(child["anomalies"], 0);
        let status = self.host.status().expect("the daemon answers");
        assert_eq!(
            status["agents"].as_array().map(Vec::len),
            Some(1),
            "{status}"
        );
        // A part of a download may stay for the next try to go on with.
        let is_part = |path: &PathBuf| {
            let name = path.to_string_lossy();
            name.ends_with(".part") || name.ends_with(".part.json")
        };
        let left = self.host.temporary_files();
        assert!(left.len() <= 2 && left.iter().all(is_part), "{left:?}");
        let bundles = self.host.path("var/lib/bootagent/bundles");
        let names = |folder: PathBuf| -> Vec<String> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(bundles.clone()), [NAME]);
        assert_eq!(names(bundles.join(NAME)), ["1.0.0", "current"]);
        let packages = self.host.path("var/lib/bootagent/packages");
        assert_eq!(names(packages), [format!("{NAME}.current")]);
    }
}

pub(crate) fn package_job(files: &TempDir, id: &str, name: &str, package: &[u8]) -> Value {
    let path = files.path().join(id);
    std::fs::write(&path, package).expect("written");
    json!({
        "id": id, "action": "install", "name": name, "checksum": checksum(package),
        "url": format!("file://{}", path.display()),
    })
}
