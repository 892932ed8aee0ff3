//! `bootserver serve`: takes the data directory, opens the store, listens,
//! and ends in order.
//!
//! The accept loop is our own because hosts open a connection per push and
//! some never finish what they began: heads have a deadline, replies that are
//! not read have one, and connections are counted.

mod stall;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::app::App;
use crate::blob::Blobs;
use crate::config::Config;
use crate::data_dir::{DataDir, write_atomic};
use crate::first_start::{Show, first_start};
use crate::host_watch::watch_hosts;
use crate::housekeeping::keep_house;
use crate::ingest::Ingest;
use crate::problem::chain;
use crate::router::router;
use crate::store::{self, FirstStart, Store};
use stall::Stall;

/// Connections the kernel keeps for us: a fleet that comes back all at once.
const BACKLOG: u32 = 4096;
/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long a reply may make no progress.
const STALL: Duration = Duration::from_secs(60);
/// How long requests may take to end once we shall stop.
const GRACE: Duration = Duration::from_secs(20);

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    // First, so that a signal during a long migration is not lost.
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
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
    let blobs = Blobs::open(data.join("blobs"), data.join("tmp")).context("the packages")?;
    // A new database beside packages is not theirs: its address is wrong, or it
    // waits for an import.
    if start == FirstStart::Later {
        remove_orphans(store.as_ref(), &blobs).await?;
    }
    let (ingest, writer) = Ingest::start(store.clone());
    let housekeeping = tokio::spawn(keep_house(store.clone(), config.retention));
    let app = App::new(store.clone(), blobs, ingest, config.bounds);
    let watch = tokio::spawn(watch_hosts(app.clone()));
    let service = router(app);

    let listener =
        listen(config.listen).with_context(|| format!("listening on {}", config.listen))?;
    let address = listener
        .local_addr()
        .context("asking which port was bound")?;
    if let Some(file) = &config.address_file {
        write_atomic(file, &format!("{address}\n"), 0o644)
            .with_context(|| format!("writing the address to {}", file.display()))?;
    }
    tracing::info!("bootserver {} listens on {address}", crate::VERSION);

    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    accept(listener, service, &config, stopped).await;
    housekeeping.abort();
    watch.abort();
    if timeout(GRACE, writer).await.is_err() {
        tracing::warn!("statuses were still being written; their hosts send them again");
    }
    store.close().await;
    drop(data);
    tracing::info!("bootserver ended");
    Ok(())
}

/// A crash between a blob's coming and its row's, or between a row's going and
/// its blob's, leaves bytes no package has. Nobody is served yet.
async fn remove_orphans(store: &dyn Store, blobs: &Blobs) -> anyhow::Result<()> {
    let all = blobs.list().await.context("the packages")?;
    let orphans = store.orphan_blobs(&all).await.context("the packages")?;
    for sha256 in &orphans {
        blobs.remove(sha256).await.context("the packages")?;
        tracing::info!(sha256, "bytes no package has were removed");
    }
    Ok(())
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections until `stopped` says why to stop, then lets those that
/// are under way end.
async fn accept(
    listener: TcpListener,
    service: Router,
    config: &Config,
    stopped: impl Future<Output = &'static str>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(config.max_connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    tokio::pin!(stopped);
    loop {
        let next = async {
            let place = places
                .clone()
                .acquire_owned()
                .await
                .expect("it is never closed");
            (place, accept_one(&listener).await)
        };
        tokio::select! {
            (place, stream) = next => {
                let io = TokioIo::new(Box::pin(Stall::new(stream, STALL)));
                let service = TowerToHyperService::new(service.clone());
                let connection = graceful.watch(http.serve_connection(io, service));
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(error = chain(&error), "a connection broke");
                    }
                    drop(place);
                });
            }
            signal = &mut stopped => {
                tracing::info!("{signal}: no new requests are taken");
                break;
            }
        }
    }
    drop(listener);
    if timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and are cut off");
    }
}

/// The next connection. Errors are the other side's, or we are out of files:
/// then a short pause lets some be closed.
async fn accept_one(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Replies are small and hosts wait for them.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
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
