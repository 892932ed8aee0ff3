//! Which files go when the archive is too large or too old.
//!
//! The one rule: what the platform has goes before what it does not have.

use bootagent_kit::date::Date;

/// A file that could go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) day: Date,
    pub(super) bytes: u64,
    /// Reports in it that were not uploaded.
    pub(super) pending: u64,
}

/// The indices of what goes, of files in their order. What is older than `oldest` goes in any case;
/// then, until `bytes` are at most `max`, uploaded ones, oldest first, then the others.
pub(super) fn surplus(held: &[Held], bytes: u64, max: u64, oldest: Date) -> Vec<usize> {
    let mut left = bytes;
    let mut gone: Vec<usize> = (0..held.len())
        .filter(|&it| held[it].day < oldest)
        .collect();
    left = gone
        .iter()
        .fold(left, |left, &it| left.saturating_sub(held[it].bytes));
    for uploaded in [true, false] {
        for (index, it) in held.iter().enumerate() {
            if left > max && (it.pending == 0) == uploaded && !gone.contains(&index) {
                left = left.saturating_sub(it.bytes);
                gone.push(index);
            }
        }
    }
    gone.sort_unstable();
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(day: i64, pending: u64) -> Held {
        Held {
            day: Date::of_unix(day * 86_400),
            bytes: 10,
            pending,
        }
    }

    #[test]
    fn uploaded_ones_go_first_then_the_oldest() {
        let files = [held(1, 2), held(2, 0), held(3, 1), held(4, 0), held(5, 1)];
        let never = Date::of_unix(0);
        for (max, gone) in [
            (50, vec![]),
            (49, vec![1]),
            (35, vec![1, 3]),
            (25, vec![0, 1, 3]),
            (0, vec![0, 1, 2, 3, 4]),
        ] {
            assert_eq!(surplus(&files, 50, max, never), gone, "at most {max}");
        }
    }

    #[test]
    fn what_is_too_old_goes_whatever_room_there_is() {
        let files = [held(1, 2), held(2, 0), held(3, 1)];
        assert_eq!(surplus(&files, 30, 100, Date::of_unix(3 * 86_400)), [0, 1]);
    }
}
