//! Looking through the archive, beside what writes it.
//!
//! The one rule: what is dropped meanwhile is not found, and nothing else fails because of it.

use super::ArchiveError;
use super::query::{Newest, Page, Query};
use super::segment::Segment;
use super::summary::Summary;

/// What was in the archive at one moment.
#[derive(Debug)]
pub struct Reader {
    pub(super) segments: Vec<Segment>,
    /// Of the file that is written to, and of what waits for room.
    pub(super) newest: Vec<Summary>,
}

impl Reader {
    /// The reports that match, newest first.
    pub fn query(self, query: &Query) -> Result<Page, ArchiveError> {
        let mut newest = Newest::new(query.limit);
        let (from, to) = query.ids();
        let matching = self.newest.into_iter().filter(|it| query.matches(it));
        matching.for_each(|it| newest.show(it));
        for segment in self.segments.iter().rev() {
            let (first, last) = segment.ids;
            if last < from || first >= to || !newest.may_take(last) {
                continue;
            }
            let entries = match segment.entries() {
                Err(error) if error.is_not_found() => continue,
                entries => entries?,
            };
            let removed = segment.marks()?.removed;
            let summaries = entries.into_iter().map(|it| it.summary);
            let matching = summaries.filter(|it| query.matches(it) && !removed.contains(&it.id));
            matching.for_each(|it| newest.show(it));
        }
        Ok(newest.page())
    }
}
