//! A whole reply in memory, and when to come back.
//!
//! The one rule: a server's date is measured against that server's own
//! clock, never against ours.

use std::io::Read;
use std::time::{Duration, SystemTime};

use ureq::Body;
use ureq::http::header::{DATE, RETRY_AFTER};
use ureq::http::{HeaderMap, Response};

use super::error::HttpError;

/// A reply of any status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code, such as 200.
    pub status: u16,
    /// When the server asks us to come back, if it does.
    pub retry_after: Option<Duration>,
    /// What time it is for the server, if it says.
    pub date: Option<SystemTime>,
    /// The body, complete.
    pub body: Vec<u8>,
}

impl Reply {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Reads a response to its end.
pub(super) fn read(
    host: &str,
    response: Response<Body>,
    max_reply: u64,
) -> Result<Reply, HttpError> {
    let (parts, body) = response.into_parts();
    if body
        .content_length()
        .is_some_and(|length| length > max_reply)
    {
        return Err(HttpError::too_large(host, max_reply));
    }
    let mut bytes = Vec::new();
    body.into_reader()
        .take(max_reply.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| HttpError::from_io(host, error))?;
    if bytes.len() as u64 > max_reply {
        return Err(HttpError::too_large(host, max_reply));
    }
    Ok(Reply {
        status: parts.status.as_u16(),
        retry_after: retry_after(&parts.headers),
        date: date(&parts.headers),
        body: bytes,
    })
}

/// `Retry-After` as seconds or as a date relative to `Date`. Anything else
/// counts as absent, a date in the past as now. The caller clamps it.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = text(RETRY_AFTER)?.trim();
    if !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean "for ever"; the caller's clamp decides.
        let seconds = asked.parse::<u32>().unwrap_or(u32::MAX);
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    let now = date(headers)?;
    Some(until.duration_since(now).unwrap_or_default())
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(retry: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry.parse().expect("a value"));
        if let Some(date) = date {
            headers.insert(DATE, date.parse().expect("a value"));
        }
        retry_after(&headers).map(|after| after.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        assert_eq!(asked("120", None), Some(120));
        assert_eq!(asked(" 0 ", None), Some(0));
        // Both dates are decades off our clock; only their distance counts.
        let (now, later) = (
            "Fri, 31 Dec 1999 23:59:00 GMT",
            "Sat, 01 Jan 2000 00:00:30 GMT",
        );
        assert_eq!(asked(later, Some(now)), Some(90));
        assert_eq!(asked(now, Some(later)), Some(0));
    }

    #[test]
    fn nonsense_counts_as_absent() {
        for bad in ["", "-1", "soon", "1.5", "Fri, 31 Feb"] {
            assert_eq!(
                asked(bad, Some("Fri, 31 Dec 1999 23:59:00 GMT")),
                None,
                "{bad:?}"
            );
        }
        assert_eq!(asked("Sat, 01 Jan 2000 00:00:30 GMT", None), None);
        assert_eq!(
            asked("99999999999999999999", None),
            Some(u64::from(u32::MAX))
        );
    }
}
