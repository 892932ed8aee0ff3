//! uninstall: stop the child, remove its package, forget it. What it keeps in
//! its own state folder stays: an operator may want it.

use std::path::Path;

use bootagent_protocol::{AgentName, ErrorCode};

use super::packaged::installer_record;
use super::{Outcome, Worker, name, unknown};
use crate::download::Failure;
use crate::engine::waiter::Settled;
use crate::engine::{JobRequest, WantedChange};
use crate::journal::TakenJob;
use crate::package::{Bundles, Command, Exit, Kind, Removal, archive::Bounds, installer};

impl Worker {
    pub(super) fn uninstall(&self, taken: &TakenJob) -> Result<Outcome, Failure> {
        let name = name(taken)?;
        let stopped = self.ask(|reply| JobRequest::Want {
            name: name.clone(),
            change: WantedChange::Stop,
            reply,
        });
        if let Some(Settled::Failed(why)) = &stopped {
            return Err(Failure::new(
                ErrorCode::STOP_KILLED,
                format!("{name}: {why}"),
            ));
        }
        let was_begun = taken.steps.iter().any(|step| step == "removing");
        self.step(taken, "removing")?;
        let bundle = Bundles::new(&self.paths.bundles(), Bounds::default()).remove(&name)?;
        let package = self.remove_package(taken, &name)?;
        let was_there = matches!(bundle, Removal::Removed) || package == Removal::Removed;
        if stopped.is_none() && !was_there && !was_begun {
            return Err(unknown(&name));
        }
        for kept in ["new", "current", "previous"] {
            let _ = std::fs::remove_file(self.paths.packages().join(format!("{name}.{kept}")));
        }
        self.ask(|reply| JobRequest::Removed {
            name: name.clone(),
            reply,
        });
        Ok(Outcome::success("success"))
    }

    /// Removes the rpm or deb that brought the manifest, if one did.
    fn remove_package(&self, taken: &TakenJob, name: &AgentName) -> Result<Removal, Failure> {
        let manifest = self
            .paths
            .packaged_agents()
            .join(name.as_str())
            .join("agent.json");
        if !manifest.exists() {
            return Ok(Removal::Absent);
        }
        let owner = [Kind::Rpm, Kind::Deb]
            .into_iter()
            .filter(|kind| kind.check_supported(self.paths.root()).is_ok())
            .find_map(|kind| Some((kind, self.owner(kind, &manifest)?)));
        let Some((kind, package)) = owner else {
            return Err(Failure::new(
                ErrorCode::INSTALLER_FAILED,
                format!(
                    "{} belongs to no package of rpm or dpkg: remove it by hand",
                    manifest.display()
                ),
            ));
        };
        let command = installer::erase(kind, &package)
            .ok_or_else(|| Failure::new(ErrorCode::PACKAGE_KIND_UNSUPPORTED, "no installer"))?;
        self.run_until_unlocked(kind, &installer_record(&taken.job.id), command)?;
        Ok(Removal::Removed)
    }

    /// The package `path` belongs to.
    fn owner(&self, kind: Kind, path: &Path) -> Option<String> {
        let path = path.to_str()?;
        let deadline = std::time::Duration::from_secs(60);
        let command = match kind {
            Kind::Rpm => Command::new(&["rpm", "-qf", "--qf", "%{NAME}\n", path], deadline),
            Kind::Deb => Command::new(&["dpkg", "-S", path], deadline),
            Kind::Bundle => return None,
        };
        let output = self
            .query(&command)
            .ok()
            .filter(|output| output.exit == Exit::Code(0))?;
        let text = String::from_utf8(output.stdout).ok()?;
        let first = text.lines().next()?;
        // dpkg says `package: path`, or `package:amd64: path`.
        Some(first.split(':').next()?.trim().to_owned()).filter(|name| !name.is_empty())
    }
}
