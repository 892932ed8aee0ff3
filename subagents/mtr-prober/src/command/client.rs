//! The same measurement by the daemon of this machine, if it runs.
//!
//! It has the sockets and the budget, and needs no privilege of whoever asks.
//!
//! The one rule: nothing is ordered of a program that does not say it is mtr-prober.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use uuid::Uuid;

use super::Words;
use crate::config::{Config, Listen};
use crate::packet::Family;
use crate::report::{Report, State};

/// For a connection on the same machine.
const CONNECT: Duration = Duration::from_secs(1);
/// For an answer: longer than the daemon takes to say that it has none.
const ANSWER: Duration = Duration::from_secs(15);
/// How long one question waits for the end; Ctrl-C is looked for in between.
const WAIT: u32 = 1;
/// The largest report there is has less.
const MAX_REPLY: u64 = 16 << 20;

/// Whether somebody listens whom we may ask.
#[derive(Debug)]
pub(super) struct Daemon(Listen);

struct Reply {
    status: u16,
    is_ours: bool,
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct Accepted {
    id: Uuid,
}

#[derive(Deserialize)]
struct Refused {
    detail: String,
}

impl Daemon {
    /// The daemon of this configuration, if it answers.
    pub(super) fn find(config: &Config) -> Option<Self> {
        config.listen.iter().find_map(|place| {
            let daemon = Self(place.clone());
            let reply = place
                .is_local()
                .then(|| daemon.ask("GET", "/healthz"))?
                .ok()?;
            (reply.is_ours && reply.status == 200).then_some(daemon)
        })
    }

    /// Measures, until the end or until `stopped`.
    pub(super) fn measure(&self, words: &Words, stopped: &AtomicBool) -> Result<Report> {
        let reply = self.ask("GET", &order(words))?;
        if reply.status != 202 {
            bail!("{}", detail(&reply));
        }
        let accepted: Accepted = serde_json::from_slice(&reply.body).context("reading the id")?;
        let path = format!("/api/mtr/{}", accepted.id);
        let mut was_told = false;
        loop {
            if stopped.load(Ordering::Relaxed) && !was_told {
                was_told = true;
                // It may have ended meanwhile; a report that ended is not to be removed.
                let report = self.look(&path, 0)?;
                if is_over(report.state) {
                    return Ok(report);
                }
                self.ask("DELETE", &path)?;
            }
            let report = self.look(&path, WAIT)?;
            if is_over(report.state) {
                return match (&report.problem, report.state) {
                    (Some(problem), State::Failed) => bail!("{problem}"),
                    _ => Ok(report),
                };
            }
        }
    }

    fn look(&self, path: &str, wait: u32) -> Result<Report> {
        let reply = self.ask("GET", &format!("{path}?wait={wait}"))?;
        if reply.status != 200 {
            bail!("{}", detail(&reply));
        }
        serde_json::from_slice(&reply.body).context("reading the report")
    }

    fn ask(&self, method: &str, path: &str) -> Result<Reply> {
        let asked = match &self.0 {
            Listen::Tcp(address) => TcpStream::connect_timeout(address, CONNECT).and_then(|it| {
                it.set_read_timeout(Some(ANSWER))?;
                it.set_write_timeout(Some(ANSWER))?;
                exchange(it, method, path)
            }),
            Listen::Unix(socket) => UnixStream::connect(socket).and_then(|it| {
                it.set_read_timeout(Some(ANSWER))?;
                it.set_write_timeout(Some(ANSWER))?;
                exchange(it, method, path)
            }),
        };
        let bytes = asked.with_context(|| format!("asking the mtr-prober at {}", self.0))?;
        read(&bytes).with_context(|| format!("{} does not speak HTTP", self.0))
    }
}

fn is_over(state: State) -> bool {
    !matches!(state, State::Accepted | State::Running)
}

fn detail(reply: &Reply) -> String {
    let refused = serde_json::from_slice::<Refused>(&reply.body);
    refused.map_or_else(|_| format!("it answered {}", reply.status), |it| it.detail)
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str) -> io::Result<Vec<u8>> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(MAX_REPLY).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read(bytes: &[u8]) -> Option<Reply> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).ok()? else {
        return None;
    };
    let is_ours = head
        .headers
        .iter()
        .any(|it| it.name.eq_ignore_ascii_case("server") && it.value.starts_with(b"mtr-prober/"));
    Some(Reply {
        status: head.code?,
        is_ours,
        body: bytes[length..].to_vec(),
    })
}

/// The words as parameters.
fn order(words: &Words) -> String {
    let mut path = format!(
        "/api/mtr?ip={}&count={}&interval={}&size={}&cause=command",
        encode(&words.host),
        words.count,
        words.interval.as_secs_f64(),
        words.size
    );
    if let Some(source) = &words.source {
        path += &format!("&source={}", encode(source));
    }
    if let Some(family) = words.family {
        path += match family {
            Family::V4 => "&family=4",
            Family::V6 => "&family=6",
        };
    }
    path
}

fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    let bytes = text.bytes().map(|b| match plain(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    });
    bytes.collect()
}
