//! The numbers for Prometheus, by its conventions.

use std::fmt::Write as _;

use crate::measurements::Status;
use crate::mesh::standing::Counts;
use crate::socket::Rights;

/// What the event loop counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Served {
    pub(super) requests: u64,
    pub(super) problems: u64,
    pub(super) connections: u64,
}

/// The text of it.
pub(super) fn text(status: &Status, mesh: &Counts, served: Served) -> String {
    let mut out = String::new();
    let mut say = |name: &str, kind: &str, help: &str, value: u64| {
        let _ = writeln!(
            out,
            "# HELP mtr_prober_{name} {help}\n# TYPE mtr_prober_{name} {kind}\nmtr_prober_{name} {value}"
        );
    };
    let orders = status.orders;
    say(
        "measurements",
        "gauge",
        "Measurements that have not ended.",
        orders.live,
    );
    say(
        "runs",
        "gauge",
        "Runs of the engine that measurements share.",
        orders.runs,
    );
    say(
        "unprivileged",
        "gauge",
        "1 without CAP_NET_RAW: few measurements at once, or none.",
        u64::from(status.rights != Rights::Raw),
    );
    for (name, help, value) in [
        (
            "measurements_accepted_total",
            "Measurements accepted.",
            orders.accepted,
        ),
        (
            "measurements_refused_total",
            "Orders refused because of too many, or of the disk.",
            orders.refused,
        ),
        (
            "measurements_joined_total",
            "Measurements that joined a run.",
            orders.joined,
        ),
        (
            "measurements_finished_total",
            "Measurements that ended as ordered.",
            orders.finished,
        ),
        (
            "measurements_stopped_total",
            "Measurements stopped before.",
            orders.stopped,
        ),
        (
            "measurements_failed_total",
            "Measurements that could not be done.",
            orders.failed,
        ),
    ] {
        say(name, "counter", help, value);
    }
    if let Some(engine) = status.engine {
        for (name, help, value) in [
            ("probes_sent_total", "Probes the kernel took.", engine.sent),
            (
                "packets_received_total",
                "Packets that came in.",
                engine.received,
            ),
            (
                "packets_foreign_total",
                "Packets that were no answers to ours.",
                engine.foreign,
            ),
            (
                "packets_dropped_total",
                "Packets the kernel threw away.",
                engine.dropped,
            ),
            ("wakeups_total", "How often the engine woke.", engine.wakes),
        ] {
            say(name, "counter", help, value);
        }
    }
    for (name, kind, help, value) in [
        ("mesh_peers", "gauge", "Peers that are pinged.", mesh.peers),
        (
            "mesh_peers_troubled",
            "gauge",
            "Peers in trouble.",
            mesh.troubled,
        ),
        (
            "mesh_peers_silent",
            "gauge",
            "Peers that never answered.",
            mesh.silent,
        ),
        (
            "mesh_pings_total",
            "counter",
            "Pings whose fate is known.",
            mesh.pings,
        ),
        (
            "mesh_lost_total",
            "counter",
            "Pings that were lost.",
            mesh.lost,
        ),
        (
            "mesh_unsent_total",
            "counter",
            "Pings this machine refused to send.",
            mesh.unsent,
        ),
        (
            "mesh_heard_total",
            "counter",
            "Messages of other nodes that were believed.",
            mesh.heard,
        ),
        (
            "mesh_disbelieved_total",
            "counter",
            "Messages of other nodes that were not: of another key, of nobody we know, or seen before.",
            mesh.disbelieved,
        ),
        (
            "mesh_events_total",
            "counter",
            "Events that were raised.",
            mesh.events,
        ),
        (
            "mesh_events_capped",
            "gauge",
            "Events above the hourly cap since it was reached.",
            mesh.capped,
        ),
    ] {
        say(name, kind, help, value);
    }
    let archive = &status.archive;
    for (name, help, value) in [
        (
            "archive_reports",
            "Reports that can be read.",
            archive.reports,
        ),
        (
            "archive_pending",
            "Reports the platform does not have.",
            archive.pending,
        ),
        ("archive_bytes", "Bytes of all files.", archive.bytes),
        (
            "archive_unwritten",
            "Reports that wait in memory for the disk.",
            archive.unwritten,
        ),
    ] {
        say(name, "gauge", help, value);
    }
    let kept = &archive.kept;
    for (name, help, value) in [
        (
            "archive_syncs_total",
            "Batches synced to the disk.",
            archive.syncs,
        ),
        (
            "archive_dropped_total",
            "Reports a cap dropped.",
            kept.dropped + kept.dropped_uploaded,
        ),
        (
            "archive_lost_total",
            "Reports that ended while nothing could keep them.",
            kept.lost,
        ),
        (
            "archive_damaged_total",
            "Reports and places the disk has damaged.",
            kept.damaged,
        ),
        ("http_requests_total", "Requests.", served.requests),
        (
            "http_problems_total",
            "Requests answered with a problem.",
            served.problems,
        ),
    ] {
        say(name, "counter", help, value);
    }
    say(
        "http_connections",
        "gauge",
        "Open connections.",
        served.connections,
    );
    out
}
