//! What Prometheus is told of the server.
//!
//! The one rule: no label has a value per host, per token or of a caller's
//! choosing: routes are templates, methods and statuses a handful.

mod process;
mod text;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::http::Method;
use axum::response::Response;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::budget::{Rejection, RouteClass};
use crate::fleet::presence::Presence;
use crate::store::Failure;

/// Seconds: from a status in memory to a request that waited for its place.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// Statuses of one batch.
const SIZES: [f64; 8] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];

/// A route as the router knows it; what is nowhere has none.
#[derive(Debug, Clone)]
struct Route(Option<MatchedPath>);

impl Route {
    fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", MatchedPath::as_str)
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Route {}

impl Hash for Route {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for RouteClass {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for Rejection {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for Failure {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let word = match self {
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
        };
        word.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    class: RouteClass,
    method: &'static str,
    route: Route,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: RouteClass,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    class: RouteClass,
    reason: Rejection,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreFailed {
    kind: Failure,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// What the writer of statuses measures; cheap to clone.
#[derive(Debug, Clone)]
pub struct IngestMetrics {
    /// Statuses of a batch.
    pub batch: Histogram,
    /// Seconds until a batch was committed.
    pub commit: Histogram,
    /// Statuses that wait, as of the last batch.
    pub waiting: Gauge,
}

impl Default for IngestMetrics {
    fn default() -> Self {
        Self {
            batch: Histogram::new(SIZES),
            commit: seconds(),
            waiting: Gauge::default(),
        }
    }
}

/// What streams of changes measure; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StreamMetrics {
    /// Streams that are open.
    pub open: Gauge,
    /// Changes sent, to each of them.
    pub messages: Counter,
    /// How often one was told to fetch everything anew.
    pub resets: Counter,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    answers: Family<Answer, Counter>,
    latency: Family<OfClass, Histogram, fn() -> Histogram>,
    rejected: Family<Rejected, Counter>,
    store_failures: Family<StoreFailed, Counter>,
    hosts: Family<OfState, Gauge>,
    /// Connections that are open.
    pub connections: Gauge,
    /// TLS handshakes that failed.
    pub failed_handshakes: Counter,
    /// Streams of changes.
    pub streams: StreamMetrics,
    /// Seconds of each turn of a rollout.
    pub rollout_turns: Histogram,
}

impl Metrics {
    /// With nothing counted yet.
    pub fn new(ingest: IngestMetrics) -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            answers: Family::default(),
            latency: Family::new_with_constructor(seconds),
            rejected: Family::default(),
            store_failures: Family::default(),
            hosts: Family::default(),
            connections: Gauge::default(),
            failed_handshakes: Counter::default(),
            streams: StreamMetrics::default(),
            rollout_turns: seconds(),
            registry: Registry::default(),
        };
        let build: Family<Build, Gauge> = Family::default();
        let version = crate::VERSION;
        build.get_or_create(&Build { version }).set(1);
        // The library adds the full stop, and `_total` to counters.
        registry.register(
            "bootserver_http_requests",
            "Requests answered, by route",
            metrics.answers.clone(),
        );
        registry.register(
            "bootserver_http_request_duration_seconds",
            "Time from the head of a request to that of its answer",
            metrics.latency.clone(),
        );
        registry.register(
            "bootserver_http_rejected",
            "Requests not let in because their class had no room",
            metrics.rejected.clone(),
        );
        registry.register(
            "bootserver_hosts",
            "Hosts by how they stand, as the store counts them; of all servers on one database",
            metrics.hosts.clone(),
        );
        registry.register(
            "bootserver_http_connections",
            "Connections that are open",
            metrics.connections.clone(),
        );
        registry.register(
            "bootserver_tls_failed_handshakes",
            "TLS handshakes that failed",
            metrics.failed_handshakes.clone(),
        );
        registry.register(
            "bootserver_streams",
            "Streams of changes that are open",
            metrics.streams.open.clone(),
        );
        registry.register(
            "bootserver_stream_messages",
            "Changes sent, to each stream",
            metrics.streams.messages.clone(),
        );
        registry.register(
            "bootserver_stream_resets",
            "How often a stream was told to fetch everything: at its beginning, and after a gap",
            metrics.streams.resets.clone(),
        );
        registry.register(
            "bootserver_store_failures",
            "Requests that failed because the database did",
            metrics.store_failures.clone(),
        );
        registry.register(
            "bootserver_ingest_batch_statuses",
            "Statuses written in one transaction",
            ingest.batch,
        );
        registry.register(
            "bootserver_ingest_commit_duration_seconds",
            "Time until a batch of statuses was committed",
            ingest.commit,
        );
        registry.register(
            "bootserver_ingest_waiting_statuses",
            "Statuses that waited when the last batch was taken",
            ingest.waiting,
        );
        registry.register(
            "bootserver_rollout_turn_seconds",
            "Time of each turn of a rollout, with its wait for the database",
            metrics.rollout_turns.clone(),
        );
        registry.register(
            "bootserver_build_info",
            "Always 1; the label says which version runs",
            build,
        );
        registry.register_collector(Box::new(process::Process::begun_now()));
        Self {
            registry,
            ..metrics
        }
    }

    /// A request was answered.
    pub fn answered(
        &self,
        method: &Method,
        route: Option<MatchedPath>,
        class: RouteClass,
        response: &Response,
        took: Duration,
    ) {
        let answer = Answer {
            class,
            method: word(method),
            route: Route(route),
            status: response.status().as_u16(),
        };
        self.answers.get_or_create(&answer).inc();
        let latency = self.latency.get_or_create(&OfClass { class });
        latency.observe(took.as_secs_f64());
        if let Some(&kind) = response.extensions().get::<Failure>() {
            self.store_failures
                .get_or_create(&StoreFailed { kind })
                .inc();
        }
    }

    /// So many hosts stand so.
    pub fn hosts(&self, state: Presence, hosts: i64) {
        let state = state.word();
        self.hosts.get_or_create(&OfState { state }).set(hosts);
    }

    /// A request was not let in.
    pub fn rejected(&self, class: RouteClass, reason: Rejection) {
        self.rejected
            .get_or_create(&Rejected { class, reason })
            .inc();
    }

    /// In the text format of Prometheus.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut open_metrics = String::new();
        prometheus_client::encoding::text::encode(&mut open_metrics, &self.registry)?;
        Ok(text::from_open_metrics(&open_metrics))
    }
}

/// Methods anybody invents are one.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
