//! The servers: the three lists, the names, and whether anybody answers.
//!
//! The one rule: a server that is away now is a warning. The daemon waits for
//! it and supervises its children meanwhile.

use std::net::IpAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use bootagent_kit::Secret;
use bootagent_kit::http::{
    Client, ClientOptions, HttpError, HttpErrorKind, Reply, addresses, count_roots,
};
use bootagent_kit::servers::{Scheme, Server, ServerList};

use super::{Check, Subject, chain};
use crate::args::Args;
use crate::host::COMPILED_SERVERS;
use crate::uplink::client_options;

/// How long all servers together may take.
const DEADLINE: Duration = Duration::from_secs(12);
/// How long a name, and then an exchange, may take; less where the
/// configuration says so.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// A clock this far from a server's is wrong.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// What no server has: how it refuses tells what it thinks of the token.
const NOTHING: &str = "/packages/none/none";

/// The list of `-S` alone, when there is no configuration.
pub(super) fn list_of_option(args: &Args) -> Vec<Check> {
    match args.servers.as_deref().map(ServerList::parse) {
        Some(Err(error)) => vec![Check::fail("servers", format!("-S: {error}"))],
        _ => Vec::new(),
    }
}

/// The list the daemon would use, and where its entries come from.
pub(super) fn list(subject: &Subject<'_>) -> (Vec<Check>, ServerList) {
    let metafile = subject.metafile.as_ref();
    let is_registered = metafile.is_some_and(|metafile| metafile.confirmed);
    let stored = metafile.map(|metafile| metafile.svrlist.as_str());
    lists(
        subject.args.servers.as_deref(),
        is_registered,
        stored,
        COMPILED_SERVERS,
    )
}

/// `-S` counts until a server has confirmed the host; the metafile's list
/// afterwards; the compiled-in one always.
fn lists(
    option: Option<&str>,
    is_registered: bool,
    stored: Option<&str>,
    compiled: &str,
) -> (Vec<Check>, ServerList) {
    let mut checks = Vec::new();
    let mut parse = |source: &str, text: &str, failed: fn(&'static str, String) -> Check| {
        ServerList::parse(text).unwrap_or_else(|error| {
            checks.push(failed("servers", format!("{source}: {error}")));
            ServerList::default()
        })
    };
    let from_option = option.map(|text| parse("-S", text, Check::fail));
    let remedy = "svrlist of the metafile, which is left out (order a config job with a good one)";
    let from_metafile = stored
        .map(|text| parse(remedy, text, Check::warn))
        .unwrap_or_default();
    let from_build = parse("BOOT_SERVER_ADDR of this build", compiled, Check::fail);
    let (own, source) = match &from_option {
        Some(list) if !is_registered => (list.clone(), "-S"),
        _ => (from_metafile, "the metafile"),
    };
    let (own_count, build_count) = (own.len(), from_build.len());
    let text = format!("{own_count} from {source}, {build_count} compiled in");
    let all = own.followed_by(&from_build);
    if all.is_empty() {
        let text = "there is none: nobody is told anything and no job comes; give -S HOST:PORT at \
                    the first start, or build with BOOT_SERVER_ADDR";
        checks.push(Check::warn("servers", text));
    } else if from_option.is_some() && is_registered {
        checks.push(Check::ok(
            "servers",
            format!("{text}; -S is ignored, the host is registered"),
        ));
    } else {
        checks.push(Check::ok("servers", text));
    }
    (checks, all)
}

/// Whom `https://` servers are verified with.
pub(super) fn certificates(subject: &Subject<'_>) -> Vec<Check> {
    let ca_file = subject.config.ca_file.as_deref();
    let (_, list) = list(subject);
    if ca_file.is_none() && !list.iter().any(|server| server.scheme == Scheme::Https) {
        return Vec::new();
    }
    let from = ca_file.map_or_else(
        || "the system".to_owned(),
        |path| path.display().to_string(),
    );
    let relative = ca_file.is_some_and(|path| path.is_relative());
    vec![match count_roots(ca_file) {
        Ok(_) if relative => {
            let text =
                format!("ca_file {from} depends on where the daemon starts; write its whole path");
            Check::warn("certificates", text)
        }
        Ok(count) => Check::ok("certificates", format!("{count} roots from {from}")),
        Err(error) => {
            let text = format!("{}; without it no https:// server is trusted", chain(error));
            Check::fail("certificates", text)
        }
    }]
}

/// What became of asking one server.
#[derive(Default)]
struct Probe {
    addresses: Option<Result<Vec<IpAddr>, HttpError>>,
    answer: Option<Result<Reply, HttpError>>,
    /// The status for a call that carries the host's token.
    admission: Option<u16>,
}

enum News {
    Addresses(usize, Result<Vec<IpAddr>, HttpError>),
    Answer(usize, Result<Reply, HttpError>),
    Admission(usize, u16),
}

/// Resolves every name and asks every server, all at the same time; with a
/// token also whether it is accepted.
pub(super) fn answers(
    subject: &Subject<'_>,
    list: &ServerList,
    token: Option<&Secret>,
) -> Vec<Check> {
    let mut servers: Vec<&Server> = Vec::new();
    for server in list {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    let options = ClientOptions {
        connect_timeout: EXCHANGE.min(Duration::from_secs(subject.config.push.connect_timeout)),
        total_timeout: EXCHANGE.min(Duration::from_secs(subject.config.push.timeout)),
        ..client_options(&subject.config)
    };
    let probes = probe(&servers, &options, token);
    let probes: Vec<_> = servers.into_iter().zip(probes).collect();
    let mut checks = names(&probes);
    checks.extend(answered(&probes));
    checks.extend(clocks(&probes, SystemTime::now()));
    checks.extend(admissions(&probes));
    checks
}

fn probe(servers: &[&Server], options: &ClientOptions, token: Option<&Secret>) -> Vec<Probe> {
    let (sender, news) = channel();
    for (index, server) in servers.iter().enumerate() {
        let (server, options, sender) = ((*server).clone(), options.clone(), sender.clone());
        let token = token.cloned();
        // Without a thread the server counts as silent.
        let _ = bootagent_kit::thread::spawn("probe", move || {
            ask(index, &server, &options, token.as_ref(), &sender);
        });
    }
    drop(sender);
    let mut probes: Vec<_> = servers.iter().map(|_| Probe::default()).collect();
    let end = Instant::now() + DEADLINE;
    while let Ok(news) = news.recv_timeout(end.saturating_duration_since(Instant::now())) {
        match news {
            News::Addresses(index, found) => probes[index].addresses = Some(found),
            News::Answer(index, answer) => probes[index].answer = Some(answer),
            News::Admission(index, status) => probes[index].admission = Some(status),
        }
    }
    probes
}

/// The thread of one server. Nobody listens any more after the deadline.
fn ask(
    index: usize,
    server: &Server,
    options: &ClientOptions,
    token: Option<&Secret>,
    news: &Sender<News>,
) {
    let found = addresses(&server.host, options.connect_timeout);
    let is_known = found.is_ok();
    let _ = news.send(News::Addresses(index, found));
    if is_known {
        let url = format!("{}/healthz", server.base_url());
        let fetch = |url: &str, token| {
            Client::new(options).and_then(|client| client.fetch(url, token, MAX_ANSWER_BYTES))
        };
        let answer = fetch(&url, None);
        // What answers otherwise is no bootserver, or has other troubles.
        let is_well = answer.as_ref().is_ok_and(Reply::is_success);
        let _ = news.send(News::Answer(index, answer));
        let url = format!("{}{NOTHING}", server.base_url());
        if let Some(reply) = token
            .filter(|_| is_well)
            .and_then(|token| fetch(&url, Some(token)).ok())
        {
            let _ = news.send(News::Admission(index, reply.status));
        }
    }
}

fn names(probes: &[(&Server, Probe)]) -> Vec<Check> {
    let (mut checks, mut found, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for (server, probe) in probes {
        let host = server.host.as_str();
        if host.parse::<IpAddr>().is_ok() || seen.contains(&host) {
            continue;
        }
        seen.push(host);
        match &probe.addresses {
            Some(Ok(addresses)) => {
                found.push(format!(
                    "{host} is {}",
                    addresses.first().map_or(String::new(), IpAddr::to_string)
                ));
            }
            Some(Err(error)) => {
                let text = format!("{}; check the name and /etc/resolv.conf", shown(error));
                checks.push(Check::warn("names", text));
            }
            None => {
                let text = format!("{host}: no answer in time; check /etc/resolv.conf");
                checks.push(Check::warn("names", text));
            }
        }
    }
    if !found.is_empty() {
        checks.insert(0, Check::ok("names", found.join(", ")));
    }
    checks
}

fn answered(probes: &[(&Server, Probe)]) -> Vec<Check> {
    let mut checks: Vec<Check> = probes
        .iter()
        .filter_map(|(server, probe)| judge(server, probe))
        .collect();
    let is_ok = |check: &Check| check.level == super::Level::Ok;
    if !probes.is_empty() && !checks.iter().any(is_ok) {
        let text =
            "no server answers: the daemon would go on trying; check network, firewall and list";
        checks.push(Check::warn("answers", text));
    }
    checks
}

/// Whether our clock is that of the servers: certificates and `expires` of
/// jobs depend on it.
fn clocks(probes: &[(&Server, Probe)], now: SystemTime) -> Vec<Check> {
    let mut checks = Vec::new();
    for (server, probe) in probes {
        let Some(Ok(Reply {
            date: Some(theirs), ..
        })) = &probe.answer
        else {
            continue;
        };
        let (apart, word) = match now.duration_since(*theirs) {
            Ok(ahead) => (ahead, "ahead of"),
            Err(behind) => (behind.duration(), "behind"),
        };
        if apart > CLOCK_SKEW {
            let text = format!(
                "this host's clock is {} s {word} that of {server}; set it, for instance with chrony",
                apart.as_secs()
            );
            checks.push(Check::warn("clock", text));
        }
    }
    checks
}

/// Whether the servers take this host for who it is.
fn admissions(probes: &[(&Server, Probe)]) -> Vec<Check> {
    let judge = |(server, probe): &(&Server, Probe)| {
        Some(match probe.admission? {
            401 | 403 => {
                let text = format!(
                    "{server} does not accept this host's token; see whether the host was removed \
                     there, then enrol it again: -E or enrolment_token_file"
                );
                Check::fail("admission", text)
            }
            _ => Check::ok("admission", format!("{server} accepts this host's token")),
        })
    };
    probes.iter().filter_map(judge).collect()
}

/// `None` for a name without an address: that is said already.
fn judge(server: &Server, probe: &Probe) -> Option<Check> {
    Some(match &probe.answer {
        None => match probe.addresses {
            Some(Ok(_)) => Check::warn("answers", format!("{server} does not answer in time")),
            _ => return None,
        },
        Some(Ok(reply)) if (500..=599).contains(&reply.status) => {
            let text = format!(
                "{server} answers with status {}; see its own log",
                reply.status
            );
            Check::warn("answers", text)
        }
        Some(Ok(reply)) if reply.status == 200 => Check::ok("answers", format!("{server} answers")),
        Some(Ok(reply)) => Check::ok(
            "answers",
            format!("{server} answers, with status {}", reply.status),
        ),
        Some(Err(error)) => Check::warn(
            "answers",
            format!("{}; {}", shown(error), remedy(error.kind)),
        ),
    })
}

fn remedy(kind: HttpErrorKind) -> &'static str {
    match kind {
        HttpErrorKind::Tls => "check ca_file, the server's certificate and name, and both clocks",
        HttpErrorKind::Connect => "check that bootserver runs there and the port is right",
        HttpErrorKind::Timeout => "check the network and any firewall between",
        HttpErrorKind::Resolve => "check the name and /etc/resolv.conf",
        HttpErrorKind::Protocol | HttpErrorKind::Lost | HttpErrorKind::TooLarge => {
            "check that the port is bootserver's, and whether it wants https://"
        }
        HttpErrorKind::Request => "correct the address",
    }
}

/// An error with its causes.
fn shown(error: &HttpError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn shown_list(
        option: Option<&str>,
        is_registered: bool,
        stored: Option<&str>,
        compiled: &str,
    ) -> (Level, String, String) {
        let (checks, list) = lists(option, is_registered, stored, compiled);
        let first = checks.first().expect("a line");
        (first.level, first.message.clone(), list.to_string())
    }

    #[test]
    fn the_three_sources_are_the_ones_the_daemon_uses() {
        let (level, text, list) = shown_list(Some("a:1,b"), false, Some("m"), "c:2");
        assert_eq!((level, list.as_str()), (Level::Ok, "a:1,b,c:2"));
        assert_eq!(text, "2 from -S, 1 compiled in");
        let (level, text, list) = shown_list(Some("a"), true, Some("m,m"), "");
        assert_eq!((level, list.as_str()), (Level::Ok, "m,m"));
        assert!(
            text.contains("2 from the metafile") && text.contains("-S is ignored"),
            "{text}"
        );
        let (level, text, list) = shown_list(None, false, None, " , ");
        assert_eq!((level, list.as_str()), (Level::Warn, ""));
        assert!(text.contains("give -S"), "{text}");
    }

    #[test]
    fn each_bad_list_is_named_with_its_source() {
        let (level, text, _) = shown_list(Some("a:0"), false, None, "b");
        assert_eq!(level, Level::Fail);
        assert!(text.contains("-S") && text.contains("a:0"), "{text}");
        let (level, text, list) = shown_list(None, true, Some("ftp://x"), "b");
        assert_eq!((level, list.as_str()), (Level::Warn, "b"));
        assert!(
            text.contains("metafile") && text.contains("ftp://x"),
            "{text}"
        );
        let (level, text, _) = shown_list(None, false, None, "b:port");
        assert_eq!(level, Level::Fail);
        assert!(text.contains("BOOT_SERVER_ADDR"), "{text}");
    }
}
