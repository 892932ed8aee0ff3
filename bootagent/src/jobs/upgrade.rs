//! What was there before a job changed it, and how far the job has come: all
//! that is needed to go back.
//!
//! Both are in the journal. The rule: what was there before is noted before
//! anything is changed, and never looked at again.

use std::path::Path;

use bootagent_protocol::{AgentName, ErrorCode};
use serde::{Deserialize, Serialize};

use super::keep::checksum_of;
use super::{Worker, name};
use crate::download::Failure;
use crate::engine::{Given, JobRequest, Run};
use crate::journal::TakenJob;
use crate::metafile::ChildIntent;
use crate::package::{self, Bundles, Kind};

/// The version that was installed before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) version: String,
    pub(super) place: Place,
    /// What earlier jobs gave it.
    intent: ChildIntent,
}

/// Where a version lies, or what it is put back from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// The name of its folder among the bundles of its agent.
    Bundle(String),
    /// The SHA-256 of its kept package; none when no job installed it.
    Package(Option<String>),
}

/// A version is being given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Back {
    /// What the job's result will say.
    pub(super) code: ErrorCode,
    /// Why.
    pub(super) cause: String,
    /// Which version.
    pub(super) tried: String,
    /// Whether it was ever started.
    pub(super) was_started: bool,
}

impl Back {
    pub(super) fn run(&self) -> Run {
        match self.was_started {
            true => Run::Anew,
            false => Run::On,
        }
    }
}

/// What the steps of an interrupted install say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Progress {
    /// What was there before; the inner none is a first install.
    pub(super) before: Option<Option<Before>>,
    /// The folder that was about to become current.
    pub(super) switching: Option<String>,
    /// The version that came up and is on trial.
    pub(super) up: Option<String>,
    /// The version is being given up.
    pub(super) back: Option<Back>,
}

impl Before {
    pub(super) fn given(&self) -> Given {
        Given {
            envs: self.intent.envs.clone(),
            limits: self.intent.limits.clone(),
        }
    }

    /// As a step in the journal.
    pub(super) fn step(before: Option<&Self>) -> String {
        let json = serde_json::to_string(&before).expect("keys are strings");
        format!("before {json}")
    }
}

impl Progress {
    /// Reads steps; of two of a kind the later one counts.
    pub(super) fn of(steps: &[String]) -> Self {
        let mut progress = Self::default();
        for step in steps {
            match step.split_once(' ') {
                Some(("before", json)) => progress.before = serde_json::from_str(json).ok(),
                Some(("switching", folder)) => progress.switching = Some(folder.to_owned()),
                Some(("up", version)) => progress.up = Some(version.to_owned()),
                Some(("back", json)) => progress.back = serde_json::from_str(json).ok(),
                _ => {}
            }
        }
        progress
    }
}

impl Worker {
    /// What is there now, noted before it is changed. None where nothing is
    /// that could be run again.
    pub(super) fn note_before(
        &self,
        taken: &TakenJob,
        kind: Kind,
    ) -> Result<Option<Before>, Failure> {
        let name = name(taken)?;
        let before = self.look_before(&name, kind)?;
        self.step(taken, &Before::step(before.as_ref()))?;
        Ok(before)
    }

    fn look_before(&self, name: &AgentName, kind: Kind) -> Result<Option<Before>, Failure> {
        let packaged = self.paths.packaged_agents().join(name.as_str());
        let is_packaged = packaged.join(package::bundle::MANIFEST).exists();
        let bundle = self.bundles().current(name);
        let (folder, place) = match (kind, is_packaged, bundle) {
            (Kind::Bundle, true, _) => return Err(other_kind(name, "an rpm or deb", "a bundle")),
            (Kind::Rpm | Kind::Deb, _, Some(_)) => {
                return Err(other_kind(name, "a bundle", "an rpm or deb"));
            }
            (Kind::Bundle, false, None) | (Kind::Rpm | Kind::Deb, false, None) => return Ok(None),
            (Kind::Bundle, false, Some(folder)) => {
                let last = folder.file_name().unwrap_or_default().to_string_lossy();
                let place = Place::Bundle(last.into_owned());
                (folder, place)
            }
            (Kind::Rpm | Kind::Deb, true, None) => (packaged, Place::Package(self.source(name))),
        };
        // What has no manifest that can be read did not run and will not.
        let Ok(manifest) = Bundles::manifest(&folder) else {
            return Ok(None);
        };
        let known = self.ask(|reply| JobRequest::Known {
            name: name.clone(),
            reply,
        });
        let given = known.map(|known| known.given).unwrap_or_default();
        Ok(Some(Before {
            version: manifest.version.to_string(),
            place,
            intent: ChildIntent {
                wanted_running: true,
                envs: given.envs,
                limits: given.limits,
            },
        }))
    }

    /// The checksum of the kept package of the version that is installed.
    fn source(&self, name: &AgentName) -> Option<String> {
        let mut kept = self.all_kept(name).into_iter();
        let path = kept.find(|path| self.is_of_installed(path))?;
        Some(checksum_of(&path)?.hex())
    }

    /// Whether the database has the version of the kept package `sum`.
    pub(super) fn is_kept_installed(&self, name: &AgentName, sum: &str) -> bool {
        let kept = self.kept_with(name, sum);
        kept.is_some_and(|path| self.is_of_installed(&path))
    }

    fn is_of_installed(&self, package: &Path) -> bool {
        let query = |command: &package::Command| self.query(command);
        let kind = Kind::of(package).ok().filter(|kind| *kind != Kind::Bundle);
        let found = kind.and_then(|kind| {
            let header = package::inspect(package, kind, &query).ok()?;
            self.is_installed(kind, &header).ok()
        });
        found == Some(true)
    }
}

fn other_kind(name: &AgentName, is: &str, job: &str) -> Failure {
    Failure::new(
        ErrorCode::MANIFEST_INVALID,
        format!(
            "{name} is installed as {is}, the job brings {job}; uninstall {name} first, two \
             manifests of one name cannot be used"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_say_again_what_was_noted() {
        let before = Before {
            version: "1.0".into(),
            place: Place::Bundle("1.0@2".into()),
            intent: ChildIntent {
                envs: Some([("A".to_owned(), "b c".to_owned())].into()),
                ..ChildIntent::default()
            },
        };
        let back = Back {
            code: ErrorCode::ROLLED_BACK,
            cause: "ended after 1 s: exit code 3\nsecond line".into(),
            tried: "1.1".into(),
            was_started: true,
        };
        let back_step = format!("back {}", serde_json::to_string(&back).expect("JSON"));
        let steps = ["begun", "fetched 00", "switching 1.1", "up 1.1"].map(String::from);
        let steps = [&steps[..], &[Before::step(Some(&before)), back_step]].concat();
        let progress = Progress {
            before: Some(Some(before)),
            switching: Some("1.1".into()),
            up: Some("1.1".into()),
            back: Some(back),
        };
        assert_eq!(Progress::of(&steps), progress);
        let first = Progress::of(&[Before::step(None)]);
        assert_eq!(first.before, Some(None));
        assert_eq!(Progress::of(&["begun".into()]), Progress::default());
    }
}
