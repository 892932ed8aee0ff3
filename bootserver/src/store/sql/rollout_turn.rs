//! A turn of a rollout: what it heard, what is decided, and what is done about it,
//! in one short transaction under the lease. A rollout takes turns until there is
//! nothing to do.
//!
//! The one rule: a turn that is cut off did nothing, and the next one decides the
//! same from what is stored.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::Row;

use super::lease::holds;
use super::newer::unknown_migration;
use super::rollout::{self, count, count_frozen, counts_in, tell, write_stand};
use super::rollout_move::{self, Moved, take_back};
use super::{
    SqlStore, Write, assignment_sweep, assignment_turn, failed, from_json, orders_come,
    rollout_hand_out, rollout_news, rollout_pack, rollout_set, to_json,
};
use crate::access::scope::Scope;
use crate::fleet::rollout::stand::{Command, Phase, Stand};
use crate::fleet::rollout::standing;
use crate::fleet::rollout::step::{Patience, Recall, Step, Waiting, step as decide};
use crate::fleet::rollout::tally::Counts;
use crate::fleet::rollout::target::{News, TargetState};
use crate::store::Result;
use crate::store::assignment::AssignmentRow;
use crate::store::lease::{Held, Lease};
use crate::store::rollout::{RolloutRow, TargetSet, Turned};
use crate::store::{Failure, StoreError};

/// Targets of one kind that a turn moves: statuses wait for it.
pub(super) const AT_ONCE: i64 = 250;

/// Rollouts that have something to do: at work, or with news.
pub(super) async fn due(store: &SqlStore) -> Result<Vec<i64>> {
    sqlx::query_scalar(
        // One of an assignment mostly waits for hosts to come.
        concat!(
            "SELECT number FROM rollout WHERE ended IS NULL AND (
                 assignment IS NULL OR phase = 'stopping'
                 OR EXISTS (SELECT 1 FROM assignment WHERE assignment.rollout = rollout.number
                                AND assignment.sweep_due <= ",
            database_now!(),
            ")   OR EXISTS (SELECT 1 FROM rollout_target AS target
                            WHERE target.rollout = rollout.number
                                AND target.state IN ('waiting', 'ordered', 'running')))
             UNION SELECT rollout FROM rollout_news ORDER BY 1"
        ),
    )
    .fetch_all(&store.readers)
    .await
    .map_err(failed("looking which rollouts are at work"))
}

/// A rollout in a turn.
pub(super) struct Turn<'a> {
    pub(super) tx: &'a mut Write,
    pub(super) rollout: &'a RolloutRow,
    /// The assignment it is for, while it is.
    pub(super) assignment: Option<&'a AssignmentRow>,
    pub(super) stage_ends: Vec<u64>,
    pub(super) counts: Counts,
    /// What ended, and what that corrected.
    pub(super) ends: BTreeMap<TargetState, i64>,
    changes: BTreeMap<(usize, TargetState), i64>,
    moved: usize,
    /// Of them, those that were ordered.
    pub(super) ordered: usize,
}

pub(super) async fn turn(
    store: &SqlStore,
    lease: &Lease,
    number: i64,
    now: i64,
) -> Result<Held<Turned>> {
    let step = "going on with a rollout";
    let part = next_part(store, number).await?;
    let assigned = assignment_sweep::look(store, number, now).await?;
    let mut tx = store.write(step).await?;
    orders_come(&mut tx).await?;
    if !holds(&mut tx, lease).await? {
        return Ok(Held::Lost);
    }
    // One that comes from now on has no turn before the end of this one, which has the lease.
    if unknown_migration(&mut *tx).await?.is_some() {
        return Ok(Held::Lost);
    }
    let row = sqlx::query(concat!(
        "SELECT * FROM rollout WHERE number = $1",
        for_update!()
    ))
    .bind(number)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    let Some(row) = row else {
        rollout_news::forget(&mut tx, number).await?;
        tx.commit().await.map_err(failed(step))?;
        return Ok(Held::Done(Turned::default()));
    };
    let rollout = rollout::read(&row)?;
    let turned = match (rollout.stand.phase, part) {
        (Phase::Freezing, Some((frozen_to, part))) => {
            let known: String = row.try_get("frozen_to").map_err(failed(step))?;
            match known == frozen_to {
                true => freeze(&mut tx, &rollout, &part, now).await?,
                // Somebody else was here since this part was looked for.
                false => Turned {
                    is_more: true,
                    ..Turned::default()
                },
            }
        }
        (Phase::Freezing, None) => Turned::default(),
        _ => {
            let goods: String = row.try_get("goods").map_err(failed(step))?;
            let looked: i64 = row.try_get("looked").map_err(failed(step))?;
            match &rollout.assignment {
                None => go_on(&mut tx, &rollout, &goods, looked, now).await?,
                Some(_) => {
                    assignment_turn::go_on(&mut tx, &rollout, assigned, &goods, looked, now).await?
                }
            }
        }
    };
    tx.commit().await.map_err(failed(step))?;
    Ok(Held::Done(turned))
}

/// The targets that are written down next, of one that is about that. They are
/// looked for before the transaction, which statuses wait for.
async fn next_part(store: &SqlStore, number: i64) -> Result<Option<(String, rollout_set::Part)>> {
    let step = "looking which hosts a rollout means";
    let row: Option<(String, String, String)> = sqlx::query_as(
        "SELECT target_set, scope, frozen_to FROM rollout WHERE number = $1 AND phase = $2",
    )
    .bind(number)
    .bind(Phase::Freezing.word())
    .fetch_optional(&store.readers)
    .await
    .map_err(failed(step))?;
    let Some((set, scope, frozen_to)) = row else {
        return Ok(None);
    };
    let set: TargetSet = from_json(step, &set)?;
    let scope: Vec<String> = from_json(step, &scope)?;
    let scope = Scope::from_texts(&scope).map_err(|error| StoreError {
        step,
        failure: Failure::Rejected,
        source: Box::new(error),
    })?;
    let part = rollout_set::part(store, &set, &scope, &frozen_to).await?;
    Ok(Some((frozen_to, part)))
}

/// Writes some more targets down; after the last ones the rollout begins.
async fn freeze(
    tx: &mut Write,
    rollout: &RolloutRow,
    part: &rollout_set::Part,
    now: i64,
) -> Result<Turned> {
    let frozen = match rollout_pack::pack(tx, rollout, &part.hosts).await? {
        true => part.hosts.len(),
        false => write_down(tx, rollout, &part.hosts).await?,
    };
    let mut rollout = rollout.clone();
    rollout.targets += i64::try_from(frozen).unwrap_or_default();
    sqlx::query("UPDATE rollout SET targets = $2, frozen_to = $3 WHERE number = $1")
        .bind(rollout.number)
        .bind(rollout.targets)
        .bind(&part.frozen_to)
        .execute(&mut **tx)
        .await
        .map_err(failed("writing down the targets of a rollout"))?;
    if part.is_last {
        count_frozen(tx, &rollout).await?;
        if let Ok(next) = rollout.stand.take(&rollout.plan, Command::Frozen) {
            write_stand(tx, &rollout, &next, now).await?;
        }
    }
    Ok(Turned {
        frozen,
        is_more: true,
        ..Turned::default()
    })
}

/// Writes targets down one by one: those that are in no order. Returns how many.
async fn write_down(
    tx: &mut Write,
    rollout: &RolloutRow,
    hosts: &[(String, Option<String>)],
) -> Result<usize> {
    let step = "writing down the targets of a rollout";
    let agentsns: Vec<&String> = hosts.iter().map(|(agentsn, _)| agentsn).collect();
    // Hosts may have left since they were looked for; from here on it is heard.
    let gone: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT host.agentsn FROM ",
        given_texts!("$1"),
        " JOIN host ON host.agentsn = given.value WHERE host.state IN ('revoked', 'deleted')"
    ))
    .bind(to_json(&agentsns))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(step))?;
    let there = hosts.iter().filter(|(agentsn, _)| !gone.contains(agentsn));
    let targets: Vec<_> = (rollout.targets..)
        .zip(there)
        .map(|(place, (agentsn, version))| json!([place, agentsn, version]))
        .collect();
    sqlx::query(concat!(
        "INSERT INTO rollout_target (rollout, place, agentsn, state, version)
         SELECT $2, CAST(given.value ->> 0 AS BIGINT), given.value ->> 1, $3, given.value ->> 2
         FROM ",
        given_rows!("$1")
    ))
    .bind(to_json(&targets))
    .bind(rollout.number)
    .bind(TargetState::Waiting.word())
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    Ok(targets.len())
}

/// Hears what is new, decides, and does a part of it.
async fn go_on(
    tx: &mut Write,
    rollout: &RolloutRow,
    goods: &str,
    looked: i64,
    now: i64,
) -> Result<Turned> {
    let counts = counts_in(tx, rollout.number).await?;
    let mut turn = Turn::new(tx, rollout, None, counts);
    let mut is_more = rollout_news::hear(&mut turn, now).await?;
    let step = decide(&rollout.plan, &rollout.stand, &turn.counts, now);
    if step.patience == Patience::GiveUp {
        for from in [TargetState::Ordered, TargetState::Running] {
            is_more |= end(&mut turn, from, News::GivenUp, "given-up", now).await?;
        }
    }
    is_more |= turn.take(&step, goods, looked, now).await?;
    turn.done(&step.stand, is_more, now).await
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        tx: &'a mut Write,
        rollout: &'a RolloutRow,
        assignment: Option<&'a AssignmentRow>,
        counts: Counts,
    ) -> Self {
        let targets = u64::try_from(rollout.targets).unwrap_or_default();
        Self {
            tx,
            rollout,
            assignment,
            stage_ends: rollout.plan.stage_ends(targets),
            counts,
            ends: BTreeMap::new(),
            changes: BTreeMap::new(),
            moved: 0,
            ordered: 0,
        }
    }

    /// Does a part of what was decided. True if there is more of it.
    pub(super) async fn take(
        &mut self,
        step: &Step,
        goods: &str,
        looked: i64,
        now: i64,
    ) -> Result<bool> {
        let mut is_more = false;
        if step.recall == Recall::All {
            is_more |= recall(self, now).await?;
        }
        is_more |= match step.waiting {
            Waiting::Stay => false,
            Waiting::Skip => self.end_waiting(News::Passed, "stopped", now).await?,
            Waiting::Expire => self.end_waiting(News::Expired, "expired", now).await?,
        };
        if let Some(hand_out) = step.hand_out {
            is_more |= rollout_hand_out::hand_out(self, goods, looked, hand_out, now).await?;
        }
        Ok(is_more)
    }

    /// Counts what moved, and says how the rollout stands from now on.
    pub(super) async fn done(self, stand: &Stand, is_more: bool, now: i64) -> Result<Turned> {
        let (moved, ordered, rollout) = (self.moved, self.ordered, self.rollout);
        count(self.tx, rollout.number, &self.changes).await?;
        if moved > 0 {
            tell(self.tx, rollout, "moved");
        }
        write_stand(self.tx, rollout, stand, now).await?;
        Ok(Turned {
            frozen: 0,
            moved,
            ordered,
            // What moved may open a gate, or end it.
            is_more: is_more || (moved > 0 && rollout.stand.is_active()),
        })
    }

    /// Moves targets, and counts them where they are now. Of a job that is over the
    /// target keeps the id, and one that waits again has none.
    pub(super) async fn move_all(&mut self, moves: &[Moved]) -> Result<()> {
        if moves.is_empty() {
            return Ok(());
        }
        self.count_moves(moves);
        rollout_move::write(self.tx, self.rollout.number, moves).await
    }

    fn count_moves(&mut self, moves: &[Moved]) {
        for one in moves {
            let stage = stage_of(&self.stage_ends, one.place);
            *self.changes.entry((stage, one.from)).or_default() -= 1;
            *self.changes.entry((stage, one.to)).or_default() += 1;
            self.counts.shift(stage, one.from, one.to, 1);
            for (state, targets) in standing::ends(one.from, one.to) {
                *self.ends.entry(state).or_default() += targets;
            }
        }
        self.moved += moves.len();
    }

    /// Counts a target that was not there before.
    pub(super) fn count_new(&mut self, place: i64, state: TargetState) {
        let stage = stage_of(&self.stage_ends, place);
        *self.changes.entry((stage, state)).or_default() += 1;
        self.counts.add(stage, state, 1);
        self.moved += 1;
    }

    /// Ends some of those that wait. True if there may be more.
    async fn end_waiting(&mut self, news: News, reason: &'static str, now: i64) -> Result<bool> {
        let is_more = end(self, TargetState::Waiting, news, reason, now).await?;
        // Whoever waits still is packed then.
        Ok(is_more || rollout_pack::end(self, news, reason, now).await?)
    }

    /// All targets of a state go to another one together, written elsewhere.
    pub(super) fn count_all(&mut self, from: TargetState, to: TargetState) {
        for stage in 0..self.stage_ends.len() {
            let targets = self.counts.stage(stage).of(from);
            self.counts.shift(stage, from, to, targets);
            self.moved += usize::try_from(targets).unwrap_or(usize::MAX);
            let targets = i64::try_from(targets).unwrap_or(i64::MAX);
            *self.changes.entry((stage, from)).or_default() -= targets;
            *self.changes.entry((stage, to)).or_default() += targets;
        }
    }

    /// Takes targets from another rollout; its counts follow at once.
    pub(super) async fn take_over(&mut self, older: &RolloutRow, moves: &[Moved]) -> Result<()> {
        let targets = u64::try_from(older.targets).unwrap_or_default();
        let ends = older.plan.stage_ends(targets);
        let mut changes = BTreeMap::new();
        for one in moves {
            let stage = stage_of(&ends, one.place);
            *changes.entry((stage, one.from)).or_default() -= 1;
            *changes.entry((stage, one.to)).or_default() += 1;
        }
        rollout_move::write(self.tx, older.number, moves).await?;
        count(self.tx, older.number, &changes).await?;
        tell(self.tx, older, "moved");
        Ok(())
    }
}

/// The stage a place is in.
fn stage_of(stage_ends: &[u64], place: i64) -> usize {
    let place = u64::try_from(place).unwrap_or_default();
    stage_ends.partition_point(|end| *end <= place)
}

/// Takes some jobs back that were not sent. True if there may be more.
async fn recall(turn: &mut Turn<'_>, now: i64) -> Result<bool> {
    let rows: Vec<(i64, String)> = sqlx::query_as(concat!(
        "SELECT rollout_target.place, job.id FROM rollout_target",
        by_index!("rollout_target_by_state"),
        " JOIN job ON job.id = rollout_target.job
         WHERE job.sent IS NULL AND job.finished IS NULL AND ",
        in_state!("rollout_target", "$1", "$2", "-1", "$4"),
        " LIMIT $3"
    ))
    .bind(turn.rollout.number)
    .bind(TargetState::Ordered.word())
    .bind(AT_ONCE)
    .bind(i64::MAX)
    .fetch_all(&mut **turn.tx)
    .await
    .map_err(failed("looking which jobs can be taken back"))?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= AT_ONCE);
    let taken = take_back(turn.tx, rows.iter().map(|(_, job)| job)).await?;
    let back = rows.into_iter().filter(|(_, job)| taken.contains(job));
    let moves: Vec<Moved> = back
        .filter_map(|(place, _)| Moved::by(place, TargetState::Ordered, News::Recalled, now))
        .collect();
    turn.move_all(&moves).await?;
    Ok(is_full)
}

/// Ends some targets of a state. True if there may be more.
async fn end(
    turn: &mut Turn<'_>,
    from: TargetState,
    news: News,
    reason: &'static str,
    now: i64,
) -> Result<bool> {
    let rows: Vec<(i64, Option<String>)> = sqlx::query_as(concat!(
        "SELECT place, job FROM rollout_target",
        by_index!("rollout_target_by_state"),
        " WHERE ",
        in_state!("rollout_target", "$1", "$2", "-1", "$4"),
        " LIMIT $3"
    ))
    .bind(turn.rollout.number)
    .bind(from.word())
    .bind(AT_ONCE)
    .bind(i64::MAX)
    .fetch_all(&mut **turn.tx)
    .await
    .map_err(failed("looking which targets end"))?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= AT_ONCE);
    let moves: Vec<Moved> = rows
        .into_iter()
        .filter_map(|(place, job)| {
            let one = Moved::by(place, from, news, now)?;
            Some(Moved {
                job,
                reason: Some(reason),
                ..one
            })
        })
        .collect();
    turn.move_all(&moves).await?;
    Ok(is_full)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::store) use tests::{
    assert_costs_the_same, work_of_hearing, work_of_taking_back, work_of_turns,
};
