//! Tokens of programs, as the store takes and gives them.

use crate::access::role::Role;
use crate::access::scope::Scope;
use crate::token::TokenDigest;

/// A token without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenRow {
    /// Its id, a UUID that sorts by time.
    pub id: String,
    /// The operators' name for it.
    pub name: String,
    /// The most it may do.
    pub role: Role,
    /// The hosts it is restricted to, besides its maker's scope.
    pub scope: Scope,
    /// The user who made it; none for the one of the first start.
    pub maker: Option<String>,
    /// When it was made.
    pub created: i64,
    /// Until when it holds.
    pub expires: Option<i64>,
    /// When it was last used, coarsely.
    pub used: Option<i64>,
    /// When it was revoked.
    pub revoked: Option<i64>,
}

impl ApiTokenRow {
    /// Counts changes by operators.
    pub fn revision(&self) -> i64 {
        super::enrolment::revision(self.revoked)
    }
}

/// A token to store.
#[derive(Debug, Clone)]
pub struct NewApiToken {
    /// Its id.
    pub id: String,
    /// The operators' name for it.
    pub name: String,
    /// SHA-256 of its text.
    pub digest: TokenDigest,
    /// The most it may do.
    pub role: Role,
    /// The hosts it is restricted to.
    pub scope: Scope,
    /// The user who makes it.
    pub maker: Option<String>,
    /// Until when it holds.
    pub expires: Option<i64>,
}

/// What storing a token found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiTokenInserted {
    /// Stored.
    Done(ApiTokenRow),
    /// Groups of the scope do not exist.
    UnknownGroups(Vec<String>),
}

/// A token that was not revoked, with what its maker may do now.
#[derive(Debug, Clone)]
pub struct TokenOwner {
    /// The token.
    pub token: ApiTokenRow,
    /// Its maker, who may sign in; none for the one of the first start.
    pub maker: Option<(Role, Scope)>,
}

impl TokenOwner {
    /// What the token may do: no more than its maker, as they stand now.
    pub fn role(&self) -> Role {
        let maker = self.maker.as_ref().map(|(role, _)| *role);
        maker.map_or(self.token.role, |role| role.min(self.token.role))
    }

    /// The hosts it may see: those both may.
    pub fn scope(&self) -> Scope {
        let maker = self.maker.as_ref().map(|(_, scope)| scope.clone());
        maker.unwrap_or_default().and(self.token.scope.clone())
    }
}

/// Which tokens, newest first.
#[derive(Debug, Clone, Default)]
pub struct ApiTokenQuery {
    /// Only of this user.
    pub maker: Option<String>,
    /// After this id.
    pub after: Option<String>,
    /// At most so many.
    pub limit: super::page::Limit,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::scope::HostSet;

    fn owner(maker: Option<(Role, Option<&str>)>, token: (Role, Option<&str>)) -> TokenOwner {
        let set = |text: Option<&str>| {
            let set = text.map(|text| HostSet::tags(text).expect("a selector"));
            Scope::of(set).expect("one set")
        };
        TokenOwner {
            token: ApiTokenRow {
                id: String::new(),
                name: String::new(),
                role: token.0,
                scope: set(token.1),
                maker: None,
                created: 0,
                expires: None,
                used: None,
                revoked: None,
            },
            maker: maker.map(|(role, scope)| (role, set(scope))),
        }
    }

    #[test]
    fn a_token_may_no_more_than_its_maker_may_now() {
        let demoted = owner(Some((Role::Viewer, Some("svc=ecs"))), (Role::Admin, None));
        assert_eq!(demoted.role(), Role::Viewer);
        assert!(!demoted.scope().is_fleet());
        let modest = owner(Some((Role::Admin, None)), (Role::Viewer, Some("svc=ecs")));
        assert_eq!(modest.role(), Role::Viewer);
        assert!(!modest.scope().is_fleet());
        let first = owner(None, (Role::Admin, None));
        assert_eq!(first.role(), Role::Admin);
        assert!(first.scope().is_fleet());
    }
}
