//! Users, as the store takes and gives them.

use crate::access::password::PasswordHash;
use crate::access::role::Role;
use crate::access::scope::Scope;
use crate::access::user_name::UserName;

/// Whether a user may sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserState {
    /// Yes.
    Enabled,
    /// No; what they made holds no more either.
    Disabled,
}

/// What a password is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordUse {
    /// To sign in.
    Lasting,
    /// To sign in and choose another, and for nothing else.
    OneTime,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Its id, a UUID that sorts by time.
    pub id: String,
    /// What they sign in with.
    pub name: String,
    /// What others call them.
    pub display_name: String,
    /// What they may do.
    pub role: Role,
    /// The hosts they are restricted to.
    pub scope: Scope,
    /// Whether they may sign in.
    pub state: UserState,
    /// What their password is good for.
    pub password_use: PasswordUse,
    /// When they were made.
    pub created: i64,
    /// When they last signed in.
    pub signed_in: Option<i64>,
    /// Counts changes, so that nobody overwrites one they have not seen.
    pub revision: i64,
}

/// A user and the password to compare with.
#[derive(Debug, Clone)]
pub struct KnownUser {
    /// The user.
    pub user: UserRow,
    /// What is kept of the password.
    pub password: PasswordHash,
}

/// A user to store.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Its id.
    pub id: String,
    /// What they sign in with.
    pub name: UserName,
    /// What others call them.
    pub display_name: String,
    /// What they may do.
    pub role: Role,
    /// The hosts they are restricted to.
    pub scope: Scope,
    /// What is kept of the password, which is a one-time one.
    pub password: PasswordHash,
}

/// What shall be otherwise; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// What others call them.
    pub display_name: Option<String>,
    /// What they may do.
    pub role: Option<Role>,
    /// The hosts they are restricted to.
    pub scope: Option<Scope>,
    /// Whether they may sign in.
    pub state: Option<UserState>,
}

/// A password to store.
#[derive(Debug, Clone)]
pub struct NewPassword {
    /// What is kept of it.
    pub hash: PasswordHash,
    /// What it is good for.
    pub password_use: PasswordUse,
    /// The session that goes on; the user's others end.
    pub keep_session: Option<String>,
}

/// What storing a user found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserInserted {
    /// Stored.
    Done(UserRow),
    /// Another user has the name.
    NameTaken,
    /// Groups of the scope do not exist.
    UnknownGroups(Vec<String>),
}

/// What changing or deleting a user found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChanged {
    /// Done; this is the user as it is now, or was.
    Done(UserRow),
    /// There is no such user.
    Unknown,
    /// Somebody else changed it meanwhile.
    Stale,
    /// Nobody would be left who may manage users.
    LastAdmin,
    /// Groups of the scope do not exist.
    UnknownGroups(Vec<String>),
}

impl UserRow {
    /// Whether they may manage users: an admin who may sign in and is not
    /// restricted to some hosts.
    pub fn is_full_admin(&self) -> bool {
        self.role == Role::Admin && self.scope.is_fleet() && self.state == UserState::Enabled
    }

    /// The user with a change made.
    pub fn with(&self, change: &UserChange) -> Self {
        let mut user = self.clone();
        if let Some(display_name) = &change.display_name {
            user.display_name.clone_from(display_name);
        }
        if let Some(role) = change.role {
            user.role = role;
        }
        if let Some(scope) = &change.scope {
            user.scope.clone_from(scope);
        }
        if let Some(state) = change.state {
            user.state = state;
        }
        user
    }
}
