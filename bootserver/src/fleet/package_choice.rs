//! Which file of a package fits a host.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a package file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PackageKind {
    /// For rpm.
    Rpm,
    /// For dpkg.
    Deb,
    /// A `.tar.gz` that BootAgent unpacks itself.
    Bundle,
}

impl PackageKind {
    /// All kinds; the host's own package manager before a bundle.
    pub const ALL: [PackageKind; 3] = [Self::Rpm, Self::Deb, Self::Bundle];

    /// The word in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rpm => "rpm",
            Self::Deb => "deb",
            Self::Bundle => "bundle",
        }
    }

    /// The kind a word means.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The end of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Rpm => "rpm",
            Self::Deb => "deb",
            Self::Bundle => "tar.gz",
        }
    }
}

/// What a package file was made for.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// `linux`, a distribution such as `debian`, or one release such as `debian 12`.
    pub os: &'a str,
    /// `x86_64`, `aarch64`, or `noarch`.
    pub arch: &'a str,
    /// What the file is.
    pub kind: PackageKind,
}

/// What a host said it is; empty when it did not.
#[derive(Debug, Clone, Copy)]
pub struct HostSystem<'a> {
    /// `ID VERSION_ID` of os-release.
    pub os: &'a str,
    /// Machine architecture.
    pub arch: &'a str,
}

/// Families of distributions by the kind of their packages.
const RPM_SYSTEMS: [&str; 17] = [
    "centos",
    "rhel",
    "rocky",
    "almalinux",
    "fedora",
    "ol",
    "amzn",
    "anolis",
    "openeuler",
    "opencloudos",
    "tencentos",
    "kylin",
    "alinux",
    "sles",
    "opensuse-leap",
    "opensuse-tumbleweed",
    "scientific",
];
const DEB_SYSTEMS: [&str; 8] = [
    "debian",
    "ubuntu",
    "deepin",
    "uos",
    "linuxmint",
    "raspbian",
    "kali",
    "devuan",
];

/// One spelling per architecture: dpkg and rpm have their own.
pub fn canonical_arch(arch: &str) -> &str {
    match arch {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "all" | "any" => "noarch",
        other => other,
    }
}

/// How well a file fits a host: the more it was made for it, the more. A host that
/// did not say what it is takes anything: it answers 3004 or 3005 itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    os: OsFit,
    arch: ArchFit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OsFit {
    Any,
    Distribution,
    /// `rocky 9` for a `rocky 9.4`.
    MajorRelease,
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ArchFit {
    Any,
    Own,
}

/// How well the file fits the host; nothing when it cannot run there.
fn fit(offer: Offer<'_>, host: HostSystem<'_>) -> Option<Fit> {
    let of_release = || host.os.strip_prefix(offer.os)?.chars().next();
    let os = match offer.os {
        "linux" => OsFit::Any,
        _ if host.os.is_empty() => OsFit::Any,
        os if os == host.os => OsFit::Release,
        os if os == system_id(host.os) => OsFit::Distribution,
        _ if of_release() == Some('.') => OsFit::MajorRelease,
        _ => return None,
    };
    let arch = match canonical_arch(offer.arch) {
        "noarch" => ArchFit::Any,
        _ if host.arch.is_empty() => ArchFit::Any,
        arch if arch == canonical_arch(host.arch) => ArchFit::Own,
        _ => return None,
    };
    Some(Fit { os, arch })
}

/// Picks the file for a host, newest first in `offers`:
/// 1. only what runs on it counts;
/// 2. if there are several kinds, that of the host's package manager, then a bundle;
/// 3. what was made for its release, then for its distribution, then for any, and
///    for its architecture before any;
/// 4. the newest.
pub fn choose(offers: &[Offer<'_>], host: HostSystem<'_>) -> Option<usize> {
    let fitting = offers.iter().enumerate();
    let fitting =
        fitting.filter_map(|(index, offer)| Some((index, offer.kind, fit(*offer, host)?)));
    let fitting: Vec<_> = fitting.collect();
    let (_, first, _) = *fitting.first()?;
    let id = system_id(host.os);
    let kinds = if fitting.iter().all(|(_, kind, _)| *kind == first) {
        [first, first]
    } else if RPM_SYSTEMS.contains(&id) {
        [PackageKind::Rpm, PackageKind::Bundle]
    } else if DEB_SYSTEMS.contains(&id) {
        [PackageKind::Deb, PackageKind::Bundle]
    } else {
        [PackageKind::Bundle, PackageKind::Bundle]
    };
    kinds.into_iter().find_map(|wanted| {
        let of_kind = fitting.iter().filter(|(_, kind, _)| *kind == wanted);
        let best = of_kind.min_by_key(|(index, _, fit)| (Reverse(*fit), *index));
        best.map(|(index, ..)| *index)
    })
}

fn system_id(os: &str) -> &str {
    os.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(offers: &[(&str, &str, PackageKind)], os: &str, arch: &str) -> Option<usize> {
        let offers: Vec<_> = offers
            .iter()
            .map(|&(os, arch, kind)| Offer { os, arch, kind })
            .collect();
        choose(&offers, HostSystem { os, arch })
    }
    use PackageKind::{Bundle, Deb, Rpm};

    #[test]
    fn a_host_gets_the_kind_of_its_package_manager() {
        let all = [
            ("linux", "x86_64", Bundle),
            ("linux", "x86_64", Rpm),
            ("linux", "amd64", Deb),
        ];
        assert_eq!(check(&all, "centos 7", "x86_64"), Some(1));
        assert_eq!(check(&all, "debian 12", "x86_64"), Some(2));
        assert_eq!(check(&all, "gentoo", "x86_64"), Some(0));
        assert_eq!(check(&all, "", ""), Some(0));
    }

    #[test]
    fn one_uploaded_file_goes_everywhere_it_can_run() {
        assert_eq!(
            check(&[("linux", "x86_64", Bundle)], "debian 12", "x86_64"),
            Some(0)
        );
        assert_eq!(
            check(&[("linux", "x86_64", Rpm)], "debian 12", "x86_64"),
            Some(0)
        );
        assert_eq!(
            check(&[("linux", "x86_64", Bundle)], "debian 12", "aarch64"),
            None
        );
        assert_eq!(
            check(&[("linux", "noarch", Bundle)], "debian 12", "aarch64"),
            Some(0)
        );
    }

    #[test]
    fn a_file_for_one_distribution_stays_there() {
        let two = [("debian 11", "x86_64", Deb), ("debian", "x86_64", Deb)];
        assert_eq!(check(&two, "debian 12", "x86_64"), Some(1));
        assert_eq!(check(&two, "ubuntu 24.04", "x86_64"), None);
    }

    #[test]
    fn what_was_made_for_a_host_goes_before_what_is_newer() {
        let all = [
            ("linux", "x86_64", Rpm),
            ("rocky", "noarch", Rpm),
            ("rocky", "x86_64", Rpm),
            ("rocky 9", "x86_64", Rpm),
            ("rocky 9.4", "x86_64", Rpm),
            ("rocky 9.4", "x86_64", Bundle),
        ];
        assert_eq!(check(&all, "rocky 9.4", "x86_64"), Some(4));
        assert_eq!(check(&all, "rocky 9.5", "x86_64"), Some(3));
        assert_eq!(check(&all, "rocky 95", "x86_64"), Some(2));
        assert_eq!(check(&all, "rocky 8.10", "aarch64"), Some(1));
        assert_eq!(check(&all, "centos 7", "x86_64"), Some(0));
        assert_eq!(check(&all[1..], "centos 7", "x86_64"), None);
    }
}
