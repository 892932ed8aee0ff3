//! The program that runs: starts the threads, says how it is, and ends them in order.
//!
//! The one rule: requests end before the mesh and measurements, these before the archive.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context, Result};
use bootagent_kit::args::ConfigPath;
use bootagent_kit::notify;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::api::{Access, Api};
use crate::archive::Archive;
use crate::archive::thread::Keeper;
use crate::clock;
use crate::config::Config;
use crate::engine::{BeginError, Engine, Settings, UNPRIVILEGED};
use crate::measurements::Measurements;
use crate::mesh::watch::Watch;
use crate::socket::Rights;
use crate::status::Status;

/// What an answer may take before we are not well.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs until SIGTERM.
pub fn run(path: &ConfigPath, state: &Path) -> Result<()> {
    let signals = Signals::new().context("catching signals")?;
    let config = path.load::<Config>()?;
    let access = access(&config)?;
    config.mesh.keys()?;
    let (archive, interrupted) = Archive::open(state, config.archive(), clock::instant())?;
    for report in &interrupted {
        log::warn!(
            "the measurement {} to {} was interrupted",
            report.id,
            report.target.asked
        );
    }
    let settings = Settings {
        budget: config.budget,
        ..Settings::default()
    };
    let (engine, events) = Engine::start(settings)?;
    match engine.rights() {
        Rights::Raw => log::info!(
            "{} probes per second at most, receive buffer of {} bytes",
            config.budget,
            engine.receive_buffer()
        ),
        Rights::Ping => log::warn!(
            "without CAP_NET_RAW: {UNPRIVILEGED} measurements at once at most, each report says so, and no peer is pinged; give it to the program for more"
        ),
        // Reports can be read all the same, and whoever orders is told why nothing comes of it.
        Rights::Nothing => log::error!("{}", BeginError::NotPermitted),
    }
    let (keeper, archive) = Keeper::start(archive).context("starting the archive")?;
    let places = config.listen.clone();
    let (engine, status) = (Arc::new(engine), Status::default());
    let (mesh, watch) = Watch::start(
        config.clone(),
        engine.clone(),
        keeper.clone(),
        status.clone(),
        state.to_owned(),
    )
    .context("starting the mesh")?;
    let (measurements, registry) =
        Measurements::start(config, engine, events, keeper).context("starting the measurements")?;
    let (api, requests) = Api::start(places, access, (measurements.clone(), mesh.clone()), status)
        .context("starting the API")?;
    let _ = notify::ready();

    let beat = watchdog();
    loop {
        match signals.wait(beat) {
            Woken::End => break,
            Woken::Reload => {
                if let Err(error) = reload(path, (&measurements, &mesh), &api) {
                    // What was valid stays.
                    log::error!("the configuration stays as it was: {error:#}");
                }
            }
            Woken::Time => {
                if is_well(&measurements) {
                    let _ = notify::watchdog();
                }
            }
        }
    }
    let _ = notify::stopping();
    log::info!("ending");
    api.end();
    // A panic of these ends the process by itself.
    let _ = requests.join();
    mesh.end();
    let _ = watch.join();
    measurements.end();
    let _ = registry.join();
    let _ = archive.join();
    Ok(())
}

fn access(config: &Config) -> Result<Access> {
    let host = nix::unistd::gethostname().ok();
    let host = host.and_then(|name| name.into_string().ok());
    Ok(Access {
        names: host.into_iter().chain(config.node.clone()).collect(),
        token: config.token()?,
        allow: config.allow.clone(),
    })
}

/// Everything in the file holds from now on.
fn reload(
    path: &ConfigPath,
    (measurements, mesh): (&Measurements, &Watch),
    api: &Api,
) -> Result<()> {
    let _ = notify::reloading();
    let loaded = path.load::<Config>().map_err(anyhow::Error::from);
    let outcome = loaded.and_then(|config| {
        let access = access(&config)?;
        config.mesh.keys()?;
        api.configure(config.listen.clone(), access);
        log::info!("the configuration was read again");
        mesh.configure(config.clone());
        measurements.configure(config);
        Ok(())
    });
    let _ = notify::ready();
    outcome
}

/// Whether measurements, engine and archive answer.
fn is_well(measurements: &Measurements) -> bool {
    let (reply, answer) = sync_channel(1);
    measurements.status(Box::new(move |status| {
        let _ = reply.send(status.engine.is_some());
    }));
    answer.recv_timeout(PATIENCE).unwrap_or(false)
}

/// How often to say that we are alive: half of what our supervisor allows.
fn watchdog() -> Option<Duration> {
    let allowed: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (allowed > 0).then(|| Duration::from_micros(allowed / 2))
}

enum Woken {
    End,
    Reload,
    Time,
}

/// SIGTERM, SIGINT and SIGHUP, each on a pipe of its own.
struct Signals {
    end: UnixStream,
    reload: UnixStream,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let (end, ending) = UnixStream::pair()?;
        let (reload, reloading) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, ending.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, ending)?;
        signal_hook::low_level::pipe::register(SIGHUP, reloading)?;
        reload.set_nonblocking(true)?;
        Ok(Self { end, reload })
    }

    fn wait(&self, at_most: Option<Duration>) -> Woken {
        let timeout = at_most.map_or(PollTimeout::NONE, |it| {
            PollTimeout::try_from(it).unwrap_or(PollTimeout::MAX)
        });
        loop {
            let mut fds = [
                PollFd::new(self.end.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.reload.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                // The signal itself interrupts the poll that it then wakes.
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return Woken::Time,
                Ok(_) if fds[0].any().unwrap_or(true) => return Woken::End,
                Ok(_) => {
                    let _ = (&self.reload).read(&mut [0; 64]);
                    return Woken::Reload;
                }
            }
        }
    }
}
