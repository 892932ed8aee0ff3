//! Whom to ping, by which line, and when to be quiet: from the configuration and the list.
//!
//! The one rule: who stays on the list goes on as if nothing had been read.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use super::Run;
use crate::clock;
use crate::config::Config;
use crate::mesh::list::{First, List};
use crate::mesh::message::NodeId;
use crate::mesh::peers::{self, Entry};
use crate::mesh::quiet::{Quiet, Window};
use crate::socket::{Rights, Source};

impl Run {
    pub(super) fn configure(&mut self, config: Config) {
        let mesh = &config.mesh;
        self.guard.cap(mesh.events_per_hour);
        self.roster.me = NodeId::of(&config.node_name());
        match mesh.keys() {
            Ok(keys) => self.roster.keys = keys,
            Err(error) => log::error!("the group's keys stay as they were: {error}"),
        }
        let is_same = self.config.mesh.peers_file == mesh.peers_file;
        if !is_same || self.list.is_none() {
            let path = mesh.peers_file.clone();
            self.list = path
                .filter(|_| self.engine.rights() == Rights::Raw)
                .map(|path| List::new(path, &self.state));
        }
        self.config = config;
        let first = match is_same && self.roster.len() > 0 {
            true => First::No,
            false => First::Yes,
        };
        match &mut self.list {
            Some(list) => {
                if let Some(peers) = list.read(first) {
                    self.settle(peers);
                }
            }
            None => self.settle(Vec::new()),
        }
        self.find_sources();
        self.quiet();
        self.warn_of_budget();
        self.say();
    }

    fn warn_of_budget(&self) {
        if let Some(said) = peers::beyond_budget(self.roster.len(), self.config.budget) {
            log::warn!("{said}");
        }
    }

    fn settle(&mut self, peers: Vec<Entry>) {
        let now = clock::now();
        let unix = self.clock.wall().second(now);
        let changed = self.roster.settle(peers, now, unix);
        for number in changed.gone {
            self.guard.remove(usize::from(number));
            self.forget(number);
        }
        let count = u32::try_from(changed.new.len()).unwrap_or(1).max(1);
        for (at, number) in (0..).zip(changed.new) {
            if let Some(peer) = self.roster.get_mut(number) {
                // Spread over a second.
                peer.next = now + Duration::from_secs(1) * at / count;
                let (address, line) = (peer.entry.address, peer.line);
                self.guard
                    .put(usize::from(number), address, line, peer.entry.voice);
                self.due.push(Reverse((peer.next, number)));
            }
        }
        log::info!("{} peers are pinged", self.roster.len());
        self.find_sources();
        self.quiet();
    }

    /// Reads the list if its file is another one.
    pub(super) fn look_at_list(&mut self) {
        let Some(list) = &mut self.list else {
            return;
        };
        let before = list.problem.clone();
        let read = list.read(First::No);
        let is_news = read.is_some() || list.problem != before;
        match read {
            Some(peers) => self.settle(peers),
            None => self.find_sources(),
        }
        if is_news {
            self.warn_of_budget();
            self.say();
        }
    }

    /// Looks for the sources of lines, which may come and go.
    fn find_sources(&mut self) {
        let mut known: HashMap<Option<String>, Option<Source>> = HashMap::new();
        for number in self.roster.numbers() {
            let config = &self.config;
            if let Some(peer) = self.roster.get_mut(number) {
                let line = &peer.entry.line;
                if !known.contains_key(line) {
                    let found = config.source(line.as_deref());
                    if let Err(error) = &found
                        && peer.source.is_some()
                    {
                        log::warn!("peers of this line are not pinged: {error}");
                    }
                    known.insert(line.clone(), found.ok());
                }
                peer.source = known.get(line).copied().flatten();
            }
        }
    }

    /// Maintenance, by the names of peers.
    fn quiet(&mut self) {
        let unix = self.clock.wall().second(clock::now());
        self.guard.quiet = Quiet::default();
        let numbers = self.roster.numbers();
        for it in &self.config.mesh.maintenance {
            let mut add = |peer| {
                let (from, to) = (it.from.0, it.to.0);
                self.guard.quiet.add(Window { from, to, peer }, unix);
            };
            let Some(name) = &it.peer else {
                add(None);
                continue;
            };
            for number in &numbers {
                let peer = self.roster.get(*number);
                if peer.is_some_and(|peer| peer.entry.called() == *name) {
                    add(Some(usize::from(*number)));
                }
            }
        }
    }
}
