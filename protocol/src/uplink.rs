//! `uplink.json`: what BootAgent tells its sub-agents about the platform.

use serde::{Deserialize, Serialize};

/// Who this host is and where its platform is. Replaced atomically when it
/// changes; sub-agents read it again for each request. Holds a secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The host's identity.
    pub agentsn: String,
    /// `HOST:PORT,HOST2`, all sources joined in the order they are tried.
    pub svrlist: String,
    /// The host's secret, if the server gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// PEM file to verify `https://` servers with instead of the system roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

impl std::fmt::Debug for Uplink {
    // The token must not reach a log by way of `{:?}`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uplink")
            .field("agentsn", &self.agentsn)
            .field("svrlist", &self.svrlist)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("ca_file", &self.ca_file)
            .finish()
    }
}
