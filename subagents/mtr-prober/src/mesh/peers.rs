//! The list of peers, as a person or the platform writes it: one a line.
//!
//! ```text
//! # address, then what is known of it
//! 192.0.2.1
//! 192.0.2.2   name=de-fra-1 line=telecom
//! 2001:db8::7 name=cn-gz-3  line=eth1 silent
//! ```
//!
//! `name` is what the other end calls itself; only who has one is told what came of his pings. `line` is a
//! line's name, an interface or an address of this machine. Of who is `silent` nothing is raised.
//!
//! The one rule: a list is taken as a whole or not at all.

use std::collections::HashMap;
use std::net::IpAddr;

use super::guard::Voice;
use crate::order::is_one_host;

/// Most peers.
pub const MAX_PEERS: usize = 5_000;
/// Bytes of a list.
pub const MAX_BYTES: u64 = 1 << 20;
/// Longest name of a peer or line, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub address: IpAddr,
    /// What it calls itself.
    pub name: Option<String>,
    /// By which line it is pinged; none means as the kernel's routes say.
    pub line: Option<String>,
    /// Whether its trouble is raised.
    pub voice: Voice,
}

impl Entry {
    /// How it is called.
    #[must_use]
    pub fn called(&self) -> String {
        let name = self.name.clone();
        name.unwrap_or_else(|| self.address.to_string())
    }
}

/// Why a list is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ListError {
    /// Which line, from 1 on.
    pub line: usize,
    /// What is wrong there and what would be right.
    pub reason: String,
}

/// Reads a list.
pub fn parse(text: &str) -> Result<Vec<Entry>, ListError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen: HashMap<(IpAddr, Option<String>), usize> = HashMap::new();
    for (at, said) in text.lines().enumerate() {
        let line = at + 1;
        let wrong = |reason: String| ListError { line, reason };
        let said = said.split('#').next().unwrap_or_default();
        let mut words = said.split_whitespace();
        let Some(address) = words.next() else {
            continue;
        };
        let entry = entry(address, words).map_err(wrong)?;
        let key = (entry.address, entry.line.clone());
        if let Some(before) = seen.insert(key, line) {
            let reason = format!(
                "{address} is in line {before} already, by the same line; remove one of the two"
            );
            return Err(wrong(reason));
        }
        if entries.len() >= MAX_PEERS {
            let reason = format!("at most {MAX_PEERS} peers are pinged; remove some");
            return Err(wrong(reason));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// What becomes of the pings of so many peers where the budget is too small for one a second to each.
#[must_use]
pub fn beyond_budget(peers: usize, budget: u32) -> Option<String> {
    let wanted = u32::try_from(peers).unwrap_or(u32::MAX);
    (wanted > budget).then(|| {
        let seconds = f64::from(wanted) / f64::from(budget.max(1));
        let enough = wanted.saturating_add(wanted / 4);
        format!(
            "each of {peers} peers is pinged every {seconds:.1} s at best, and little else is measured: `budget` is {budget} probes a second, {enough} are enough"
        )
    })
}

fn entry<'a>(address: &str, words: impl Iterator<Item = &'a str>) -> Result<Entry, String> {
    let parsed = address.parse::<IpAddr>();
    let address = parsed.map_err(|_| {
        let shown: String = address.chars().take(80).collect();
        format!("{shown:?} is no address; write it as 192.0.2.1 or 2001:db8::1")
    })?;
    let address = address.to_canonical();
    is_one_host(address)?;
    let mut entry = Entry {
        address,
        name: None,
        line: None,
        voice: Voice::Raised,
    };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let is_name =
            (1..=MAX_NAME_BYTES).contains(&value.len()) && !value.chars().any(char::is_control);
        match (key, is_name) {
            ("name", true) => entry.name = Some(value.to_owned()),
            ("line", true) => entry.line = Some(value.to_owned()),
            ("silent", false) if word == "silent" => entry.voice = Voice::Silent,
            _ => {
                let shown: String = word.chars().take(80).collect();
                return Err(format!(
                    "{shown:?} is not understood; behind the address there may be name=NAME, line=LINE (1 to 64 bytes) and silent"
                ));
            }
        }
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_line_by_line() {
        let list = "# ours\n\n192.0.2.1\n192.0.2.2 name=de-fra-1 line=telecom # far\r\n\
             192.0.2.2 line=unicom silent\n::ffff:192.0.2.3";
        let read = parse(list).expect("valid");
        let shown: Vec<_> = read
            .iter()
            .map(|it| (it.called(), it.line.as_deref(), it.voice))
            .collect();
        assert_eq!(
            shown,
            [
                ("192.0.2.1".to_owned(), None, Voice::Raised),
                ("de-fra-1".to_owned(), Some("telecom"), Voice::Raised),
                ("192.0.2.2".to_owned(), Some("unicom"), Voice::Silent),
                ("192.0.2.3".to_owned(), None, Voice::Raised),
            ]
        );
    }

    #[test]
    fn more_peers_than_the_budget_are_said_with_their_rate_and_the_budget_there_should_be() {
        assert_eq!(beyond_budget(2_000, 2_000), None);
        let said = beyond_budget(5_000, 2_000).expect("too many");
        for part in ["every 2.5 s", "`budget` is 2000", "6250 are enough"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_what_would_be_right() {
        for (list, line, part) in [
            ("192.0.2.1\n192.0.2.256", 2, "write it as"),
            ("192.0.2.1 silence", 1, "silent"),
            ("192.0.2.1 name=", 1, "name=NAME"),
            ("\n\n224.0.0.1", 3, "one host"),
            ("192.0.2.1\n192.0.2.2\n192.0.2.1", 3, "line 1"),
        ] {
            let error = parse(list).expect_err(list);
            assert_eq!(error.line, line, "{list:?}");
            assert!(error.reason.contains(part), "{error}");
        }
        let many: String = (0..=MAX_PEERS)
            .map(|it| format!("10.0.{}.{}\n", it / 256, it % 256))
            .collect();
        assert_eq!(parse(&many).expect_err("too many").line, MAX_PEERS + 1);
    }
}
