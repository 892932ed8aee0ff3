//! What routers append to a quote: the MPLS labels the probe had (RFC 4884, RFC 4950).
//!
//! The one rule: an extension whose sum is wrong is not there.

use super::parse::{be16, be32};
use super::{Family, sum};
use crate::report::Mpls;

/// Where routers that do not say it (they are older than RFC 4884) put the extension.
const USUAL_QUOTE: usize = 128;

/// No real stack is deeper.
const MAX_LABELS: usize = 16;

/// Parts the body of an ICMP error into the quoted packet and the labels behind it.
pub(super) fn split<'a>(icmp: &[u8], body: &'a [u8], family: Family) -> (&'a [u8], Vec<Mpls>) {
    let said = match family {
        Family::V4 => icmp.get(5).map_or(0, |&words| usize::from(words) * 4),
        Family::V6 => icmp.get(4).map_or(0, |&words| usize::from(words) * 8),
    };
    let length = if said == 0 { USUAL_QUOTE } else { said };
    let labels = body.get(length..).and_then(labels);
    match (said, labels) {
        (0, None) => (body, Vec::new()),
        (_, labels) => (
            body.get(..length).unwrap_or(body),
            labels.unwrap_or_default(),
        ),
    }
}

/// The labels behind a quoted packet of which the IP header is gone. What the error said of its length is gone too: they
/// are found at the usual place only.
pub(super) fn behind(quoted: &[u8], family: Family) -> Vec<Mpls> {
    let at = USUAL_QUOTE - usize::from(family.ip_header());
    quoted.get(at..).and_then(labels).unwrap_or_default()
}

/// The label stack in an extension structure; `None` where there is no such structure.
fn labels(structure: &[u8]) -> Option<Vec<Mpls>> {
    let version = structure.first()? >> 4;
    let checksum = be16(structure, 2)?;
    if version != 2 || (checksum != 0 && sum(structure) != 0xffff) {
        return None;
    }
    let mut found = Vec::new();
    let mut rest = structure.get(4..)?;
    while let (Some(length), Some(kind)) = (be16(rest, 0), rest.get(2..4)) {
        let length = usize::from(length);
        let Some(content) = rest.get(4..length) else {
            break;
        };
        if kind == [1, 1] {
            let entries = content.chunks_exact(4).filter_map(|entry| be32(entry, 0));
            found.extend(entries.take(MAX_LABELS - found.len()).map(entry));
        }
        rest = &rest[length..];
    }
    Some(found)
}

fn entry(word: u32) -> Mpls {
    let [.., low] = word.to_be_bytes();
    Mpls {
        label: word >> 12,
        class: u8::try_from(word >> 9 & 7).expect("3 bits"),
        bottom: word >> 8 & 1 == 1,
        ttl: low,
    }
}
