//! POST /agent/register: who a host is.

use serde::{Deserialize, Serialize};

/// What a host says when it registers. `hostname` and `agentsn` are document
/// 002's; the rest is ours and optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// The host name.
    pub hostname: String,
    /// The host's identity so far, a UUID it made itself.
    pub agentsn: String,
    /// Addresses of the host, without loopback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip: Vec<String>,
    /// `bootagent-VERSION-ARCH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `ID VERSION_ID` of os-release, such as `debian 12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Machine architecture, such as `x86_64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// /etc/machine-id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// /proc/sys/kernel/random/boot_id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// The answer to a registration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterReply {
    /// 0 accepts; anything else: try again later.
    pub status: i64,
    /// Another identity than the one asked with, if the server saw a
    /// conflict; absent keeps the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agentsn: Option<String>,
    /// Tags as `svc=ecs,cmpt=DB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// The secret every later call carries. A bare 002 server gives none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::text::token"
    )]
    pub token: Option<String>,
    /// Why it was not accepted, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
