//! Whom an assignment would mean, and which assignments mean the hosts of a rollout.

use std::collections::BTreeMap;

use sqlx::QueryBuilder;

use super::assignment_sweep::{Which, claims, end_of_part, few, push_taken};
use super::member::{self, Within, push_groups};
use super::rollout_set::{Look, host_query};
use super::{HOST_BY_AGENTSN, SqlStore, assignment, failed, push_by_index};
use crate::access::scope::Scope;
use crate::fleet::rollout::stand::Phase;
use crate::store::Result;
use crate::store::assignment::{AssignmentQuery, AssignmentRow, Draft, FitCount, HostStand};
use crate::store::page::{Limit, MAX_LIMIT};
use crate::store::rollout::TargetSet;

const STEP: &str = "looking which hosts an assignment means";

/// How many hosts of a group there are of each kind. A large group is counted part by
/// part, each at its own instant: a reader is busy for milliseconds, and nobody's deadline
/// is for a million hosts at once.
pub(super) async fn count(store: &SqlStore, draft: &Draft) -> Result<Vec<FitCount>> {
    let mut reader = store.readers.acquire().await.map_err(failed(STEP))?;
    let within = member::within(&mut reader, &draft.group).await?;
    let claims = claims(&mut reader, &draft.agent, draft.priority, &draft.id).await?;
    drop(reader);
    let about = (draft, &within, claims.as_slice());
    let mut kinds = BTreeMap::new();
    let mut add = |found: Vec<Kind>| {
        for (os, arch, stand, hosts) in found {
            *kinds.entry((os, arch, stand)).or_insert(0) += hosts;
        }
    };
    if let Some(few) = few(store, &draft.group).await? {
        add(count_part(store, about, &Which::These(&few)).await?);
    } else {
        let mut after = String::new();
        loop {
            let to = end_of_part(store, &after).await?;
            let which = Which::Between(&after, to.as_deref());
            add(count_part(store, about, &which).await?);
            let Some(to) = to else { break };
            after = to;
        }
    }
    let kind = |((os, arch, stand), hosts): ((String, String, String), i64)| FitCount {
        os,
        arch,
        stand: match stand.as_str() {
            "taken" => HostStand::Taken,
            "right" => HostStand::Right,
            "unheard" => HostStand::Unheard,
            "busy" => HostStand::Busy,
            _ => HostStand::Target,
        },
        hosts,
    };
    Ok(kinds.into_iter().map(kind).collect())
}

/// System, architecture, how they stand, how many.
type Kind = (String, String, String, i64);

async fn count_part(
    store: &SqlStore,
    (draft, within, claims): (&Draft, &Within, &[Within]),
    which: &Which<'_>,
) -> Result<Vec<Kind>> {
    let mut sql = QueryBuilder::new(
        "SELECT os, arch, stand, count(*) FROM (SELECT host.os, host.arch, CASE WHEN ",
    );
    push_taken(&mut sql, claims);
    sql.push(" = 1 THEN 'taken' WHEN host_agent.version = ")
        .push_bind(draft.version.clone());
    sql.push(
        " THEN 'right' WHEN host.state = 'new' THEN 'unheard'
          WHEN EXISTS (SELECT 1 FROM rollout_target AS target
                       JOIN rollout ON rollout.number = target.rollout
                       WHERE target.agentsn = host.agentsn
                           AND target.state IN ('waiting', 'ordered', 'running')
                           AND rollout.ended IS NULL AND rollout.assignment IS NULL
                           AND rollout.agent = ",
    );
    sql.push_bind(draft.agent.clone());
    sql.push(concat!(
        ") OR EXISTS (SELECT 1 FROM rollout JOIN rollout_pack AS pack ON ",
        is_in_pack!("host.agentsn"),
        " WHERE rollout.ended IS NULL AND rollout.assignment IS NULL
              AND rollout.rest = 'waiting' AND rollout.agent = "
    ));
    sql.push_bind(draft.agent.clone());
    sql.push(
        ") THEN 'busy' ELSE 'target' END AS stand
         FROM host",
    );
    push_by_index(&mut sql, HOST_BY_AGENTSN);
    sql.push(
        " LEFT JOIN host_agent
             ON host_agent.agentsn = host.agentsn AND host_agent.name = ",
    );
    sql.push_bind(draft.agent.clone());
    sql.push(" WHERE host.state NOT IN ('revoked', 'deleted')");
    which.push(&mut sql);
    push_groups(&mut sql, within, "host.agentsn");
    sql.push(") AS member GROUP BY os, arch, stand");
    sql.build_query_as()
        .fetch_all(&store.readers)
        .await
        .map_err(failed(STEP))
}

/// The assignments at work that would put hosts of this set back.
pub(super) async fn against(
    store: &SqlStore,
    set: &TargetSet,
    scope: &Scope,
    agent: &str,
    version: Option<&str>,
) -> Result<Vec<AssignmentRow>> {
    let step = "looking which assignments mean the hosts of a rollout";
    let query = AssignmentQuery {
        agent: Some(agent.to_owned()),
        limit: Limit::new(MAX_LIMIT).unwrap_or_default(),
        ..AssignmentQuery::default()
    };
    let mut against = Vec::new();
    for one in assignment::list(store, &query).await?.items {
        let is_at_work = one.rollout.stand.phase == Phase::Running;
        if !is_at_work || Some(one.version.as_str()) == version {
            continue;
        }
        let within = member::within_of(store, &one.group).await?;
        let hosts = host_query(set, scope)?;
        let look = Look::prepare(store, set, &hosts).await?;
        let mut sql = QueryBuilder::new("SELECT host.agentsn");
        look.push(&mut sql);
        push_groups(&mut sql, &within, "host.agentsn");
        sql.push(" LIMIT 1");
        let found: Option<String> = sql
            .build_query_scalar()
            .fetch_optional(&store.readers)
            .await
            .map_err(failed(step))?;
        if found.is_some() {
            against.push(one);
        }
    }
    Ok(against)
}
