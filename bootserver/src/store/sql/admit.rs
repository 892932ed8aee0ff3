//! Which of a batch's statuses come from hosts whose secret is in force: one look
//! at the rows of all, which says what is odd about a few of them, and one write.

use std::collections::HashMap;

use super::{Write, hot};
use crate::fleet::presence::Presence;
use crate::store::Result;
use crate::store::batch::SeenRow;
use crate::store::status::{Odd, StatusRecord};

/// The hosts whose secret is the one in force, with what their rows say.
#[derive(Default)]
pub(super) struct Admitted<'a> {
    pub(super) hosts: HashMap<&'a str, Host>,
}

pub(super) struct Host {
    pub(super) number: i64,
    pub(super) every: u64,
    pub(super) seen: i64,
    pub(super) state: Option<Presence>,
    pub(super) rotate_due: Option<i64>,
    /// Whether it says something else than before.
    pub(super) changed: bool,
    pub(super) has_jobs: bool,
}

impl Admitted<'_> {
    pub(super) fn host(&self, agentsn: &str) -> Option<&Host> {
        self.hosts.get(agentsn)
    }

    pub(super) fn is_in(&self, record: &StatusRecord) -> bool {
        self.host(&record.agentsn)
            .is_some_and(|host| host.number == record.number)
    }
}

/// Notes when hosts were seen. Their rows are locked from then on, so that
/// nobody's secret is taken away while the rest is written. None if one was
/// changed in this moment.
pub(super) async fn admit<'a>(
    tx: &mut Write,
    rows: &[SeenRow<'a>],
    now: i64,
) -> Result<Option<Admitted<'a>>> {
    let odds = hot::look(tx, rows, now).await?;
    let mut found: Vec<Option<&Odd>> = vec![None; rows.len()];
    for odd in &odds {
        if let Some(place) = usize::try_from(odd.place)
            .ok()
            .and_then(|at| found.get_mut(at))
        {
            *place = Some(odd);
        }
    }
    let mut admitted = Admitted::default();
    for (row, odd) in rows.iter().zip(&found) {
        if odd.is_some_and(|odd| odd.number != Some(row.number)) {
            continue;
        }
        let state = odd.and_then(|odd| odd.state.as_deref());
        let host = Host {
            number: row.number,
            every: u64::try_from(row.every).unwrap_or_default(),
            seen: row.seen,
            state: state.map_or(Some(Presence::Online), Presence::parse),
            rotate_due: odd.and_then(|odd| odd.rotate_due),
            changed: odd.is_some_and(|odd| odd.digest.as_deref() != Some(row.digest)),
            has_jobs: odd.is_some_and(|odd| odd.has_jobs),
        };
        admitted.hosts.insert(row.agentsn, host);
    }
    let is_whole = match admitted.hosts.len() == rows.len() {
        true => hot::touch(tx, rows, &odds).await?,
        false => {
            let (rows, odds) = only(&admitted, rows, &found);
            rows.is_empty() || hot::touch(tx, &rows, &odds).await?
        }
    };
    Ok(is_whole.then_some(admitted))
}

/// The rows of those that are admitted, and what is odd about them.
fn only<'a>(
    admitted: &Admitted<'_>,
    rows: &[SeenRow<'a>],
    found: &[Option<&Odd>],
) -> (Vec<SeenRow<'a>>, Vec<Odd>) {
    let mut kept = Vec::new();
    let mut odds = Vec::new();
    for (row, odd) in rows.iter().zip(found) {
        if admitted.host(row.agentsn).is_none() {
            continue;
        }
        if let Some(odd) = odd {
            let place = i64::try_from(kept.len()).unwrap_or(i64::MAX);
            odds.push(Odd {
                place,
                ..(*odd).clone()
            });
        }
        kept.push(row.clone());
    }
    (kept, odds)
}
