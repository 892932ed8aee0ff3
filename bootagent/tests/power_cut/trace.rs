//! Records what a program does to the files of one folder, with strace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What strace is asked for. Calls of this list that are not understood end
/// the test: the product writes in another way than it was thought to.
const CALLS: &str = "openat,open,creat,close,write,writev,pwrite64,pwritev,fsync,fdatasync,\
sync_file_range,syncfs,ftruncate,truncate,lseek,rename,renameat,renameat2,link,linkat,unlink,\
unlinkat,symlink,symlinkat,mkdir,mkdirat,rmdir,fallocate,copy_file_range,sendfile,dup,dup3,\
fcntl,flock";
/// Written to stderr when a step is done.
const ACKNOWLEDGED: &str = "ack";

/// One call that matters. A file is known by its number, a name by its path
/// below the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Create {
        name: PathBuf,
        file: usize,
    },
    MakeDirectory {
        name: PathBuf,
    },
    MakeLink {
        name: PathBuf,
        target: PathBuf,
    },
    Write {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: usize,
        length: usize,
    },
    Sync {
        file: usize,
    },
    SyncDirectory {
        name: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    /// A file, a link or an empty directory.
    Remove {
        name: PathBuf,
    },
    Acknowledged,
}

/// An error to be met on the way.
pub(crate) enum Inject {
    Nothing,
    Error {
        call: &'static str,
        error: &'static str,
        when: usize,
    },
}

/// What was recorded.
pub(crate) struct Recorded {
    temporary: TempDir,
    pub(crate) before: BTreeMap<PathBuf, Vec<u8>>,
    pub(crate) calls: Vec<Call>,
    injected: bool,
}

impl Recorded {
    /// Where it was written.
    pub(crate) fn folder(&self) -> PathBuf {
        self.temporary.path().join("folder")
    }

    /// Whether the error was met.
    pub(crate) fn was_injected(&self) -> bool {
        self.injected
    }
}

/// Says that a step is done, where the trace shows it.
pub(crate) fn acknowledge() {
    use std::io::Write;
    std::io::stderr()
        .write_all(ACKNOWLEDGED.as_bytes())
        .expect("stderr");
}

/// A folder in memory where there is one: thousands of files are synced.
pub(crate) fn folder_in_memory() -> TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary folder")
}

/// Runs the writer with this story; `None`, and says so, without strace.
pub(crate) fn record(
    story: &str,
    inject: &Inject,
    prepare: impl FnOnce(&Path),
) -> Option<Recorded> {
    let temporary = folder_in_memory();
    let folder = temporary.path().join("folder");
    fs::create_dir(&folder).expect("makeable");
    prepare(&folder);
    let before = files_below(&folder);
    let output = temporary.path().join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-xx", "-s", "1000000", "-o"])
        .arg(&output);
    strace.arg(format!("--trace={CALLS}"));
    if let Inject::Error { call, error, when } = inject {
        strace.arg(format!("--inject={call}:error={error}:when={when}"));
    }
    strace
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "writer", "--nocapture", "--test-threads=1"])
        .env("POWER_CUT_FOLDER", &folder)
        .env("POWER_CUT_STORY", story)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    let ran = match strace.output() {
        Ok(ran) => ran,
        Err(error) => {
            println!("SKIPPED: strace cannot be run: {error}");
            return None;
        }
    };
    let said = String::from_utf8_lossy(&ran.stderr);
    if said.contains("ptrace") && said.contains("not permitted") {
        println!("SKIPPED: strace may not trace here: {said}");
        return None;
    }
    assert!(ran.status.success(), "the writer failed: {said}");
    let text = fs::read_to_string(&output).expect("a trace");
    let injected = text.contains("(INJECTED)");
    let calls = Reader::new(&folder, &before).read(&text);
    Some(Recorded {
        temporary,
        before,
        calls,
        injected,
    })
}

fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(top: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(top, &path, found);
            } else {
                let name = path.strip_prefix(top).expect("below").to_owned();
                found.insert(name, fs::read(&path).expect("readable"));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// What a descriptor stands for.
#[derive(Debug, Clone)]
enum Descriptor {
    File {
        file: usize,
        at: usize,
        appends: bool,
    },
    Directory(PathBuf),
}

/// Turns the lines of strace into calls.
struct Reader {
    folder: PathBuf,
    descriptors: HashMap<String, Descriptor>,
    /// How long each file is.
    lengths: Vec<usize>,
    /// Which file a name is.
    names: BTreeMap<PathBuf, usize>,
    directories: BTreeSet<PathBuf>,
    calls: Vec<Call>,
}

impl Reader {
    /// Files that were there before have the numbers of their order.
    fn new(folder: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        Self {
            folder: folder.to_owned(),
            descriptors: HashMap::new(),
            lengths: before.values().map(Vec::len).collect(),
            names: before.keys().cloned().zip(0..).collect(),
            directories: before
                .keys()
                .flat_map(|name| name.ancestors().skip(1))
                // The folder itself.
                .chain([Path::new("")])
                .map(Path::to_owned)
                .collect(),
            calls: Vec::new(),
        }
    }

    fn read(mut self, trace: &str) -> Vec<Call> {
        // The other thread, which only waits for the writer's end, may cut a
        // call in two: `PID call(begin <unfinished ...>`, and later
        // `PID <... call resumed>end`.
        let mut begun = HashMap::new();
        for line in trace.lines() {
            // `PID call(arguments) = result ...`
            let Some((pid, line)) = line.split_once(' ') else {
                continue;
            };
            let line = line.trim_start();
            if let Some(begin) = line.strip_suffix(" <unfinished ...>") {
                begun.insert(pid, begin);
                continue;
            }
            let whole = line.strip_prefix("<... ").map(|rest| {
                let end = rest.split_once('>').map_or("", |(_, end)| end);
                format!("{}{end}", begun.remove(pid).unwrap_or_default())
            });
            let line = whole.as_deref().unwrap_or(line);
            let Some((call, rest)) = line.split_once('(') else {
                continue;
            };
            // Short calls are padded.
            let Some((arguments, result)) = rest.rsplit_once(" = ") else {
                continue;
            };
            let Some(arguments) = arguments.trim_end().strip_suffix(')') else {
                continue;
            };
            let result = result.split(' ').next().unwrap_or_default();
            let arguments: Vec<&str> = arguments.split(", ").collect();
            if !result.starts_with('-') {
                self.call(call, &arguments, result);
            }
        }
        self.calls
    }

    /// The path of an argument, below the folder.
    fn below(&self, argument: &str) -> Option<PathBuf> {
        let path = path(argument)?;
        path.strip_prefix(&self.folder).ok().map(Path::to_owned)
    }

    /// The same of one that may be relative to an open directory.
    fn below_at(&self, directory: &str, argument: &str) -> Option<PathBuf> {
        match self.descriptors.get(directory) {
            Some(Descriptor::Directory(name)) => Some(name.join(path(argument)?)),
            _ => self.below(argument),
        }
    }

    fn call(&mut self, call: &str, arguments: &[&str], result: &str) {
        let descriptor = self.descriptors.get(arguments[0]).cloned();
        match (call, descriptor) {
            ("openat", _) => {
                if let Some(name) = self.below_at(arguments[0], arguments[1]) {
                    self.open(name, arguments[2], result);
                }
            }
            ("close", _) => drop(self.descriptors.remove(arguments[0])),
            ("write", None)
                if arguments[0] == "2" && bytes(arguments[1]) == ACKNOWLEDGED.as_bytes() =>
            {
                self.calls.push(Call::Acknowledged);
            }
            ("write", Some(Descriptor::File { file, at, appends })) => {
                let at = if appends { self.lengths[file] } else { at };
                let mut bytes = bytes(arguments[1]);
                bytes.truncate(result.parse().expect("a length"));
                let end = at + bytes.len();
                self.lengths[file] = self.lengths[file].max(end);
                let after = Descriptor::File {
                    file,
                    at: end,
                    appends,
                };
                self.descriptors.insert(arguments[0].to_owned(), after);
                self.calls.push(Call::Write { file, at, bytes });
            }
            ("lseek", Some(Descriptor::File { file, appends, .. })) => {
                let at = result.parse().expect("an offset");
                let after = Descriptor::File { file, at, appends };
                self.descriptors.insert(arguments[0].to_owned(), after);
            }
            ("ftruncate", Some(Descriptor::File { file, .. })) => {
                let length = arguments[1].parse().expect("a length");
                self.lengths[file] = length;
                self.calls.push(Call::Truncate { file, length });
            }
            ("fsync" | "fdatasync", Some(Descriptor::File { file, .. })) => {
                self.calls.push(Call::Sync { file });
            }
            ("fsync", Some(Descriptor::Directory(name))) => {
                self.calls.push(Call::SyncDirectory { name });
            }
            ("rename", _) => {
                if let (Some(from), Some(to)) = (self.below(arguments[0]), self.below(arguments[1]))
                {
                    self.rename(&from, &to);
                    self.calls.push(Call::Rename { from, to });
                }
            }
            ("linkat", _) => {
                if let (Some(from), Some(to)) = (self.below(arguments[1]), self.below(arguments[3]))
                {
                    let file = self.names.get(&from).copied();
                    self.names.extend(file.map(|file| (to.clone(), file)));
                    self.calls.push(Call::Link { from, to });
                }
            }
            ("unlink" | "rmdir", _) => {
                let name = self.below(arguments[0]);
                self.remove(name);
            }
            ("unlinkat", _) => {
                let name = self.below_at(arguments[0], arguments[1]);
                self.remove(name);
            }
            ("symlink", _) => {
                if let Some(name) = self.below(arguments[1]) {
                    let target = path(arguments[0]).expect("UTF-8");
                    self.calls.push(Call::MakeLink { name, target });
                }
            }
            ("mkdir", _) => {
                if let Some(name) = self.below(arguments[0]) {
                    self.directories.insert(name.clone());
                    self.calls.push(Call::MakeDirectory { name });
                }
            }
            // Of no file of the folder.
            ("write" | "writev" | "lseek" | "fcntl" | "flock" | "dup" | "dup3", None)
            | ("flock" | "fcntl", Some(_)) => {}
            other => {
                let names = arguments.iter().any(|it| self.below(it).is_some());
                assert!(other.1.is_none() && !names, "{other:?} is not understood");
            }
        }
    }

    fn open(&mut self, name: PathBuf, flags: &str, descriptor: &str) {
        let flags: Vec<&str> = flags.split('|').collect();
        let opened = if self.directories.contains(&name) {
            Descriptor::Directory(name)
        } else {
            let file = match self.names.get(&name) {
                Some(file) => *file,
                // Read by way of a link.
                None if flags.contains(&"O_RDONLY") => return,
                None => self.create(&name),
            };
            if flags.contains(&"O_TRUNC") && self.lengths[file] > 0 {
                self.lengths[file] = 0;
                self.calls.push(Call::Truncate { file, length: 0 });
            }
            Descriptor::File {
                file,
                at: 0,
                appends: flags.contains(&"O_APPEND"),
            }
        };
        self.descriptors.insert(descriptor.to_owned(), opened);
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        // Of two names of one file both stay.
        if self.names.contains_key(from) && self.names.get(from) == self.names.get(to) {
            return;
        }
        // A directory takes along what is in it.
        let moved = |name: &PathBuf| {
            let rest = name.strip_prefix(from).ok()?;
            Some(match rest.as_os_str().is_empty() {
                true => to.to_owned(),
                false => to.join(rest),
            })
        };
        let names = std::mem::take(&mut self.names).into_iter();
        let (from_there, others): (Vec<_>, Vec<_>) =
            names.partition(|(name, _)| moved(name).is_some());
        self.names = others.into_iter().collect();
        let arrived = from_there.into_iter();
        self.names
            .extend(arrived.filter_map(|(name, file)| Some((moved(&name)?, file))));
        let directories = std::mem::take(&mut self.directories).into_iter();
        self.directories = directories
            .map(|name| moved(&name).unwrap_or(name))
            .collect();
    }

    fn remove(&mut self, name: Option<PathBuf>) {
        if let Some(name) = name {
            self.names.remove(&name);
            self.directories.remove(&name);
            self.calls.push(Call::Remove { name });
        }
    }

    fn create(&mut self, name: &Path) -> usize {
        let file = self.lengths.len();
        self.lengths.push(0);
        self.names.insert(name.to_owned(), file);
        let name = name.to_owned();
        self.calls.push(Call::Create { name, file });
        file
    }
}

fn path(argument: &str) -> Option<PathBuf> {
    Some(PathBuf::from(String::from_utf8(bytes(argument)).ok()?))
}

/// The bytes of a string as `strace -xx` writes it.
fn bytes(argument: &str) -> Vec<u8> {
    let text = argument.trim_matches('"');
    let pairs = text.split("\\x").skip(1);
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("two digits"))
        .collect()
}
