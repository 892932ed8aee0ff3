//! bootserver: the platform behind the hosts.
//!
//! Hosts call `/agent/...` and fetch `/packages/...`; operators use
//! `/api/v1/...`. In reading order: `router` is the table of contents, `auth`
//! says who calls and `access` what they may, `api` holds the handlers, `fleet` decides without clock, store or HTTP, `store`
//! remembers (and alone knows SQL), `ingest` is the one writer of statuses, `live` passes on what changed.
//! Nothing here ever connects to a host.

pub mod backup;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod first_start;
pub mod life;
pub mod notify;
pub mod reset_password;
pub mod selftest;
pub mod serve;

pub mod access;
pub mod api;
pub mod app;
pub mod auth;
pub mod budget;
pub mod caller;
pub mod extract;
pub mod idempotency;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod request_id;
pub mod request_log;
pub mod router;

pub mod blob;
pub mod fleet;
pub mod host_watch;
pub mod housekeeping;
pub mod ingest;
pub mod live;
pub mod package;
pub mod passwords;
pub mod rollouts;
pub mod signature;
pub mod store;
pub mod wire;
pub mod work;

pub mod clock;
pub mod range;
pub mod seal;
mod sys;
pub mod token;

/// The version, as `-V` and the document say it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
