//! Which children there are, and what of them runs already.

use std::path::{Path, PathBuf};

use bootagent_core::restart::{self, End, Event, Found, Wanted};
use bootagent_kit::fs::read_limited;
use bootagent_protocol::{AgentName, MAX_MANIFEST_BYTES, Manifest};

use super::child::{Child, spec};
use super::forks::Refusals;
use super::{Engine, Source, now};
use crate::cgroup::Group;
use crate::metafile::ChildIntent;
use crate::paths::Paths;
use crate::process::Handle;
use crate::record::RunRecord;

/// A manifest that can be used, and its folder.
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    pub(crate) folder: PathBuf,
}

/// What the folders of agents hold: manifests, and what is wrong by path.
pub(crate) fn scan(paths: &Paths) -> (Vec<Loaded>, Vec<(String, String)>) {
    let (mut loaded, mut invalid) = (Vec::<Loaded>::new(), Vec::new());
    let mut folders: Vec<PathBuf> = list(&paths.packaged_agents());
    folders.extend(
        list(&paths.bundles())
            .into_iter()
            .map(|folder| folder.join("current")),
    );
    for folder in folders {
        let path = folder.join("agent.json");
        if !path.exists() {
            // A folder that is only state, or a bundle that was never switched to.
            continue;
        }
        match load(&path) {
            Ok(manifest) => {
                if let Some(first) = loaded.iter().find(|l| l.manifest.name == manifest.name) {
                    let text = format!(
                        "name {} belongs to {} already: remove one of the two (4004)",
                        manifest.name,
                        first.folder.display()
                    );
                    invalid.push((path.display().to_string(), text));
                } else {
                    // The link is followed once: a switch must not move what runs.
                    let folder = std::fs::canonicalize(&folder).unwrap_or(folder);
                    loaded.push(Loaded { manifest, folder });
                }
            }
            Err(text) => invalid.push((path.display().to_string(), text)),
        }
    }
    (loaded, invalid)
}

/// Reads one manifest; the error names key and remedy.
pub(crate) fn load(path: &Path) -> Result<Manifest, String> {
    let bytes = read_limited(path, MAX_MANIFEST_BYTES)
        .map_err(|e| format!("{:#}", anyhow::Error::from(e)))?;
    Manifest::parse(&bytes).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

impl Engine {
    /// At the start: every child whose manifest is there is known again, and
    /// what runs of it is taken over.
    pub(super) fn adopt_all(&mut self) {
        self.load_manifests();
        self.end_orphans();
        self.remove_stale_groups();
    }

    /// Processes of ours whose package was removed while we were away: nobody
    /// will ever supervise them again.
    fn end_orphans(&self) {
        let records = self.host.paths.records();
        for entry in std::fs::read_dir(&records).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            // Programs of a job and the logger have a dot in their names.
            let Some(Ok(name)) = file.strip_suffix(".json").map(AgentName::parse) else {
                continue;
            };
            if self.children.contains_key(&name) {
                continue;
            }
            if self.has_manifest(&name) {
                // It cannot be used, or it would be a child; what runs is
                // taken over once that is remedied.
                log::warn!("{name}: what runs of it is left alone while its manifest is unusable");
                continue;
            }
            let record = RunRecord::read(&records, name.as_str(), &self.host.boot_id);
            let handle =
                record.and_then(|record| Handle::open(&record.identity?, &self.host.boot_id));
            if let Ok(Some(group)) = self.host.cgroups.group(name.as_str()) {
                group.kill();
            }
            if let Some(handle) = handle {
                let text = format!(
                    "pid {} is killed: its package is gone",
                    handle.identity().pid
                );
                log::warn!("{name}: {text}");
                let _ = handle.signal(nix::sys::signal::Signal::SIGKILL);
                self.host.event("orphan", name.as_str(), text);
            }
            RunRecord::remove(&records, name.as_str());
        }
    }

    /// Whether there is a manifest where that of `name` belongs, of any kind.
    fn has_manifest(&self, name: &AgentName) -> bool {
        let paths = &self.host.paths;
        let bundle = paths.bundles().join(name.as_str()).join("current");
        [paths.packaged_agents().join(name.as_str()), bundle]
            .iter()
            .any(|folder| folder.join("agent.json").exists())
    }

    /// Reads every manifest; new children are added, known ones updated.
    pub(super) fn load_manifests(&mut self) {
        let (loaded, invalid) = scan(&self.host.paths);
        // What was remedied is not told any more.
        self.invalid
            .retain(|known, _| invalid.iter().any(|(path, _)| path == known));
        for (path, text) in invalid {
            if self.invalid.get(&path) != Some(&text) {
                log::error!("{path}: {text}");
                self.host.event("manifest", &path, text.clone());
                self.invalid.insert(path, text);
            }
        }
        let known = self.metafile.children.len();
        for Loaded { manifest, folder } in loaded {
            match self.children.get_mut(&manifest.name) {
                Some(child) => {
                    child
                        .machine
                        .reconfigure(spec(&manifest, self.host.config.policy()));
                    child.manifest = manifest;
                    child.folder = folder;
                }
                None => self.adopt(manifest, folder),
            }
        }
        // Once for all that are new.
        if self.metafile.children.len() != known {
            self.save_metafile();
        }
    }

    fn adopt(&mut self, manifest: Manifest, folder: PathBuf) {
        let name = manifest.name.clone();
        let intent = match self.metafile.children.get(&name) {
            Some(intent) => intent.clone(),
            None => ChildIntent {
                wanted_running: manifest.autostart,
                ..ChildIntent::default()
            },
        };
        let wanted = if intent.wanted_running {
            Wanted::Running
        } else {
            Wanted::Stopped
        };
        let record = RunRecord::read(
            &self.host.paths.records(),
            name.as_str(),
            &self.host.boot_id,
        );
        let group = self.host.cgroups.group(name.as_str()).ok().flatten();
        let handle = record
            .as_ref()
            .and_then(|record| record.identity.as_ref())
            .and_then(|identity| Handle::open(identity, &self.host.boot_id));
        let core_record = record.as_ref().map(RunRecord::to_core).unwrap_or_default();
        let found = match &handle {
            Some(_) => {
                let started_at = match core_record.last {
                    restart::Last::Running { started_at } => started_at,
                    // It was let go and we died before noting it: about now.
                    _ => now(),
                };
                Found::Main { started_at }
            }
            None if group.as_ref().is_some_and(|group| !group.is_empty()) => Found::Leftovers,
            None => Found::Nothing,
        };
        let spec = spec(&manifest, self.host.config.policy());
        let oom_kills = record.as_ref().map_or(0, |record| record.oom_kills);
        let unseen = match &group {
            Some(group) if group.oom_kills() > oom_kills => End::Limit(restart::Limit::Memory),
            _ => End::Unknown,
        };
        let (machine, effects) =
            restart::Child::adopt(spec, wanted, core_record, found, unseen, now());
        let mut child = Child::new(manifest, folder, machine, intent.clone());
        // An earlier version noted none: then what is counted is no news.
        let told = record.as_ref().and_then(|record| record.refused_forks);
        let counted = || group.as_ref().map_or(0, Group::refused_forks);
        child.refusals = Refusals::after(told.unwrap_or_else(counted));
        child.group = group;
        if let (Some(handle), Some(record)) = (handle, &record) {
            let pid = handle.identity().pid;
            log::info!("{name}: pid {pid} goes on running");
            if !handle.is_child()
                && let Some(pidfd) = handle.pidfd()
                && let Err(error) = self.poller.add(pidfd, Source::Process(pid))
            {
                log::error!("{name}: its end cannot be watched: {error}");
            }
            child.adopt_process(handle, record);
            let owner = self.host.privilege.account(&child.manifest).ok().flatten();
            let owner = owner.map(|account| (account.uid, account.gid));
            let number = self.free_number();
            let left = self.handover.as_mut().map(|left| &mut left.notify);
            if let Some(socket) = left.and_then(|left| left.remove(name.as_str())) {
                child.inherit_socket(socket, number);
            } else if let Err(error) = child.listen(&self.host, owner, number) {
                log::error!("{name}: {error:#}");
            }
        }
        self.children.insert(name.clone(), child);
        self.watch_notify(&name);
        self.metafile.children.entry(name.clone()).or_insert(intent);
        for effect in effects {
            if let Some(event) = self.perform(&name, effect) {
                self.tell(&name, event);
            }
        }
    }

    /// A child whose package is gone: nothing of it is left but its state.
    pub(super) fn forget(&mut self, name: &AgentName) {
        if let Some(mut child) = self.children.remove(name) {
            // Somebody may have started it while its package went: nobody
            // will ever supervise what runs of it.
            if child.running.is_some() {
                child.kill(&self.host);
            }
            if let Some(group) = &child.group {
                let _ = group.remove();
            }
            if let Some((socket, _)) = &child.notify {
                use std::os::fd::AsFd;
                self.poller.remove(socket.as_fd());
            }
        }
        let paths = &self.host.paths;
        RunRecord::remove(&paths.records(), name.as_str());
        let _ = std::fs::remove_file(paths.outputs().join(name.as_str()));
        let _ = std::fs::remove_file(paths.notify_sockets().join(name.as_str()));
        self.invalid.clear();
        self.metafile.children.remove(name);
        self.save_metafile();
    }

    /// Empty groups of children and oneshots that are no more.
    fn remove_stale_groups(&self) {
        for name in self.host.cgroups.names() {
            let is_known = self.children.keys().any(|known| known.as_str() == name);
            if !is_known
                && name != super::logger::RECORD
                && let Ok(Some(group)) = self.host.cgroups.group(&name)
                && group.is_empty()
            {
                let _ = group.remove();
            }
        }
    }

    /// Tells a child that its package or configuration changed.
    pub(super) fn tell_changed(&mut self, name: &AgentName, event: Event) {
        if let Some(child) = self.children.get(name) {
            self.metafile
                .children
                .insert(name.clone(), child.intent.clone());
            self.save_metafile();
        }
        self.tell(name, event);
    }
}
