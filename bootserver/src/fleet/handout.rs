//! Which of a host's open jobs go into one status reply.

/// Most jobs in one reply: a host does them one after the other anyway.
pub const MAX_JOBS: usize = 32;
/// Most bytes of jobs in one reply; the host takes
/// [`bootagent_protocol::MAX_REPLY_BYTES`].
const MAX_BYTES: usize = bootagent_protocol::MAX_REPLY_BYTES / 2;

/// What one reply carries.
#[derive(Debug, PartialEq, Eq)]
pub struct Handout<T> {
    /// Jobs in the order they were given.
    pub jobs: Vec<T>,
    /// Whether more wait that did not fit.
    pub more: More,
}

/// Whether open jobs were left out of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// All are in.
    None,
    /// Some wait for the next status.
    Waiting,
}

/// Picks from `open`, which is in order. A job stays in every reply until its
/// result comes or the host says that it has it (`accepted`): a reply may be
/// lost, and a host that lost its disk must be told again.
pub fn hand_out<T>(
    open: Vec<T>,
    accepted: &[String],
    id: impl Fn(&T) -> &str,
    bytes: impl Fn(&T) -> usize,
) -> Handout<T> {
    let mut handout = Handout {
        jobs: Vec::new(),
        more: More::None,
    };
    let mut total = 0;
    for job in open {
        if accepted.iter().any(|accepted| accepted == id(&job)) {
            continue;
        }
        total += bytes(&job);
        // The first always fits: a job is far smaller than a reply.
        let full =
            handout.jobs.len() == MAX_JOBS || (total > MAX_BYTES && !handout.jobs.is_empty());
        if full {
            handout.more = More::Waiting;
            break;
        }
        handout.jobs.push(job);
    }
    handout
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(open: &[(&str, usize)], accepted: &[&str]) -> (Vec<String>, More) {
        let open = open
            .iter()
            .map(|(id, size)| ((*id).to_owned(), *size))
            .collect();
        let accepted: Vec<_> = accepted.iter().map(|id| (*id).to_owned()).collect();
        let handout = hand_out(open, &accepted, |(id, _)| id, |(_, size)| *size);
        (
            handout.jobs.into_iter().map(|(id, _)| id).collect(),
            handout.more,
        )
    }

    #[test]
    fn open_jobs_go_out_in_order_without_those_the_host_has() {
        assert_eq!(
            check(&[("1", 9), ("2", 9), ("3", 9)], &["2"]),
            (vec!["1".to_owned(), "3".to_owned()], More::None)
        );
    }

    #[test]
    fn what_does_not_fit_waits_but_the_first_always_goes() {
        let (ids, more) = check(&[("1", MAX_BYTES + 1), ("2", 1)], &[]);
        assert_eq!((ids, more), (vec!["1".to_owned()], More::Waiting));
        let names: Vec<_> = (0..40).map(|n| n.to_string()).collect();
        let open: Vec<_> = names.iter().map(|id| (id.as_str(), 1)).collect();
        let (ids, more) = check(&open, &[]);
        assert_eq!((ids.len(), more), (MAX_JOBS, More::Waiting));
    }
}
