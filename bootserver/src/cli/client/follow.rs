//! A stream of server-sent events, begun anew where it broke off.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::sleep;

use super::{Ask, Client, Content, Failure, is_broken_pipe, refused};

/// From the end of a stream to the next one, unless the server says another.
const RETRY: Duration = Duration::from_secs(3);
/// Most of what a server may say.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// Largest message, in bytes; ours have a few thousand.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

impl Client {
    /// Gives the data of each message to `take`, until Ctrl-C or until nobody
    /// reads what it prints. A server that was there is waited for.
    pub(in super::super) fn follow(
        &self,
        path: &str,
        take: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            tokio::select! {
                ended = self.follow_for_ever(path, take) => match ended {
                    Err(Failure::Failed(error)) if is_broken_pipe(&error) => Ok(()),
                    ended => ended,
                },
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        })
    }

    async fn follow_for_ever(
        &self,
        path: &str,
        mut take: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> Result<(), Failure> {
        let mut messages = Messages::default();
        let mut was_there = false;
        loop {
            let ended = self
                .follow_once(path, &mut messages, &mut was_there, &mut take)
                .await;
            match ended {
                Ok(()) => {}
                Err(Failure::Unreachable(_)) if was_there => {}
                Err(Failure::Refused(refusal))
                    if was_there && matches!(refusal.status, 429 | 500..=599) => {}
                Err(failure) => return Err(failure),
            }
            sleep(messages.retry).await;
        }
    }

    async fn follow_once(
        &self,
        path: &str,
        messages: &mut Messages,
        was_there: &mut bool,
        take: &mut impl FnMut(&str) -> anyhow::Result<()>,
    ) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        if let Ok(id) = HeaderValue::from_str(&messages.id)
            && !id.is_empty()
        {
            headers.insert(LAST_EVENT_ID, id);
        }
        let ask = Ask::raw("GET", path, &Content::Nothing, headers);
        let answer = self.send(&ask).await?;
        let status = answer.status().as_u16();
        if status != 200 {
            let mut document = Vec::new();
            self.read(answer, |part| {
                document.extend_from_slice(&part[..part.len().min(MAX_MESSAGE_BYTES)]);
                anyhow::ensure!(document.len() <= MAX_MESSAGE_BYTES, "it has no end");
                Ok(())
            })
            .await?;
            let document = serde_json::from_slice(&document).unwrap_or_default();
            return Err(refused(status, document));
        }
        *was_there = true;
        messages.begin();
        self.read(answer, |part| messages.feed(part, take)).await
    }
}

/// What was read of a stream.
struct Messages {
    line: Vec<u8>,
    data: String,
    /// Of the last whole message.
    id: String,
    /// Of the one that is coming.
    next_id: String,
    retry: Duration,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            line: Vec::new(),
            data: String::new(),
            id: String::new(),
            next_id: String::new(),
            retry: RETRY,
        }
    }
}

impl Messages {
    /// What was not whole when a stream broke off comes again.
    fn begin(&mut self) {
        self.line.clear();
        self.data.clear();
        self.next_id = self.id.clone();
    }

    fn feed(
        &mut self,
        part: &[u8],
        take: &mut impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for byte in part {
            if *byte != b'\n' {
                self.line.push(*byte);
                let bytes = self.line.len() + self.data.len();
                anyhow::ensure!(bytes <= MAX_MESSAGE_BYTES, "a message is too large");
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    self.id.clone_from(&self.next_id);
                    let data = std::mem::take(&mut self.data);
                    if !data.is_empty() {
                        take(&data)?;
                    }
                }
                "data" if self.data.is_empty() => self.data.push_str(value),
                "data" => {
                    self.data.push('\n');
                    self.data.push_str(value);
                }
                "id" => value.clone_into(&mut self.next_id),
                "retry" => {
                    if let Ok(millis) = value.parse() {
                        self.retry = Duration::from_millis(millis).min(MAX_RETRY);
                    }
                }
                // Comments, and what we know nothing of.
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let stream =
            b": alive\nretry: 4000\n\nid: a-1\r\ndata: {\"x\":1}\r\n\r\nid: a-2\ndata: one\n\
                       data: two\n\nid: a-3\ndata: half";
        for size in [1, 2, 7, stream.len()] {
            let mut messages = Messages::default();
            let mut taken = Vec::new();
            for part in stream.chunks(size) {
                let mut take = |data: &str| {
                    taken.push(data.to_owned());
                    Ok(())
                };
                messages.feed(part, &mut take).expect("small messages");
            }
            assert_eq!(taken, ["{\"x\":1}", "one\ntwo"]);
            assert_eq!(messages.id, "a-2", "what is not whole comes again");
            assert_eq!(messages.retry, Duration::from_secs(4));
            messages.begin();
            assert!(messages.data.is_empty() && messages.next_id == "a-2");
        }
    }

    #[test]
    fn a_message_without_an_end_is_given_up() {
        let mut messages = Messages::default();
        let endless = vec![b'x'; MAX_MESSAGE_BYTES + 1];
        assert!(messages.feed(&endless, &mut |_| Ok(())).is_err());
    }
}
