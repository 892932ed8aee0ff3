//! Sessions of users, as the store takes and gives them.

use super::user::UserRow;
use crate::access::password::PasswordHash;
use crate::token::TokenDigest;

/// A session to store.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: String,
    /// SHA-256 of its token.
    pub digest: TokenDigest,
    /// Whose it is.
    pub user: String,
    /// The password that was shown: one changed meanwhile opens nothing.
    pub password: PasswordHash,
    /// When it ends, whatever happens.
    pub expires: i64,
    /// What the client says it is.
    pub client: String,
}

/// What beginning a session found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionBegun {
    /// It holds.
    Done,
    /// The user was disabled or got another password meanwhile.
    Refused,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id, a UUID that sorts by time.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// When it began.
    pub created: i64,
    /// When it was last used, coarsely.
    pub seen: i64,
    /// When it ends, whatever happens.
    pub expires: i64,
    /// From where it began.
    pub address: Option<String>,
    /// What the client said it is.
    pub client: String,
}

/// A session and its user, who may sign in.
#[derive(Debug, Clone)]
pub struct SessionOwner {
    /// The session.
    pub session: SessionRow,
    /// The user.
    pub user: UserRow,
}

/// What ending a session found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnded {
    /// It does not hold any more.
    Done,
    /// There is no such session.
    Unknown,
}
