//! Reads counters and interfaces from the kernel.
//!
//! Which interface is meant is decided here, from the configuration or the
//! default route; what a reading means is decided in `series`.
//!
//! The one rule: the counters of a reading are all of one interface, also
//! when that interface is being replaced meanwhile.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bootagent_kit::clock;
use bootagent_kit::fs::{self, FsError};

use crate::series::{Interface, Moment, Reading};

/// Where the kernel shows its interfaces.
const INTERFACES: &str = "/sys/class/net";
/// The tables of routes: one line per route, a few hundred on a large host.
const ROUTES: &str = "/proc/net/route";
const ROUTES_V6: &str = "/proc/net/ipv6_route";
/// Largest table of routes, in bytes.
const MAX_ROUTES_BYTES: u64 = 16 * 1024 * 1024;
/// Largest single value, in bytes; the kernel shows at most a page.
const MAX_VALUE_BYTES: u64 = 4096;
/// `RTF_UP` and `RTF_REJECT` of the kernel's route flags.
const ROUTE_UP: u32 = 0x0001;
const ROUTE_REJECT: u32 = 0x0200;
/// How often a reading is tried while its interface is being replaced.
const ATTEMPTS: u32 = 3;

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No default route and no configured interface.
    #[error("there is no default route; set interface in flux-push.toml or give the host one")]
    NoDefaultRoute,
    /// No interface of that name.
    #[error(
        "there is no interface {0}; set interface in flux-push.toml to one that `ip link` shows"
    )]
    NoInterface(String),
    /// The interface is replaced faster than it can be read.
    #[error("the interface {0} changes while it is read")]
    Unstable(String),
    /// The kernel does not show what it should.
    #[error("the kernel does not tell")]
    File(#[from] FsError),
    /// The kernel shows something that is no number.
    #[error("{} holds {text:?} and no number", .path.display())]
    Number {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

/// The interface meant by the configuration, or else the one of the default
/// route.
pub fn choose(configured: Option<&str>) -> Result<String, ReadError> {
    match configured {
        Some(name) => Ok(name.to_owned()),
        None => default_route(),
    }
}

/// Whether real hardware is behind the interface. Traffic of a bridge, bond
/// or tunnel is also counted by what it stands on.
pub fn is_physical(name: &str) -> bool {
    Path::new(INTERFACES).join(name).join("device").exists()
}

/// Reads the counters of an interface.
pub fn read(name: &str, boot_id: &str) -> Result<Reading, ReadError> {
    let directory = Path::new(INTERFACES).join(name);
    for _ in 0..ATTEMPTS {
        if !directory.exists() {
            return Err(ReadError::NoInterface(name.to_owned()));
        }
        match read_once(&directory, name, boot_id) {
            Ok(Some(reading)) => return Ok(reading),
            // Replaced or removed between two of the files: look again.
            Ok(None) => {}
            Err(ReadError::File(_)) if !directory.exists() => {}
            Err(error) => return Err(error),
        }
    }
    Err(ReadError::Unstable(name.to_owned()))
}

fn read_once(directory: &Path, name: &str, boot_id: &str) -> Result<Option<Reading>, ReadError> {
    let index = number(&directory.join("ifindex"))?;
    let mac = value(&directory.join("address"))?;
    let at = now();
    let rx = number(&directory.join("statistics/rx_bytes"))?;
    let tx = number(&directory.join("statistics/tx_bytes"))?;
    if number::<u32>(&directory.join("ifindex"))? != index {
        return Ok(None);
    }
    let interface = Interface {
        name: name.to_owned(),
        index,
        mac,
    };
    Ok(Some(Reading {
        at,
        boot_id: boot_id.to_owned(),
        interface,
        rx,
        tx,
    }))
}

/// The present moment on both clocks.
pub fn now() -> Moment {
    let milliseconds = |duration: std::time::Duration| {
        u64::try_from(duration.as_millis()).expect("fits for 500 million years")
    };
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    Moment {
        wall_ms: milliseconds(wall.unwrap_or_default()),
        boot_ms: milliseconds(clock::boottime()),
    }
}

fn value(path: &Path) -> Result<String, ReadError> {
    let bytes = fs::read_limited(path, MAX_VALUE_BYTES)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn number<N: std::str::FromStr>(path: &Path) -> Result<N, ReadError> {
    let text = value(path)?;
    text.parse().map_err(|_| ReadError::Number {
        path: path.to_owned(),
        text,
    })
}

fn default_route() -> Result<String, ReadError> {
    let table = fs::read_limited(Path::new(ROUTES), MAX_ROUTES_BYTES)?;
    if let Some(name) = default_of(&String::from_utf8_lossy(&table)) {
        return Ok(name);
    }
    // A kernel without IPv6 has no such file.
    let table = match fs::read_limited(Path::new(ROUTES_V6), MAX_ROUTES_BYTES) {
        Ok(table) => table,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    default_of_v6(&String::from_utf8_lossy(&table)).ok_or(ReadError::NoDefaultRoute)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, numbers in
/// hex except the metric.
fn default_of(table: &str) -> Option<String> {
    let default = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_default = words.get(1)? == &"00000000" && words.get(7)? == &"00000000";
        let metric: u32 = words.get(6)?.parse().ok()?;
        (is_default && is_usable(words.get(3)?)).then(|| (metric, words[0].to_owned()))
    };
    least(table.lines().skip(1).filter_map(default))
}

/// `destination prefix source prefix gateway metric references use flags
/// name`, all in hex.
fn default_of_v6(table: &str) -> Option<String> {
    let default = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_default = words.first()?.bytes().all(|b| b == b'0') && words.get(1)? == &"00";
        let metric = u32::from_str_radix(words.get(5)?, 16).ok()?;
        let name = *words.get(9)?;
        // The loopback holds the kernel's own "unreachable" entry.
        let usable = is_usable(words.get(8)?) && name != "lo";
        (is_default && usable).then(|| (metric, name.to_owned()))
    };
    least(table.lines().filter_map(default))
}

/// The name with the least metric; the first one of equals, as the kernel
/// chooses.
fn least(routes: impl Iterator<Item = (u32, String)>) -> Option<String> {
    routes
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, name)| name)
}

fn is_usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16)
        .is_ok_and(|flags| flags & ROUTE_UP != 0 && flags & ROUTE_REJECT == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    fn the_default_route_with_the_least_metric_is_taken() {
        let table = format!(
            "{HEAD}eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
             ppp0\t00000000\t00000000\t0001\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth1\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth2\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        );
        assert_eq!(default_of(&table).as_deref(), Some("eth1"));
    }

    #[test]
    fn routes_that_are_down_rejecting_or_cut_are_no_default() {
        for line in [
            "",
            "eth0\t00000000",
            "eth0\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0",
            "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0",
            "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0",
            "eth0\t00000000\t010200C0\tzz\t0\t0\tx\t00000000\t0\t0\t0",
        ] {
            assert_eq!(default_of(&format!("{HEAD}{line}\n")), None, "{line:?}");
        }
        assert_eq!(default_of(""), None);
    }

    #[test]
    fn an_ipv6_default_route_is_found_and_the_loopbacks_is_not() {
        let zero = "0".repeat(32);
        let route = |metric: &str, flags: &str, name: &str| {
            format!("{zero} 00 {zero} 00 {zero} {metric} 00000001 00000000 {flags} {name}\n")
        };
        let table = format!(
            "{}{}{}",
            route("ffffffff", "00200200", "lo"),
            route("00000400", "00000003", "eth1"),
            route("00000100", "00000003", "eth0")
        );
        assert_eq!(default_of_v6(&table).as_deref(), Some("eth0"));
        assert_eq!(default_of_v6(&route("ffffffff", "00200200", "lo")), None);
    }

    #[test]
    fn the_loopback_is_read_as_it_is() {
        let before = read("lo", "boot").expect("every machine has one");
        assert_eq!(
            (before.interface.name.as_str(), before.interface.index),
            ("lo", 1)
        );
        assert_eq!(before.interface.mac, "00:00:00:00:00:00");
        assert!(!is_physical("lo"));
        // Traffic through it is counted in both directions.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let address = socket.local_addr().expect("an address");
        socket.send_to(&[7; 1000], address).expect("sent");
        socket.recv(&mut [0; 1000]).expect("received");
        let after = read("lo", "boot").expect("still there");
        assert!(after.tx >= before.tx + 1000 && after.rx >= before.rx + 1000);
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = read("none0", "boot").expect_err("refused");
        assert!(error.to_string().contains("none0"), "{error}");
    }
}
