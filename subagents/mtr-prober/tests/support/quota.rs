//! A control group whose processes get one hundredth of a CPU.
//!
//! It goes with this value, and also when this program is killed: a shell that reads from us removes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The group.
pub(crate) struct Quota {
    folder: PathBuf,
    keeper: Child,
}

impl Quota {
    /// Makes one; says aloud where it cannot.
    pub(crate) fn of_one_percent() -> Option<Self> {
        let name = format!("mtr-prober-test-{}", std::process::id());
        let made = version_1(&name).or_else(|_| version_2(&name));
        match made {
            Ok(folder) => {
                let script = "cat; for try in $(seq 60); do rmdir \"$0\" && exit; sleep 1; done";
                let mut keeper = Command::new("sh");
                keeper.args(["-c", script]).arg(&folder);
                keeper.stdin(Stdio::piped()).stderr(Stdio::null());
                let keeper = keeper.spawn().expect("a shell");
                Some(Self { folder, keeper })
            }
            Err(error) => {
                println!("SKIPPED: no control group with a quota of CPU here: {error}");
                None
            }
        }
    }

    /// Where a process is written to that is to be in it.
    pub(crate) fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn version_1(name: &str) -> std::io::Result<PathBuf> {
    let root = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"].map(Path::new);
    let root = root.into_iter().find(|it| it.join("cpu.shares").exists());
    let folder = root.ok_or(std::io::ErrorKind::NotFound)?.join(name);
    fs::create_dir(&folder)?;
    let limited = fs::write(folder.join("cpu.cfs_period_us"), "100000")
        .and_then(|()| fs::write(folder.join("cpu.cfs_quota_us"), "1000"));
    kept(folder, limited)
}

fn version_2(name: &str) -> std::io::Result<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
    let folder = root.join(name);
    fs::create_dir(&folder)?;
    let limited = fs::write(folder.join("cpu.max"), "1000 100000");
    kept(folder, limited)
}

fn kept(folder: PathBuf, limited: std::io::Result<()>) -> std::io::Result<PathBuf> {
    match limited {
        Ok(()) => Ok(folder),
        Err(error) => {
            let _ = fs::remove_dir(&folder);
            Err(error)
        }
    }
}
