//! The promises.

mod enrolment;
mod hosts;
mod jobs;
mod leases;
mod packages;
mod statuses;

use bootserver::store::Store;
use bootserver::store::event::EventQuery;
use bootserver::store::page::Limit;
use bootserver::store::status::StatusOutcome;

pub(crate) use enrolment::*;
pub(crate) use hosts::*;
pub(crate) use jobs::*;
pub(crate) use leases::*;
pub(crate) use packages::*;
pub(crate) use statuses::*;

fn limit(rows: u32) -> Limit {
    Limit::new(rows).expect("an allowed limit")
}

fn ids(outcome: &StatusOutcome) -> Vec<&str> {
    outcome.jobs.iter().map(|(id, _)| id.as_str()).collect()
}

async fn event_count(store: &dyn Store) -> usize {
    store
        .events(&EventQuery::default())
        .await
        .expect("a list")
        .items
        .len()
}
