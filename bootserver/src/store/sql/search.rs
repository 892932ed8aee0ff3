//! Hosts by a part of their names and addresses.
//!
//! Names and addresses of a host stand together in `host_search`, in small
//! letters (of ASCII), kept up to date by triggers, with an index of every three
//! characters in a row. Both databases fold letters alike and match all others
//! as they are. Whole addresses are in `host_address`, one by one.

use sqlx::QueryBuilder;
use uuid::Uuid;

use super::super::push_found;
use super::Db;

/// A query for the hosts with this text, by the index. An agentsn is looked up
/// as what it is: three characters of one mean nothing.
pub(super) fn find(text: &str) -> QueryBuilder<Db> {
    if let Some(agentsn) = agentsn(text) {
        let mut sql = QueryBuilder::new("SELECT agentsn FROM host WHERE agentsn = ");
        sql.push_bind(agentsn);
        return sql;
    }
    let mut sql = QueryBuilder::new("");
    push_found(&mut sql, &text.to_ascii_lowercase());
    sql
}

/// A query for the hosts with this very address.
pub(super) fn find_address(address: &str) -> QueryBuilder<Db> {
    let mut sql = QueryBuilder::new("SELECT agentsn FROM host_address WHERE address = ");
    sql.push_bind(address.to_owned());
    sql
}

/// Adds the same as a condition on one host.
pub(super) fn push_address(sql: &mut QueryBuilder<Db>, address: &str) {
    sql.push(" AND EXISTS (SELECT 1 FROM host_address WHERE host_address.agentsn = host.agentsn");
    sql.push(" AND host_address.address = ")
        .push_bind(address.to_owned())
        .push(")");
}

/// Adds the same as a condition on one host.
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
