//! SIGHUP: the configuration and the manifests are read again.
//!
//! What other threads and the logger go by is handed to them, in the order of
//! what they have to do. The one rule: a wrong configuration changes nothing,
//! and every status says so until there is a right one.

use super::{Engine, child};
use crate::config::Config;
use crate::jobs::Order;

impl Engine {
    pub(super) fn reload(&mut self) {
        let read = self.host.config.load_again(&self.host.config_path);
        self.config_trouble = match read {
            Ok(config) => {
                self.use_config(&config);
                log::info!("configuration and manifests read again");
                None
            }
            Err(error) => {
                let text = format!(
                    "the configuration stays as it was: {:#}",
                    anyhow::Error::from(error)
                );
                log::error!("{text}");
                Some(text)
            }
        };
        self.load_manifests();
    }

    fn use_config(&mut self, read: &Config) {
        let fixed = &self.host.config;
        // What everything that runs already was started with.
        let config = Config {
            root: fixed.root.clone(),
            cgroup: fixed.cgroup.clone(),
            agent_user: fixed.agent_user.clone(),
            enrolment_token_file: fixed.enrolment_token_file.clone(),
            ..read.clone()
        };
        if config != *read {
            log::warn!(
                "root, cgroup, agent_user and enrolment_token_file hold from the next start of bootagent on"
            );
        }
        if config == self.host.config {
            return;
        }
        let former = std::mem::replace(&mut self.host.config, config);
        let config = &self.host.config;
        // Jobs that were taken before are done as they were taken.
        let _ = self.jobs.send(Order::Config(Box::new(config.clone())));
        if config.logs != former.logs {
            // It comes back with the new bounds; until then output waits.
            self.logger.end();
        }
        if config.restart != former.restart {
            let policy = config.policy();
            for child in self.children.values_mut() {
                child
                    .machine
                    .reconfigure(child::spec(&child.manifest, policy));
            }
        }
        if self.host.config.ca_file != former.ca_file {
            self.write_uplink();
        }
    }
}
