//! Telling a child's machine what happened, and doing what it decides.

use std::collections::VecDeque;

use bootagent_core::restart::{self, Change, Effect, End, Event, Report, Wanted};
use bootagent_protocol::AgentName;

use super::{Engine, Source, now};
use crate::host::new_event;
use crate::notification::{self, Notification};

/// Messages of one child that are read in one turn.
const PER_TURN: usize = 16;
/// Messages that can wait in a socket: net.unix.max_dgram_qlen, 512 at most
/// where nobody changed it.
const BEFORE_JUDGED: usize = 512;

impl Engine {
    /// Hands `event` to the machine of `name` and does every effect, and what
    /// follows from them.
    pub(super) fn tell(&mut self, name: &AgentName, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(child) = self.children.get_mut(name) else {
                return;
            };
            let effects = child.machine.handle(event, now());
            for effect in effects {
                events.extend(self.perform(name, effect));
            }
        }
    }

    /// Does one effect; what it leads to at once is returned.
    pub(super) fn perform(&mut self, name: &AgentName, effect: Effect) -> Option<Event> {
        self.will_rest();
        match effect {
            Effect::Start => return Some(self.start(name)),
            Effect::SendStopSignal => {
                if let Some(child) = self.children.get_mut(name) {
                    child.send_stop_signal(&self.host);
                }
            }
            Effect::Kill => {
                if let Some(child) = self.children.get_mut(name) {
                    child.kill(&self.host);
                    child.awaits_gone = true;
                }
            }
            Effect::Persist(Change::Wanted(wanted)) => self.keep_wanted(name, wanted),
            Effect::Persist(Change::Record(record)) => {
                if let Some(child) = self.children.get(name) {
                    child.persist(&self.host, record);
                }
            }
            Effect::Report(report) => self.report(name, report),
            Effect::Unexpected(event) => {
                let state = self.children.get(name).map(|child| child.machine.state());
                log::warn!("{name}: {event:?} does not fit state {state:?}");
            }
        }
        None
    }

    fn start(&mut self, name: &AgentName) -> Event {
        let number = self.free_number();
        let Some(child) = self.children.get_mut(name) else {
            return Event::SpawnFailed;
        };
        let had_socket = child.notify.is_some();
        match child.start(&self.host, number) {
            Ok(()) => {
                let pid = child
                    .running
                    .as_ref()
                    .map(|running| running.handle.identity().pid);
                let version = &child.manifest.version;
                log::info!("{name} {version} started, pid {}", pid.unwrap_or_default());
                for error in &child.limit_errors {
                    log::error!("{name}: {error}");
                }
                if !had_socket {
                    self.watch_notify(name);
                }
                Event::Spawned
            }
            Err(error) => {
                let text = format!("{error:#}");
                log::error!("{name} could not be started: {text}");
                child.status = text;
                Event::SpawnFailed
            }
        }
    }

    /// Watches a child's notify socket.
    pub(super) fn watch_notify(&mut self, name: &AgentName) {
        let Some((socket, number)) = self.children.get(name).and_then(|c| c.notify.as_ref()) else {
            return;
        };
        if let Err(error) = self.poller.add(socket, Source::Notify(*number)) {
            log::error!("{name}: its notify socket cannot be watched: {error}");
        }
    }

    fn keep_wanted(&mut self, name: &AgentName, wanted: Wanted) {
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        child.intent.wanted_running = wanted == Wanted::Running;
        self.metafile
            .children
            .insert(name.clone(), child.intent.clone());
        self.save_metafile();
    }

    /// Writes the metafile on the journal's thread.
    pub(super) fn save_metafile(&self) {
        let (path, content) = (self.host.paths.metafile(), self.metafile.to_bytes());
        self.host.journal.save(path, content, |written| {
            if let Err(error) = written {
                log::error!("the metafile: {:#}", anyhow::Error::from(error));
            }
        });
    }

    fn report(&mut self, name: &AgentName, report: Report) {
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        let why = match report {
            Report::AbnormalEnd {
                end,
                ran,
                anomalies,
            } => {
                let cause = match end {
                    End::SpawnFailed => format!("could not be started: {}", child.status),
                    End::Code(127) => child.exec_failure.map_or_else(
                        || end.to_string(),
                        |failure| format!("{}: {failure}", child.manifest.exec[0]),
                    ),
                    End::Limit(restart::Limit::Memory) => {
                        let limit = child.limits().memory.map(|memory| memory.to_string());
                        format!("killed at its memory limit {}", limit.unwrap_or_default())
                    }
                    End::Limit(restart::Limit::Pids) => {
                        let limit = child.limits().pids.unwrap_or_default();
                        format!("killed at its limit of {limit} processes")
                    }
                    End::Code(_) | End::Signal(_) if child.lost_to_memory > 0 => format!(
                        "{end}; the out-of-memory killer took {} of its processes before",
                        child.lost_to_memory
                    ),
                    _ => end.to_string(),
                };
                format!(
                    "ended after {} s: {cause} (anomalies in a row: {anomalies})",
                    ran.as_secs()
                )
            }
            Report::NormalEnd { end, ran } => format!("{end} after {} s", ran.as_secs()),
            Report::Fatal { anomalies } => {
                format!("given up after {anomalies} anomalies in a row; start it to try again")
            }
            Report::Recovered => "its anomalies are forgotten".to_owned(),
            Report::Up => "up".to_owned(),
            Report::Stopped(_) => "stopped".to_owned(),
            Report::Stuck => "was killed and is still there".to_owned(),
        };
        let category = match report {
            Report::AbnormalEnd {
                end: End::Limit(_), ..
            } => Some("killed"),
            Report::AbnormalEnd { .. } => Some("crash"),
            Report::Fatal { .. } => Some("fatal"),
            Report::Stuck => Some("stuck"),
            Report::Up | Report::NormalEnd { .. } | Report::Recovered | Report::Stopped(_) => None,
        };
        match category {
            None => log::info!("{name}: {why}"),
            Some(category) => {
                log::warn!("{name}: {why}");
                let mut event = new_event(category, name.as_str(), why.clone());
                event.version = Some(child.version().to_owned());
                let has_output = matches!(report, Report::AbnormalEnd { .. });
                self.host
                    .store(event, has_output.then(|| child.output_place(&self.host)));
            }
        }
        let errors = child.limit_errors.clone();
        let wanted = child.machine.wanted();
        child.waiters.report(report, wanted, &why, &errors);
    }

    /// Reads what a child said about itself: a bounded number per turn, so
    /// that a flood does not hold up others.
    pub(super) fn on_notify(&mut self, number: u32) {
        let found = self.children.iter().find_map(|(name, child)| {
            child.notify.as_ref().filter(|(_, own)| *own == number)?;
            Some(name.clone())
        });
        if let Some(name) = found {
            self.read_notify(&name, PER_TURN);
        }
    }

    /// Reads everything a child has said, before it is judged.
    pub(super) fn hear(&mut self, name: &AgentName) {
        self.read_notify(name, BEFORE_JUDGED);
    }

    fn read_notify(&mut self, name: &AgentName, most: usize) {
        let socket = self.children.get(name).and_then(|child| {
            let (socket, _) = child.notify.as_ref()?;
            socket.try_clone().ok()
        });
        let Some(socket) = socket else { return };
        let mut buffer = [0; notification::MAX_BYTES];
        for _ in 0..most {
            let Ok(length) = socket.recv(&mut buffer) else {
                return;
            };
            for said in notification::parse(&buffer[..length]) {
                self.on_notification(name, said);
            }
        }
    }

    fn on_notification(&mut self, name: &AgentName, said: Notification) {
        match said {
            Notification::Ready => self.tell(name, Event::Ready),
            Notification::Watchdog => self.tell(name, Event::WatchdogPing),
            Notification::Status(text) => {
                if let Some(child) = self.children.get_mut(name) {
                    child.status = text;
                }
            }
        }
    }
}
