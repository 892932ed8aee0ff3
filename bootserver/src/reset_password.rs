//! `bootserver reset-password NAME`: a way in for whoever may read the
//! database, when nobody can sign in any more.
//!
//! It works beside a server that runs. The password is for one time, and is
//! shown as the first start shows its own.

use anyhow::{Context, bail};

use crate::access::password::Password;
use crate::access::throttle::name_bucket;
use crate::access::user_name::UserName;
use crate::clock::unix_millis;
use crate::config::Config;
use crate::data_dir::write_atomic;
use crate::first_start::Show;
use crate::store::audit::By;
use crate::store::user::{NewPassword, PasswordUse, UserChanged, UserState};
use crate::store::{self, Store};

/// Gives a user a one-time password; tells it, or where it is.
pub async fn reset_password(config: &Config, name: &str) -> anyhow::Result<String> {
    let name = UserName::parse(name).with_context(|| format!("the name {name:?}"))?;
    let store = store::open(&config.database)
        .await
        .with_context(|| format!("the database {}", config.database))?;
    let done = reset(store.as_ref(), config, &name).await;
    store.close().await;
    done
}

async fn reset(store: &dyn Store, config: &Config, name: &UserName) -> anyhow::Result<String> {
    let known = store
        .user_by_name(name.as_str())
        .await
        .context("looking for the user")?;
    let Some(known) = known else {
        bail!("there is no user {name}; the first start made `admin`");
    };
    let password = Password::one_time();
    let line = format!("{name}_password={}\n", password.expose());
    let show = Show::on_terminal_or(config.data.join(format!("password-of-{name}.txt")));
    // As at the first start: shown before it holds, so that no crash loses it.
    if let Show::File(path) = &show {
        write_atomic(path, &line, 0o600)
            .with_context(|| format!("writing the password to {}", path.display()))?;
    }
    let new = NewPassword {
        hash: password.hash(),
        password_use: PasswordUse::OneTime,
        keep_session: None,
    };
    let by = By::local(unix_millis());
    let found = store
        .set_password(&known.user.id, &new, &by)
        .await
        .context("storing the password")?;
    let UserChanged::Done(user) = found else {
        bail!("the user {name} was deleted meanwhile");
    };
    store
        .forget_attempts(&name_bucket(name.as_str()))
        .await
        .context("forgetting attempts to sign in")?;
    let mut told = match show {
        Show::Terminal => format!("# for one time; it is shown this once\n{}", line.trim_end()),
        Show::File(path) => format!("the one-time password is in {}", path.display()),
    };
    if user.state == UserState::Disabled {
        told.push_str(&format!(
            "\n# {name} is disabled; an admin has to enable them"
        ));
    }
    Ok(told)
}
