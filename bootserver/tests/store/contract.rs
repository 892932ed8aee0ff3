//! The promises.

mod assignments;
mod bulk;
mod changes;
mod enrolment;
mod follow;
mod groups;
mod hosts;
mod idempotency;
mod identity;
mod jobs;
mod leases;
mod lists;
mod newer;
mod operators;
mod packages;
mod packs;
mod presence;
mod rollouts;
mod scopes;
mod statuses;

use bootserver::store::Store;
use bootserver::store::event::EventQuery;
use bootserver::store::page::Limit;
use bootserver::store::status::{StatusOutcome, Stored};

pub(crate) use assignments::*;
pub(crate) use bulk::*;
pub(crate) use changes::*;
pub(crate) use enrolment::*;
pub(crate) use follow::*;
pub(crate) use groups::*;
pub(crate) use hosts::*;
pub(crate) use idempotency::*;
pub(crate) use identity::*;
pub(crate) use jobs::*;
pub(crate) use leases::*;
pub(crate) use lists::*;
pub(crate) use newer::*;
pub(crate) use operators::*;
pub(crate) use packages::*;
pub(crate) use packs::*;
pub(crate) use presence::*;
pub(crate) use rollouts::*;
pub(crate) use scopes::*;
pub(crate) use statuses::*;

fn limit(rows: u32) -> Limit {
    Limit::new(rows).expect("an allowed limit")
}

/// What a status that was stored means for its host.
fn stored(outcome: &StatusOutcome) -> &Stored {
    match outcome {
        StatusOutcome::Stored(stored) => stored,
        StatusOutcome::SecretChanged => panic!("its secret does not hold"),
    }
}

fn ids(outcome: &StatusOutcome) -> Vec<&str> {
    stored(outcome)
        .jobs
        .iter()
        .map(|(id, _)| id.as_str())
        .collect()
}

async fn event_count(store: &dyn Store) -> usize {
    store
        .events(&EventQuery::default())
        .await
        .expect("a list")
        .items
        .len()
}
