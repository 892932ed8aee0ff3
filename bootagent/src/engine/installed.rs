//! A package was put in place, or put back: its child takes the version.
//!
//! The rule: what a job gives is on its way to the disk before anything is
//! started with it, and a version that is put back gets back exactly what it
//! had.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bootagent_core::restart::{Detail, Event, Report, State, Wanted};
use bootagent_core::watch::{Found, Watch};
use bootagent_protocol::{AgentName, Limits};

use super::child::{Child, spec};
use super::trial::{Moment, Sighting, Trial};
use super::waiter::{Goal, Settled, up};
use super::{Engine, now};

/// What a job may give a child.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// Its environment.
    pub envs: Option<BTreeMap<String, String>>,
    /// Its limits.
    pub limits: Option<Limits>,
}

/// What the engine knows of a child.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The version of its manifest.
    pub version: String,
    /// What earlier jobs gave it.
    pub given: Given,
    /// Whether it counts as up.
    pub is_up: bool,
}

/// Whether what runs is ended for what was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It is the version that was given up: it goes.
    Anew,
    /// It was never replaced: it stays.
    On,
}

impl Engine {
    pub(super) fn known(&self, name: &AgentName) -> Option<Known> {
        let child = self.children.get(name)?;
        Some(Known {
            version: child.manifest.version.to_string(),
            given: Given {
                envs: child.intent.envs.clone(),
                limits: child.intent.limits.clone(),
            },
            is_up: child.machine.is_up(),
        })
    }

    /// Takes a new version. With a `window` it is on trial, else who waits is
    /// told when it is up or is not.
    pub(super) fn installed(
        &mut self,
        name: &AgentName,
        given: Given,
        window: Option<Duration>,
        sightings: Sender<Sighting>,
    ) {
        let was_known = self.children.contains_key(name);
        if !was_known {
            // What the job gives holds from the first start on.
            self.intend(name, &given);
        }
        self.load_manifests();
        let Some(child) = self.children.get_mut(name) else {
            let _ = sightings.send(Sighting::Refused(self.why_unknown(name)));
            return;
        };
        child.intent.envs = given.envs.or(child.intent.envs.take());
        child.intent.limits = given.limits.or(child.intent.limits.take());
        if child.machine.wanted() == Wanted::Stopped {
            let _ = sightings.send(Sighting::Passed(Settled::Stopped));
            self.tell_changed(name, Event::NewVersion);
            return;
        }
        match window {
            Some(window) => {
                let kind = spec(&child.manifest, self.host.config.policy()).kind;
                let trial = Trial::new(Watch::new(kind, window), sightings);
                child.waiters.try_out(trial);
            }
            None => child.waiters.add(
                Goal::Up,
                Box::new(move |settled| drop(sightings.send(Sighting::Passed(settled)))),
            ),
        }
        if was_known {
            self.tell_changed(name, Event::NewVersion);
            self.answer_if_stuck(name);
            return;
        }
        // It was started when its manifest was read; what came of that was
        // reported before anybody waited.
        let (errors, wanted) = (child.limit_errors.clone(), child.machine.wanted());
        if child.machine.is_up() {
            child.waiters.report(Report::Up, wanted, "", &errors);
        } else if child.machine.state() != State::Running {
            let why = child.status.clone();
            child.waiters.fail(&why);
        }
    }

    /// Goes on with a trial that an earlier BootAgent began.
    pub(super) fn resume_trial(
        &mut self,
        name: &AgentName,
        window: Duration,
        sightings: Sender<Sighting>,
    ) {
        let policy = self.host.config.policy();
        let Some(child) = self.children.get_mut(name) else {
            let _ = sightings.send(Sighting::Refused(self.why_unknown(name)));
            return;
        };
        let ended = child.waiters.last_end().map(str::to_owned);
        let found = found(child);
        let why = ended.unwrap_or_else(|| format!("is not running any more: {}", child.status));
        let kind = spec(&child.manifest, policy).kind;
        let (watch, effects) = Watch::resume(kind, window, found, now());
        let trial = Trial::new(watch, sightings);
        let at = Moment {
            now: now(),
            wanted: child.machine.wanted(),
            limit_errors: &child.limit_errors,
        };
        trial.tell(&effects, at, &why);
        child.waiters.try_out(trial);
    }

    /// Takes back the version that was there before, with what it had.
    pub(super) fn put_back(
        &mut self,
        name: &AgentName,
        given: Given,
        run: Run,
        reply: Sender<Result<Settled, String>>,
    ) {
        self.load_manifests();
        let Some(child) = self.children.get_mut(name) else {
            let _ = reply.send(Err(self.why_unknown(name)));
            return;
        };
        child.intent.envs = given.envs;
        child.intent.limits = given.limits;
        if child.machine.wanted() == Wanted::Stopped {
            let _ = reply.send(Ok(Settled::Stopped));
            self.tell_changed(name, Event::NewVersion);
            return;
        }
        if run == Run::On && child.machine.is_up() {
            let _ = reply.send(Ok(up(&child.limit_errors)));
            return;
        }
        child.waiters.add(
            Goal::Up,
            Box::new(move |settled| drop(reply.send(Ok(settled)))),
        );
        self.tell_changed(name, Event::NewVersion);
        self.answer_if_stuck(name);
    }

    /// Why there is no child after its package was put in place.
    fn why_unknown(&self, name: &AgentName) -> String {
        let folder = format!("/{name}/");
        let own = self.invalid.iter().find(|(path, _)| path.contains(&folder));
        own.map(|(_, text)| text.clone())
            .unwrap_or_else(|| format!("the package brought no agent.json of {name}"))
    }

    /// Notes what a job wants of a child that is about to be known.
    fn intend(&mut self, name: &AgentName, given: &Given) {
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
        intent.envs = given.envs.clone().or(intent.envs.take());
        intent.limits = given.limits.clone().or(intent.limits.take());
        self.save_metafile();
    }
}

fn found(child: &Child) -> Found {
    let machine = &child.machine;
    match machine.state() {
        // A oneshot that ended well: nothing of it can fail any more.
        _ if machine.detail() == Some(Detail::Done) => Found::Stopped,
        // Whatever runs by now, the version has ended since we are back.
        _ if child.waiters.last_end().is_some() || machine.is_stuck() => Found::Ended,
        _ if machine.wanted() == Wanted::Stopped => Found::Stopped,
        _ if machine.is_up() => Found::Up,
        State::Running => Found::Coming,
        State::Stoped | State::Fatal | State::Killed => Found::Ended,
    }
}
