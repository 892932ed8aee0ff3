//! Where the server listens and whom it believes: addresses, certificates,
//! blocks of addresses. Here they are only parsed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// A text or a list of them, as a file may say it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// `key = "a"`
    One(String),
    /// `key = ["a", "b"]`
    Many(Vec<String>),
}

impl OneOrMany {
    /// Each of them.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    /// Adds one, as a repeated flag does.
    pub fn add(list: &mut Option<Self>, text: String) {
        let mut texts = list.take().map_or_else(Vec::new, |list| match list {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        });
        texts.push(text);
        *list = Some(Self::Many(texts));
    }
}

/// How callers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// By TLS.
    Https,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// What is spoken there.
    pub scheme: Scheme,
}

impl Listen {
    /// Reads `ADDRESS:PORT`, perhaps behind `http://` or `https://`; `usual` is
    /// what a bare one means.
    pub fn parse(text: &str, usual: Scheme) -> anyhow::Result<Self> {
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            (usual, text)
        };
        let address = rest.parse().with_context(|| {
            format!("listen: {text:?} is no ADDRESS:PORT, such as 127.0.0.1:8080 or [::]:8080")
        })?;
        ensure!(
            scheme == Scheme::Http || usual == Scheme::Https,
            "listen: {text:?} needs tls_cert and tls_key"
        );
        Ok(Self { address, scheme })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(formatter, "{scheme}://{}", self.address)
    }
}

/// The server's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain in PEM, the server's own first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Both or none.
    pub fn from_pair(
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> anyhow::Result<Option<Self>> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => bail!("tls_key: a certificate needs its key"),
            (None, Some(_)) => bail!("tls_cert: a key needs its certificate"),
        }
    }
}

/// A block of addresses, such as `10.0.0.0/8`; a bare address is a block of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    first: IpAddr,
    bits: u32,
}

impl Block {
    /// Whether an address is in it. An IPv4 address may come in the clothes of
    /// IPv6, as it does on a socket for both.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let shift = 32 - self.bits;
                first.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let shift = 128 - self.bits;
                first.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Block {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let expected = || {
            format!("trusted_proxy: {text:?} is no block such as 10.0.0.0/8, fd00::/8 or 192.0.2.7")
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().with_context(expected)?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).with_context(expected)?;
        ensure!(bits <= most, "{}", expected());
        Ok(Self { first, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_contains_its_addresses_and_no_others() {
        for (block, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
        ] {
            let block: Block = block.parse().expect("a block");
            let address = address.parse().expect("an address");
            assert_eq!(block.contains(address), inside, "{block:?} {address}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "ten", "::/129", "10/8"] {
            assert!(wrong.parse::<Block>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_says_its_scheme_or_takes_the_usual_one() {
        let parse = |text, usual| Listen::parse(text, usual).map(|listen| listen.to_string());
        let said = parse("127.0.0.1:1", Scheme::Https).expect("valid");
        assert_eq!(said, "https://127.0.0.1:1");
        let said = parse("http://127.0.0.1:1", Scheme::Https).expect("valid");
        assert_eq!(said, "http://127.0.0.1:1");
        let error = parse("https://127.0.0.1:1", Scheme::Http).expect_err("no certificate");
        assert!(error.to_string().contains("tls_cert"), "{error}");
    }
}
