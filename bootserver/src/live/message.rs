//! What is sent: changes, and `reset` where some may have been missed.

use std::fmt;
use std::str::FromStr;

use axum::body::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::change::{Change, Topic, Which};

/// Which message, of which run of which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId {
    /// The run.
    pub run: u32,
    /// Its number in it.
    pub number: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.number)
    }
}

impl FromStr for MessageId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (run, number) = text.split_once('-').unwrap_or_default();
        Ok(Self {
            run: u32::from_str_radix(run, 16)?,
            number: number.parse()?,
        })
    }
}

/// The data of a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum StreamMessage {
    /// Something changed.
    Change(ChangeView),
    /// Something may have been missed.
    Reset(ResetView),
}

/// What became of some things; fetch them to see how they are now.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeView {
    /// What they are.
    topic: Topic,
    /// What became of them, such as `online`; a later version may say more.
    #[schema(example = "online")]
    change: String,
    /// Which ones, at most 100: agentsns of hosts, numbers of events, ids of the others. None
    /// when there are `more`.
    ids: Vec<String>,
    /// Whether there are more than are named: fetch what you show of this topic.
    more: bool,
}

/// Fetch everything you show: what follows is heard, what was before may have been missed. The
/// first message is one, except after a `Last-Event-ID` that is still known.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResetView {
    /// Always true.
    reset: bool,
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        let (ids, more) = match change.which {
            Which::Ids(ids) => (ids, false),
            Which::Many => (Vec::new(), true),
        };
        Self {
            topic: change.topic,
            change: change.what.into_owned(),
            ids,
            more,
        }
    }
}

/// A message, ready to be sent to many.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// What it is about; a reset is about everything.
    pub(super) topic: Option<Topic>,
    /// As it is sent.
    pub(super) frame: Bytes,
}

impl Message {
    pub(super) fn change(id: MessageId, change: Change) -> Self {
        Self {
            topic: Some(change.topic),
            frame: frame(id, &StreamMessage::Change(change.into())),
        }
    }

    pub(super) fn reset(id: MessageId) -> Self {
        Self {
            topic: None,
            frame: frame(id, &StreamMessage::Reset(ResetView { reset: true })),
        }
    }
}

fn frame(id: MessageId, data: &StreamMessage) -> Bytes {
    let data = serde_json::to_string(data).expect("words and ids always serialise");
    format!("id: {id}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_and_writes_back() {
        let id = MessageId {
            run: 0x2a,
            number: 7,
        };
        assert_eq!(id.to_string(), "0000002a-7");
        assert_eq!("0000002a-7".parse(), Ok(id));
        for bad in ["", "7", "x-7", "2a-", "2a--7", "1ffffffff-7"] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad}");
        }
    }
}
