//! What a package says about itself, and whether that is what the job says.
//!
//! rpm and dpkg-deb read their own files; the parsing of their answers is
//! pure. The one rule: a package that is not what the job ordered is refused
//! before anything of it runs.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use bootagent_protocol::{ARCH, ErrorCode};

use super::Kind;
use super::archive::Bounds;
use super::bundle::{self, Expected};
use super::run::{Command, Exit, Output, Run};
use crate::download::Failure;

/// How long the package manager may read one file.
const QUERY_DEADLINE: Duration = Duration::from_secs(60);
/// What packages of ours are called on a distribution beside the agent's name.
const NAME_PREFIX: &str = "bootagent-";

/// What a package says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name as its package manager knows it.
    pub name: String,
    /// rpm's and deb's epoch.
    pub epoch: Option<String>,
    /// The version; of a bundle the whole of it.
    pub version: String,
    /// rpm's release, deb's revision.
    pub release: Option<String>,
    /// rpm's or dpkg's word for the architecture; a bundle has none.
    pub arch: Option<String>,
}

impl Header {
    /// Version and release as the database prints them: `1.2.1-1`.
    pub fn full_version(&self) -> String {
        let release = self
            .release
            .iter()
            .flat_map(|release| ["-", release.as_str()]);
        let epoch = self.epoch.iter().flat_map(|epoch| [epoch.as_str(), ":"]);
        epoch
            .chain([self.version.as_str()])
            .chain(release)
            .collect()
    }

    /// 3004 unless name, version and architecture are what was ordered.
    ///
    /// 1. The name is the agent's, or that after `bootagent-`. deb names know
    ///    neither capitals nor `_`, so these do not count.
    /// 2. The version may be given with or without release, epoch and
    ///    architecture.
    /// 3. The architecture is this host's or none.
    pub fn check(&self, expected: &Expected, host_arch: &str) -> Result<(), Failure> {
        let mismatch = |what: &str, is: &str, wanted: &str| {
            Failure::new(
                ErrorCode::PACKAGE_MISMATCH,
                format!("the package's {what} is {is}, {wanted}; correct the job or the package"),
            )
        };
        let wanted = plain(expected.name.as_str());
        let name = plain(&self.name);
        if name != wanted && name.strip_prefix(NAME_PREFIX) != Some(&wanted) {
            let job = format!("the job says {}", expected.name);
            return Err(mismatch("name", &self.name, &job));
        }
        if let Some(version) = expected.version.as_ref().map(|version| version.as_str())
            && !self.versions().iter().any(|known| known == version)
        {
            let job = format!("the job says {version}");
            return Err(mismatch("version", &self.full_version(), &job));
        }
        match &self.arch {
            Some(arch) if !runs_on(arch, host_arch) => {
                let host = format!("this host's is {host_arch}");
                Err(mismatch("architecture", arch, &host))
            }
            _ => Ok(()),
        }
    }

    /// Every way in which a job may write this version.
    fn versions(&self) -> Vec<String> {
        let full = self.full_version();
        let short = match &self.release {
            Some(release) => format!("{}-{release}", self.version),
            None => self.version.clone(),
        };
        let mut versions = vec![self.version.clone(), short.clone(), full.clone()];
        if let Some(arch) = &self.arch {
            versions.extend([format!("{short}.{arch}"), format!("{full}.{arch}")]);
        }
        versions
    }
}

fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Whether a package of `arch`, in rpm's or dpkg's words, runs on a host whose
/// programs are built for `host`, in Rust's.
fn runs_on(arch: &str, host: &str) -> bool {
    let words: &[&str] = match host {
        "x86_64" => &["x86_64", "amd64", "i386", "i486", "i586", "i686"],
        "x86" => &["i386", "i486", "i586", "i686"],
        "aarch64" => &["aarch64", "arm64"],
        "arm" => &["armhf", "armel", "armv7hl", "armv6hl"],
        "riscv64" => &["riscv64"],
        "powerpc64" => &["ppc64", "ppc64le", "ppc64el"],
        "s390x" => &["s390x"],
        "loongarch64" => &["loongarch64", "loong64"],
        _ => &[],
    };
    ["noarch", "all", host].contains(&arch) || words.contains(&arch)
}

/// Asks the package at `path` what it is; `path` must be absolute.
///
/// # Errors
/// 3004 when it cannot be read as a package of its kind, 3005 when the
/// program that reads it cannot be started; a bundle's as in [`bundle`].
pub fn inspect(path: &Path, kind: Kind, run: &dyn Run) -> Result<Header, Failure> {
    let format = match kind {
        Kind::Bundle => {
            let manifest = bundle::read_manifest(path, &Bounds::default())?;
            return Ok(Header {
                name: manifest.name.into(),
                epoch: None,
                version: manifest.version.into(),
                release: None,
                arch: None,
            });
        }
        Kind::Rpm => r"%{NAME}\t%{EPOCH}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\n",
        Kind::Deb => r"--showformat=${Package}\t${Version}\t${Architecture}\n",
    };
    let format = OsStr::new(format);
    let argv: &[&OsStr] = match kind {
        Kind::Rpm => &[
            "rpm".as_ref(),
            "-qp".as_ref(),
            "--queryformat".as_ref(),
            format,
            path.as_ref(),
        ],
        _ => &[
            "dpkg-deb".as_ref(),
            format,
            "--show".as_ref(),
            path.as_ref(),
        ],
    };
    let output = query(&Command::new(argv, QUERY_DEADLINE), run)?;
    let unreadable = |why: &str| {
        Failure::new(
            ErrorCode::PACKAGE_MISMATCH,
            format!("the {kind} cannot be read ({why}); build and upload it again"),
        )
    };
    if output.exit != Exit::Code(0) {
        return Err(unreadable(&last_words(&output)));
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let header = match kind {
        Kind::Rpm => parse_rpm(&line),
        _ => parse_deb(&line),
    };
    header.ok_or_else(|| unreadable("its header lacks a name, version or architecture"))
}

/// Whether the package is `expected` and for this host.
///
/// # Errors
/// 3004, naming what differs.
pub fn check(header: &Header, expected: &Expected) -> Result<(), Failure> {
    header.check(expected, ARCH)
}

/// Whether the package may replace the version `installed` without the job
/// saying `downgrade`.
///
/// # Errors
/// 3004 for an older one.
pub fn check_not_older(header: &Header, installed: &str) -> Result<(), Failure> {
    let new = header.full_version();
    match bootagent_core::version::compare(&new, installed) {
        Ordering::Less => Err(older(&format!(
            "{new} is older than the installed {installed}"
        ))),
        Ordering::Equal | Ordering::Greater => Ok(()),
    }
}

/// An older version that no job asked for.
pub(super) fn older(what: &str) -> Failure {
    Failure::new(
        ErrorCode::PACKAGE_MISMATCH,
        format!("{what}; say downgrade in the job to replace a newer version"),
    )
}

/// Runs a short query.
pub(super) fn query(command: &Command, run: &dyn Run) -> Result<Output, Failure> {
    run.run(command).map_err(|error| {
        let program = command.argv[0].to_string_lossy().into_owned();
        Failure::new(
            ErrorCode::PACKAGE_KIND_UNSUPPORTED,
            format!("cannot run {program}; install it or order another kind of package"),
        )
        .because(error)
    })
}

/// The last line a program complained with, for a message.
pub(super) fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    match (line, output.exit) {
        (Some(line), _) => bootagent_protocol::truncate(line, 300).to_owned(),
        (None, Exit::TimedOut) => "it did not answer in time".to_owned(),
        (None, exit) => format!("{exit:?}"),
    }
}

fn parse_rpm(line: &str) -> Option<Header> {
    let mut fields = line.lines().next()?.split('\t');
    let mut next = || {
        fields
            .next()
            .map(str::to_owned)
            .filter(|field| !field.is_empty())
    };
    let (name, epoch, version) = (next()?, next()?, next()?);
    let (release, arch) = (next()?, next()?);
    let epoch = Some(epoch).filter(|epoch| epoch != "(none)");
    Some(Header {
        name,
        epoch,
        version,
        release: Some(release),
        arch: Some(arch),
    })
}

fn parse_deb(line: &str) -> Option<Header> {
    let fields: Vec<&str> = line.lines().next()?.split('\t').collect();
    let &[name, full, arch] = fields.as_slice() else {
        return None;
    };
    if fields.contains(&"") {
        return None;
    }
    let (epoch, rest) = match full.split_once(':') {
        Some((epoch, rest)) => (Some(epoch), rest),
        None => (None, full),
    };
    let (version, release) = match rest.rsplit_once('-') {
        Some((version, release)) => (version, Some(release)),
        None => (rest, None),
    };
    Some(Header {
        name: name.to_owned(),
        epoch: epoch.map(str::to_owned),
        version: version.to_owned(),
        release: release.map(str::to_owned),
        arch: Some(arch.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use bootagent_protocol::{AgentName, Version};

    use super::*;

    fn expected(name: &str, version: Option<&str>) -> Expected {
        Expected {
            name: AgentName::parse(name).expect("valid"),
            version: version.map(|version| Version::parse(version).expect("valid")),
        }
    }

    #[test]
    fn the_version_of_a_job_may_be_short_or_long() {
        let header = parse_rpm("BasicAgent\t2\t0.1.0\t0\tx86_64\n").expect("parsed");
        assert_eq!(header.full_version(), "2:0.1.0-0");
        for good in [
            None,
            Some("0.1.0"),
            Some("0.1.0-0"),
            Some("2:0.1.0-0"),
            Some("0.1.0-0.x86_64"),
        ] {
            assert!(
                header
                    .check(&expected("BasicAgent", good), "x86_64")
                    .is_ok(),
                "{good:?}"
            );
        }
        for bad in ["0.1", "0.1.0-1", "1:0.1.0-0", "0.1.0-0.noarch"] {
            let refused = header.check(&expected("BasicAgent", Some(bad)), "x86_64");
            assert_eq!(
                refused.map_err(|f| f.code),
                Err(ErrorCode::PACKAGE_MISMATCH),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_deb_name_knows_no_capitals_and_no_underscore() {
        let header = parse_deb("bootagent-basic-agent\t1:2.0-rc1-3\tamd64\n").expect("parsed");
        assert_eq!(
            (header.version.as_str(), header.release.as_deref()),
            ("2.0-rc1", Some("3"))
        );
        assert!(
            header
                .check(&expected("Basic_Agent", Some("2.0-rc1-3")), "x86_64")
                .is_ok()
        );
        let other = header
            .check(&expected("Agent", None), "x86_64")
            .expect_err("another name");
        assert!(other.message.contains("bootagent-basic-agent"), "{other}");
    }

    #[test]
    fn a_package_for_another_machine_is_refused() {
        let header = parse_rpm("a\t(none)\t1\t1\taarch64\n").expect("parsed");
        assert_eq!(header.epoch, None);
        assert!(header.check(&expected("a", None), "aarch64").is_ok());
        let refused = header
            .check(&expected("a", None), "x86_64")
            .expect_err("wrong machine");
        assert_eq!(refused.code, ErrorCode::PACKAGE_MISMATCH);
        for (arch, host) in [
            ("noarch", "arm"),
            ("all", "s390x"),
            ("i686", "x86_64"),
            ("arm64", "aarch64"),
        ] {
            assert!(runs_on(arch, host), "{arch} on {host}");
        }
        assert!(!runs_on("x86_64", "x86"));
    }

    #[test]
    fn half_an_answer_is_no_header() {
        for bad in ["", "\n", "a\t(none)\t1\t\tx86_64\n", "a\t(none)\t1"] {
            assert_eq!(parse_rpm(bad), None, "{bad:?}");
        }
        for bad in ["", "\n", "a\t1", "a\t\tall\n", "a\t1\tall\tmore\n"] {
            assert_eq!(parse_deb(bad), None, "{bad:?}");
        }
    }
}
