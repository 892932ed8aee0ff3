//! The daemon and `bootctl`: doing what `bootagent-core` decided.

pub mod account;
pub mod args;
pub mod cgroup;
pub mod config;
pub mod control;
pub mod download;
pub mod engine;
pub mod family;
pub mod handover;
pub mod host;
pub mod jobs;
pub mod journal;
pub mod logger;
pub mod metafile;
pub mod notification;
pub mod package;
pub mod paths;
pub mod process;
pub mod record;
pub mod selftest;
pub mod spawn;
pub mod sys;
pub mod takeover;
pub mod uplink;
pub mod watcher;
