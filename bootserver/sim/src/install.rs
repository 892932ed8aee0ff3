//! Packages: jobs that bring one are fetched and checked as BootAgent would,
//! and what the new program then does is chance.
//!
//! The one rule: a host names such a job in `accepted` until it has the result, and
//! does one after the other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bootagent_protocol::{AgentReport, AgentState, Checksum, ErrorCode, Job};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::http::{Broken, Reuse, Target};
use crate::latency::Histogram;
use crate::ledger::EventKey;
use crate::machine::Secret;
use crate::random::Random;

/// How long a busy server that names no time is left alone.
const PAUSE: Duration = Duration::from_secs(5);
/// How often a download is tried that broke off.
const ATTEMPTS: u32 = 5;

/// What becomes of new programs, as shares of all installs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fate {
    /// The installer fails.
    pub(crate) failed: f64,
    /// It ends while it is watched, and the old one comes back.
    pub(crate) rolled_back: f64,
    /// It is installed, and crashes later.
    pub(crate) crashing: f64,
    /// The one version these shares are of; without it they are of each.
    pub(crate) bad_version: Option<String>,
}

/// A package that a host has to fetch.
#[derive(Debug)]
pub(crate) struct Errand {
    host: u32,
    job: String,
    software: Software,
    path: String,
    checksum: Option<Checksum>,
    secret: Secret,
}

/// A program and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Software {
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
}

/// What came of an errand.
#[derive(Debug)]
pub(crate) struct Fetched {
    errand: Errand,
    outcome: Result<u64, ErrorCode>,
    took: Duration,
    /// How often the server had no place for it.
    busy: u64,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) host: u32,
    pub(crate) job: String,
    pub(crate) errcode: ErrorCode,
}

/// What hosts have besides what all have.
#[derive(Default)]
pub(crate) struct Installs {
    fate: Fate,
    /// Errands that are under way.
    at_work: HashMap<u32, String>,
    waiting: HashMap<u32, VecDeque<Errand>>,
    installed: HashMap<u32, Vec<Installed>>,
    /// Jobs whose program crashes once their result is acknowledged.
    crashing: HashMap<String, Software>,
    crashes: HashMap<EventKey, Software>,
    pub(crate) counts: Counts,
}

#[derive(Debug)]
struct Installed {
    software: Software,
    crashed: bool,
}

/// What was counted.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) downloads: u64,
    pub(crate) bytes: u64,
    pub(crate) busy: u64,
    pub(crate) took: Histogram,
    pub(crate) succeeded: u64,
    /// By error code.
    pub(crate) failed: std::collections::BTreeMap<u16, u64>,
    pub(crate) crashed: u64,
}

impl Fetched {
    pub(crate) fn host(&self) -> u32 {
        self.errand.host
    }
}

impl Installs {
    pub(crate) fn new(fate: Fate) -> Self {
        Self {
            fate,
            ..Self::default()
        }
    }

    /// Takes a job if it brings a package, which is fetched when those before it
    /// are done. False if it brings none.
    pub(crate) fn take(&mut self, host: u32, job: &Job, secret: Secret) -> bool {
        let Some(errand) = errand(host, job, secret) else {
            return false;
        };
        self.waiting.entry(host).or_default().push_back(errand);
        true
    }

    /// What a host has to fetch now, if it has nothing else under way.
    pub(crate) fn next(&mut self, host: u32) -> Option<Errand> {
        if self.at_work.contains_key(&host) {
            return None;
        }
        let waiting = self.waiting.get_mut(&host)?;
        let errand = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&host);
        }
        self.at_work.insert(host, errand.job.clone());
        Some(errand)
    }

    /// How the job ends whose package is there, or is not.
    pub(crate) fn end(&mut self, fetched: Fetched, random: &mut Random) -> Ended {
        let Errand {
            host,
            job,
            software,
            ..
        } = fetched.errand;
        self.counts.busy += fetched.busy;
        if let Ok(bytes) = fetched.outcome {
            self.counts.downloads += 1;
            self.counts.bytes += bytes;
            self.counts.took.add(fetched.took);
        }
        let errcode = match fetched.outcome {
            Err(errcode) => errcode,
            Ok(_) => self.fate.of(&software, random),
        };
        if errcode == ErrorCode::SUCCESS {
            self.counts.succeeded += 1;
            if self.fate.concerns(&software) && random.happens(self.fate.crashing) {
                self.crashing.insert(job.clone(), software.clone());
            }
            let installed = self.installed.entry(host).or_default();
            installed.retain(|it| it.software.name != software.name);
            installed.push(Installed {
                software,
                crashed: false,
            });
        } else {
            *self.counts.failed.entry(errcode.0).or_default() += 1;
        }
        self.at_work.remove(&host);
        Ended { host, job, errcode }
    }

    /// Jobs that a host has and has not ended.
    pub(crate) fn accepted(&self, host: u32) -> Vec<String> {
        let waiting = self.waiting.get(&host).into_iter().flatten();
        let waiting = waiting.map(|errand| &errand.job);
        self.at_work
            .get(&host)
            .into_iter()
            .chain(waiting)
            .cloned()
            .collect()
    }

    /// Whether the program that this job brought crashes now.
    pub(crate) fn crashes_after(&mut self, job: &str) -> Option<Software> {
        // Mostly there are none, and nothing is looked for.
        match self.crashing.is_empty() {
            true => None,
            false => self.crashing.remove(job),
        }
    }

    /// A program crashed, which this event says.
    pub(crate) fn crashed(&mut self, key: EventKey, software: Software) {
        self.counts.crashed += 1;
        let installed = self.installed.get_mut(&key.host).into_iter().flatten();
        for it in installed.filter(|it| it.software == software) {
            it.crashed = true;
        }
        self.crashes.insert(key, software);
    }

    /// What an event is about, if it is no ordinary one.
    pub(crate) fn crash(&self, key: &EventKey) -> Option<&Software> {
        self.crashes.get(key)
    }

    /// An event that needs not be said again.
    pub(crate) fn forget(&mut self, key: &EventKey) {
        self.crashes.remove(key);
    }

    /// Brings what a host says of its agents up to date.
    pub(crate) fn amend(&self, host: u32, agents: &mut Vec<AgentReport>) {
        for it in self.installed.get(&host).into_iter().flatten() {
            let name = &*it.software.name;
            if !agents.iter().any(|agent| agent.name == name) {
                agents.push(crate::machine::plain_agent(name));
            }
            for agent in agents.iter_mut().filter(|agent| agent.name == name) {
                agent.version = it.software.version.to_string();
                if it.crashed {
                    agent.status = AgentState::Stoped;
                    agent.detail = Some("hold-off".into());
                    agent.anomalies = Some(1);
                    agent.pid = None;
                }
            }
        }
    }
}

impl Fate {
    fn concerns(&self, software: &Software) -> bool {
        let bad = self.bad_version.as_deref();
        bad.is_none_or(|bad| bad == &*software.version)
    }

    fn of(&self, software: &Software, random: &mut Random) -> ErrorCode {
        if !self.concerns(software) {
            return ErrorCode::SUCCESS;
        }
        for (share, errcode) in [
            (self.failed, ErrorCode::INSTALLER_FAILED),
            (self.rolled_back, ErrorCode::ROLLED_BACK),
        ] {
            if random.happens(share) {
                return errcode;
            }
        }
        ErrorCode::SUCCESS
    }
}

/// What a job brings; none if it brings nothing.
fn errand(host: u32, job: &Job, secret: Secret) -> Option<Errand> {
    let terms = &job.terms;
    let (name, url) = (terms.name.as_ref()?, terms.url.as_ref()?);
    let version = terms.version.as_ref().map(ToString::to_string);
    job.action.needs_package().then(|| Errand {
        host,
        job: job.id.clone(),
        software: Software {
            name: name.to_string().into(),
            version: version.unwrap_or_default().into(),
        },
        path: path(url).to_owned(),
        checksum: terms.checksum,
        secret,
    })
}

/// What a server is asked for: all of its own packages are below it.
fn path(url: &str) -> &str {
    match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => url,
    }
}

/// Fetches a package; waits where the server is busy.
pub(crate) async fn fetch(target: &Target, errand: Errand) -> Fetched {
    let began = Instant::now();
    let bearer = |bytes: &mut Vec<u8>| errand.secret.write_to(bytes);
    let request = target.request("GET", &errand.path, bearer, b"", Reuse::Never);
    let (mut busy, mut attempt) = (0, 1);
    let outcome = loop {
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let asked = async {
            let mut connection = target.connect().await?;
            let piece = |piece: &[u8]| {
                hash.update(piece);
                bytes += piece.len() as u64;
            };
            connection.fetch(&request, piece).await
        };
        match asked.await {
            Ok(reply) if matches!(reply.status, 429 | 503) => {
                busy += 1;
                sleep(reply.retry_after.unwrap_or(PAUSE)).await;
            }
            Ok(reply) if reply.status == 200 => {
                let sum: [u8; 32] = hash.finalize().into();
                let is_right = errand.checksum.is_none_or(|wanted| wanted.0 == sum);
                break match is_right {
                    true => Ok(bytes),
                    false => Err(ErrorCode::CHECKSUM_MISMATCH),
                };
            }
            Ok(reply) if reply.status == 404 => break Err(ErrorCode::NOT_FOUND),
            Ok(_) => break Err(ErrorCode::DOWNLOAD_FAILED),
            Err(Broken::TimedOut) if attempt >= ATTEMPTS => {
                break Err(ErrorCode::DOWNLOAD_TIMED_OUT);
            }
            Err(_) if attempt >= ATTEMPTS => break Err(ErrorCode::DOWNLOAD_FAILED),
            Err(_) => {
                attempt += 1;
                sleep(PAUSE).await;
            }
        }
    };
    Fetched {
        errand,
        outcome,
        took: began.elapsed(),
        busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(version: &str) -> Job {
        Job::parse(&serde_json::json!({
            "id": format!("j-{version}"), "action": "install", "name": "flux-push",
            "version": version, "url": "/packages/flux-push-1.tar.gz",
        }))
        .expect("valid")
    }

    fn fetched(installs: &mut Installs, version: &str) -> Fetched {
        assert!(installs.take(7, &job(version), Secret([0; 32])));
        Fetched {
            errand: installs.next(7).expect("nothing is under way"),
            outcome: Ok(9),
            took: Duration::from_secs(1),
            busy: 2,
        }
    }

    #[test]
    fn a_package_is_asked_of_the_server_wherever_its_url_says_it_is() {
        for (url, asked) in [
            ("/packages/a", "/packages/a"),
            ("http://h:81/packages/a?b", "/packages/a?b"),
            ("https://h", "/"),
        ] {
            assert_eq!(path(url), asked, "{url}");
        }
    }

    #[test]
    fn a_job_is_named_until_it_has_ended_and_the_version_is_the_new_one_after_it() {
        let mut installs = Installs::default();
        let fetched = fetched(&mut installs, "2.0.0-1");
        assert_eq!(installs.accepted(7), ["j-2.0.0-1"]);
        let ended = installs.end(fetched, &mut Random::new(1));
        assert_eq!(ended.errcode, ErrorCode::SUCCESS);
        assert!(installs.accepted(7).is_empty());
        let mut agents = Vec::new();
        installs.amend(7, &mut agents);
        assert_eq!(
            (agents[0].name.as_str(), agents[0].version.as_str()),
            ("flux-push", "2.0.0-1")
        );
        assert_eq!((installs.counts.bytes, installs.counts.busy), (9, 2));
    }

    #[test]
    fn a_host_does_one_job_after_the_other() {
        let mut installs = Installs::default();
        let first = fetched(&mut installs, "2.0.0-1");
        assert!(installs.take(7, &job("3.0.0-1"), Secret([0; 32])));
        assert!(installs.next(7).is_none());
        assert_eq!(installs.accepted(7), ["j-2.0.0-1", "j-3.0.0-1"]);
        installs.end(first, &mut Random::new(1));
        assert!(
            installs
                .next(7)
                .is_some_and(|errand| errand.job == "j-3.0.0-1")
        );
    }

    #[test]
    fn only_the_bad_version_fails() {
        let mut installs = Installs::new(Fate {
            rolled_back: 1.0,
            bad_version: Some("3.0.0-1".into()),
            ..Fate::default()
        });
        for (version, errcode) in [
            ("2.0.0-1", ErrorCode::SUCCESS),
            ("3.0.0-1", ErrorCode::ROLLED_BACK),
        ] {
            let fetched = fetched(&mut installs, version);
            let ended = installs.end(fetched, &mut Random::new(1));
            assert_eq!(ended.errcode, errcode, "{version}");
        }
        let mut agents = Vec::new();
        installs.amend(7, &mut agents);
        assert_eq!(agents[0].version, "2.0.0-1", "the old one is back");
    }

    #[test]
    fn a_crash_comes_after_the_result_and_is_seen_in_the_state() {
        let mut installs = Installs::new(Fate {
            crashing: 1.0,
            ..Fate::default()
        });
        let fetched = fetched(&mut installs, "2.0.0-1");
        let ended = installs.end(fetched, &mut Random::new(1));
        assert_eq!(ended.errcode, ErrorCode::SUCCESS);
        let software = installs.crashes_after(&ended.job).expect("it crashes");
        assert_eq!(installs.crashes_after(&ended.job), None, "once");
        let key = EventKey {
            host: 7,
            boot: 1,
            seq: 1,
        };
        installs.crashed(key, software.clone());
        assert_eq!(installs.crash(&key), Some(&software));
        let mut agents = Vec::new();
        installs.amend(7, &mut agents);
        assert_eq!(
            (agents[0].status, agents[0].anomalies),
            (AgentState::Stoped, Some(1))
        );
        installs.forget(&key);
        assert_eq!(installs.crash(&key), None);
    }
}
