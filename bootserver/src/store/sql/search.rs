//! Hosts by a part of their names and addresses.
//!
//! Names and addresses of a host stand together in `host_search`, in small
//! letters (of ASCII), kept up to date by triggers, with an index of every three
//! characters in a row. Both databases fold letters alike and match all others
//! as they are. Whole addresses are in `host_address`, one by one.

use sqlx::QueryBuilder;
use uuid::Uuid;

use super::super::{FOUND_NAMES, push_found};
use super::Db;

/// Adds a query for the hosts with this text, by the index. An agentsn is looked up
/// as what it is: three characters of one mean nothing.
pub(super) fn push_find(sql: &mut QueryBuilder<Db>, text: &str) {
    if let Some(agentsn) = agentsn(text) {
        sql.push("SELECT agentsn FROM host WHERE agentsn = ")
            .push_bind(agentsn);
        return;
    }
    push_found(sql, "host_search.agentsn", &text.to_ascii_lowercase());
}

/// Adds the same with their host names, which are not looked up; nothing for an agentsn.
pub(super) fn push_find_names(sql: &mut QueryBuilder<Db>, text: &str) -> bool {
    let is_name = agentsn(text).is_none();
    if is_name {
        push_found(sql, FOUND_NAMES, &text.to_ascii_lowercase());
    }
    is_name
}

/// Adds the condition that a host has this very address.
pub(super) fn push_address(sql: &mut QueryBuilder<Db>, address: &str) {
    sql.push(" AND EXISTS (SELECT 1 FROM host_address WHERE host_address.agentsn = host.agentsn");
    sql.push(" AND host_address.address = ")
        .push_bind(address.to_owned())
        .push(")");
}

/// Adds the condition that a host has this text.
pub(super) fn push_look(sql: &mut QueryBuilder<Db>, text: &str) {
    if let Some(agentsn) = agentsn(text) {
        sql.push(" AND host.agentsn = ").push_bind(agentsn);
        return;
    }
    sql.push(" AND EXISTS (SELECT 1 FROM host_search WHERE host_search.agentsn = host.agentsn");
    sql.push(" AND host_search.text LIKE ")
        .push_bind(pattern(&text.to_ascii_lowercase()))
        .push(" ESCAPE '!')");
}

/// Any text with this in it, for LIKE.
pub(super) fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in text.chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

fn agentsn(text: &str) -> Option<String> {
    let id = Uuid::try_parse(text).ok()?;
    Some(id.hyphenated().to_string())
}
