//! Users. Whoever changes one first takes the lock that keeps the last admin:
//! two who take each other's rights away at once must not both succeed.

use serde_json::{Value, json};
use sqlx::{QueryBuilder, Row};

use super::audit::{Deed, note};
use super::scope::hold_groups;
use super::{DbRow, SqlStore, Write, failed, from_json, listing, one_at_a_time, to_json};
use crate::access::password::PasswordHash;
use crate::access::role::Role;
use crate::access::scope::Scope;
use crate::store::audit::By;
use crate::store::page::{Limit, Page};
use crate::store::user::{
    KnownUser, NewPassword, NewUser, PasswordUse, UserChange, UserChanged, UserInserted, UserRow,
    UserState,
};
use crate::store::{Failure, Result, StoreError};

pub(super) async fn list(
    store: &SqlStore,
    after: Option<String>,
    limit: Limit,
) -> Result<Page<UserRow>> {
    let mut sql = QueryBuilder::new("SELECT * FROM user_account WHERE 1 = 1");
    if let Some(after) = after {
        sql.push(" AND name > ").push_bind(after);
    }
    sql.push(" ORDER BY name");
    let key = |user: &UserRow| user.name.clone();
    listing::page(store, "listing users", sql, limit, read, key).await
}

pub(super) async fn by_id(store: &SqlStore, id: &str) -> Result<Option<UserRow>> {
    let row = sqlx::query("SELECT * FROM user_account WHERE id = $1")
        .bind(id)
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("looking up a user"))?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn by_name(store: &SqlStore, name: &str) -> Result<Option<KnownUser>> {
    let step = "looking up a user";
    let row = sqlx::query("SELECT * FROM user_account WHERE name = $1")
        .bind(name)
        .fetch_optional(&store.lookups)
        .await
        .map_err(failed(step))?;
    row.as_ref()
        .map(|row| {
            let password = row.try_get("password").map_err(failed(step))?;
            Ok(KnownUser {
                user: read(row)?,
                password: PasswordHash::kept(password),
            })
        })
        .transpose()
}

pub(super) async fn insert(store: &SqlStore, new: &NewUser, by: &By) -> Result<UserInserted> {
    let step = "storing a user";
    let mut tx = store.write(step).await?;
    let unknown = hold_groups(&mut tx, &new.scope).await?;
    if !unknown.is_empty() {
        return Ok(UserInserted::UnknownGroups(unknown));
    }
    let Some(user) = insert_in(&mut tx, new, by.at).await? else {
        return Ok(UserInserted::NameTaken);
    };
    let deed = Deed {
        action: "user.create",
        target: &user.id,
        detail: json!({ "after": brief(&user) }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(UserInserted::Done(user))
}

/// Stores a user, unless another one has the name.
pub(super) async fn insert_in(tx: &mut Write, new: &NewUser, now: i64) -> Result<Option<UserRow>> {
    let row = sqlx::query(
        "INSERT INTO user_account
             (id, name, display_name, role, scope, password, must_change, created, revision)
         VALUES ($1, $2, $3, $4, $5, $6, TRUE, $7, 1)
         ON CONFLICT (name) DO NOTHING RETURNING *",
    )
    .bind(&new.id)
    .bind(new.name.as_str())
    .bind(&new.display_name)
    .bind(new.role.as_str())
    .bind(to_json(&new.scope.to_texts()))
    .bind(new.password.as_str())
    .bind(now)
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed("storing a user"))?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn change(
    store: &SqlStore,
    id: &str,
    change: &UserChange,
    revision: Option<i64>,
    by: &By,
) -> Result<UserChanged> {
    let step = "changing a user";
    let mut tx = store.write(step).await?;
    let before = match for_change(&mut tx, id, revision).await? {
        Ok(user) => user,
        Err(refused) => return Ok(refused),
    };
    let wanted = before.with(change);
    if before.is_full_admin() && !wanted.is_full_admin() && is_last_admin(&mut tx, id).await? {
        return Ok(UserChanged::LastAdmin);
    }
    if let Some(scope) = &change.scope {
        let unknown = hold_groups(&mut tx, scope).await?;
        if !unknown.is_empty() {
            return Ok(UserChanged::UnknownGroups(unknown));
        }
    }
    let disabled = (wanted.state == UserState::Disabled).then_some(by.at);
    let row = sqlx::query(
        "UPDATE user_account SET display_name = $2, role = $3, scope = $4,
             disabled = CASE WHEN CAST($5 AS BIGINT) IS NULL THEN NULL
                 ELSE coalesce(disabled, $5) END,
             revision = revision + 1
         WHERE id = $1 RETURNING *",
    )
    .bind(id)
    .bind(&wanted.display_name)
    .bind(wanted.role.as_str())
    .bind(to_json(&wanted.scope.to_texts()))
    .bind(disabled)
    .fetch_one(&mut *tx)
    .await
    .map_err(failed(step))?;
    let after = read(&row)?;
    if after.state == UserState::Disabled {
        end_sessions(&mut tx, id, None).await?;
    }
    let deed = Deed {
        action: "user.change",
        target: id,
        detail: json!({ "before": brief(&before), "after": brief(&after) }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(UserChanged::Done(after))
}

/// Deletes a user with their sessions; the tokens they made are revoked.
pub(super) async fn delete(
    store: &SqlStore,
    id: &str,
    revision: Option<i64>,
    by: &By,
) -> Result<UserChanged> {
    let step = "deleting a user";
    let mut tx = store.write(step).await?;
    let user = match for_change(&mut tx, id, revision).await? {
        Ok(user) => user,
        Err(refused) => return Ok(refused),
    };
    if user.is_full_admin() && is_last_admin(&mut tx, id).await? {
        return Ok(UserChanged::LastAdmin);
    }
    sqlx::query("UPDATE api_token SET revoked = coalesce(revoked, $2) WHERE maker = $1")
        .bind(id)
        .bind(by.at)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    end_sessions(&mut tx, id, None).await?;
    sqlx::query("DELETE FROM user_account WHERE id = $1")
        .bind(id)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    let deed = Deed {
        action: "user.delete",
        target: id,
        detail: json!({ "before": brief(&user) }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(UserChanged::Done(user))
}

pub(super) async fn set_password(
    store: &SqlStore,
    id: &str,
    password: &NewPassword,
    by: &By,
) -> Result<UserChanged> {
    let step = "storing a password";
    let mut tx = store.write(step).await?;
    if let Err(refused) = for_change(&mut tx, id, None).await? {
        return Ok(refused);
    }
    let row = sqlx::query(
        "UPDATE user_account SET password = $2, must_change = $3, revision = revision + 1
         WHERE id = $1 RETURNING *",
    )
    .bind(id)
    .bind(password.hash.as_str())
    .bind(password.password_use == PasswordUse::OneTime)
    .fetch_one(&mut *tx)
    .await
    .map_err(failed(step))?;
    end_sessions(&mut tx, id, password.keep_session.as_deref()).await?;
    let user = read(&row)?;
    let action = match password.password_use {
        PasswordUse::Lasting => "user.change-password",
        PasswordUse::OneTime => "user.reset-password",
    };
    let deed = Deed {
        action,
        target: id,
        detail: json!({ "name": user.name }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(UserChanged::Done(user))
}

/// The user that is about to be changed, with the lock all such changes take.
async fn for_change(
    tx: &mut Write,
    id: &str,
    revision: Option<i64>,
) -> Result<std::result::Result<UserRow, UserChanged>> {
    one_at_a_time(tx).await?;
    let row = sqlx::query("SELECT * FROM user_account WHERE id = $1")
        .bind(id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed("looking up a user"))?;
    let Some(user) = row.as_ref().map(read).transpose()? else {
        return Ok(Err(UserChanged::Unknown));
    };
    match revision {
        Some(seen) if seen != user.revision => Ok(Err(UserChanged::Stale)),
        _ => Ok(Ok(user)),
    }
}

async fn is_last_admin(tx: &mut Write, id: &str) -> Result<bool> {
    let rows = sqlx::query("SELECT * FROM user_account WHERE role = 'admin' AND id <> $1")
        .bind(id)
        .fetch_all(&mut **tx)
        .await
        .map_err(failed("looking for another admin"))?;
    for row in &rows {
        if read(row)?.is_full_admin() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn end_sessions(tx: &mut Write, user: &str, keep: Option<&str>) -> Result<()> {
    sqlx::query("DELETE FROM session WHERE account = $1 AND id <> $2")
        .bind(user)
        .bind(keep.unwrap_or_default())
        .execute(&mut **tx)
        .await
        .map_err(failed("ending the sessions of a user"))?;
    Ok(())
}

/// What the audit says of a user.
fn brief(user: &UserRow) -> Value {
    json!({
        "name": user.name,
        "display_name": user.display_name,
        "role": user.role,
        "scope": user.scope.to_texts(),
        "disabled": user.state == UserState::Disabled,
    })
}

pub(super) fn read(row: &DbRow) -> Result<UserRow> {
    let step = "reading a user";
    let text = |column| row.try_get::<String, _>(column).map_err(failed(step));
    let time = |column| row.try_get::<Option<i64>, _>(column).map_err(failed(step));
    let number = |column| row.try_get::<i64, _>(column).map_err(failed(step));
    let must_change: bool = row.try_get("must_change").map_err(failed(step))?;
    Ok(UserRow {
        id: text("id")?,
        name: text("name")?,
        display_name: text("display_name")?,
        role: role(&text("role")?)?,
        scope: scope(&text("scope")?)?,
        state: match time("disabled")? {
            None => UserState::Enabled,
            Some(_) => UserState::Disabled,
        },
        password_use: match must_change {
            false => PasswordUse::Lasting,
            true => PasswordUse::OneTime,
        },
        created: number("created")?,
        signed_in: time("signed_in")?,
        revision: number("revision")?,
    })
}

/// A role we do not know is none: better an error than a wrong right.
pub(super) fn role(word: &str) -> Result<Role> {
    Role::parse(word).ok_or_else(|| damaged(format!("{word:?} is no role")))
}

/// A set we cannot read must not become the whole fleet.
pub(super) fn scope(json: &str) -> Result<Scope> {
    let texts: Vec<String> = from_json("reading what somebody may do", json)?;
    Scope::from_texts(&texts).map_err(|error| damaged(error.to_string()))
}

fn damaged(what: String) -> StoreError {
    StoreError {
        step: "reading what somebody may do",
        failure: Failure::Rejected,
        source: what.into(),
    }
}
