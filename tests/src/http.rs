//! One HTTP/1.1 exchange, small enough to say anything.
//!
//! The one rule: every exchange has a deadline.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::wait::PATIENCE;

/// A reply as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request and reads the whole reply. `headers` are whole lines.
pub fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[String],
    body: &[u8],
) -> Result<Reply> {
    let mut stream = TcpStream::connect(address).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).context("sending")?;
    // A refusal may come before the body was read.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let split = split.with_context(|| format!("no head in {} bytes ({end:?})", bytes.len()))?;
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok(Reply {
        status: status.with_context(|| format!("no status in {head:?}"))?,
        body: bytes[split + 4..].to_vec(),
    })
}

/// The JSON of `reply`, which has this status.
///
/// # Panics
/// When it has another status or is no JSON.
pub fn json(what: &str, status: u16, reply: &Reply) -> Value {
    assert_eq!(reply.status, status, "{what}: {}", reply.text());
    if reply.body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(&reply.body)
        .unwrap_or_else(|error| panic!("{what}: {error}: {}", reply.text()))
}
