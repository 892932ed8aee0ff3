use sqlx::{Row, query_with};

use super::super::{EXPLAIN, PLAN_COLUMN, SqlStore};
use super::{Conditions, List};
use crate::access::scope::{HostSet, Scope};
use crate::fleet::presence::Presence;
use crate::fleet::selector::Selector;
use crate::store::host::{AgentCondition, Direction, HostQuery, HostSort, SortKey};

/// How the database would go through a list, step by step.
pub(in crate::store) async fn plan(store: &SqlStore, query: &HostQuery) -> String {
    let conditions = Conditions::prepare(store, query).await;
    let conditions = conditions.expect("conditions");
    let list = List {
        store,
        query,
        conditions: &conditions,
        clues: conditions.clues(),
    };
    let mut sql = list.walked(&conditions.walk(), None);
    sql.push(" LIMIT ").push_bind(query.limit.probe());
    let text = format!("{}{}", EXPLAIN, sql.sql().as_str());
    let arguments = sqlx::Execute::take_arguments(&mut sql.build());
    let arguments = arguments.expect("arguments").expect("arguments");
    let rows = query_with(sqlx::AssertSqlSafe(text), arguments)
        .fetch_all(&store.readers)
        .await
        .expect("a plan");
    let lines = rows.iter().map(|row| row.get::<String, _>(PLAN_COLUMN));
    lines.collect::<Vec<_>>().join("\n")
}

/// The group of one of these.
pub(in crate::store) const GROUP: &str =
    "INSERT INTO host_group VALUES ('g', 'g', '', 'svc=ecs', 1, 1)";

/// One of each filter, alone and with a state, in each order.
pub(in crate::store) fn every_query() -> Vec<HostQuery> {
    let text = |text: &str| Some(text.to_owned());
    let all = HostQuery::default;
    let agent = AgentCondition {
        name: text("a"),
        version: text("1"),
        state: text("fatal"),
    };
    let scope = HostSet::tags("svc=ecs").map(|set| Scope::of([set]));
    let scope = scope.expect("a set").expect("a scope");
    let selector = Selector::parse("svc=ecs,!old").expect("a selector");
    let filters = [
        all(),
        HostQuery { selector, ..all() },
        HostQuery { scope, ..all() },
        HostQuery {
            group: text("g"),
            ..all()
        },
        HostQuery {
            hostname: text("h"),
            ..all()
        },
        HostQuery {
            search: text("web"),
            ..all()
        },
        HostQuery {
            ip: text("10.0.0.1"),
            ..all()
        },
        HostQuery {
            os: text("debian 12"),
            ..all()
        },
        HostQuery {
            arch: text("x86_64"),
            ..all()
        },
        HostQuery {
            version: text("v"),
            ..all()
        },
        HostQuery { agent, ..all() },
    ];
    let mut queries = Vec::new();
    for filter in filters {
        for state in [None, Some(Presence::Online), Some(Presence::Offline)] {
            for key in [SortKey::Hostname, SortKey::Created, SortKey::Since] {
                for direction in [Direction::Up, Direction::Down] {
                    queries.push(HostQuery {
                        state,
                        sort: HostSort { key, direction },
                        ..filter.clone()
                    });
                }
            }
        }
    }
    queries
}
