//! One connection: what came, what goes out, and until when.
//!
//! The one rule: nobody keeps a connection by doing nothing; each state has its deadline.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::time::Duration;

use super::listen::Stream;
use super::request::{After, MAX_HEAD, Method, Parsed, parse};
use super::route::{Answered, View};
use crate::moment::Moment;

/// From the first byte of a request to the last of its head.
const HEAD: Duration = Duration::from_secs(5);
/// Between requests.
const IDLE: Duration = Duration::from_secs(30);
/// For a reply to go out.
const SEND: Duration = Duration::from_secs(30);

/// What is awaited for the request that is being served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    Order(Answered),
    Report(View),
    Deleted,
    List,
    Mesh,
    Health,
    Metrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing of a request is here.
    Idle,
    /// A part of one is.
    Head,
    /// Somebody is asked for the answer.
    Waiting(Awaited),
    /// The reply goes out.
    Sending,
}

/// What became of a read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    GoOn,
    Close,
}

pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) peer: Option<IpAddr>,
    pub(super) state: State,
    pub(super) deadline: Moment,
    /// Counts requests: an answer to an earlier one is none to this.
    pub(super) number: u64,
    pub(super) method: Method,
    pub(super) after: After,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// He sends nothing more.
    ended: bool,
}

impl Connection {
    pub(super) fn new(stream: Stream, peer: Option<IpAddr>, now: Moment) -> Self {
        Self {
            stream,
            peer,
            state: State::Idle,
            deadline: now + IDLE,
            number: 0,
            method: Method::Get,
            after: After::KeepAlive,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            ended: false,
        }
    }

    /// Takes in what there is, up to one request of the longest kind.
    pub(super) fn read(&mut self) -> Fate {
        let mut buffer = [0; MAX_HEAD];
        while self.input.len() < MAX_HEAD {
            let room = MAX_HEAD - self.input.len();
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Fate::Close,
            }
        }
        Fate::GoOn
    }

    /// The next request of what came, if it is whole; it is then being served.
    pub(super) fn next(&mut self, now: Moment) -> Parsed {
        let parsed = match self.input.is_empty() {
            true => Parsed::Partial,
            false => parse(&self.input),
        };
        match &parsed {
            Parsed::Partial if self.input.is_empty() => {
                // What a former long request needed is not kept.
                self.input = Vec::new();
                if self.state != State::Idle {
                    self.state = State::Idle;
                    self.deadline = now + IDLE;
                }
            }
            Parsed::Partial => {
                if self.state != State::Head {
                    self.state = State::Head;
                    self.deadline = now + HEAD;
                }
            }
            Parsed::Request(request, length) => {
                self.input.drain(..*length);
                self.number += 1;
                (self.method, self.after) = (request.method, request.after);
            }
            Parsed::Bad(_) => {
                self.number += 1;
                self.input.clear();
                (self.method, self.after) = (Method::Get, After::Close);
            }
        }
        parsed
    }

    /// Whether nothing more can come of it.
    pub(super) fn is_over(&self) -> bool {
        self.ended && matches!(self.state, State::Idle | State::Head)
    }

    /// Room for a reply, which is sent from now on.
    pub(super) fn reply(&mut self, now: Moment) -> &mut Vec<u8> {
        self.state = State::Sending;
        self.deadline = now + SEND;
        &mut self.output
    }

    /// Sends what there is; tells whether it has all gone.
    pub(super) fn send(&mut self) -> Result<bool, Fate> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(Fate::Close),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Fate::Close),
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        Ok(true)
    }
}
