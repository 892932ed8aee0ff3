//! A scope as it is on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::scope::{HostSet, Scope};
use crate::problem::Problem;

/// A set of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = HostSet)]
pub enum HostSetView {
    /// Those with all of these tags.
    #[schema(example = "svc=ecs,cmpt=DB")]
    Tags(String),
}

/// The sets of a scope.
pub fn view(scope: &Scope) -> Vec<HostSetView> {
    let sets = scope.sets().iter();
    sets.map(|set| match set {
        HostSet::Tags(tags) => HostSetView::Tags(tags.to_string()),
    })
    .collect()
}

/// The scope somebody asks for.
pub fn scope(sets: &[HostSetView]) -> Result<Scope, Problem> {
    let sets: Result<Vec<_>, _> = sets
        .iter()
        .map(|HostSetView::Tags(selector)| HostSet::tags(selector))
        .collect();
    sets.and_then(Scope::of)
        .map_err(|error| Problem::invalid(&format!("scope: {error}")))
}
