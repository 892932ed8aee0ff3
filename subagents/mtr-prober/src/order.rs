//! What somebody wants measured, as he said it and checked as far as that goes without asking anybody.
//!
//! The one rule: whoever holds an [`Order`] need not check a range again.

use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use crate::clock;
use crate::config::Config;
use crate::engine::{Spec, Urgency};
use crate::packet::{Family, MAX_SIZE};
use crate::problem::Problem;
use crate::report::{self, Cause, Parameters, Report, State, Target};
use crate::socket::{self, RouteError, Source};
use crate::trace::{Keep, Plan};

/// A probe not answered after this long is lost; as `mtr`'s grace period.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// The farthest hop, as with `mtr`.
pub const LAST_TTL: u8 = 30;
/// Bytes of a probe where nothing is said, as with `mtr`.
pub const SIZE: u16 = 64;
/// Longest name of a host.
const MAX_NAME_BYTES: usize = 253;
/// Longest reference of a caller's own.
const MAX_REFERENCE: usize = 64;
/// Longest name of a source.
const MAX_SOURCE_BYTES: usize = 64;

/// An order.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The target as it was asked for.
    pub asked: String,
    /// Its address; a name's is not known yet.
    pub address: Option<IpAddr>,
    /// The family, where a name has both.
    pub family: Option<Family>,
    /// Rounds.
    pub count: u32,
    /// From one to the next.
    pub interval: Duration,
    /// Bytes of a probe.
    pub size: u16,
    /// Address, interface or line.
    pub source: Option<String>,
    /// Who wants it.
    pub cause: Cause,
    /// His own reference.
    pub reference: Option<String>,
}

impl Order {
    /// Reads the parameters of a request; each is known, and there once.
    pub fn parse(parameters: &[(String, String)]) -> Result<Self, Problem> {
        let mut order = Self {
            asked: String::new(),
            address: None,
            family: None,
            count: 100,
            interval: Duration::from_secs(1),
            size: SIZE,
            source: None,
            cause: Cause::Api,
            reference: None,
        };
        for (name, value) in parameters {
            let wrong = |expected: &str| {
                Problem::parameter(name, format!("`{name}` is {expected}, not {value:?}"))
            };
            match name.as_str() {
                "ip" => order.asked.clone_from(value),
                "count" => {
                    let count = value.parse().ok().filter(|it| (1..=1_000).contains(it));
                    order.count = count.ok_or_else(|| wrong("1 to 1000 rounds"))?;
                }
                "interval" => {
                    let seconds = value.parse().ok().filter(|it| (0.2..=60.0).contains(it));
                    let seconds: f64 = seconds.ok_or_else(|| wrong("0.2 to 60 seconds"))?;
                    // Whole milliseconds, as reports have it.
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "at most a minute"
                    )]
                    let millis = (seconds * 1000.0).round() as u64;
                    order.interval = Duration::from_millis(millis);
                }
                "size" => {
                    let least = Family::V4.min_size();
                    let size = value.parse().ok();
                    let size = size.filter(|it| (least..=MAX_SIZE).contains(it));
                    order.size = size.ok_or_else(|| wrong("40 to 1500 bytes"))?;
                }
                "source" => {
                    let fits = (1..=MAX_SOURCE_BYTES).contains(&value.len());
                    let source = fits.then(|| value.clone());
                    order.source = Some(source.ok_or_else(|| {
                        wrong("an address or interface of this machine, or a line of its")
                    })?);
                }
                "family" => {
                    order.family = Some(match value.as_str() {
                        "4" => Family::V4,
                        "6" => Family::V6,
                        _ => return Err(wrong("4 or 6")),
                    });
                }
                "cause" => {
                    let cause = cause(value).filter(|it| *it != Cause::Mesh);
                    order.cause = cause.ok_or_else(|| wrong(CAUSES))?;
                }
                "ref" => {
                    let fits = (1..=MAX_REFERENCE).contains(&value.chars().count());
                    let plain = fits && !value.chars().any(char::is_control);
                    let reference = plain.then(|| value.clone());
                    order.reference = Some(reference.ok_or_else(|| wrong("1 to 64 characters"))?);
                }
                _ => {
                    return Err(unknown(
                        name,
                        "ip, count, interval, size, source, family, cause, ref",
                    ));
                }
            }
        }
        if order.asked.is_empty() {
            let detail = "say `ip`, the address or name of a host: /api/mtr?ip=192.0.2.1";
            return Err(Problem::parameter("ip", detail));
        }
        let wrong = |detail: String| Problem::parameter("ip", detail);
        order.address = target(&order.asked).map_err(wrong)?;
        if let Some(address) = order.address {
            order.fits(address).map_err(wrong)?;
        }
        Ok(order)
    }

    /// Whether it can be measured to this address of the target's.
    pub fn fits(&self, address: IpAddr) -> Result<(), String> {
        let family = Family::of(address);
        if self.family.is_some_and(|wanted| wanted != family) {
            return Err(format!(
                "{address} is not of the family that `family` asks for"
            ));
        }
        if self.size < family.min_size() {
            let least = family.min_size();
            return Err(format!(
                "a probe to {address} has at least {least} bytes; say `size={least}`"
            ));
        }
        is_one_host(address)
    }

    /// Its report before anything is known, and where it goes out.
    pub fn report(&self, config: &Config) -> Result<(Report, Source), RouteError> {
        let asked = self.source.as_deref();
        let source = config.source(asked)?;
        let line = config.line(asked);
        let meant = line.map(|(_, line)| line.source.as_str()).or(asked);
        let interface = meant.filter(|_| source.interface.is_some());
        let report = Report {
            id: Uuid::now_v7(),
            state: State::Accepted,
            cause: self.cause,
            reference: self.reference.clone(),
            tool: concat!("mtr-prober ", env!("CARGO_PKG_VERSION")).to_owned(),
            node: config.node_name(),
            target: Target {
                asked: self.asked.clone(),
                address: self.address,
            },
            source: report::Source {
                asked: self.source.clone(),
                address: None,
                interface: interface.map(str::to_owned),
                line: line.map(|(name, _)| name.clone()),
                circuit: line.and_then(|(_, line)| line.circuit.clone()),
            },
            parameters: Parameters {
                count: self.count,
                interval_ms: u32::try_from(self.interval.as_millis()).expect("at most a minute"),
                size: self.size,
            },
            accepted_at: clock::instant(),
            started_at: None,
            ended_at: None,
            parts: Vec::new(),
            timeline: Vec::new(),
            faults: Vec::new(),
            incident: None,
            problem: None,
        };
        Ok((report, source))
    }

    /// What the engine is told.
    #[must_use]
    pub fn spec(&self, target: IpAddr, source: Source) -> Spec {
        Spec {
            plan: Plan {
                target,
                first_ttl: 1,
                last_ttl: LAST_TTL,
                rounds: Some(self.count),
                interval: self.interval,
                timeout: TIMEOUT,
                keep: Keep::Timeline,
            },
            source,
            size: self.size,
            urgency: match self.cause {
                Cause::Ticket | Cause::Trigger | Cause::Mesh => Urgency::Urgent,
                Cause::Api | Cause::Command => Urgency::Usual,
            },
        }
    }
}

impl Report {
    /// Notes the target's address, and by which address and interface its probes leave.
    pub fn locate(&mut self, source: Source, target: IpAddr) -> Result<(), RouteError> {
        self.target.address = Some(target);
        let address = source.address_to(target)?;
        self.source.address = Some(address);
        if self.source.interface.is_none() {
            self.source.interface = socket::interface_of(address);
        }
        Ok(())
    }
}

/// What `cause` may be.
pub const CAUSES: &str = "api, ticket, trigger or command";

/// Reads a cause.
#[must_use]
pub fn cause(text: &str) -> Option<Cause> {
    match text {
        "api" => Some(Cause::Api),
        "ticket" => Some(Cause::Ticket),
        "trigger" => Some(Cause::Trigger),
        "command" => Some(Cause::Command),
        "mesh" => Some(Cause::Mesh),
        _ => None,
    }
}

/// A parameter nobody knows.
#[must_use]
pub fn unknown(name: &str, known: &str) -> Problem {
    Problem::parameter(
        name,
        format!("{name:?} is no parameter here; there are {known}"),
    )
}

/// Whether an address is that of one host.
pub fn is_one_host(address: IpAddr) -> Result<(), String> {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    match address.is_multicast() || address.is_unspecified() || broadcast {
        true => Err(format!(
            "{address} is not the address of one host; say that of one"
        )),
        false => Ok(()),
    }
}

/// The address in a text, or none where it is a name.
fn target(text: &str) -> Result<Option<IpAddr>, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Some(address.to_canonical()));
    }
    // What was meant as an address must not go to a name server.
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if digits || text.contains(':') {
        return Err(format!(
            "{text:?} is no address; write it as 192.0.2.1 or 2001:db8::1"
        ));
    }
    let is_label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    match name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label) {
        true => Ok(None),
        false => Err(format!(
            "{:?} is neither an address nor the name of a host",
            shorten(text)
        )),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Order, Problem> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let pairs: Vec<_> = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Order::parse(&pairs)
    }

    #[test]
    fn an_order_has_documented_defaults_and_takes_every_parameter() {
        let order = parse("ip=192.0.2.1").expect("valid");
        assert_eq!(
            (order.count, order.interval, order.size),
            (100, Duration::from_secs(1), 64)
        );
        assert_eq!(order.address, Some("192.0.2.1".parse().expect("one")));
        let all = "ip=a.example&count=1000&interval=0.2&size=1500&source=eth0&family=6&cause=ticket&ref=7";
        let order = parse(all).expect("valid");
        assert_eq!(order.address, None);
        assert_eq!(
            (order.count, order.interval),
            (1_000, Duration::from_millis(200))
        );
        assert_eq!((order.size, order.family), (1_500, Some(Family::V6)));
        assert_eq!(
            (order.cause, order.reference.as_deref()),
            (Cause::Ticket, Some("7"))
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_its_parameter_and_a_remedy() {
        let long = format!("ip=::1&ref={}", "x".repeat(65));
        let name = format!("ip={}", "a.".repeat(200));
        for (query, parameter, part) in [
            ("", "ip", "192.0.2.1"),
            ("ip=", "ip", "192.0.2.1"),
            ("ip=1.2.3", "ip", "no address"),
            ("ip=1.2.3.256", "ip", "no address"),
            ("ip=fe80::1%eth0", "ip", "no address"),
            ("ip=a b", "ip", "neither"),
            ("ip=-c", "ip", "neither"),
            (&name, "ip", "neither"),
            ("ip=224.0.0.1", "ip", "one host"),
            ("ip=ff02::1", "ip", "one host"),
            ("ip=255.255.255.255", "ip", "one host"),
            ("ip=0.0.0.0", "ip", "one host"),
            ("ip=::", "ip", "one host"),
            ("ip=::ffff:224.0.0.1", "ip", "one host"),
            ("ip=127.0.0.1&family=6", "ip", "family"),
            ("ip=::1&size=59", "ip", "size=60"),
            ("ip=::1&count=0", "count", "1 to 1000"),
            ("ip=::1&count=1001", "count", "1 to 1000"),
            ("ip=::1&count=-1", "count", "1 to 1000"),
            ("ip=::1&interval=0.19", "interval", "0.2 to 60"),
            ("ip=::1&interval=61", "interval", "0.2 to 60"),
            ("ip=::1&interval=NaN", "interval", "0.2 to 60"),
            ("ip=::1&size=39", "size", "40 to 1500"),
            ("ip=::1&size=1501", "size", "40 to 1500"),
            ("ip=::1&family=5", "family", "4 or 6"),
            ("ip=::1&source=", "source", "an address"),
            ("ip=::1&cause=me", "cause", "ticket"),
            ("ip=::1&ref=", "ref", "64 characters"),
            (&long, "ref", "64 characters"),
            ("ip=::1&colour=red", "colour", "interval"),
        ] {
            let problem = parse(query).expect_err(query);
            assert_eq!(problem.status, 400, "{query}");
            assert_eq!(problem.parameter.as_deref(), Some(parameter), "{query}");
            assert!(problem.detail.contains(part), "{query}: {}", problem.detail);
        }
    }
}
