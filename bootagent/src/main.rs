//! The `bootagent` program: arguments, what must stand before anything runs,
//! and the exit code.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bootagent::args::{Args, HELP, Mode};
use bootagent::cgroup::Cgroups;
use bootagent::config::Config;
use bootagent::engine::{self, Engine, Parts};
use bootagent::handover::Handover;
use bootagent::host::{self, Host, Inbox};
use bootagent::jobs::Worker;
use bootagent::journal::Journal;
use bootagent::journal::thread::JournalHandle;
use bootagent::metafile::{Metafile, Origin};
use bootagent::paths::Paths;
use bootagent::spawn::Privilege;
use bootagent::{logger, selftest, sys, uplink, watcher};
use bootagent_kit::servers::ServerList;
use bootagent_kit::{Secret, clock, notify};
use bootagent_protocol::ARCH;
use nix::fcntl::{Flock, FlockArg};

/// Longest enrolment token, in bytes.
const MAX_TOKEN_BYTES: u64 = 4096;
/// How long the lock of a BootAgent that is gone may outlive it.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// Between two looks at it.
const LOCK_LOOK: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("bootagent: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            log::error!("{error:#}");
            if log::max_level() == log::LevelFilter::Off {
                eprintln!("bootagent: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.mode {
        Mode::Help => print!("{HELP}"),
        Mode::Version => {
            let servers = match host::COMPILED_SERVERS {
                "" => "none compiled in",
                servers => servers,
            };
            let text = format!("bootagent {} {ARCH}\nservers: {servers}\n", host::VERSION);
            // Also into a file, on a disk that may be full.
            let written = std::io::stdout().write_all(text.as_bytes());
            written.context("printing the version")?;
        }
        Mode::Test => {
            return Ok(match selftest::run(args, &mut std::io::stdout()) {
                selftest::Verdict::Passed => ExitCode::SUCCESS,
                selftest::Verdict::Failed => ExitCode::FAILURE,
            });
        }
        Mode::Doctor(doctor) => {
            return Ok(
                match selftest::doctor::run(args, doctor, &mut std::io::stdout()) {
                    selftest::Verdict::Passed => ExitCode::SUCCESS,
                    selftest::Verdict::Failed => ExitCode::FAILURE,
                },
            );
        }
        Mode::Logger(args) => {
            sys::keep_one_heap();
            logger::run(args)?;
        }
        Mode::Watcher => watcher::run(args.level)?,
        Mode::StartWatcher(program) => watcher::start(program)?,
        Mode::Run => daemon(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn daemon(args: &Args) -> anyhow::Result<()> {
    sys::keep_one_heap();
    // Before any thread: all of them inherit the mask.
    engine::handled_signals()
        .thread_block()
        .context("blocking signals")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    let default = Paths::new(Path::new("/")).config();
    let config_path = args.config.clone().unwrap_or(default);
    let config = Config::load(&config_path)?;
    let paths = Paths::new(&config.root);
    paths.ensure()?;
    start_log(args, &paths)?;
    let mut handover = Handover::take();
    let lock = lock(&paths, handover.as_mut().and_then(|left| left.lock.take()))?;
    // Under the lock, nobody else writes there.
    for (folder, _) in paths.folders() {
        if let Err(error) = bootagent_kit::fs::remove_stale_temporaries(&folder) {
            log::warn!("{:#}", anyhow::Error::from(error));
        }
    }
    let _pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    sys::become_subreaper().context("becoming a subreaper")?;
    log::info!(
        "bootagent {} starts, root {}",
        host::VERSION,
        paths.root().display()
    );

    let boot_id = clock::boot_id().context("reading the boot id")?;
    let (metafile, origin) = load_metafile(args, &config, &paths)?;
    let (journal, damage) = Journal::open(&paths.journal(), &boot_id)?;
    let interrupted = journal.unfinished().cloned().collect();
    let journal = JournalHandle::start(journal)?;
    let (inbox, messages) = Inbox::new()?;
    let privilege = Privilege::of_this_process(&config.agent_user);
    let host = Host {
        cgroups: Cgroups::Unavailable("not looked for yet".into()),
        privilege: privilege.clone(),
        boot_id,
        journal: journal.clone(),
        inbox: inbox.clone(),
        paths: paths.clone(),
        config: config.clone(),
        config_path: config_path.clone(),
    };
    let cgroups = if host.uses_scope() {
        // The logger's scope; opened once the logger runs.
        host.cgroups.clone()
    } else {
        Cgroups::open(&config.cgroup_name())
    };
    if let (Cgroups::Unavailable(reason), false) = (&cgroups, host.uses_scope()) {
        log::warn!("no cgroups, limits are kept by looking: {reason}");
    }
    let host = Host { cgroups, ..host };
    if let Some(damage) = damage {
        log::error!("{damage}");
        host.event("journal", "bootagent", damage);
    }
    if let Origin::Previous(damage) = origin {
        let text = format!("the metafile could not be used ({damage}); its previous copy is");
        log::error!("{text}");
        host.event("metafile", "bootagent", text);
    }
    let worker = Worker {
        config: config.clone(),
        config_path,
        paths: paths.clone(),
        privilege,
        journal: journal.clone(),
        inbox: inbox.clone(),
    };
    let listener = match handover.as_mut().and_then(|left| left.listener.take()) {
        Some(listener) => UnixListener::from(listener),
        None => engine::open_socket(&paths.socket())
            .with_context(|| format!("listening at {}", paths.socket().display()))?,
    };
    // The program this one took the place of has read it to its end.
    let is_read = handover.is_some() && args.enrolment_token.as_deref() == Some(Path::new("-"));
    let enrolment_token = match is_read {
        true => None,
        false => enrolment_token(args, &config)?,
    };
    let parts = Parts {
        uplink: uplink::start(journal, inbox)?,
        jobs: worker.start(interrupted)?,
        listener,
        enrolment_token,
        lock,
        handover,
        inbox: messages,
        metafile,
        host,
    };
    let mut engine = Engine::new(parts)?;
    engine.run(|| {
        let _ = notify::ready();
    })?;
    Ok(())
}

/// Our log: the file of `-L`, which must be writable, or our own one. Where the
/// root is read-only, the console alone is better than no supervisor.
fn start_log(args: &Args, paths: &Paths) -> anyhow::Result<()> {
    if let Some(file) = &args.log_file {
        return Ok(bootagent_kit::log::init(args.level, Some(file))?);
    }
    let file = paths.logs().join("bootagent.log");
    if let Err(error) = bootagent_kit::log::init(args.level, Some(&file)) {
        bootagent_kit::log::init(args.level, None)?;
        log::error!("{:#}", anyhow::Error::from(error));
    }
    Ok(())
}

/// The metafile; on a first start it is made, and on disk, before anything is
/// said with its identity.
fn load_metafile(
    args: &Args,
    config: &Config,
    paths: &Paths,
) -> anyhow::Result<(Metafile, Origin)> {
    if let Some(list) = &args.servers {
        ServerList::parse(list).context("-S")?;
    }
    let path = paths.metafile();
    let (found, origin) = Metafile::load(&path)?;
    if let (Some(metafile), Origin::Previous(_)) = (&found, &origin) {
        // Before anything is saved: what is damaged must never become the
        // previous copy, which is the only good one.
        bootagent_kit::fs::write_atomic(&path, &metafile.to_bytes(), 0o600)?;
    }
    let mut metafile = found.clone().unwrap_or_else(|| {
        log::info!("first start: there is no {}", path.display());
        Metafile::first(
            uuid::Uuid::new_v4().to_string(),
            String::new(),
            config.push.step,
        )
    });
    match &args.servers {
        Some(list) if !metafile.confirmed => metafile.svrlist.clone_from(list),
        Some(_) => {
            log::info!("-S is ignored: the servers of the metafile hold since the first start");
        }
        None => {}
    }
    if found.as_ref() != Some(&metafile) {
        bootagent_kit::fs::write_atomic_keeping(&path, &metafile.to_bytes(), 0o600)?;
    }
    Ok((metafile, origin))
}

/// One BootAgent per root: the lock is held for life.
/// `inherited` is the locked file of the program this one took the place of.
fn lock(paths: &Paths, inherited: Option<OwnedFd>) -> anyhow::Result<Flock<File>> {
    let path = paths.lock();
    let mut options = OpenOptions::new();
    let mut file = match inherited {
        Some(file) => File::from(file),
        None => options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)?,
    };
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                lock.set_len(0)?;
                lock.rewind()?;
                writeln!(lock, "{}", std::process::id())?;
                return Ok(lock);
            }
            Err((mut held, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let _ = held.rewind();
                let _ = held.read_to_string(&mut text);
                let pid = text.trim();
                let runs = !pid.is_empty() && Path::new("/proc").join(pid).exists();
                if runs || Instant::now() >= deadline {
                    bail!(
                        "another bootagent (pid {pid}) runs with root {}: stop it, or give this one another root",
                        paths.root().display()
                    )
                }
                // Killed between fork and exec: what it forked shares its lock
                // for the moment it takes to see that, and ends.
                std::thread::sleep(LOCK_LOOK);
                file = held;
            }
            Err((_, errno)) => {
                return Err(errno).with_context(|| format!("locking {}", path.display()));
            }
        }
    }
}

fn enrolment_token(args: &Args, config: &Config) -> anyhow::Result<Option<Secret>> {
    let file = args
        .enrolment_token
        .as_ref()
        .or(config.enrolment_token_file.as_ref());
    let Some(path) = file else { return Ok(None) };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin()
            .take(MAX_TOKEN_BYTES)
            .read_to_string(&mut text)?;
    } else {
        match File::open(path) {
            Ok(file) => drop(file.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?),
            // It may be removed once the host is enrolled.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
    let token = text.trim();
    Ok((!token.is_empty()).then(|| Secret::new(token)))
}

/// `-P`: for those who ask for it; nothing here trusts it.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> anyhow::Result<Self> {
        let text = format!("{}\n", std::process::id());
        bootagent_kit::fs::write_atomic(path, text.as_bytes(), 0o644)?;
        Ok(Self(path.to_path_buf()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
