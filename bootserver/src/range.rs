//! Which bytes of a file a request wants (RFC 9110, section 14).

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes; `end` is the first one that is not wanted.
    Part {
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: u64,
    },
    /// Nothing of it is there.
    NotSatisfiable,
}

/// Reads `Range` and `If-Range` for a file of `length` bytes with `etag`.
/// What is no single range of bytes is ignored, as the RFC asks; so is a range
/// of another file than the one the caller has the beginning of.
pub fn wanted(range: Option<&str>, if_range: Option<&str>, etag: &str, length: u64) -> Wanted {
    if if_range.is_some_and(|condition| condition != etag) {
        return Wanted::Whole;
    }
    let Some((first, last)) = range
        .and_then(|range| range.strip_prefix("bytes="))
        .filter(|ranges| !ranges.contains(','))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Wanted::Whole;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return Wanted::Whole;
    }
    // A number too large for 64 bits is larger than any file.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    match (first, last) {
        ("", "") => Wanted::Whole,
        ("", suffix) => match number(suffix).min(length) {
            0 => Wanted::NotSatisfiable,
            suffix => Wanted::Part {
                start: length - suffix,
                end: length,
            },
        },
        (first, last) => {
            let start = number(first);
            let end = match last {
                "" => length,
                last => number(last).saturating_add(1).min(length),
            };
            if start >= length {
                Wanted::NotSatisfiable
            } else if start < end {
                Wanted::Part { start, end }
            } else {
                Wanted::Whole
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: &str) -> Wanted {
        wanted(Some(range), None, "\"e\"", 100)
    }

    #[test]
    fn one_range_of_bytes_is_a_part() {
        assert_eq!(check("bytes=0-0"), Wanted::Part { start: 0, end: 1 });
        assert_eq!(
            check("bytes=40-"),
            Wanted::Part {
                start: 40,
                end: 100
            }
        );
        assert_eq!(
            check("bytes=40-1000"),
            Wanted::Part {
                start: 40,
                end: 100
            }
        );
        assert_eq!(
            check("bytes=-10"),
            Wanted::Part {
                start: 90,
                end: 100
            }
        );
        assert_eq!(check("bytes=-1000"), Wanted::Part { start: 0, end: 100 });
    }

    #[test]
    fn a_range_behind_the_end_is_not_satisfiable() {
        for range in ["bytes=100-", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(check(range), Wanted::NotSatisfiable, "{range}");
        }
        assert_eq!(
            wanted(Some("bytes=0-"), None, "\"e\"", 0),
            Wanted::NotSatisfiable
        );
    }

    #[test]
    fn what_is_no_single_range_is_ignored() {
        for range in [
            "bytes=9-5",
            "bytes=0-1,5-6",
            "bytes=-",
            "lines=1-2",
            "bytes=+1-2",
            "x",
        ] {
            assert_eq!(check(range), Wanted::Whole, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_file_gets_all_of_this_one() {
        assert_eq!(
            wanted(Some("bytes=5-"), Some("\"old\""), "\"e\"", 100),
            Wanted::Whole
        );
        assert_eq!(
            wanted(Some("bytes=5-"), Some("\"e\""), "\"e\"", 100),
            Wanted::Part { start: 5, end: 100 }
        );
    }
}
