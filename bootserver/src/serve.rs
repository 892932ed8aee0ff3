//! `bootserver serve`: takes the data directory, opens the store, opens the
//! doors, and ends in order.

mod door;
mod listener;
mod stall;
pub(crate) mod tls;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::api;
use crate::app::{App, Edge};
use crate::backup;
use crate::blob::{Blobs, Moved, move_in};
use crate::config::{Config, Listen, Scheme};
use crate::data_dir::{DataDir, write_atomic};
use crate::first_start::{Show, first_start};
use crate::host_watch::watch_hosts;
use crate::housekeeping::{forget_old, keep_house};
use crate::ingest::Ingest;
use crate::life::{Life, Phase};
use crate::metrics::Metrics;
use crate::notify;
use crate::problem::chain;
use crate::rollouts;
use crate::router::router;
use crate::store::{self, FirstStart, Store};
use door::Manners;
use listener::Listener;
use tls::Certificate;

/// How long statuses may take to be written once all connections are gone.
const WRITE_GRACE: Duration = Duration::from_secs(20);
/// How long the database may take to hear that the server ends.
const GOODBYE: Duration = Duration::from_secs(10);
/// Connections at once on the socket of local root, and on that of metrics.
const FEW_CONNECTIONS: usize = 64;

/// Serves until SIGTERM or SIGINT; the second one ends it at once.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    // First, so that a signal during a long migration is not lost.
    let mut signals = Signals::listen()?;
    raise_open_files();
    // The database and the packages are nobody else's to read.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let data = DataDir::take(&config.data)?;
    if let Some(file) = &config.address_file {
        // An address of an earlier run must not be taken for this one's.
        remove_if_there(file).with_context(|| format!("removing {}", file.display()))?;
    }
    let store = store::open(&config.database)
        .await
        .with_context(|| format!("the database {}", config.database))?;
    let start = first_start(
        store.as_ref(),
        &Show::on_terminal_or(data.join("first-start.txt")),
    )
    .await?;
    let blobs = open_blobs(store.as_ref(), &data, start).await;
    let blobs = blobs.context("the packages")?;
    let (ingest, writer) = Ingest::start(store.clone());
    let holder = Uuid::new_v4().to_string();
    let mut own_work = JoinSet::new();
    own_work.spawn(keep_house(store.clone(), holder.clone()));
    own_work.spawn(forget_old(store.clone(), holder.clone(), config.retention));
    let (phase, life) = Life::begin();
    let edge = Edge::new(&config, life, Metrics::new(ingest.metrics()));
    let app = App::new(store.clone(), blobs, ingest, &config, edge);
    own_work.spawn(watch_hosts(app.clone(), holder.clone()));
    own_work.spawn(rollouts::go_on(app.clone(), holder.clone()));
    let work = app.work.clone();
    own_work.spawn(app.live.clone().run());
    let mut doors = open_doors(&config, app, signals.hangup).await?;

    notify::tell("READY=1");
    let first = signals.end.next().await;
    notify::tell("STOPPING=1");
    let ending = async {
        if !config.drain_delay.is_zero() {
            let seconds = config.drain_delay.as_secs();
            tracing::info!("{first}: /readyz says so, requests are taken for {seconds} s more");
            phase.send_replace(Phase::Draining);
            sleep(config.drain_delay).await;
        }
        tracing::info!("{first}: no new requests are taken");
        phase.send_replace(Phase::Closing);
        while doors.join_next().await.is_some() {}
    };
    tokio::select! {
        () = ending => {}
        again = signals.end.next() => bail!("{again} came again: ended at once"),
    }
    // With them goes the last way to the writer, which then ends.
    drop(doors);
    if timeout(WRITE_GRACE, work.done()).await.is_err() {
        tracing::warn!("requests with a key were still worked at; their answers are not kept");
    }
    own_work.shutdown().await;
    if timeout(WRITE_GRACE, writer).await.is_err() {
        tracing::warn!("statuses were still being written; their hosts send them again");
    }
    let goodbye = async {
        if let Err(error) = store.give_leases_back(&holder).await {
            tracing::warn!(
                error = chain(&error),
                "the next server waits for our leases"
            );
        }
        store.close().await;
    };
    if timeout(GOODBYE, goodbye).await.is_err() {
        tracing::warn!("the database does not answer; ended without a goodbye");
    }
    drop(data);
    tracing::info!("bootserver ended");
    Ok(())
}

/// Signals the server knows.
struct Signals {
    end: EndSignals,
    hangup: Signal,
}

/// Those that end it.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            end: EndSignals {
                terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
                interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
            },
            hangup: signal(SignalKind::hangup()).context("listening for SIGHUP")?,
        })
    }
}

impl EndSignals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Listens everywhere and says where. What runs ends with the set.
async fn open_doors(config: &Config, app: App, mut hangup: Signal) -> anyhow::Result<JoinSet<()>> {
    let mut doors = JoinSet::new();
    let edge = app.edge.clone();
    let service = router(app.clone());
    let manners = Manners {
        header_timeout: config.header_timeout,
        max_connections: config.max_connections,
    };
    let mut acceptor = None;
    let mut certificate = None;
    if let Some(files) = &config.tls {
        let (loaded, tls) = Certificate::load(files.clone()).await?;
        (certificate, acceptor) = (Some(loaded), Some(tls));
    }
    let mut addresses = String::new();
    for listen in &config.listen {
        let (listener, address) = Listener::tcp(*listen)?;
        let tls = match listen.scheme {
            Scheme::Http => None,
            Scheme::Https => acceptor.clone(),
        };
        let _ = writeln!(addresses, "{address}");
        tracing::info!("bootserver {} listens on {address}", crate::VERSION);
        doors.spawn(door::serve(
            listener,
            service.clone(),
            tls,
            manners,
            edge.clone(),
        ));
    }
    let few = Manners {
        max_connections: FEW_CONNECTIONS,
        ..manners
    };
    if let Some(path) = &config.socket {
        let listener = Listener::unix(path)?;
        tracing::info!("local root is served on {}", path.display());
        doors.spawn(door::serve(listener, service, None, few, edge.clone()));
    }
    if let Some(address) = config.metrics_listen {
        let scheme = Scheme::Http;
        let (listener, address) = Listener::tcp(Listen { address, scheme })?;
        let _ = writeln!(addresses, "metrics {address}");
        tracing::info!("metrics are served on {address}");
        let service = api::metrics::open(app);
        doors.spawn(door::serve(listener, service, None, few, edge));
    }
    if let Some(file) = &config.address_file {
        write_atomic(file, &addresses, 0o644)
            .with_context(|| format!("writing the addresses to {}", file.display()))?;
    }
    // Apart from the doors, which are waited for.
    tokio::spawn(async move {
        match certificate {
            Some(certificate) => certificate.keep_fresh(hangup).await,
            // Heard, so that it does not end us.
            None => while hangup.recv().await.is_some() {},
        }
    });
    Ok(doors)
}

/// The bytes of packages: in the database, or beside it. Nobody is served yet.
async fn open_blobs(store: &dyn Store, data: &DataDir, start: FirstStart) -> anyhow::Result<Blobs> {
    let directory = data.join(backup::BLOBS);
    let Some(chunks) = store.chunks() else {
        let blobs = Blobs::files(directory, data.join("tmp"))?;
        // A new database beside packages is not theirs: its address is wrong.
        if start == FirstStart::Later {
            remove_orphans(store, &blobs).await?;
        }
        return Ok(blobs);
    };
    // Servers of before kept them beside PostgreSQL too. A new database is not that
    // of these files: its address is wrong, or it waits for an import.
    if start == FirstStart::Later {
        let after = match data.join(backup::DATABASE).exists() {
            true => Moved::Stay,
            false => Moved::Go,
        };
        match move_in(&chunks, &directory, after).await? {
            0 => {}
            files => tracing::info!(files, "packages moved into the database"),
        }
    }
    Ok(Blobs::rows_with_copies(chunks, data.join("copies"))?)
}

/// A crash between a blob's coming and its row's, or between a row's going and
/// its blob's, leaves files no package has.
async fn remove_orphans(store: &dyn Store, blobs: &Blobs) -> anyhow::Result<()> {
    let all = blobs.list().await?;
    for sha256 in &store.orphan_blobs(&all).await? {
        blobs.remove(sha256).await?;
        tracing::info!(sha256, "bytes no package has were removed");
    }
    Ok(())
}

/// Each connection and each reader of the database takes a file; the usual
/// soft limit of 1024 is far below a fleet.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
