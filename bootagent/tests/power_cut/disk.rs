//! What a disk may hold after the power was cut: a model that keeps every
//! promise of POSIX and none beyond.
//!
//! Content is on the disk once the file was synced, a name once its directory
//! was. What was not synced is there, is not, or is there in part; a file that
//! was made longer may end in zeros. Directories that are made count as there
//! at once: the product makes them before it says anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::trace::Call;

/// More unsynced names than this are tried in their order only.
const COMBINED: usize = 6;

type Names = BTreeMap<PathBuf, usize>;

/// The files of one folder.
pub(crate) struct Disk {
    /// By number: the content that was written, and the one that is synced.
    files: BTreeMap<usize, (Vec<u8>, Vec<u8>)>,
    /// The names as programs see them, and as they are synced.
    names: Names,
    synced: Names,
    /// What changed the names since.
    changes: Vec<Call>,
    directories: Vec<PathBuf>,
}

/// What may be found afterwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    directories: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl State {
    /// Makes a folder of it.
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("makeable");
        for name in &self.directories {
            fs::create_dir_all(folder.join(name)).expect("makeable");
        }
        for (name, content) in &self.files {
            fs::write(folder.join(name), content).expect("writable");
        }
    }
}

impl Disk {
    /// A disk that holds these files for good, numbered in their order.
    pub(crate) fn of(before: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let mut disk = Self {
            files: BTreeMap::new(),
            names: Names::new(),
            synced: Names::new(),
            changes: Vec::new(),
            directories: Vec::new(),
        };
        for (file, (name, content)) in before.iter().enumerate() {
            disk.files.insert(file, (content.clone(), content.clone()));
            disk.names.insert(name.clone(), file);
            disk.directories.extend(name.parent().map(Path::to_owned));
        }
        disk.synced = disk.names.clone();
        disk
    }

    pub(crate) fn apply(&mut self, call: &Call) {
        match call {
            Call::MakeDirectory { name } => self.directories.push(name.clone()),
            Call::Write { file, at, bytes } => {
                let (content, _) = self.files.get_mut(file).expect("it was opened");
                let end = at + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*at..end].copy_from_slice(bytes);
            }
            Call::Truncate { file, length } => {
                let (content, _) = self.files.get_mut(file).expect("it was opened");
                content.resize(*length, 0);
            }
            Call::Sync { file } => {
                let (content, synced) = self.files.get_mut(file).expect("it was opened");
                synced.clone_from(content);
            }
            Call::SyncDirectory { name } => self.sync_directory(name),
            Call::Create { file, .. } => {
                self.files.insert(*file, (Vec::new(), Vec::new()));
                change(&mut self.names, call);
                self.changes.push(call.clone());
            }
            Call::Rename { .. } | Call::Link { .. } | Call::Remove { .. } => {
                change(&mut self.names, call);
                self.changes.push(call.clone());
            }
            Call::Acknowledged => {}
        }
    }

    fn sync_directory(&mut self, directory: &Path) {
        let is_in = |name: &PathBuf| name.parent() == Some(directory);
        let (now, later): (Vec<Call>, Vec<Call>) =
            self.changes.drain(..).partition(|call| match call {
                Call::Create { name, .. } | Call::Remove { name } => is_in(name),
                Call::Rename { to, .. } | Call::Link { to, .. } => is_in(to),
                _ => false,
            });
        for call in &now {
            change(&mut self.synced, call);
        }
        self.changes = later;
    }

    /// Everything a cut at this moment may leave.
    pub(crate) fn after_a_cut(&self) -> Vec<State> {
        let mut found = Vec::new();
        for names in self.names_after_a_cut() {
            // Every file in the same way: they are too few to need more.
            for kept in [Kept::All, Kept::Nothing, Kept::Half, Kept::Length] {
                let content = |file: &usize| {
                    let (written, synced) = self.files.get(file)?;
                    Some(kept.of(written, synced))
                };
                let files = names.iter();
                let files = files.filter_map(|(name, file)| Some((name.clone(), content(file)?)));
                found.push(State {
                    directories: self.directories.clone(),
                    files: files.collect(),
                });
            }
        }
        found
    }

    /// The synced names, with every combination of what was not synced.
    fn names_after_a_cut(&self) -> Vec<Names> {
        let count = self.changes.len();
        let apply = |chosen: &dyn Fn(usize) -> bool| {
            let mut names = self.synced.clone();
            for (number, call) in self.changes.iter().enumerate() {
                if chosen(number) {
                    change(&mut names, call);
                }
            }
            names
        };
        if count > COMBINED {
            return (0..=count)
                .map(|kept| apply(&|number| number < kept))
                .collect();
        }
        let combinations = 0..1_usize << count;
        combinations
            .map(|bits| apply(&|number| bits >> number & 1 == 1))
            .collect()
    }
}

/// Changes names; what has lost its cause has no effect.
fn change(names: &mut Names, call: &Call) {
    match call {
        Call::Create { name, file } => drop(names.insert(name.clone(), *file)),
        Call::Link { from, to } => {
            if let Some(file) = names.get(from).copied() {
                names.insert(to.clone(), file);
            }
        }
        Call::Rename { from, to } => {
            let same = names.get(from) == names.get(to);
            // POSIX: of two names of one file both stay.
            if let (Some(file), false) = (names.get(from).copied(), same) {
                names.remove(from);
                names.insert(to.clone(), file);
            }
        }
        Call::Remove { name } => drop(names.remove(name)),
        _ => {}
    }
}

/// What is left of what was written since the last sync.
#[derive(Clone, Copy)]
enum Kept {
    All,
    Nothing,
    /// The first half of the new end.
    Half,
    /// The length, and zeros.
    Length,
}

impl Kept {
    fn of(self, written: &[u8], synced: &[u8]) -> Vec<u8> {
        let same = synced.len().min(written.len());
        match self {
            Self::All => written.to_vec(),
            Self::Nothing => synced.to_vec(),
            _ if written.len() <= synced.len() => synced.to_vec(),
            Self::Half => written[..same + (written.len() - same) / 2].to_vec(),
            Self::Length => {
                let mut content = written[..same].to_vec();
                content.resize(written.len(), 0);
                content
            }
        }
    }
}
