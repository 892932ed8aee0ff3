//! One running guest: its start, what it is told, and its end.
//!
//! The rule: every answer is waited for with a deadline, and its absence is
//! an error that shows the console.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Disk, Lab, left, start_kept};

/// From QEMU's start until the guest takes commands. It takes 20 s on an idle
/// machine; a busy one that emulates may be far slower.
const BOOT: Duration = Duration::from_secs(900);
/// How long one script may run in the guest, in seconds.
const SCRIPT: u64 = 900;
/// How much longer its answer may take: then the guest is dead.
const ANSWER: Duration = Duration::from_secs(90);
/// Between two looks at what QEMU has not made yet.
const LOOK: Duration = Duration::from_millis(50);
/// What the kernel is told. It counts ticks of the timer while it starts, and gives up when a busy machine
/// emulates too few of them: it must not look.
const KERNEL: &str = "console=ttyS0 root=/dev/vda rootfstype=ext4 rw quiet panic=-1 \
    net.ifnames=0 mitigations=off audit=0 nmi_watchdog=0 no_timer_check";
/// Lines of the console in an error.
const TAIL: usize = 30;

/// A running guest.
pub struct Guest {
    keeper: Child,
    qemu: Pid,
    port: UnixStream,
    /// What the port said and nobody read yet.
    pending: Vec<u8>,
    console: PathBuf,
    /// Which boot this is.
    pub boot_id: String,
    /// How long it took until the guest took commands.
    pub booted_in: Duration,
}

/// How a script ended.
#[derive(Debug)]
pub struct Verdict {
    /// Its exit code; 124 when it was ended at its deadline.
    pub code: i32,
    /// What it printed on both outputs.
    pub log: String,
}

impl Guest {
    /// Boots a guest and waits until it takes commands.
    ///
    /// # Errors
    /// When it does not, with the end of its console.
    pub fn boot(disk: Disk<'_>) -> Result<Self> {
        let lab = Lab::get();
        let begun = Instant::now();
        let (console, socket, log) = (lab.path("console"), lab.path("port"), lab.path("qemu.log"));
        let mut qemu = Command::new("qemu-system-x86_64");
        // Software emulation everywhere: KVM is not on every machine.
        qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-cpu", "max"])
            .args(["-m", "768", "-display", "none", "-vga", "none"])
            .args(["-monitor", "none", "-no-reboot"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(&lab.kernel)
            .arg("-initrd")
            .arg(&lab.initrd)
            .arg("-append")
            .arg(format!("{KERNEL} {}", disk.words()))
            .args(["-netdev", "user,id=net"])
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .arg("-chardev")
            .arg(format!(
                "socket,id=port,path={},server=on,wait=off",
                socket.display()
            ))
            .args(["-device", "virtio-serial-pci"])
            .args(["-device", "virtserialport,chardev=port,name=lab"])
            .args(["-device", "virtio-blk-pci,drive=system"])
            .args(drives(lab, disk));
        let (keeper, pid) = start_kept(&qemu, &log)?;
        let mut guest = Self {
            keeper,
            qemu: Pid::from_raw(pid),
            port: connect(&socket, begun + BOOT)
                .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?,
            pending: Vec::new(),
            console,
            boot_id: String::new(),
            booted_in: Duration::ZERO,
        };
        loop {
            let line = guest.line(begun + BOOT)?;
            if let Some(boot_id) = line.strip_prefix("ready ") {
                boot_id.clone_into(&mut guest.boot_id);
                guest.booted_in = begun.elapsed();
                return Ok(guest);
            }
        }
    }

    /// Runs a script in the guest. What it leaves running is ended.
    ///
    /// # Errors
    /// When the guest does not answer any more, with the end of its console.
    pub fn run(&mut self, name: &str, script: &str) -> Result<Verdict> {
        let end = Instant::now() + Duration::from_secs(SCRIPT) + ANSWER;
        let head = format!("run {name} {SCRIPT} {}\n", script.len());
        self.port
            .write_all(&[head.as_bytes(), script.as_bytes()].concat())?;
        let mut log = String::new();
        loop {
            let line = match self.line(end) {
                Ok(line) => line,
                Err(error) => return Err(error.context(format!("in {name}, after:\n{log}"))),
            };
            if let Some(code) = line.strip_prefix("end ") {
                let code = code.trim().parse().context("an exit code")?;
                return Ok(Verdict { code, log });
            }
            if let Some(text) = line.strip_prefix('|') {
                log.push_str(text);
                log.push('\n');
            }
        }
    }

    /// Runs a script that must succeed; returns what it printed. It may use
    /// what scenarios use.
    ///
    /// # Errors
    /// When it fails, with what it printed.
    pub fn succeed(&mut self, name: &str, script: &str) -> Result<String> {
        let script = format!(". /usr/lib/lab/lib.sh\n{script}\n");
        let verdict = self.run(name, &script)?;
        if verdict.code != 0 {
            bail!("{name}: exit {}\n{}", verdict.code, verdict.log);
        }
        Ok(verdict.log)
    }

    /// Cuts its power: from one instruction to the next it is gone.
    pub fn cut_power(self) {
        // Dropping it is the same; the name is for the reader.
        drop(self);
    }

    /// What is wrong with it, and the end of what its console showed.
    fn last_words(&self, why: &str) -> String {
        let text = std::fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        format!("the guest {why}; its console:\n{end}")
    }

    /// The next line of the port.
    fn line(&mut self, end: Instant) -> Result<String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let left = left(end).with_context(|| self.last_words("does not answer"))?;
            self.port.set_read_timeout(Some(left))?;
            match self.port.read(&mut buffer) {
                Ok(0) => bail!(self.last_words("has ended")),
                Ok(bytes) => self.pending.extend_from_slice(&buffer[..bytes]),
                // The deadline is looked at above.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).with_context(|| self.last_words("went away")),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = kill(self.qemu, Signal::SIGKILL);
        drop(self.keeper.stdin.take());
        if let Err(error) = self.keeper.wait() {
            eprintln!("waiting for the end of a guest: {error}");
        }
    }
}

/// The arguments that give QEMU its disks.
fn drives(lab: &Lab, disk: Disk<'_>) -> Vec<String> {
    let system = format!(
        "if=none,id=system,format=raw,snapshot=on,file={}",
        lab.image.display()
    );
    let mut words = vec!["-drive".to_owned(), system];
    // A disk whose cache is lost with the power: the guest's flushes are what
    // makes its writes last. This machine need not sync for it.
    let file = |node: &str, path: &Path| {
        let path = path.display();
        format!("driver=file,node-name={node},filename={path},cache.no-flush=on")
    };
    match disk {
        Disk::Throwaway => return words,
        Disk::State(path) => words.extend(["-blockdev".into(), file("state", path)]),
        Disk::LoggedState(path, log) => words.extend([
            "-blockdev".into(),
            file("data", path),
            "-blockdev".into(),
            file("log", log),
            "-blockdev".into(),
            "driver=blklogwrites,node-name=state,file=data,log=log".into(),
        ]),
    }
    words.extend(["-device".into(), "virtio-blk-pci,drive=state".into()]);
    words
}

fn connect(socket: &Path, end: Instant) -> Result<UnixStream> {
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            return Ok(stream);
        }
        left(end).context("QEMU made no port")?;
        std::thread::sleep(LOOK);
    }
}
