//! Who may do what: roles, scopes, passwords and how often one may be tried.
//!
//! Pure: no store, no HTTP, no clock. `crate::auth` finds out who calls, the
//! handlers name what a route needs, and the store keeps to the scope.

pub mod password;
pub mod role;
pub mod scope;
pub mod session;
pub mod throttle;
pub mod user_name;
