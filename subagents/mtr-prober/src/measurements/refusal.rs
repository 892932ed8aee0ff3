//! What a caller is told when there is no report for him.
//!
//! The one rule: each says what to do.

use uuid::Uuid;

use crate::archive::{ArchiveError, Lookup};
use crate::problem::Problem;
use crate::socket::RouteError;

pub(super) fn route_problem(error: RouteError) -> String {
    format!("{:#}; look at `ip route get`", anyhow::Error::from(error))
}

pub(super) fn nobody(id: &Uuid) -> Problem {
    Problem::new(404, "Unknown", format!("there is no measurement {id}"))
}

pub(super) fn absent(id: &Uuid, found: &Lookup) -> Problem {
    match found {
        Lookup::Gone => {
            let detail = format!("the report of {id} was removed or is too old; order a new one");
            Problem::new(410, "Gone", detail)
        }
        Lookup::Damaged => {
            let detail = format!(
                "the disk has damaged the report of {id}; order a new one, and look at the disk"
            );
            Problem::new(500, "Damaged", detail)
        }
        Lookup::Report(_) | Lookup::Open | Lookup::Unknown => nobody(id),
    }
}

pub(super) fn unreadable(error: &ArchiveError) -> Problem {
    Problem::new(
        500,
        "Archive unreadable",
        format!("{error:#}; look at the disk and at the log"),
    )
}
