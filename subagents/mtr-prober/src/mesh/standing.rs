//! How the mesh stands, for whoever asks.

use std::net::IpAddr;

use serde::Serialize;

use crate::report::Report;

/// Numbers of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Peers that are pinged.
    pub peers: u64,
    /// Of them, those in trouble.
    pub troubled: u64,
    /// Of them, those that never answered.
    pub silent: u64,
    /// Pings whose fate is known.
    pub pings: u64,
    /// Of them, those that were lost.
    pub lost: u64,
    /// Pings this machine refused to send.
    pub unsent: u64,
    /// Messages of other nodes that were believed.
    pub heard: u64,
    /// Messages of other nodes that were not: of another key, of nobody we know, or seen before.
    pub disbelieved: u64,
    /// Events since the start.
    pub events: u64,
    /// Events of this hour that the cap kept from being raised.
    pub capped: u64,
}

/// The whole of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Standing {
    /// This node, as peers have to call it.
    pub node: String,
    /// Whether there is a key, without which no direction is known.
    pub has_key: bool,
    /// The numbers.
    pub counts: Counts,
    /// Why the list is not what its file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Events that have not ended, as far as they are known.
    pub events: Vec<Report>,
    /// The peers, in the order of their addresses.
    pub peers: Vec<PeerStanding>,
}

/// How a peer stands.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStanding {
    /// What it is called.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// By which line it is pinged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// How it is.
    pub state: PeerState,
    /// Pings whose fate is known.
    pub pings: u64,
    /// Of them, lost.
    pub lost: u64,
    /// How often its normal path was measured, of the times that are held.
    pub path_rounds: usize,
    /// What it loses normally, at most, percent.
    pub usual_loss: f64,
    /// What 95 of 100 round trips are below normally, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual_ms: Option<f64>,
}

/// How a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// As usual.
    Well,
    /// In trouble.
    Troubled,
    /// It never answered.
    Silent,
    /// There is no such source here.
    NoSource,
}
