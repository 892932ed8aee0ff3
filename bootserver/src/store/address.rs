//! Where the database is: a file, or a PostgreSQL server.
//!
//! The one rule: a password is in no command line, because everybody on the
//! machine may read those, and in no message.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;

/// What a PostgreSQL address begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Where the database is.
#[derive(Clone)]
pub enum Address {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, with what `PG*` variables and the password file
    /// add to its address.
    Postgres(Box<PgConnectOptions>),
}

/// An address as it was configured, which may hold a password: it is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct AddressText(String);

/// Why an address is none.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It begins like one and goes on wrongly.
    #[error(
        "no valid PostgreSQL address; postgres://USER@HOST:PORT/DATABASE is expected, or \
         postgres:///DATABASE?host=/run/postgresql&user=USER for a socket"
    )]
    Invalid(#[source] sqlx::Error),
    /// It has a password where others can read it.
    #[error(
        "the address has a password, which everybody on this machine could read in the list of \
         processes; write the address into the configuration or a file (--database-file), or the \
         password into ~/.pgpass (PGPASSFILE)"
    )]
    Password,
}

impl AddressText {
    /// An address from a place only its owner reads.
    pub fn private(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// An address from the command line: it may not have a password.
    pub fn argument(text: &str) -> Result<Self, AddressError> {
        if is_postgres(text) && has_password(text) {
            return Err(AddressError::Password);
        }
        Ok(Self(text.to_owned()))
    }

    /// What it names: anything that does not begin like an address of
    /// PostgreSQL is a file.
    pub fn parse(&self) -> Result<Address, AddressError> {
        let text = self.0.as_str();
        if !is_postgres(text) {
            return Ok(Address::Sqlite(PathBuf::from(text)));
        }
        let options = PgConnectOptions::from_str(text).map_err(AddressError::Invalid)?;
        Ok(Address::Postgres(Box::new(options)))
    }
}

impl fmt::Debug for AddressText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("AddressText(***)")
    }
}

/// Without secrets: where it is, not how one gets in.
impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(out, "{}", path.display()),
            Self::Postgres(options) => {
                let database = options.get_database().unwrap_or(options.get_username());
                match options.get_socket() {
                    Some(socket) => write!(out, "{database} at {}", socket.display()),
                    None => {
                        let (host, port) = (options.get_host(), options.get_port());
                        write!(out, "{database} at {host}:{port}")
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Address({self})")
    }
}

fn is_postgres(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// Whether `//USER:PASSWORD@` or `?password=` is there; told from the text,
/// because options keep their password to themselves.
fn has_password(url: &str) -> bool {
    let (_, rest) = url.split_once("//").unwrap_or_default();
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = place.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':')
        || query
            .split('&')
            .any(|pair| pair.starts_with("password=") || pair.starts_with("sslpassword="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_file_and_a_server_is_shown_without_its_password() {
        let parse = |text: &str| AddressText::private(text).parse().expect("an address");
        let shown = |text: &str| parse(text).to_string();
        assert_eq!(shown("/var/lib/a.db"), "/var/lib/a.db");
        assert_eq!(shown("relative.db"), "relative.db");
        assert_eq!(
            shown("postgres://boot:geheim@db.example:6432/fleet"),
            "fleet at db.example:6432"
        );
        assert_eq!(
            shown("postgresql:///fleet?host=/run/postgresql&user=boot"),
            "fleet at /run/postgresql"
        );
        let text = AddressText::private("postgres://boot:geheim@db/fleet");
        let address = text.parse().expect("an address");
        assert!(!format!("{text:?} {address:?}").contains("geheim"));
    }

    #[test]
    fn a_password_on_the_command_line_is_refused() {
        for text in [
            "postgres://boot:geheim@db/fleet",
            "postgres://boot:@db/fleet",
            "postgresql:///fleet?user=boot&password=geheim",
        ] {
            let error = AddressText::argument(text).expect_err("a password");
            assert!(!error.to_string().contains("geheim"), "{error}");
            assert!(matches!(error, AddressError::Password), "{error}");
        }
        for text in [
            "postgres://boot@db:5432/fleet",
            "postgres://db/fleet?options=a:b@c",
            "/var/lib/a:b@c.db",
        ] {
            AddressText::argument(text).expect("no password");
        }
    }

    #[test]
    fn what_is_no_address_says_what_is_expected() {
        let text = AddressText::private("postgres://boot@db:port/fleet");
        let error = text.parse().expect_err("no port");
        assert!(error.to_string().contains("postgres://USER@"), "{error}");
    }
}
