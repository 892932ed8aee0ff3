//! What the job worker needs of the supervisor.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bootagent_core::restart::{Event, Report, State, Wanted};
use bootagent_kit::Secret;
use bootagent_kit::servers::ServerList;
use bootagent_protocol::{AgentName, Limits};

use super::Engine;
use super::installed::{Given, Known, Run};
use super::oneshot::{OneshotEnd, OneshotOrder};
use super::trial::Sighting;
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
    /// Say what is known of a child.
    Known {
        /// Which agent.
        name: AgentName,
        /// Who waits; `None` in it means there is no such child.
        reply: Sender<Option<Known>>,
    },
    /// A package was installed: read its manifest, with these settings.
    Installed {
        /// Which agent.
        name: AgentName,
        /// What the job gives.
        given: Given,
        /// How long it is on trial; none for a first install.
        window: Option<Duration>,
        /// Who waits.
        sightings: Sender<Sighting>,
    },
    /// Go on with the trial of a version that was up before a restart of ours.
    ResumeTrial {
        /// Which agent.
        name: AgentName,
        /// How long it is on trial.
        window: Duration,
        /// Who waits.
        sightings: Sender<Sighting>,
    },
    /// The version before was put in place again: read its manifest, with
    /// exactly these settings.
    PutBack {
        /// Which agent.
        name: AgentName,
        /// What it had.
        given: Given,
        /// What becomes of what runs.
        run: Run,
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
    /// Wait until a server has answered a status of this program.
    CheckedIn {
        /// Who waits.
        reply: Sender<()>,
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
            JobRequest::Known { name, reply } => {
                let _ = reply.send(self.known(&name));
            }
            JobRequest::Installed {
                name,
                given,
                window,
                sightings,
            } => self.installed(&name, given, window, sightings),
            JobRequest::ResumeTrial {
                name,
                window,
                sightings,
            } => self.resume_trial(&name, window, sightings),
            JobRequest::PutBack {
                name,
                given,
                run,
                reply,
            } => self.put_back(&name, given, run, reply),
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
                let _ = reply.send((self.push.servers().clone(), self.secret()));
            }
            JobRequest::CheckedIn { reply } => self.tell_checked_in(reply),
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

    /// That a child outlived its kill was reported once. Who asks only now
    /// would wait until the kernel lets it go, and every job with him.
    pub(super) fn answer_if_stuck(&mut self, name: &AgentName) {
        if let Some(child) = self.children.get_mut(name)
            && child.machine.is_stuck()
        {
            let wanted = child.machine.wanted();
            child.waiters.report(Report::Stuck, wanted, "", &[]);
        }
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
