//! What the job worker needs of the supervisor.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bootagent_core::restart::{Event, Report, State, Wanted};
use bootagent_kit::Secret;
use bootagent_kit::servers::ServerList;
use bootagent_protocol::{AgentName, Limits};

use super::Engine;
use super::oneshot::{OneshotEnd, OneshotOrder};
use super::waiter::{Goal, Settled, up};

/// One request; every answer goes into the channel it carries.
pub enum JobRequest {
    /// Run a program once.
    Run(Box<OneshotOrder>),
    /// Wait for a program an earlier BootAgent started.
    Await {
        /// Its name.
        name: String,
        /// How long it may still take.
        limit: Duration,
        /// Who waits.
        reply: Sender<OneshotEnd>,
    },
    /// Change what is wanted of a child.
    Want {
        /// Which one.
        name: AgentName,
        /// How.
        change: WantedChange,
        /// Who waits; `None` in it means there is no such child.
        reply: Sender<Option<Settled>>,
    },
    /// A package was installed: read its manifest, with these settings.
    Installed {
        /// Which agent.
        name: AgentName,
        /// New environment, if the job gives one.
        envs: Option<BTreeMap<String, String>>,
        /// New limits, if the job gives some.
        limits: Option<Limits>,
        /// Who waits.
        reply: Sender<Result<Settled, String>>,
    },
    /// A package was removed: forget the child.
    Removed {
        /// Which agent.
        name: AgentName,
        /// Who waits.
        reply: Sender<()>,
    },
    /// Set a child's environment and limits, and start it anew with them.
    Configure {
        /// Which agent.
        name: AgentName,
        /// New environment.
        envs: Option<BTreeMap<String, String>>,
        /// New limits.
        limits: Option<Limits>,
        /// Who waits; `None` in it means there is no such child.
        reply: Sender<Option<Settled>>,
    },
    /// Set our own servers and step, on disk before the answer.
    ConfigureSelf {
        /// Servers.
        svrlist: Option<String>,
        /// Seconds between two statuses.
        step: Option<u64>,
        /// Who waits; the error is why it could not be written.
        reply: Sender<Result<(), String>>,
    },
    /// Whom the token may go to, and the token.
    Access {
        /// Who waits.
        reply: Sender<(ServerList, Option<Secret>)>,
    },
    /// Execute the program at our path in our place.
    Reexec {
        /// Told only when it failed, and why.
        reply: Sender<String>,
    },
}

/// How what is wanted of a child changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedChange {
    /// It shall run.
    Start,
    /// It shall not.
    Stop,
    /// It shall run anew.
    Restart,
}

impl Engine {
    pub(super) fn on_request(&mut self, request: JobRequest) {
        match request {
            JobRequest::Run(order) => self.run_oneshot(*order),
            JobRequest::Await { name, limit, reply } => self.await_oneshot(&name, limit, reply),
            JobRequest::Want {
                name,
                change,
                reply,
            } => self.want(&name, change, reply),
            JobRequest::Installed {
                name,
                envs,
                limits,
                reply,
            } => {
                self.installed(&name, envs, limits, reply);
            }
            JobRequest::Removed { name, reply } => {
                self.forget(&name);
                let _ = reply.send(());
            }
            JobRequest::Configure {
                name,
                envs,
                limits,
                reply,
            } => {
                self.configure(&name, envs, limits, reply);
            }
            JobRequest::ConfigureSelf {
                svrlist,
                step,
                reply,
            } => {
                self.configure_self(svrlist, step, reply);
            }
            JobRequest::Access { reply } => {
                let token = self.metafile.token.clone().map(Secret::new);
                let _ = reply.send((self.push.servers().clone(), token));
            }
            JobRequest::Reexec { reply } => self.reexec(super::Orderer::Job(reply)),
        }
    }

    /// Changes what is wanted and answers when it is so.
    pub(super) fn want(
        &mut self,
        name: &AgentName,
        change: WantedChange,
        reply: Sender<Option<Settled>>,
    ) {
        let Some(child) = self.children.get_mut(name) else {
            let _ = reply.send(None);
            return;
        };
        let (goal, event) = match change {
            WantedChange::Start => (Goal::Up, Event::Wanted(Wanted::Running)),
            WantedChange::Restart => (Goal::Up, Event::Restart),
            WantedChange::Stop => (Goal::Stopped, Event::Wanted(Wanted::Stopped)),
        };
        let is_there = match change {
            WantedChange::Start => child.machine.is_up(),
            WantedChange::Restart => false,
            WantedChange::Stop => child.machine.state() != State::Running,
        };
        if !is_there {
            let then = move |settled| drop(reply.send(Some(settled)));
            child.waiters.add(goal, Box::new(then));
            self.tell(name, event);
            self.answer_if_stuck(name);
            return;
        }
        let settled = match goal {
            Goal::Up => up(&child.limit_errors),
            Goal::Stopped => Settled::Stopped,
        };
        // First what is wanted, on its way to the disk, then the answer.
        self.tell(name, event);
        let _ = reply.send(Some(settled));
    }

    fn installed(
        &mut self,
        name: &AgentName,
        envs: Option<BTreeMap<String, String>>,
        limits: Option<Limits>,
        reply: Sender<Result<Settled, String>>,
    ) {
        let was_known = self.children.contains_key(name);
        if !was_known {
            // What the job gives holds from the first start on.
            self.intend(name, &envs, &limits);
        }
        self.load_manifests();
        let Some(child) = self.children.get_mut(name) else {
            let folder = format!("/{name}/");
            let own = self.invalid.iter().find(|(path, _)| path.contains(&folder));
            let why = own.map(|(_, text)| text.clone());
            let _ =
                reply.send(Err(why.unwrap_or_else(|| {
                    format!("the package brought no agent.json of {name}")
                })));
            return;
        };
        child.intent.envs = envs.or(child.intent.envs.take());
        child.intent.limits = limits.or(child.intent.limits.take());
        if child.machine.wanted() == Wanted::Stopped {
            let _ = reply.send(Ok(Settled::Stopped));
            self.tell_changed(name, Event::NewVersion);
            return;
        }
        if !was_known && child.machine.is_up() {
            let _ = reply.send(Ok(up(&child.limit_errors)));
            return;
        }
        if !was_known && child.machine.state() != State::Running {
            // Its first start has failed already.
            let _ = reply.send(Ok(Settled::Failed(child.status.clone())));
            return;
        }
        child.waiters.add(
            Goal::Up,
            Box::new(move |settled| drop(reply.send(Ok(settled)))),
        );
        if was_known {
            self.tell_changed(name, Event::NewVersion);
        }
        self.answer_if_stuck(name);
    }

    /// That a child outlived its kill was reported once. Who asks only now
    /// would wait until the kernel lets it go, and every job with him.
    fn answer_if_stuck(&mut self, name: &AgentName) {
        if let Some(child) = self.children.get_mut(name)
            && child.machine.is_stuck()
        {
            let wanted = child.machine.wanted();
            child.waiters.report(Report::Stuck, wanted, "", &[]);
        }
    }

    /// Notes what a job wants of a child that is about to be known.
    fn intend(
        &mut self,
        name: &AgentName,
        envs: &Option<BTreeMap<String, String>>,
        limits: &Option<Limits>,
    ) {
        let (loaded, _) = super::adopt::scan(&self.host.paths);
        let manifest = loaded
            .into_iter()
            .map(|l| l.manifest)
            .find(|m| m.name == *name);
        let autostart = manifest.is_some_and(|manifest| manifest.autostart);
        let intent = self
            .metafile
            .children
            .entry(name.clone())
            .or_insert_with(|| crate::metafile::ChildIntent {
                wanted_running: autostart,
                ..Default::default()
            });
        intent.envs = envs.clone().or(intent.envs.take());
        intent.limits = limits.clone().or(intent.limits.take());
        self.save_metafile();
    }

    fn configure(
        &mut self,
        name: &AgentName,
        envs: Option<BTreeMap<String, String>>,
        limits: Option<Limits>,
        reply: Sender<Option<Settled>>,
    ) {
        let Some(child) = self.children.get_mut(name) else {
            let _ = reply.send(None);
            return;
        };
        if let Some(envs) = envs {
            child.intent.envs = Some(envs);
        }
        if let Some(limits) = limits {
            child.intent.limits = Some(limits);
        }
        let is_wanted = child.machine.wanted() == Wanted::Running;
        if is_wanted {
            child.waiters.add(
                Goal::Up,
                Box::new(move |settled| drop(reply.send(Some(settled)))),
            );
        } else {
            let _ = reply.send(Some(Settled::Stopped));
        }
        self.tell_changed(name, Event::NewConfig);
        self.answer_if_stuck(name);
    }

    fn configure_self(
        &mut self,
        svrlist: Option<String>,
        step: Option<u64>,
        reply: Sender<Result<(), String>>,
    ) {
        let before = self.metafile.clone();
        let least = self.host.config.push.min_step;
        if let Some(step) = step
            && !(least..=3600).contains(&step)
        {
            let _ = reply.send(Err(format!("step: {least} to 3600 seconds are expected")));
            return;
        }
        if let Some(list) = &svrlist
            && let Err(error) = ServerList::parse(list)
        {
            let _ = reply.send(Err(format!("svrlist: {error}")));
            return;
        }
        if let Some(list) = svrlist {
            self.metafile.svrlist = list;
        }
        if let Some(step) = step {
            self.metafile.step = step;
        }
        let (path, content) = (self.host.paths.metafile(), self.metafile.to_bytes());
        self.host.journal.save(path, content, move |written| {
            let written = written.map_err(|e| format!("{:#}", anyhow::Error::from(e)));
            let _ = reply.send(written);
        });
        if self.metafile.svrlist != before.svrlist {
            self.servers_changed();
        }
        if self.metafile.step != before.step {
            self.step_changed();
        }
    }
}
