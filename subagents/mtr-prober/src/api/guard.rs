//! Whose requests are served.
//!
//! From this machine everybody's, unless a page of somebody else's sent them: a browser on the node must
//! not measure for whatever page it shows. From other machines only with the token, or from a listed prefix.
//!
//! The one rule: a request that is refused here has asked nothing of anybody.

use std::net::IpAddr;

use bootagent_kit::Secret;

use super::request::Request;
use crate::config::Prefix;
use crate::problem::Problem;

/// Who may ask.
#[derive(Debug, Clone)]
pub struct Access {
    /// Names of this machine.
    pub names: Vec<String>,
    /// What requests from elsewhere carry.
    pub token: Option<Secret>,
    /// From where they need not.
    pub allow: Vec<Prefix>,
}

/// Checks a request; `peer` is absent on a Unix socket.
pub(super) fn check(
    request: &Request,
    peer: Option<IpAddr>,
    access: &Access,
) -> Result<(), Problem> {
    let forbidden = |detail: &str| Err(Problem::new(403, "Forbidden", detail));
    if let Some(host) = &request.host
        && !is_ours(host, &access.names)
    {
        return forbidden("the Host of this request is no name of this machine; use its address");
    }
    // `none` is what a person typed.
    let is_own = |site: &String| ["same-origin", "none"].contains(&site.as_str());
    if !request.fetch_site.as_ref().is_none_or(is_own) {
        return forbidden("another site's page sent this request");
    }
    if let Some(origin) = &request.origin {
        let host = request.host.as_deref().unwrap_or_default();
        if origin.strip_prefix("http://") != Some(host) {
            return forbidden("another site's page sent this request");
        }
    }
    let Some(peer) = peer.map(|peer| peer.to_canonical()) else {
        return Ok(());
    };
    if peer.is_loopback() || access.allow.iter().any(|prefix| prefix.holds(peer)) {
        return Ok(());
    }
    let carried = request.authorization.as_ref().map_or("", |it| it.expose());
    let carried = carried.strip_prefix("Bearer ").unwrap_or_default();
    match &access.token {
        Some(token) if is_same(token.expose(), carried) => Ok(()),
        Some(_) => {
            let detail = "other machines say `Authorization: Bearer` and the token of `token_file`";
            Err(Problem::new(401, "Token needed", detail))
        }
        None => forbidden("this machine is in no prefix of `allow`"),
    }
}

/// A name that is resolved could lead here from any page (DNS rebinding); an address cannot.
fn is_ours(host: &str, names: &[String]) -> bool {
    let host = host.trim();
    let bare = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let is_name = |name: &String| name.eq_ignore_ascii_case(bare);
    bare.parse::<IpAddr>().is_ok()
        || bare.eq_ignore_ascii_case("localhost")
        || names.iter().any(is_name)
}

/// Takes as long wherever they differ.
fn is_same(one: &str, other: &str) -> bool {
    let pairs = one.bytes().zip(other.bytes());
    let difference = pairs.fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::super::request::{Parsed, parse};
    use super::*;

    fn status(headers: &str, peer: Option<&str>) -> u16 {
        let access = Access {
            names: vec!["node-7".into()],
            token: Some(Secret::new("a-token-of-some-length")),
            allow: vec![Prefix::try_from("192.0.2.0/24".to_owned()).expect("one")],
        };
        let text = format!("GET / HTTP/1.1\r\n{headers}\r\n");
        let Parsed::Request(request, _) = parse(text.as_bytes()) else {
            panic!("{headers}");
        };
        let peer = peer.map(|peer| peer.parse().expect(peer));
        check(&request, peer, &access).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn a_foreign_host_or_site_is_refused_and_our_own_is_not() {
        for (headers, expected) in [
            ("Host: 127.0.0.1:8081\r\n", 200),
            ("Host: [::1]:8081\r\n", 200),
            ("Host: [::1]\r\n", 200),
            ("Host: LOCALHOST\r\n", 200),
            ("Host: node-7:8081\r\n", 200),
            ("Host: evil.example\r\n", 403),
            ("Host: 127.0.0.1.evil.example:8081\r\n", 403),
            (
                "Host: localhost:8081\r\nSec-Fetch-Site: same-origin\r\n",
                200,
            ),
            ("Host: localhost:8081\r\nSec-Fetch-Site: none\r\n", 200),
            ("Host: localhost:8081\r\nSec-Fetch-Site: same-site\r\n", 403),
            (
                "Host: localhost:8081\r\nSec-Fetch-Site: cross-site\r\n",
                403,
            ),
            (
                "Host: localhost:8081\r\nOrigin: http://localhost:8081\r\n",
                200,
            ),
            (
                "Host: localhost:8081\r\nOrigin: http://localhost:3000\r\n",
                403,
            ),
            ("Host: localhost:8081\r\nOrigin: null\r\n", 403),
        ] {
            assert_eq!(status(headers, Some("127.0.0.1")), expected, "{headers}");
            assert_eq!(status(headers, None), expected, "{headers}");
        }
    }

    #[test]
    fn other_machines_need_a_prefix_or_the_token() {
        let host = "Host: 198.51.100.1\r\n";
        let bearer = |token: &str| format!("{host}Authorization: Bearer {token}\r\n");
        assert_eq!(status(host, Some("192.0.2.9")), 200);
        assert_eq!(status(host, Some("::ffff:192.0.2.9")), 200);
        assert_eq!(status(host, Some("203.0.113.9")), 401);
        assert_eq!(
            status(&bearer("a-token-of-some-length"), Some("203.0.113.9")),
            200
        );
        for wrong in ["", "a-token-of-some-lengtH", "a-token-of-some-length2"] {
            assert_eq!(status(&bearer(wrong), Some("203.0.113.9")), 401, "{wrong}");
        }
    }
}
