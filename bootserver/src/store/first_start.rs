//! What the very first start stores, and whether it was the first.

use super::user::NewUser;
use crate::token::TokenDigest;

/// What the very first start makes, as the store keeps it.
#[derive(Debug, Clone)]
pub struct FirstTokens {
    /// The first user.
    pub admin: NewUser,
    /// The operator's.
    pub api: TokenDigest,
    /// The hosts'.
    pub enrolment: TokenDigest,
}

/// Whether a start was the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStart {
    /// It was: the tokens are stored.
    First,
    /// It was not: nothing was stored.
    Later,
}
