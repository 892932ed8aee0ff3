//! The thread that owns every measurement.
//!
//! The one rule: it waits for its inbox and for the engine's moment, and for nothing else.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use uuid::Uuid;

use super::admission::Admission;
use super::member::{Member, Stage, Waiter};
use super::refusal::{absent, nobody, route_problem, unreadable};
use super::resolve::{Question, Resolver};
use super::runs::{Key, Runs};
use super::{MAX_LIVE, Message, Reply, Status, Tallies};
use crate::archive::Lookup;
use crate::archive::thread::Keeper;
use crate::clock;
use crate::config::Config;
use crate::engine::{End, Engine, Event, Handle, Results};
use crate::moment::Moment;
use crate::order::{Order, TIMEOUT};
use crate::problem::Problem;
use crate::report::{Report, State};
use crate::socket::Rights;

/// A name that is not resolved by then fails its measurement.
const RESOLVE: Duration = Duration::from_secs(15);
/// What the last reports may take to the disk at the end.
const LAST_WRITES: Duration = Duration::from_secs(10);
/// Behind the end of a member's rounds his last probes may still be answered.
const GRACE: Duration = TIMEOUT;

/// Everything the thread owns.
pub(super) struct Registry {
    config: Config,
    engine: Arc<Engine>,
    keeper: Keeper,
    resolver: Resolver,
    members: HashMap<Uuid, Member>,
    runs: Runs<Handle>,
    admission: Admission,
    /// When which member wants to be looked at.
    alarms: BTreeSet<(Moment, Uuid)>,
    tallies: Tallies,
    to_us: Sender<Message>,
}

impl Registry {
    pub(super) fn new(
        config: Config,
        engine: Arc<Engine>,
        keeper: Keeper,
        to_us: Sender<Message>,
    ) -> Self {
        Self {
            config,
            engine,
            keeper,
            resolver: Resolver::default(),
            members: HashMap::new(),
            runs: Runs::new(),
            admission: Admission::default(),
            alarms: BTreeSet::new(),
            tallies: Tallies::default(),
            to_us,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let message = match self.alarms.first() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((at, _)) => inbox.recv_timeout(at.since(clock::now())),
            };
            match message {
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = clock::now();
            while let Some((_, id)) = self.alarms.first().copied().filter(|it| it.0 <= now) {
                self.alarms.pop_first();
                self.wake(id, now);
            }
        }
        self.end(inbox);
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Order(order, reply) => self.accept(*order, reply),
            Message::Written(id, result) => self.written(id, result),
            Message::Resolved(id, result) => self.resolved(id, result),
            Message::Look(id, wait, reply) => self.look(id, wait, reply),
            Message::Delete(id, reply) => self.delete(id, reply),
            Message::Query(query, reply) => {
                let found = Box::new(move |found: Result<_, _>| {
                    reply(found.map_err(|error| unreadable(&error)));
                });
                self.keeper.query(*query, found);
            }
            Message::Status(reply) => self.status(reply),
            Message::Configure(config) => self.configure(*config),
            Message::Engine(Event::Ended {
                handle,
                end,
                results,
            }) => self.ended(handle, end, &results),
            Message::Engine(Event::Pings { .. }) | Message::End => {}
        }
    }

    fn configure(&mut self, config: Config) {
        if config.budget != self.config.budget
            && let Err(error) = self.engine.allow(config.budget)
        {
            log::error!("the budget stays as it was: {error}; read the configuration again");
        }
        let caps = config.archive();
        self.keeper
            .ask(move |archive| archive.cap(caps, clock::instant().unix_ms));
        self.config = config;
    }

    fn accept(&mut self, order: Order, reply: Reply<Result<Uuid, Problem>>) {
        let most = self.engine.at_once().min(MAX_LIVE);
        if self.members.len() >= most {
            self.tallies.refused += 1;
            let remedy = match self.engine.rights() {
                Rights::Ping => "there are no more without CAP_NET_RAW; give it to the program",
                Rights::Raw | Rights::Nothing => "ask for fewer or shorter ones",
            };
            let detail = format!("{most} measurements run already; {remedy}");
            return reply(Err(Problem::later(5, detail)));
        }
        let member = match Member::new(order, &self.config) {
            Ok(member) => member,
            Err(error) => return reply(Err(Problem::parameter("source", error.to_string()))),
        };
        let budget = self.config.budget;
        if !self.admission.admits(&member.order, budget, clock::now()) {
            self.tallies.refused += 1;
            let detail = format!(
                "more targets were ordered at once than {budget} probes a second can begin with; ask again, or raise `budget`"
            );
            return reply(Err(Problem::later(2, detail)));
        }
        let id = member.report.id;
        let to_us = self.to_us.clone();
        let done = Box::new(move |result| {
            let _ = to_us.send(Message::Written(id, result));
        });
        match self.keeper.accept(member.report.clone(), done) {
            Ok(()) => {
                let stage = Stage::Accepting(reply);
                self.members.insert(id, Member { stage, ..member });
            }
            Err(error) => {
                self.tallies.refused += 1;
                reply(Err(Problem::later(5, error.to_string())));
            }
        }
    }

    /// The disk has an acceptance or a report, or does not take it.
    fn written(&mut self, id: Uuid, result: Result<(), String>) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut member.stage, Stage::Resolving) {
            Stage::Accepting(reply) => match result {
                Ok(()) => {
                    self.tallies.accepted += 1;
                    reply(Ok(id));
                    self.resolve(id);
                }
                Err(error) => {
                    self.members.remove(&id);
                    self.tallies.refused += 1;
                    let detail = format!("nothing is measured that cannot be kept: {error}");
                    reply(Err(Problem {
                        retry_after: Some(30),
                        ..Problem::new(507, "No room", detail)
                    }));
                }
            },
            // What could not be written waits in the archive's own memory.
            Stage::Ending => {
                self.members.remove(&id);
            }
            // Nothing of these was being written.
            stage @ (Stage::Resolving | Stage::Running { .. }) => member.stage = stage,
        }
    }

    fn resolve(&mut self, id: Uuid) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        if let Some(address) = member.order.address {
            return self.begin(id, address);
        }
        let until = clock::now() + RESOLVE;
        let to_us = self.to_us.clone();
        self.alarms.insert((until, id));
        self.resolver.ask(Question {
            name: member.order.asked.clone(),
            family: member.order.family,
            until,
            done: Box::new(move |result| {
                let _ = to_us.send(Message::Resolved(id, result));
            }),
        });
    }

    fn resolved(&mut self, id: Uuid, result: Result<IpAddr, String>) {
        let member = self.members.get(&id);
        let Some(member) = member.filter(|it| matches!(it.stage, Stage::Resolving)) else {
            return;
        };
        match result.and_then(|address| member.order.fits(address).map(|()| address)) {
            Ok(address) => self.begin(id, address),
            Err(problem) => self.fail(id, problem),
        }
    }

    /// Joins a run that is like this, or begins one.
    fn begin(&mut self, id: Uuid, target: IpAddr) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if let Err(error) = member.report.locate(member.source, target) {
            return self.fail(id, route_problem(error));
        }
        let (count, interval) = (member.order.count, member.order.interval);
        let spec = member.order.spec(target, member.source);
        let key = Key::new(target, member.source, spec.size, interval);
        let now = clock::now();
        let (handle, until) = match self.runs.join(key, id, count, now) {
            Some(joined) => {
                if let Err(error) = self.engine.prolong(joined.handle, joined.until) {
                    self.runs.leave(joined.handle, &id);
                    return self.fail(id, error.to_string());
                }
                self.tallies.joined += 1;
                // Who was alone thought that his end is that of the run.
                if let [first, _] = self.runs.members(joined.handle) {
                    self.alarms.insert((now, *first));
                }
                (joined.handle, joined.until)
            }
            None => match self.engine.begin(spec) {
                Ok(handle) => {
                    self.runs.begin(key, handle, id, count, now);
                    (handle, count)
                }
                Err(error) => return self.fail(id, error.to_string()),
            },
        };
        if let Some(member) = self.members.get_mut(&id) {
            let due = now + interval * count + GRACE;
            member.stage = Stage::Running { handle, until, due };
            member.report.state = State::Running;
            self.alarms.insert((due, id));
        }
    }

    /// A run is over: for most of its members, all of them usually, that was it.
    fn ended(&mut self, handle: Handle, end: End, results: &Results) {
        let rounds = results.part.as_ref().map_or(0, |part| part.rounds);
        for id in self.runs.end(handle) {
            let Some(member) = self.members.get(&id) else {
                continue;
            };
            let Stage::Running { until, .. } = member.stage else {
                continue;
            };
            match end {
                // He joined when it was about to end, and it did not hear of him in time.
                End::Finished if rounds < until && rounds > 0 => {
                    let address = member.report.target.address;
                    address
                        .into_iter()
                        .for_each(|address| self.begin(id, address));
                }
                End::Finished => self.finish(id, State::Finished, results, None),
                End::Stopped => self.finish(id, State::Stopped, results, None),
                End::NotBegun(reason) => {
                    let problem = format!("{reason}; order it again later");
                    self.finish(id, State::Failed, results, Some(problem));
                }
            }
        }
    }

    fn fail(&mut self, id: Uuid, problem: String) {
        self.finish(id, State::Failed, &Results::default(), Some(problem));
    }

    /// A measurement is over; its report goes to the archive.
    fn finish(&mut self, id: Uuid, state: State, results: &Results, problem: Option<String>) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.finish(state, results, problem);
        let report = member.report.clone();
        for (_, reply) in member.waiters.drain(..) {
            reply(Ok(Box::new(report.clone())));
        }
        match state {
            State::Finished => self.tallies.finished += 1,
            State::Failed => self.tallies.failed += 1,
            _ => self.tallies.stopped += 1,
        }
        let to_us = self.to_us.clone();
        let done = Box::new(move |result| {
            let _ = to_us.send(Message::Written(id, result));
        });
        self.keeper.end(report, done);
    }

    /// Ends one before its run does, with what there is.
    fn stop(&mut self, id: Uuid, state: State, problem: Option<&str>) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        let mut results = Results::default();
        if let Stage::Running { handle, .. } = member.stage {
            results = self.engine.results(handle).unwrap_or_default();
            if self.runs.leave(handle, &id) {
                // An engine that has thousands of commands to do ends it by itself, and nobody listens.
                let _ = self.engine.stop(handle);
            }
        }
        self.finish(id, state, &results, problem.map(str::to_owned));
    }

    /// Does for a member what is due.
    fn wake(&mut self, id: Uuid, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let report = |member: &Member, engine: &Engine| Box::new(member.report_now(engine));
        if member.waiters.iter().any(|(until, _)| *until <= now) {
            let found = report(member, &self.engine);
            let (over, waiting) = member
                .waiters
                .drain(..)
                .partition(|(until, _)| *until <= now);
            member.waiters = waiting;
            let over: Vec<(Moment, Waiter)> = over;
            for (_, reply) in over {
                reply(Ok(found.clone()));
            }
        }
        match member.stage {
            Stage::Resolving => {
                let since = member.accepted;
                if now.since(since) >= RESOLVE {
                    let problem = format!(
                        "no name server told the address of {:?} within {} s; look at /etc/resolv.conf, or say an address",
                        member.order.asked,
                        RESOLVE.as_secs()
                    );
                    self.fail(id, problem);
                }
            }
            Stage::Running { handle, until, due } => self.look_at_run(id, handle, until, due, now),
            Stage::Accepting(_) | Stage::Ending => {}
        }
    }

    /// Whether a member of a run that goes on for others has his rounds.
    fn look_at_run(&mut self, id: Uuid, handle: Handle, until: u32, due: Moment, now: Moment) {
        if self.runs.members(handle).len() < 2 {
            return;
        }
        if due > now {
            self.alarms.insert((due, id));
            return;
        }
        let results = self.engine.results(handle).unwrap_or_default();
        let rounds = results.part.as_ref().map_or(0, |part| part.rounds);
        if rounds >= until {
            self.runs.leave(handle, &id);
            return self.finish(id, State::Finished, &results, None);
        }
        if let Some(member) = self.members.get_mut(&id) {
            let due = now + member.order.interval * (until - rounds) + GRACE;
            member.stage = Stage::Running { handle, until, due };
            self.alarms.insert((due, id));
        }
    }

    fn look(&mut self, id: Uuid, wait: Duration, reply: Reply<Result<Box<Report>, Problem>>) {
        match self.members.get_mut(&id) {
            // Nobody was told of it yet.
            Some(member) if matches!(member.stage, Stage::Accepting(_)) => reply(Err(nobody(&id))),
            Some(member) if wait.is_zero() || matches!(member.stage, Stage::Ending) => {
                reply(Ok(Box::new(member.report_now(&self.engine))));
            }
            Some(member) => {
                let until = clock::now() + wait;
                member.waiters.push((until, reply));
                self.alarms.insert((until, id));
            }
            None => self.keeper.ask(move |archive| {
                reply(match archive.lookup(&id) {
                    Ok(Lookup::Report(report)) => Ok(report),
                    Ok(found) => Err(absent(&id, &found)),
                    Err(error) => Err(unreadable(&error)),
                });
            }),
        }
    }

    fn delete(&mut self, id: Uuid, reply: Reply<Result<(), Problem>>) {
        match self.members.get(&id).map(|member| &member.stage) {
            Some(Stage::Accepting(_)) => reply(Err(nobody(&id))),
            Some(Stage::Resolving | Stage::Running { .. }) => {
                self.stop(id, State::Stopped, None);
                reply(Ok(()));
            }
            // Its report is on the way to the archive, before this question.
            Some(Stage::Ending) | None => self.keeper.ask(move |archive| {
                let removed = archive.lookup(&id).and_then(|found| match found {
                    Lookup::Report(_) | Lookup::Damaged => archive.remove(&id).map(|_| Ok(())),
                    found => Ok(Err(absent(&id, &found))),
                });
                reply(removed.unwrap_or_else(|error| Err(unreadable(&error))));
            }),
        }
    }

    fn status(&mut self, reply: Reply<Status>) {
        let orders = Tallies {
            live: self.members.len() as u64,
            runs: self.runs.len() as u64,
            ..self.tallies
        };
        let (engine, rights) = (self.engine.counters(), self.engine.rights());
        self.keeper.ask(move |archive| {
            reply(Status {
                orders,
                engine,
                rights,
                archive: archive.status(),
            });
        });
    }

    /// Ends what runs, and waits until the disk has it.
    fn end(mut self, inbox: &Receiver<Message>) {
        let problem = "mtr-prober was ended while this was measured; what there was is kept, and it is never run again: ask for a new one";
        let ids: Vec<Uuid> = self.members.keys().copied().collect();
        for id in ids {
            match self.members.get(&id).map(|member| &member.stage) {
                Some(Stage::Resolving | Stage::Running { .. }) => {
                    self.stop(id, State::Interrupted, Some(problem));
                }
                _ => continue,
            }
        }
        let until = clock::now() + LAST_WRITES;
        while !self.members.is_empty() {
            match inbox.recv_timeout(until.since(clock::now())) {
                Ok(Message::Written(id, _)) => {
                    // What was accepted just now ends as interrupted at the next start.
                    self.members.remove(&id);
                }
                Ok(_) => {}
                Err(_) => {
                    log::error!("{} reports are not on the disk", self.members.len());
                    return;
                }
            }
        }
    }
}
