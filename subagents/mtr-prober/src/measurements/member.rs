//! One ordered measurement: what its report is so far.

use uuid::Uuid;

use super::Reply;
use crate::clock;
use crate::config::Config;
use crate::engine::{Engine, Handle, Results};
use crate::moment::Moment;
use crate::order::Order;
use crate::problem::Problem;
use crate::report::{Report, State};
use crate::socket::{RouteError, Source};

/// Whoever waits for its end.
pub(super) type Waiter = Reply<Result<Box<Report>, Problem>>;

/// An ordered measurement.
pub(super) struct Member {
    pub(super) order: Order,
    pub(super) source: Source,
    /// What is known; the results only once it ended.
    pub(super) report: Report,
    pub(super) accepted: Moment,
    pub(super) stage: Stage,
    /// Until when who waits.
    pub(super) waiters: Vec<(Moment, Waiter)>,
}

/// How far it is.
pub(super) enum Stage {
    /// On its way to the disk; then its caller is told.
    Accepting(Reply<Result<Uuid, Problem>>),
    /// Its name is looked up.
    Resolving,
    /// In a run of the engine's, until that has had so many rounds; when that should be so.
    Running {
        handle: Handle,
        until: u32,
        due: Moment,
    },
    /// Over, and on its way to the disk.
    Ending,
}

impl Member {
    pub(super) fn new(order: Order, config: &Config) -> Result<Self, RouteError> {
        let (report, source) = order.report(config)?;
        Ok(Self {
            order,
            source,
            report,
            accepted: clock::now(),
            stage: Stage::Resolving,
            waiters: Vec::new(),
        })
    }

    /// Its report as it is now.
    pub(super) fn report_now(&self, engine: &Engine) -> Report {
        let mut report = self.report.clone();
        if let Stage::Running { handle, .. } = self.stage
            && let Some(results) = engine.results(handle)
        {
            take_in(&mut report, &results);
        }
        report
    }

    /// Takes the results in; it is over.
    pub(super) fn finish(&mut self, state: State, results: &Results, problem: Option<String>) {
        take_in(&mut self.report, results);
        self.report.state = state;
        self.report.ended_at = Some(clock::instant());
        self.report.problem = problem;
        self.stage = Stage::Ending;
    }
}

fn take_in(report: &mut Report, results: &Results) {
    report.started_at = results.part.as_ref().map(|part| part.started_at);
    report.parts = results.part.iter().cloned().collect();
    report.timeline.clone_from(&results.timeline);
    report.faults.clone_from(&results.faults);
}
