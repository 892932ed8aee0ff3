//! What is said between BootAgent, its sub-agents and bootserver.
//!
//! This crate holds the types that cross a process or the network, and the
//! rules that make a value of them valid. It does no IO and knows no clock.
//! `PROTOCOL.md` beside it tells who speaks first and what an old side does
//! with new fields; `golden/` holds one message of each kind.
//!
//! The one rule: names and spellings of the reference documents are kept to
//! the letter (`stoped`, `svrlist`, `errcode`), unknown fields are ignored,
//! and every field beyond those documents is optional.

mod checksum;
mod errcode;
mod event;
mod job;
mod limits;
mod manifest;
mod name;
mod register;
mod signed;
mod status;
mod text;
mod uplink;

pub use checksum::{Checksum, ChecksumError};
pub use errcode::{ErrorCode, ErrorCodeEntry};
pub use event::{Event, EventError, MAX_FIELD_BYTES, MAX_TAIL_LINES, MAX_TEXT_BYTES};
pub use job::{
    Action, Job, JobError, JobResult, JobTerms, MAX_JOB_BYTES, STEP_SECONDS, job_id_is_valid,
};
pub use limits::{CpuPercent, Limits, LimitsError, MemoryBytes};
pub use manifest::{AgentType, MAX_MANIFEST_BYTES, Manifest, ManifestError, RestartOverrides};
pub use name::{AgentName, NameError, Version};
pub use register::{RegisterReply, RegisterRequest};
pub use signed::SignedAs;
pub use status::{
    AgentReport, AgentState, LimitsReport, MAX_REPLY_BYTES, MAX_STATUS_BYTES, StatusReply,
    StatusRequest,
};
pub use text::{MAX_TOKEN_BYTES, contains_nul, is_token, truncate};
pub use uplink::Uplink;

/// The architecture this program was built for, as packages and the status
/// name it (`x86_64`, `aarch64`).
pub const ARCH: &str = std::env::consts::ARCH;
