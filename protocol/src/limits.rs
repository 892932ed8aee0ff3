//! Resource limits as they are written: `{"CPU": "10%", "memory": "20M"}`.
//!
//! Parsing only; enforcing is the daemon's. K, M and G are powers of 1024 and
//! CPU is percent of one core, so `250%` is two and a half cores.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Smallest CPU limit: the kernel refuses a quota below 1 ms of each 100 ms.
const MIN_CPU_PERCENT: u32 = 1;
/// Largest CPU limit: 1,000 cores.
const MAX_CPU_PERCENT: u32 = 100_000;
/// Smallest memory limit: below this no program starts at all.
const MIN_MEMORY_BYTES: u64 = 1 << 20;

/// Percent of one core, 1 to 100,000. Written `"10%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuPercent(pub u32);

/// Bytes of memory, at least 1 MiB. Written `"20M"`; no suffix means bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemoryBytes(pub u64);

/// Why a limit does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Not a percentage.
    #[error(
        "invalid CPU limit {0:?}: a percentage of one core from \"1%\" to \"100000%\" is expected"
    )]
    Cpu(String),
    /// Not a size.
    #[error(
        "invalid memory limit {0:?}: a size of at least 1M such as \"20M\" or \"1G\" is expected"
    )]
    Memory(String),
}

impl CpuPercent {
    /// Reads `"10%"`; the sign may be left out.
    pub fn parse(text: &str) -> Result<Self, LimitsError> {
        let fail = || LimitsError::Cpu(crate::truncate(text, 40).to_owned());
        let number = text.trim().strip_suffix('%').unwrap_or(text.trim());
        let percent: u32 = number.trim_end().parse().map_err(|_| fail())?;
        if (MIN_CPU_PERCENT..=MAX_CPU_PERCENT).contains(&percent) {
            Ok(Self(percent))
        } else {
            Err(fail())
        }
    }
}

impl MemoryBytes {
    /// Reads `"20M"`, `"1G"`, `"4096K"` or plain bytes; `B` and `iB` may follow.
    pub fn parse(text: &str) -> Result<Self, LimitsError> {
        let fail = || LimitsError::Memory(crate::truncate(text, 40).to_owned());
        let trimmed = text.trim();
        let digits_end = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (digits, suffix) = trimmed.split_at(digits_end);
        let shift = match suffix.trim().to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            _ => return Err(fail()),
        };
        let number: u64 = digits.parse().map_err(|_| fail())?;
        match number.checked_mul(1 << shift) {
            Some(bytes) if bytes >= MIN_MEMORY_BYTES && bytes <= i64::MAX.unsigned_abs() => {
                Ok(Self(bytes))
            }
            _ => Err(fail()),
        }
    }
}

impl fmt::Display for CpuPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, unit) = [(30, "G"), (20, "M"), (10, "K")]
            .into_iter()
            .find(|(shift, _)| self.0.is_multiple_of(1 << shift))
            .unwrap_or((0, ""));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

macro_rules! text_form {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = LimitsError;
            fn try_from(text: String) -> Result<Self, LimitsError> {
                Self::parse(&text)
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}
text_form!(CpuPercent);
text_form!(MemoryBytes);

/// What a child may use; an absent key is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time as a hard quota.
    #[serde(rename = "CPU", default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuPercent>,
    /// Memory as a hard limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryBytes>,
    /// Processes and threads.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "count"
    )]
    pub pids: Option<u64>,
    /// Open files of one process.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "count"
    )]
    pub files: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A positive count, as a number or, like its neighbours, as text.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Count {
        Number(u64),
        Text(String),
    }
    let number = match Option::<Count>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Count::Number(number)) => Some(number),
        Some(Count::Text(text)) => text.trim().parse().ok(),
    };
    match number {
        Some(number @ 1..=0x7fff_ffff) => Ok(Some(number)),
        _ => Err(serde::de::Error::custom(
            "invalid count: 1 to 2147483647 is expected",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_document_002_read_and_write_back() {
        let text = r#"{"CPU":"10%","memory":"20M"}"#;
        let limits: Limits = serde_json::from_str(text).expect("valid limits");
        assert_eq!(limits.cpu, Some(CpuPercent(10)));
        assert_eq!(limits.memory, Some(MemoryBytes(20 << 20)));
        assert_eq!(serde_json::to_string(&limits).ok().as_deref(), Some(text));
    }

    #[test]
    fn suffixes_are_powers_of_1024_and_nonsense_is_refused() {
        assert_eq!(MemoryBytes::parse("2G"), Ok(MemoryBytes(2 << 30)));
        assert_eq!(
            MemoryBytes::parse("1048577").map(|m| m.to_string()),
            Ok("1048577".into())
        );
        for bad in [
            "",
            "M",
            "-1M",
            "1.5G",
            "20T",
            "0",
            "99999999999999999999G",
            "20 M M",
        ] {
            assert!(MemoryBytes::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "%", "0%", "-5%", "10%%", "1e3%", "100001%"] {
            assert!(CpuPercent::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn counts_may_be_text_but_not_zero() {
        let limits: Result<Limits, _> = serde_json::from_str(r#"{"pids":"12","files":64}"#);
        assert_eq!(
            limits.ok().map(|l| (l.pids, l.files)),
            Some((Some(12), Some(64)))
        );
        assert!(serde_json::from_str::<Limits>(r#"{"pids":0}"#).is_err());
    }
}
