//! One address and its connections: takes them while there is room, speaks
//! TLS and HTTP with each, and lets them end in order.
//!
//! The accept loop is our own because hosts open a connection per push and
//! some never finish what they began: handshakes and heads have a deadline,
//! replies that are not read have one, and connections are counted.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::listener::{Listener, Stream};
use super::stall::Stall;
use crate::app::Edge;
use crate::caller::Peer;
use crate::life::Phase;
use crate::problem::chain;

/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long a reply may make no progress.
const STALL: Duration = Duration::from_secs(60);
/// How long requests may take to end once we shall stop.
const GRACE: Duration = Duration::from_secs(20);

/// How a door keeps to its bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// How long a handshake and the head of a request may take, each.
    pub(super) header_timeout: Duration,
    /// Connections at once, handshakes included.
    pub(super) max_connections: usize,
}

/// What every connection of a door needs.
struct Hall {
    edge: Edge,
    service: Router,
    tls: Option<TlsAcceptor>,
    http: http1::Builder,
    manners: Manners,
}

/// Serves one address until no new connections shall be taken, then lets
/// those that are under way end.
pub(super) async fn serve(
    listener: Listener,
    service: Router,
    tls: Option<TlsAcceptor>,
    manners: Manners,
    edge: Edge,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(manners.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    let mut life = edge.life.clone();
    let hall = Arc::new(Hall {
        edge,
        service,
        tls,
        http,
        manners,
    });
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(manners.max_connections));
    loop {
        let next = async {
            let place = places
                .clone()
                .acquire_owned()
                .await
                .expect("it is never closed");
            (place, listener.accept().await)
        };
        tokio::select! {
            (place, (stream, peer)) = next => {
                let (hall, watcher) = (hall.clone(), graceful.watcher());
                tokio::spawn(async move {
                    let counted = Counted::new(&hall.edge.metrics.connections);
                    hall.receive(stream, peer, watcher).await;
                    drop((counted, place));
                });
            }
            () = life.reached(Phase::Closing) => break,
        }
    }
    drop(listener);
    if timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and are cut off");
    }
}

/// A connection that is counted until it is gone, also when its task breaks.
struct Counted(Gauge);

impl Counted {
    fn new(connections: &Gauge) -> Self {
        connections.inc();
        Self(connections.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Hall {
    async fn receive(&self, stream: Stream, peer: Peer, watcher: Watcher) {
        match (stream, &self.tls) {
            (Stream::Unix(stream), _) => self.converse(stream, peer, watcher).await,
            (Stream::Tcp(stream), None) => self.converse(stream, peer, watcher).await,
            (Stream::Tcp(stream), Some(tls)) => {
                match timeout(self.manners.header_timeout, tls.accept(stream)).await {
                    Ok(Ok(stream)) => self.converse(stream, peer, watcher).await,
                    Ok(Err(error)) => {
                        self.edge.metrics.failed_handshakes.inc();
                        tracing::debug!(address = ?peer.address, error = chain(&error), "a TLS handshake failed");
                    }
                    Err(_) => {
                        self.edge.metrics.failed_handshakes.inc();
                        tracing::debug!(address = ?peer.address, "a TLS handshake took too long");
                    }
                }
            }
        }
    }

    async fn converse<S>(&self, stream: S, peer: Peer, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = TowerToHyperService::new(self.service.clone());
        let service = service_fn(move |mut request: Request<_>| {
            request.extensions_mut().insert(peer);
            service.call(request)
        });
        let io = TokioIo::new(Box::pin(Stall::new(stream, STALL)));
        let connection = self.http.serve_connection(io, service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(error = chain(&error), "a connection broke");
        }
    }
}
