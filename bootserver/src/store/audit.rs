//! Who did what, as the store takes and gives it. Each change writes its row
//! in its own transaction, so that there is none without the other.

use serde_json::Value;

use super::page::Limit;

/// What kind of thing acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorKind {
    /// A user, in a session.
    User,
    /// A program, by an API token.
    Token,
    /// Somebody on the server's own machine.
    Local,
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// What kind of thing it is.
    pub kind: ActorKind,
    /// The id of the user or token; empty for others.
    pub id: String,
    /// What it was called at that time.
    pub name: String,
}

/// By whom, from where and when a change is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// The request's id.
    pub request: Option<String>,
    /// From which address.
    pub address: Option<String>,
    /// When, in unix milliseconds.
    pub at: i64,
}

/// Which rows, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only by this user or token, by id.
    pub actor: Option<String>,
    /// Only what was done to this thing, by id.
    pub target: Option<String>,
    /// Only this action, such as `user.create`.
    pub action: Option<String>,
    /// Only at this time or later.
    pub since: Option<i64>,
    /// Only before this time.
    pub until: Option<i64>,
    /// After this number, which means older.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: Limit,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    /// Its number; later changes have higher ones.
    pub id: i64,
    /// Who, and when.
    pub by: By,
    /// What was done, such as `user.create`.
    pub action: String,
    /// To what kind of thing.
    pub kind: String,
    /// To which, by id.
    pub target: String,
    /// What was before and is now, in brief.
    pub detail: Value,
}

impl ActorKind {
    /// The word for it, as it is stored and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Token => "token",
            Self::Local => "local",
        }
    }

    /// The kind a word names.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::User, Self::Token, Self::Local]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

impl By {
    /// Somebody on the server's own machine.
    pub fn local(at: i64) -> Self {
        let actor = Actor {
            kind: ActorKind::Local,
            id: String::new(),
            name: "local".into(),
        };
        Self {
            actor,
            request: None,
            address: None,
            at,
        }
    }
}
