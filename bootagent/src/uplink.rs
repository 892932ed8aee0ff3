//! The push thread: it asks one server at a time and hands back what came.
//!
//! Which server, when, and what follows is decided by the engine. Here is
//! only the exchange, and what must be on disk around it: jobs are journalled
//! before the engine hears of them, results are dropped once acknowledged.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bootagent_core::failover::{Body, Outcome};
use bootagent_kit::Secret;
use bootagent_kit::http::{Client, ClientOptions, HttpErrorKind, Reply};
use bootagent_kit::servers::Server;
use bootagent_protocol::{
    Action, ErrorCode, Job, JobResult, MAX_REPLY_BYTES, RegisterReply, RegisterRequest,
    StatusReply, StatusRequest,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::engine::Message;
use crate::host::Inbox;
use crate::journal::thread::JournalHandle;
use crate::journal::{Offer, TakenJob, Unsent};

/// Most jobs taken from one reply; the rest is offered again.
const JOBS_PER_REPLY: usize = 100;

/// One server is to be asked.
pub struct Attempt {
    /// Which one.
    pub server: Server,
    /// With what.
    pub call: Call,
    /// The token the call carries.
    pub token: Option<Secret>,
    /// Its deadlines, and whom to trust.
    pub options: ClientOptions,
}

/// What is said. A status gets its results and events from the journal.
pub enum Call {
    /// POST /agent/register.
    Register(Box<RegisterRequest>),
    /// POST /agent/status.
    Status(Box<StatusRequest>),
}

/// What came of asking one server.
pub struct Attempted {
    /// For the fail-over.
    pub outcome: Outcome,
    /// What it said, if it was an answer.
    pub answer: Option<Answer>,
    /// What went wrong otherwise, for the log.
    pub problem: String,
}

/// What a server said.
pub enum Answer {
    /// To a registration.
    Registered(RegisterReply),
    /// To a status.
    Status {
        /// Seconds to the next one, this once.
        next: Option<u64>,
        /// Whether to register again.
        registers_again: bool,
        /// A new secret.
        token: Option<Secret>,
        /// New jobs, journalled already.
        taken: Vec<TakenJob>,
        /// Whether more waited for a server than one status carries.
        has_more: bool,
    },
}

/// Starts the thread.
pub fn start(journal: JournalHandle, inbox: Inbox) -> io::Result<Sender<Attempt>> {
    let (attempts, orders) = channel();
    bootagent_kit::thread::spawn("uplink", move || run(&journal, &inbox, &orders))?;
    Ok(attempts)
}

fn run(journal: &JournalHandle, inbox: &Inbox, orders: &Receiver<Attempt>) {
    while let Ok(attempt) = orders.recv() {
        let attempted = ask(journal, attempt);
        inbox.send(Message::Attempted(Box::new(attempted)));
    }
}

fn ask(journal: &JournalHandle, attempt: Attempt) -> Attempted {
    // A client per exchange: certificates are read when they are needed and
    // freed afterwards, and a replaced `ca_file` is seen.
    let client = match Client::new(&attempt.options) {
        Ok(client) => client,
        Err(error) => return failed(Outcome::Refused, &anyhow::Error::from(error)),
    };
    let server = attempt.server.base_url();
    match attempt.call {
        Call::Register(request) => {
            let body = serde_json::to_vec(&request).expect("keys are strings");
            post(
                &client,
                &server,
                "/agent/register",
                attempt.token.as_ref(),
                &body,
            )
            .into_attempted(Answer::Registered)
        }
        Call::Status(request) => {
            let unsent = journal.wait(|journal| journal.unsent());
            let body = status_body(*request, &unsent);
            let replied = post(
                &client,
                &server,
                "/agent/status",
                attempt.token.as_ref(),
                &body,
            );
            replied.into_attempted(|reply: StatusReply| take_in(journal, &server, &unsent, reply))
        }
    }
}

fn status_body(mut request: StatusRequest, unsent: &Unsent) -> Vec<u8> {
    request.jobs = unsent.results.clone();
    request.events = unsent.events.clone();
    request.accepted = unsent.accepted.clone();
    serde_json::to_vec(&request).expect("keys are strings")
}

/// A reply that was read, or why there is none.
enum Replied {
    Reply(Reply),
    Failed(Attempted),
}

fn post(client: &Client, server: &str, path: &str, token: Option<&Secret>, body: &[u8]) -> Replied {
    let url = format!("{server}{path}");
    match client.post_json(&url, token, body, MAX_REPLY_BYTES as u64) {
        Ok(reply) => Replied::Reply(reply),
        Err(error) => {
            let outcome = match error.kind {
                HttpErrorKind::Timeout => Outcome::TimedOut,
                HttpErrorKind::TooLarge | HttpErrorKind::Protocol | HttpErrorKind::Lost => {
                    Outcome::Garbage
                }
                HttpErrorKind::Request
                | HttpErrorKind::Resolve
                | HttpErrorKind::Connect
                | HttpErrorKind::Tls => Outcome::Refused,
            };
            Replied::Failed(failed(outcome, &anyhow::Error::from(error)))
        }
    }
}

impl Replied {
    fn into_attempted<T: DeserializeOwned>(self, answer: impl FnOnce(T) -> Answer) -> Attempted {
        let reply = match self {
            Self::Reply(reply) => reply,
            Self::Failed(attempted) => return attempted,
        };
        let parsed = serde_json::from_slice::<T>(&reply.body);
        let body = if parsed.is_ok() {
            Body::Valid
        } else {
            Body::Garbage
        };
        let outcome = Outcome::of(reply.status, reply.retry_after, body);
        match (outcome, parsed) {
            (Outcome::Answered, Ok(parsed)) => Attempted {
                outcome,
                answer: Some(answer(parsed)),
                problem: String::new(),
            },
            (_, parsed) => {
                let unreadable = parsed.err().filter(|_| reply.is_success());
                let why =
                    unreadable.map_or(String::new(), |error| format!(", unreadable: {error}"));
                let problem = format!("status {}{why}", reply.status);
                Attempted {
                    outcome,
                    answer: None,
                    problem,
                }
            }
        }
    }
}

fn failed(outcome: Outcome, error: &anyhow::Error) -> Attempted {
    Attempted {
        outcome,
        answer: None,
        problem: format!("{error:#}"),
    }
}

/// A 2xx acknowledges what was sent and brings jobs, which are on disk before
/// anybody acts on them.
fn take_in(journal: &JournalHandle, server: &str, unsent: &Unsent, reply: StatusReply) -> Answer {
    let (sent, server) = (unsent.clone(), server.to_owned());
    let jobs = reply.jobs;
    let (has_more, taken) = journal.wait(move |journal| {
        if let Err(error) = journal.acknowledge(&sent) {
            log::error!("{:#}", anyhow::Error::from(error));
        }
        let (mut has_more, mut taken) = (journal.has_unsent(), Vec::new());
        for value in jobs.iter().take(JOBS_PER_REPLY) {
            match offer(journal, value, &server, &sent) {
                Offered::Taken(job) => taken.push(*job),
                Offered::Answered => has_more = true,
                Offered::Nothing => {}
            }
        }
        (has_more, taken)
    });
    Answer::Status {
        next: reply.next,
        registers_again: reply.register.unwrap_or(false),
        token: reply.token.map(Secret::new),
        taken,
        has_more,
    }
}

/// What became of an offered job.
enum Offered {
    /// It is to be done.
    Taken(Box<TakenJob>),
    /// It has its result now, which no server knows yet.
    Answered,
    /// It is known, or was not taken.
    Nothing,
}

/// Journals one offered job. A server that offers again and again what was
/// answered by `sent` is not to be asked without end: that is no news.
fn offer(
    journal: &mut crate::journal::Journal,
    value: &Value,
    server: &str,
    sent: &Unsent,
) -> Offered {
    let offered = match Job::parse(value) {
        Ok(job) => journal.offer(value, &job, server),
        Err(error) => {
            let Some(id) = error.id.as_deref() else {
                log::warn!("a job without an id is left alone: {}", error.message);
                return Offered::Nothing;
            };
            let result = JobResult::new(id, error.code, &error.message);
            journal.refuse(value, result)
        }
    };
    match offered {
        Ok(Offer::Taken(taken)) if taken.job.action == Action::Cancel => {
            cancel(journal, &taken.job);
            Offered::Answered
        }
        Ok(Offer::Taken(taken)) => Offered::Taken(taken),
        Ok(Offer::Refused(result)) => {
            if sent.results.contains(&result) {
                return Offered::Nothing;
            }
            let JobResult {
                id,
                errcode,
                message,
                ..
            } = &result;
            log::warn!("job {id} is refused ({errcode}): {message}");
            Offered::Answered
        }
        Ok(Offer::Known) => Offered::Nothing,
        // Not on disk, so not begun: the server offers it again.
        Err(error) => {
            if journal.is_news(&error) {
                log::error!(
                    "job {} is not taken, nor is any other while this is so: {:#}",
                    value["id"].as_str().unwrap_or_default(),
                    anyhow::Error::from(error)
                );
            }
            Offered::Nothing
        }
    }
}

/// Withdraws a job that has not begun. It overtakes the worker's queue,
/// because the journal alone knows what has begun.
fn cancel(journal: &mut crate::journal::Journal, job: &Job) {
    let target = job.terms.cancels.as_deref().unwrap_or_default();
    let waits = journal
        .unfinished()
        .any(|taken| taken.job.id == target && taken.steps.is_empty());
    let (code, message) = if waits {
        let withdrawn = JobResult::new(target, ErrorCode::CANCELLED, "cancelled before it began");
        if let Err(error) = journal.finish(withdrawn) {
            log::error!("{:#}", anyhow::Error::from(error));
        }
        (ErrorCode::SUCCESS, format!("job {target} is withdrawn"))
    } else {
        (
            ErrorCode::EXPIRED,
            format!("job {target} has begun, has ended or was never here"),
        )
    };
    if let Err(error) = journal.finish(JobResult::new(&job.id, code, &message)) {
        log::error!("{:#}", anyhow::Error::from(error));
    }
}

/// The options every exchange uses.
pub fn client_options(config: &crate::config::Config) -> ClientOptions {
    ClientOptions {
        ca_file: config.ca_file.clone(),
        connect_timeout: Duration::from_secs(config.push.connect_timeout),
        total_timeout: Duration::from_secs(config.push.timeout),
        user_agent: format!("bootagent/{}", crate::host::VERSION),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal::Journal;

    #[test]
    fn what_one_status_has_no_room_for_asks_for_the_next_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut journal, _) = Journal::open(folder.path(), "boot-1").expect("opens");
        for number in 0..150 {
            let event = crate::host::new_event("crash", "a", format!("number {number}"));
            journal.event(event).expect("journalled");
        }
        let journal = JournalHandle::start(journal).expect("starts");
        let mut told = Vec::new();
        for _ in 0..2 {
            let unsent = journal.wait(|journal| journal.unsent());
            let Answer::Status { has_more, .. } =
                take_in(&journal, "http://server", &unsent, StatusReply::default())
            else {
                panic!("a status is answered as one");
            };
            told.push((unsent.events.len(), has_more));
        }
        assert_eq!(told, [(100, true), (50, false)]);
    }

    /// What a status tells and brings, whose answer offers `jobs`.
    fn exchange(journal: &JournalHandle, jobs: &[Value]) -> (Vec<JobResult>, bool) {
        let unsent = journal.wait(|journal| journal.unsent());
        let reply = StatusReply {
            jobs: jobs.to_vec(),
            ..StatusReply::default()
        };
        let Answer::Status { has_more, .. } = take_in(journal, "http://server", &unsent, reply)
        else {
            panic!("a status is answered as one");
        };
        (unsent.results, has_more)
    }

    #[test]
    fn the_result_of_a_job_that_is_refused_goes_at_once_but_only_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (journal, _) = Journal::open(folder.path(), "boot-1").expect("opens");
        let journal = JournalHandle::start(journal).expect("starts");
        let stop = |name: &str| json!({ "id": "1", "action": "stop", "name": name });
        let unknown = json!({ "id": "2", "action": "dance" });
        let cancel = json!({ "id": "3", "action": "cancel", "cancels": "none" });
        exchange(&journal, &[stop("a")]);
        for (offered, code) in [
            (unknown, ErrorCode::UNKNOWN_ACTION),
            (stop("b"), ErrorCode::ID_REUSED),
            (cancel, ErrorCode::EXPIRED),
        ] {
            let offered = [offered];
            assert_eq!(exchange(&journal, &offered), (vec![], true), "{code}");
            let (told, has_more) = exchange(&journal, &offered);
            assert_eq!(told.first().map(|result| result.errcode), Some(code));
            assert!(!has_more, "{code} is asked without end");
            // Whatever was offered again is told with the next one.
            exchange(&journal, &[]);
        }
    }
}
