//! What operators say to an assignment that is there, and its end.

use serde_json::json;
use sqlx::QueryBuilder;

use super::assignment::{brief, end, hold, stored};
use super::audit::{Deed, note};
use super::member::push_list;
use super::rollout::write_stand;
use super::{Db, SqlStore, Write, failed};
use crate::fleet::rollout::follow::is_retried;
use crate::fleet::rollout::stand::{Command, Pause, Phase};
use crate::fleet::rollout::target::TargetState;
use crate::store::Result;
use crate::store::assignment::{
    AssignmentDeleted, AssignmentOrder, AssignmentRow, AssignmentStored,
};
use crate::store::audit::By;
use crate::store::change::Topic;

pub(super) async fn order(
    store: &SqlStore,
    id: &str,
    order: &AssignmentOrder,
    revision: Option<i64>,
    by: &By,
) -> Result<AssignmentStored> {
    let step = "telling an assignment what to do";
    let mut tx = store.write(step).await?;
    let known = match hold(&mut tx, id, revision).await? {
        Ok(known) => known,
        Err(refused) => return Ok(refused),
    };
    let rollout = &known.rollout;
    let is_limited = matches!(
        rollout.stand.phase,
        Phase::Paused(Pause::FailCount | Pause::FailRate)
    );
    let (action, command) = match order {
        AssignmentOrder::Confirm { by } => {
            let author = &rollout.author;
            ("assignment.confirm", Some(Command::Confirm { author, by }))
        }
        AssignmentOrder::Pause => ("assignment.pause", Some(Command::Pause)),
        AssignmentOrder::Resume => ("assignment.resume", Some(Command::Resume)),
        AssignmentOrder::Retry => {
            forget_attempts(&mut tx, &known).await?;
            ("assignment.retry", is_limited.then_some(Command::Resume))
        }
    };
    let mut next = rollout.stand.clone();
    if let Some(command) = command {
        next = match rollout.stand.take(&rollout.plan, command) {
            Ok(next) => next,
            Err(refusal) => return Ok(AssignmentStored::Refused(refusal)),
        };
        if command == Command::Resume {
            sqlx::query("DELETE FROM rollout_recent WHERE rollout = $1")
                .bind(rollout.number)
                .execute(&mut *tx)
                .await
                .map_err(failed(step))?;
        }
        write_stand(&mut tx, rollout, &next, by.at).await?;
    }
    let deed = Deed {
        action,
        target: id,
        detail: json!({ "before": rollout.stand.phase, "after": next.phase }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    stored(store, id).await
}

/// Whoever was tried is looked at again as if for the first time.
async fn forget_attempts(tx: &mut Write, known: &AssignmentRow) -> Result<()> {
    let step = "forgetting how often hosts were tried";
    let plan = &known.rollout.plan;
    let states = TargetState::ALL.into_iter().filter(|state| {
        let is_other = matches!(
            state,
            TargetState::Succeeded | TargetState::Cancelled | TargetState::Expired
        );
        is_other || is_retried(plan, *state)
    });
    let states: Vec<String> = states.map(|state| state.word().to_owned()).collect();
    let mut sql: QueryBuilder<Db> = QueryBuilder::new(
        "UPDATE rollout_target SET attempts = 0 WHERE attempts > 0 AND rollout = ",
    );
    sql.push_bind(known.rollout.number).push(" AND state");
    push_list(&mut sql, &states);
    sql.build().execute(&mut **tx).await.map_err(failed(step))?;
    sqlx::query("UPDATE assignment SET sweep = NULL, sweep_due = 0 WHERE id = $1")
        .bind(&known.id)
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    Ok(())
}

pub(super) async fn delete(
    store: &SqlStore,
    id: &str,
    revision: Option<i64>,
    by: &By,
) -> Result<AssignmentDeleted> {
    let step = "deleting an assignment";
    let mut tx = store.write(step).await?;
    let known = match hold(&mut tx, id, revision).await? {
        Ok(known) => known,
        Err(AssignmentStored::Stale) => return Ok(AssignmentDeleted::Stale),
        Err(_) => return Ok(AssignmentDeleted::Unknown),
    };
    end(&mut tx, &known, by.at).await?;
    sqlx::query("DELETE FROM assignment WHERE id = $1")
        .bind(id)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    let deed = Deed {
        action: "assignment.delete",
        target: id,
        detail: json!({ "before": brief(&known) }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Assignment, "deleted", [id]);
    tx.commit().await.map_err(failed(step))?;
    Ok(AssignmentDeleted::Done)
}
