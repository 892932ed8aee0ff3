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
    /// Those in the group of this id, by name, by selector or in a group within it.
    Group(String),
}

/// The sets of a scope.
pub fn view(scope: &Scope) -> Vec<HostSetView> {
    let sets = scope.sets().iter();
    sets.map(|set| match set {
        HostSet::Tags(tags) => HostSetView::Tags(tags.to_string()),
        HostSet::Group(id) => HostSetView::Group(id.clone()),
    })
    .collect()
}

/// The scope somebody asks for.
pub fn scope(sets: &[HostSetView]) -> Result<Scope, Problem> {
    let sets = sets.iter().map(|set| match set {
        HostSetView::Tags(selector) => HostSet::tags(selector),
        HostSetView::Group(id) => HostSet::group(id),
    });
    let sets: Result<Vec<_>, _> = sets.collect();
    sets.and_then(Scope::of)
        .map_err(|error| Problem::invalid(&format!("scope: {error}")))
}

/// 422: a scope names groups that do not exist.
pub fn unknown_groups(ids: Vec<String>) -> Problem {
    Problem::invalid_list("scope: some of the groups do not exist", ids)
}
