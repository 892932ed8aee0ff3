//! The child of the test bundles: a sub-agent that does what its flags say,
//! in their order, and then waits until it is asked to stop.
//!
//! Files are named relative to its state folder. The one rule: it never does
//! anything by chance.
//!
//! ```text
//! --marker WORD       nothing; tells this process from others
//! --environment FILE  writes its environment, NAME=VALUE per line
//! --lock FILE         holds FILE locked for life; when somebody else does,
//!                     writes FILE.conflict and ends with 77
//! --print TEXT        prints a line
//! --flood MIB         prints so much at once, in lines
//! --flood-until FILE  prints lines as fast as it can until there is FILE, and
//!                     writes how many bytes into FILE.bytes
//! --status TEXT       says STATUS=TEXT
//! --ready             says READY=1
//! --ping MS           says WATCHDOG=1 every 100 ms for so long
//! --talk MS           says STATUS= for so long, without a pause
//! --after MS          waits
//! --ignore-term       goes on when it is asked to stop
//! --helper            starts a second process that waits for ever
//! --spawn WORDS       starts a second process with these flags
//! --await WORDS       the same, and waits for its end
//! --daemon WORDS      the same through one between that ends: its child is an
//!                     orphan, and leads a session of its own
//! --setsid            leads a session of its own
//! --zombies COUNT     leaves so many ended processes behind, not waited for
//! --bomb              starts processes until that is refused, then prints
//!                     `refused after COUNT`
//! --burn MS           uses a core for so long
//! --allocate MIB      takes so much memory and touches it
//! --exit CODE         ends
//! --abort             ends by SIGABRT
//! ```

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// The exit code of a child that found another one of its kind.
const CONFLICT: u8 = 77;
/// Between two looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e-child: {error:#}");
            ExitCode::from(70)
        }
    }
}

fn run() -> Result<ExitCode> {
    // Set from the first moment, so that no stop is missed or half done.
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&asked))?;
    let mut goes_on = false;
    let mut locks = Vec::new();
    let mut memory: Vec<Vec<u8>> = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{flag}: a value"));
        match flag.as_str() {
            "--marker" => drop(value()?),
            "--environment" => write_environment(&value()?)?,
            "--lock" => match lock(&value()?)? {
                Some(lock) => locks.push(lock),
                None => return Ok(ExitCode::from(CONFLICT)),
            },
            "--print" => println!("{}", value()?),
            "--flood" => {
                let bytes = value()?.parse::<u64>()? << 20;
                flood(|printed| printed < bytes)?;
            }
            "--flood-until" => {
                let name = value()?;
                let file = state(&name)?;
                let printed = flood(|_| !file.exists())?;
                write_whole(&format!("{name}.bytes"), &printed.to_string())?;
            }
            "--status" => say(&format!("STATUS={}", value()?))?,
            "--ready" => say("READY=1")?,
            "--ping" => {
                let end = std::time::Instant::now() + Duration::from_millis(value()?.parse()?);
                while std::time::Instant::now() < end && !asked.load(Ordering::Relaxed) {
                    say("WATCHDOG=1")?;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            "--talk" => {
                let end = std::time::Instant::now() + Duration::from_millis(value()?.parse()?);
                while std::time::Instant::now() < end && !asked.load(Ordering::Relaxed) {
                    say("STATUS=talking")?;
                }
            }
            "--after" => {
                let end = std::time::Instant::now() + Duration::from_millis(value()?.parse()?);
                while std::time::Instant::now() < end {
                    if asked.load(Ordering::Relaxed) && !goes_on {
                        return Ok(ExitCode::SUCCESS);
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "--ignore-term" => goes_on = true,
            "--helper" => drop(again("--marker helper --ignore-term")?),
            "--spawn" => drop(again(&value()?)?),
            "--await" => drop(again(&value()?)?.wait()?),
            "--daemon" => {
                let program = std::env::current_exe()?;
                let words = format!("--setsid {}", value()?);
                let mut between = Command::new(program);
                between.args(["--spawn", &words, "--exit", "0"]);
                between.status().context("starting one between")?;
            }
            "--setsid" => drop(nix::unistd::setsid()),
            "--zombies" => {
                for _ in 0..value()?.parse::<u32>()? {
                    drop(again("--exit 0")?);
                }
            }
            "--bomb" => {
                let mut count = 0;
                while again("--marker bomb").is_ok() {
                    count += 1;
                }
                println!("refused after {count}");
            }
            "--burn" => {
                let end = std::time::Instant::now() + Duration::from_millis(value()?.parse()?);
                while std::time::Instant::now() < end && !asked.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
            "--allocate" => {
                let bytes = value()?.parse::<usize>()? << 20;
                // Not zeroes, which the kernel would only promise.
                memory.push(vec![1; bytes]);
            }
            "--exit" => return Ok(ExitCode::from(value()?.parse::<u8>()?)),
            "--abort" => std::process::abort(),
            other => bail!("{other} is no flag"),
        }
    }
    while goes_on || !asked.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
    }
    Ok(ExitCode::SUCCESS)
}

/// A file of its state folder.
fn state(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("STATE_DIRECTORY").context("STATE_DIRECTORY is not set")?;
    Ok(PathBuf::from(folder).join(name))
}

fn write_environment(name: &str) -> Result<()> {
    let mut lines: Vec<String> = std::env::vars_os()
        .map(|(key, value)| format!("{}={}\n", key.to_string_lossy(), value.to_string_lossy()))
        .collect();
    lines.sort();
    write_whole(name, &lines.concat())
}

/// Written whole or not at all: a test may look at any moment.
fn write_whole(name: &str, text: &str) -> Result<()> {
    let new = state(&format!("{name}.new"))?;
    std::fs::write(&new, text)?;
    std::fs::rename(&new, state(name)?)?;
    Ok(())
}

fn lock(name: &str) -> Result<Option<Flock<File>>> {
    let open = |path: PathBuf| OpenOptions::new().create(true).append(true).open(path);
    match Flock::lock(open(state(name)?)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            writeln!(lock, "{}", std::process::id())?;
            Ok(Some(lock))
        }
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut conflict = open(state(&format!("{name}.conflict"))?)?;
            writeln!(conflict, "{}", std::process::id())?;
            Ok(None)
        }
        Err((_, errno)) => Err(errno).context("locking"),
    }
}

/// Prints lines as long as `goes_on` says so of the bytes printed; returns them.
fn flood(goes_on: impl Fn(u64) -> bool) -> Result<u64> {
    let line = format!("{}\n", "flood ".repeat(10));
    let lines = line.repeat((64 << 10) / line.len());
    let mut output = std::io::stdout().lock();
    let mut printed = 0;
    while goes_on(printed) {
        output.write_all(lines.as_bytes())?;
        printed += lines.len() as u64;
    }
    output.flush()?;
    Ok(printed)
}

fn say(line: &str) -> Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").context("NOTIFY_SOCKET is not set")?;
    let socket = UnixDatagram::unbound()?;
    match socket.send_to(line.as_bytes(), path) {
        // Nobody listens while the daemon is away.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => other.map(drop).context("notifying"),
    }
}

/// One more of this program. It outlives this one unless somebody ends both,
/// and it is not waited for here: that is what makes it a test of whoever
/// supervises us.
fn again(words: &str) -> Result<std::process::Child> {
    let program = std::env::current_exe()?;
    Command::new(program)
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .spawn()
        .context("starting another one")
}
