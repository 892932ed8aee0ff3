//! The very first start makes the user `admin` with a one-time password, an API
//! token and an enrolment token.
//!
//! They are shown once: on a terminal, or in a file only its owner may read.
//! The one rule: the file is on disk before the store says that the first
//! start has been, so that no crash leaves a platform nobody can enter.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;

use crate::access::password::Password;
use crate::access::role::Role;
use crate::access::scope::Scope;
use crate::access::user_name::UserName;
use crate::clock::unix_millis;
use crate::data_dir::write_atomic;
use crate::store::user::NewUser;
use crate::store::{FirstStart, FirstTokens, Store};
use crate::token::{Token, TokenKind};

/// The name of the first user.
const ADMIN: &str = "admin";

/// Where the tokens are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// Printed on standard output.
    Terminal,
    /// Written to this file, mode 0600.
    File(PathBuf),
}

impl Show {
    /// The terminal, if standard output is one, and otherwise a file.
    pub fn on_terminal_or(file: PathBuf) -> Self {
        if std::io::stdout().is_terminal() {
            Self::Terminal
        } else {
            Self::File(file)
        }
    }
}

/// Makes and shows the tokens, if this is the first start.
pub async fn first_start(store: &dyn Store, show: &Show) -> anyhow::Result<FirstStart> {
    let asking = "asking whether this is the first start";
    if store.is_first_start().await.context(asking)? == FirstStart::Later {
        return Ok(FirstStart::Later);
    }
    let api = Token::generate(TokenKind::Api);
    let enrolment = Token::generate(TokenKind::Enrolment);
    let password = Password::one_time();
    let admin = NewUser {
        id: Uuid::now_v7().to_string(),
        name: UserName::parse(ADMIN).expect("it is a name"),
        display_name: String::new(),
        role: Role::Admin,
        scope: Scope::fleet(),
        password: password.hash(),
    };
    let lines = format!(
        "admin_password={}\napi_token={}\nenrolment_token={}\n",
        password.expose(),
        api.expose(),
        enrolment.expose()
    );
    if let Show::File(path) = show {
        write_tokens(path, &lines)?;
    }
    let tokens = FirstTokens {
        admin,
        api: api.digest(),
        enrolment: enrolment.digest(),
    };
    let storing = "storing the tokens of the first start";
    if store
        .first_start(&tokens, unix_millis())
        .await
        .context(storing)?
        == FirstStart::Later
    {
        // Another replica was first: what we wrote opens nothing.
        if let Show::File(path) = show {
            let _ = std::fs::remove_file(path);
        }
        return Ok(FirstStart::Later);
    }
    match show {
        Show::File(path) => {
            let path = path.display();
            tracing::info!("first start: the API token and the enrolment token are in {path}");
        }
        Show::Terminal => {
            let mut out = std::io::stdout().lock();
            writeln!(
                out,
                "# first start; these tokens are shown this once\n{lines}"
            )
            .context("printing the tokens of the first start")?;
        }
    }
    Ok(FirstStart::First)
}

fn write_tokens(path: &Path, lines: &str) -> anyhow::Result<()> {
    let text =
        format!("# made at the first start; keep them elsewhere and delete this file\n{lines}");
    write_atomic(path, &text, 0o600).with_context(|| {
        format!(
            "writing the tokens of the first start to {}",
            path.display()
        )
    })
}
