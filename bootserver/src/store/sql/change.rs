//! Who may hear of a change: of the things it names, those in a scope.

use sqlx::QueryBuilder;

use super::member::push_list;
use super::scope::bounds_of;
use super::{Db, SqlStore, failed, rollout};
use crate::access::scope::Scope;
use crate::store::Result;
use crate::store::change::Topic;

/// Of these things, those in the scope as it is now. Packages are everybody's,
/// groups and assignments belong to who may see every host.
pub(super) async fn visible(
    store: &SqlStore,
    topic: Topic,
    ids: &[String],
    scope: &Scope,
) -> Result<Vec<String>> {
    let (select, agentsn) = match topic {
        Topic::Package => return Ok(ids.to_vec()),
        _ if scope.is_fleet() => return Ok(ids.to_vec()),
        Topic::Group | Topic::Assignment => return Ok(Vec::new()),
        Topic::Rollout => return rollouts(store, ids, scope).await,
        Topic::Host => (
            "SELECT host.agentsn FROM host WHERE host.agentsn IN (",
            "host.agentsn",
        ),
        Topic::Job => ("SELECT job.id FROM job WHERE job.id IN (", "job.agentsn"),
        Topic::Event => (
            "SELECT CAST(event.id AS TEXT) FROM event WHERE event.id IN (",
            "event.agentsn",
        ),
    };
    let mut sql: QueryBuilder<Db> = QueryBuilder::new(select);
    let mut list = sql.separated(", ");
    for id in ids {
        match topic {
            Topic::Event => list.push_bind(id.parse::<i64>().unwrap_or_default()),
            _ => list.push_bind(id.as_str()),
        };
    }
    sql.push(")");
    bounds_of(store, scope).await?.restrict(&mut sql, agentsn);
    sql.build_query_scalar()
        .fetch_all(&store.readers)
        .await
        .map_err(failed("looking who may hear of a change"))
}

/// Those that were ordered within the same bounds.
async fn rollouts(store: &SqlStore, ids: &[String], scope: &Scope) -> Result<Vec<String>> {
    let mut sql: QueryBuilder<Db> = QueryBuilder::new("SELECT id FROM rollout WHERE id");
    push_list(&mut sql, ids);
    rollout::restrict(&mut sql, scope);
    sql.build_query_scalar()
        .fetch_all(&store.readers)
        .await
        .map_err(failed("looking who may hear of a rollout"))
}
