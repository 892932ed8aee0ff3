//! From a name to addresses, in bounded time.
//!
//! The one rule: a name server that never answers costs the caller no more
//! than its deadline. The system's resolver cannot be interrupted, so it runs
//! in a thread of its own and is left behind; it ends by its own timeout. Only
//! so many are: then a question fails at once, until one of them has ended.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::HttpError;

/// Most addresses tried for one name; the connect deadline is shared by them.
const MAX_ADDRESSES: usize = 8;
/// Stack of the thread: name service modules need more than our own code.
const STACK_BYTES: usize = 512 * 1024;

/// Most questions without an answer: the system's timeout may be minutes, and
/// a list of servers may name many that cannot be resolved.
const MAX_PENDING: usize = 4;

/// Questions the system's resolver has not answered yet.
#[derive(Debug)]
struct Pending(AtomicUsize);

static PENDING: Pending = Pending(AtomicUsize::new(0));

/// One of them; counted until it is dropped.
struct Question(&'static Pending);

impl Pending {
    fn one_more(&'static self) -> Result<Question, Unresolved> {
        let count = |pending| (pending < MAX_PENDING).then_some(pending + 1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
            .map(|_| Question(self))
            .map_err(Unresolved::Busy)
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A name without an address.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("the resolver says")]
    Failed(#[source] io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("the resolver has not answered {0} earlier questions")]
    Busy(usize),
    #[error("no thread can be started to ask the resolver")]
    NoThread(#[source] io::Error),
}

impl From<Unresolved> for ureq::Error {
    fn from(error: Unresolved) -> Self {
        Self::Other(Box::new(error))
    }
}

/// Resolves within the deadline of the request.
#[derive(Debug)]
pub(super) struct Bounded;

impl Resolver for Bounded {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(Unresolved::NoAddress)?;
        let default_port = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let port = uri.port_u16().unwrap_or(default_port);
        let mut addresses = self.empty();
        for address in look_up(host, port, timeout)? {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

/// Where a host can be reached, in the order of the system's resolver; at
/// least one address and no more than are ever tried. A name that has none,
/// or none within `timeout`, is an error.
pub fn addresses(host: &str, timeout: Duration) -> Result<Vec<IpAddr>, HttpError> {
    let timeout = NextTimeout {
        after: timeout.into(),
        reason: ureq::Timeout::Resolve,
        ..NextTimeout::default()
    };
    let found = look_up(host, 0, timeout).map_err(|error| HttpError::from_ureq(host, error))?;
    Ok(found.iter().map(SocketAddr::ip).collect())
}

fn look_up(host: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, ureq::Error> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // An address needs no resolver and no thread.
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = bare.to_owned();
    let lookup = move || Ok((name.as_str(), port).to_socket_addrs()?.collect());
    let mut addresses = ask(&PENDING, lookup, timeout)?;
    addresses.truncate(MAX_ADDRESSES);
    match addresses.is_empty() {
        true => Err(Unresolved::NoAddress.into()),
        false => Ok(addresses),
    }
}

/// Does a lookup that nobody can interrupt, and waits for it no longer than
/// allowed.
fn ask(
    pending: &'static Pending,
    lookup: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    timeout: NextTimeout,
) -> Result<Vec<SocketAddr>, ureq::Error> {
    let question = pending.one_more()?;
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("resolve".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Nobody listens any more when the deadline has passed.
            let found = lookup();
            drop(question);
            let _ = sender.send(found);
        })
        .map_err(Unresolved::NoThread)?;
    match receiver.recv_timeout(*timeout.after) {
        Ok(found) => Ok(found.map_err(Unresolved::Failed)?),
        Err(RecvTimeoutError::Timeout) => Err(ureq::Error::Timeout(timeout.reason)),
        Err(RecvTimeoutError::Disconnected) => Err(Unresolved::NoAddress.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::http::HttpErrorKind;

    #[test]
    fn a_name_is_looked_up_and_a_missing_one_is_named() {
        let timeout = Duration::from_secs(10);
        let found = addresses("localhost", timeout).expect("every host knows it");
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
        let found = addresses("[::1]", timeout).expect("an address");
        assert_eq!(found, ["::1".parse::<IpAddr>().expect("valid")]);
        let error = addresses("no-such-host.invalid", timeout).expect_err("reserved");
        assert_eq!(error.kind, HttpErrorKind::Resolve);
        assert!(
            error.to_string().contains("no-such-host.invalid"),
            "{error}"
        );
    }

    #[test]
    fn a_resolver_that_never_answers_costs_the_deadline_and_few_threads() {
        static OF_THIS_TEST: Pending = Pending(AtomicUsize::new(0));
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let hangs = || {
            let held = Arc::clone(&held);
            move || {
                let _ = held.lock().map(|held| held.recv());
                Ok(Vec::new())
            }
        };
        let timeout = NextTimeout {
            after: Duration::from_millis(50).into(),
            reason: ureq::Timeout::Resolve,
            ..NextTimeout::default()
        };
        for _ in 0..MAX_PENDING {
            let outcome = ask(&OF_THIS_TEST, hangs(), timeout);
            assert!(
                matches!(outcome, Err(ureq::Error::Timeout(ureq::Timeout::Resolve))),
                "{outcome:?}"
            );
        }
        let outcome = ask(&OF_THIS_TEST, hangs(), timeout);
        let text = format!("{:?}", outcome.expect_err("no thread more"));
        assert!(text.contains("Busy(4)"), "{text}");
        // Once they have ended the next one is asked again.
        drop(release);
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while OF_THIS_TEST.0.load(Ordering::Relaxed) > 0 {
            assert!(std::time::Instant::now() < deadline, "they never end");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(ask(&OF_THIS_TEST, || Ok(Vec::new()), timeout).is_ok());
    }
}
