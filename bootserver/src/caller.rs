//! Who asks: the other end of a connection, and whom a proxy says it asks for.
//!
//! The one rule: what a header says counts only if the connection comes from a
//! trusted proxy. It is for logs and the audit; nothing about hosts is decided
//! by it, because many of them share an address.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::{Block, Scheme};

/// The other end of a connection, as the socket tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address; a Unix socket has none.
    pub address: Option<IpAddr>,
    /// What is spoken.
    pub scheme: Scheme,
    /// What it may do without a token.
    pub standing: Standing,
}

/// What a connection is trusted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: a token says who it is.
    Anybody,
    /// Root of this machine or the server's own user, on the Unix socket.
    LocalAdmin,
}

/// Who asks, behind proxies that are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its address; local root has none.
    pub address: Option<IpAddr>,
    /// What it spoke to the first of us, a trusted proxy or the server.
    pub scheme: Scheme,
    /// What it may do without a token.
    pub standing: Standing,
}

impl Caller {
    /// Reads X-Forwarded-For from its end, as far as those who wrote it are
    /// trusted.
    pub fn of(peer: Peer, headers: &HeaderMap, trusted: &[Block]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|block| block.contains(address));
        let mut caller = Self {
            address: peer.address,
            scheme: peer.scheme,
            standing: peer.standing,
        };
        if !peer.address.is_some_and(is_trusted) {
            return caller;
        }
        for hop in list(headers, "x-forwarded-for").into_iter().rev() {
            // Whatever stands left of nonsense is nonsense too.
            let Some(address) = address(hop) else { break };
            caller.address = Some(address);
            if !is_trusted(address) {
                break;
            }
        }
        match list(headers, "x-forwarded-proto").last() {
            Some(word) if word.eq_ignore_ascii_case("https") => caller.scheme = Scheme::Https,
            Some(word) if word.eq_ignore_ascii_case("http") => caller.scheme = Scheme::Http,
            _ => {}
        }
        caller
    }
}

/// The values of a header that may be there several times, each with several.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let texts = headers.get_all(name).into_iter();
    texts
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .collect()
}

/// An address, as some proxies with its port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_matches(['[', ']']).parse().ok();
    bare.or_else(|| text.parse().ok().map(|with: SocketAddr| with.ip()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn caller(peer: &str, forwarded: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        headers.append("x-forwarded-proto", HeaderValue::from_static("https"));
        let peer = Peer {
            address: Some(peer.parse().expect("an address")),
            scheme: Scheme::Http,
            standing: Standing::Anybody,
        };
        let trusted = ["10.0.0.0/8".parse().expect("a block")];
        let caller = Caller::of(peer, &headers, &trusted);
        format!("{} {:?}", caller.address.expect("one"), caller.scheme)
    }

    #[test]
    fn a_proxy_is_believed_only_if_it_is_trusted() {
        assert_eq!(caller("192.0.2.1", &["1.1.1.1"]), "192.0.2.1 Http");
        assert_eq!(caller("10.0.0.1", &["1.1.1.1"]), "1.1.1.1 Https");
        // What the client wrote itself stands left of what the proxy saw.
        assert_eq!(caller("10.0.0.1", &["6.6.6.6, 1.1.1.1"]), "1.1.1.1 Https");
        assert_eq!(
            caller("10.0.0.1", &["6.6.6.6", "1.1.1.1, 10.0.0.2"]),
            "1.1.1.1 Https"
        );
        assert_eq!(
            caller("10.0.0.1", &["nonsense, 10.0.0.2"]),
            "10.0.0.2 Https"
        );
        assert_eq!(caller("10.0.0.1", &[]), "10.0.0.1 Https");
        assert_eq!(caller("10.0.0.1", &["1.1.1.1:99"]), "1.1.1.1 Https");
        assert_eq!(
            caller("10.0.0.1", &["[2001:db8::1]:99"]),
            "2001:db8::1 Https"
        );
        assert_eq!(caller("::ffff:10.0.0.1", &["1.1.1.1"]), "1.1.1.1 Https");
    }
}
