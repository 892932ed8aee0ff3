//! Which of two versions is newer, by rpm's rules.
//!
//! A version is `[EPOCH:]VERSION[-RELEASE]`. rpm and dpkg compare their own
//! packages themselves; this is for bundles, which have no package manager.
//! The one rule: what rpm calls older is older here.

use core::cmp::Ordering;

/// Compares two whole versions.
///
/// 1. The epoch counts first; none is 0.
/// 2. Then the version, piece by piece: digits as numbers, letters as text.
/// 3. Then the release, where both have one: `1.0` is any release of 1.0.
pub fn compare(left: &str, right: &str) -> Ordering {
    let ((left_epoch, left_version, left_release), (epoch, version, release)) =
        (parts(left), parts(right));
    let by_release = || match (left_release, release) {
        (Some(left), Some(right)) => compare_pieces(left, right),
        _ => Ordering::Equal,
    };
    compare_pieces(left_epoch, epoch)
        .then_with(|| compare_pieces(left_version, version))
        .then_with(by_release)
}

/// Epoch, version and release.
fn parts(text: &str) -> (&str, &str, Option<&str>) {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
            (if epoch.is_empty() { "0" } else { epoch }, rest)
        }
        _ => ("0", text),
    };
    match rest.rsplit_once('-') {
        Some((version, release)) => (epoch, version, Some(release)),
        None => (epoch, rest, None),
    }
}

/// rpm's `rpmvercmp`: what is neither letter, digit, `~` nor `^` only
/// separates. `~` is older than nothing, `^` newer than nothing and older
/// than anything else.
fn compare_pieces(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        left = without_separators(left);
        right = without_separators(right);
        let is_tilde = |text: &[u8]| text.first() == Some(&b'~');
        let is_caret = |text: &[u8]| text.first() == Some(&b'^');
        match (is_tilde(left), is_tilde(right)) {
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (true, true) => {
                (left, right) = (&left[1..], &right[1..]);
                continue;
            }
            (false, false) => {}
        }
        match (is_caret(left), is_caret(right)) {
            (true, true) => {
                (left, right) = (&left[1..], &right[1..]);
                continue;
            }
            (true, false) if right.is_empty() => return Ordering::Greater,
            (true, false) => return Ordering::Less,
            (false, true) if left.is_empty() => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        match (left.first(), right.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) => {
                // A number is newer than a word.
                match (one.is_ascii_digit(), other.is_ascii_digit()) {
                    (true, false) => return Ordering::Greater,
                    (false, true) => return Ordering::Less,
                    (true, true) => {
                        let (one, after) = piece(left, u8::is_ascii_digit);
                        let (other, rest) = piece(right, u8::is_ascii_digit);
                        let (one, other) = (without_zeros(one), without_zeros(other));
                        let order = one.len().cmp(&other.len()).then_with(|| one.cmp(other));
                        if order != Ordering::Equal {
                            return order;
                        }
                        (left, right) = (after, rest);
                    }
                    (false, false) => {
                        let (one, after) = piece(left, u8::is_ascii_alphabetic);
                        let (other, rest) = piece(right, u8::is_ascii_alphabetic);
                        match one.cmp(other) {
                            Ordering::Equal => (left, right) = (after, rest),
                            order => return order,
                        }
                    }
                }
            }
        }
    }
}

fn without_separators(text: &[u8]) -> &[u8] {
    let counts = |byte: &u8| byte.is_ascii_alphanumeric() || b"~^".contains(byte);
    &text[text.iter().position(counts).unwrap_or(text.len())..]
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    &digits[digits
        .iter()
        .position(|digit| *digit != b'0')
        .unwrap_or(digits.len())..]
}

fn piece(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(
        text.iter()
            .position(|byte| !belongs(byte))
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_rpm() {
        // Each row's first is older; most are of rpm's own tests.
        for (older, newer) in [
            ("1.0", "2.0"),
            ("2.0", "2.0.1"),
            ("2.0.1", "2.0.1a"),
            ("5.5p1", "5.5p10"),
            ("10xyz", "10.1xyz"),
            ("xyz10", "xyz10.1"),
            ("xyz.4", "8"),
            ("5.5p2", "5.6p1"),
            ("6.0", "6.0.rc1"),
            ("10a1b2x", "10b2"),
            ("1.0~rc1", "1.0"),
            ("1.0~rc1", "1.0~rc2"),
            ("1.0~rc1~git123", "1.0~rc1"),
            ("1.0", "1.0^"),
            ("1.0^git1", "1.0^git2"),
            ("1.0^git1", "1.01"),
            ("1.0^20160101", "1.0.1"),
            ("1.9", "1.10"),
            ("1.0-1", "1.0-2"),
            ("1.0-9", "1.0-10"),
            ("9.9-9", "1:0.1-1"),
            ("1:1.0", "2:0.1"),
        ] {
            let row = (older, newer);
            assert_eq!(compare(older, newer), Ordering::Less, "{row:?}");
            assert_eq!(compare(newer, older), Ordering::Greater, "{row:?}");
        }
    }

    #[test]
    fn what_rpm_cannot_tell_apart_is_equal() {
        for (left, right) in [
            ("1.0", "1.0"),
            ("2_0", "2.0"),
            ("1.05", "1.5"),
            ("1.0", "1.0-7"),
            ("0:1.0-1", "1.0-1"),
            ("1..0", "1.0"),
            ("", ""),
        ] {
            assert_eq!(
                compare(left, right),
                Ordering::Equal,
                "{left:?} and {right:?}"
            );
        }
    }
}
