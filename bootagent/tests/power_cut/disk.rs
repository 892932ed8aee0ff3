//! What a disk may hold after the power was cut: a model that keeps every
//! promise of POSIX and none beyond.
//!
//! Content is on the disk once the file was synced, a name once its directory
//! was, be it of a file, a link or a directory; what is in a directory whose
//! own name is lost is lost with it. What was not synced is there, is not, or
//! is there in part; a file that was made longer may end in zeros.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::trace::Call;

/// More unsynced names than this are tried in their order only.
const COMBINED: usize = 6;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory,
    Link(PathBuf),
}

type Names = BTreeMap<PathBuf, Node>;

/// The files of one folder.
pub(crate) struct Disk {
    /// By number: the content that was written, and the one that is synced.
    files: BTreeMap<usize, (Vec<u8>, Vec<u8>)>,
    /// The names that are synced.
    synced: Names,
    /// What changed them since.
    changes: Vec<Call>,
}

/// What may be found afterwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    found: BTreeMap<PathBuf, Found>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    File(Vec<u8>),
    Directory,
    Link(PathBuf),
}

impl State {
    /// Makes a folder of it.
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("makeable");
        // A directory comes before what is in it.
        for (name, found) in &self.found {
            let path = folder.join(name);
            match found {
                Found::File(content) => fs::write(path, content).expect("writable"),
                Found::Directory => fs::create_dir(path).expect("makeable"),
                Found::Link(target) => symlink(target, path).expect("makeable"),
            }
        }
    }
}

impl Disk {
    /// A disk that holds these files for good, numbered in their order.
    pub(crate) fn of(before: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let mut files = BTreeMap::new();
        let mut names = Names::new();
        for (file, (name, content)) in before.iter().enumerate() {
            files.insert(file, (content.clone(), content.clone()));
            names.insert(name.clone(), Node::File(file));
            for parent in name.ancestors().skip(1) {
                names.insert(parent.to_owned(), Node::Directory);
            }
        }
        // The folder itself.
        names.remove(Path::new(""));
        Self {
            files,
            synced: names,
            changes: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, call: &Call) {
        match call {
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
                self.changes.push(call.clone());
            }
            Call::MakeDirectory { .. }
            | Call::MakeLink { .. }
            | Call::Rename { .. }
            | Call::Link { .. }
            | Call::Remove { .. } => self.changes.push(call.clone()),
            Call::Acknowledged => {}
        }
    }

    fn sync_directory(&mut self, directory: &Path) {
        let mut later: Vec<Call> = Vec::new();
        for call in self.changes.drain(..) {
            let is_here = changed(&call).is_some_and(|name| name.parent() == Some(directory));
            if !is_here {
                later.push(call);
                continue;
            }
            if let Call::Remove { name } = &call {
                // What was in it does not matter any more.
                later.retain(|call| !changed(call).is_some_and(|below| below.starts_with(name)));
            }
            change(&mut self.synced, &call);
        }
        self.changes = later;
    }

    /// Everything a cut at this moment may leave.
    pub(crate) fn after_a_cut(&self) -> Vec<State> {
        let mut found = Vec::new();
        for names in self.names_after_a_cut() {
            // Every file in the same way: they are too few to need more.
            for kept in [Kept::All, Kept::Nothing, Kept::Half, Kept::Length] {
                let look = |node: &Node| match node {
                    Node::File(file) => {
                        let (written, synced) = self.files.get(file)?;
                        Some(Found::File(kept.of(written, synced)))
                    }
                    Node::Directory => Some(Found::Directory),
                    Node::Link(target) => Some(Found::Link(target.clone())),
                };
                let nodes = names.iter().filter(|(name, _)| is_reachable(&names, name));
                let nodes = nodes.filter_map(|(name, node)| Some((name.clone(), look(node)?)));
                found.push(State {
                    found: nodes.collect(),
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

/// The name that a call changes, in the directory whose sync makes it last.
fn changed(call: &Call) -> Option<&Path> {
    match call {
        Call::Create { name, .. }
        | Call::MakeDirectory { name }
        | Call::MakeLink { name, .. }
        | Call::Remove { name }
        | Call::Rename { to: name, .. }
        | Call::Link { to: name, .. } => Some(name),
        _ => None,
    }
}

/// Whether every directory above a name is there.
fn is_reachable(names: &Names, name: &Path) -> bool {
    let above = name.ancestors().skip(1);
    above
        .filter(|directory| !directory.as_os_str().is_empty())
        .all(|directory| names.get(directory) == Some(&Node::Directory))
}

/// Changes names; what has lost its cause has no effect.
fn change(names: &mut Names, call: &Call) {
    match call {
        Call::Create { name, file } => drop(names.insert(name.clone(), Node::File(*file))),
        Call::MakeDirectory { name } => drop(names.insert(name.clone(), Node::Directory)),
        Call::MakeLink { name, target } => {
            names.insert(name.clone(), Node::Link(target.clone()));
        }
        Call::Link { from, to } => {
            if let Some(node) = names.get(from).cloned() {
                names.insert(to.clone(), node);
            }
        }
        Call::Rename { from, to } => {
            let node = names.get(from).cloned();
            // POSIX: of two names of one file both stay.
            let same = matches!(node, Some(Node::File(_))) && node.as_ref() == names.get(to);
            if let (Some(node), false) = (node, same) {
                names.remove(from);
                names.insert(to.clone(), node);
                move_below(names, from, to);
            }
        }
        Call::Remove { name } => drop(names.remove(name)),
        _ => {}
    }
}

/// What is in a directory goes with it.
fn move_below(names: &mut Names, from: &Path, to: &Path) {
    let below: Vec<PathBuf> = names
        .keys()
        .filter(|name| name.starts_with(from))
        .cloned()
        .collect();
    for name in below {
        let node = names.remove(&name).expect("it was found");
        let rest = name.strip_prefix(from).expect("it is below");
        names.insert(to.join(rest), node);
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
