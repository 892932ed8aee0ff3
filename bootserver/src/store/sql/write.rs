//! A transaction that tells, once it is committed, what it changed.

use std::ops::{Deref, DerefMut};

use sqlx::{Database, Transaction};

use super::{Db, Ears, commit_and_tell};
use crate::store::change::{Told, Topic};

/// A transaction that writes. One that is dropped writes and tells nothing.
pub(in super::super) struct Write {
    transaction: Transaction<'static, Db>,
    told: Told,
    ears: Ears,
}

impl Write {
    pub(in super::super) fn new(transaction: Transaction<'static, Db>, ears: Ears) -> Self {
        Self {
            transaction,
            told: Told::default(),
            ears,
        }
    }

    /// Tells, with the commit, what becomes of these things.
    pub(super) fn tell<I>(&mut self, topic: Topic, what: &'static str, ids: I)
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.told.add(topic, what, ids);
    }

    pub(in super::super) async fn commit(self) -> Result<(), sqlx::Error> {
        let changes = self.told.finish();
        match changes.is_empty() {
            true => self.transaction.commit().await,
            false => commit_and_tell(self.transaction, self.ears, changes).await,
        }
    }

    pub(super) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.transaction.rollback().await
    }
}

impl Deref for Write {
    type Target = <Db as Database>::Connection;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}
