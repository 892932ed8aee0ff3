//! Packages, as the store takes and gives them.

use crate::fleet::package_choice::{Offer, PackageKind};

use super::page::Limit;

/// One package file. (name, version, os, arch, kind) is there once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRow {
    /// Its id, a UUID that sorts by time.
    pub id: String,
    /// The agent.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `linux`, a distribution, or a release of one.
    pub os: String,
    /// Machine architecture.
    pub arch: String,
    /// What the file is.
    pub kind: PackageKind,
    /// Its path below `/packages/`.
    pub file: String,
    /// Bytes.
    pub size: i64,
    /// SHA-256 as 64 hexadecimal digits: the name of its blob.
    pub sha256: String,
    /// When it was uploaded.
    pub created: i64,
    /// The text of its `.minisig`, which jobs pass on.
    pub signature: Option<String>,
}

impl PackageRow {
    /// What the file was made for.
    pub fn offer(&self) -> Offer<'_> {
        Offer {
            os: &self.os,
            arch: &self.arch,
            kind: self.kind,
        }
    }

    /// The address in jobs: relative to the server that gave the job.
    pub fn url(&self) -> String {
        format!("/packages/{}", self.file)
    }
}

/// Which packages, newest first.
#[derive(Debug, Clone, Default)]
pub struct PackageQuery {
    /// Only of this agent.
    pub name: Option<String>,
    /// Only this version.
    pub version: Option<String>,
    /// After this id.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Limit,
}

/// What inserting a package found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageInserted {
    /// It is new.
    Done,
    /// This one is already there in its place, with the same or another content.
    Exists(Box<PackageRow>),
}

/// What deleting a package found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageDeleted {
    /// It is gone.
    Done {
        /// SHA-256 of a blob that no package needs any more.
        orphan: Option<String>,
    },
    /// An open job needs it.
    InUse {
        /// One of these jobs.
        job: String,
    },
    /// A rollout at work needs it.
    InRollout {
        /// Its id.
        rollout: String,
    },
    /// An assignment gives it to hosts.
    Assigned {
        /// Its id.
        assignment: String,
    },
    /// There is no such package.
    Unknown,
}
