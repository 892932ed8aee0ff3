//! How long somebody may listen: as long as the token or session holds and may
//! what it might in the beginning. It is asked once for all its streams, and a
//! stream is no use that keeps a session from ending.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::access::role::Role;
use crate::access::scope::Scope;
use crate::access::session::{self, Standing};
use crate::clock::unix_millis;
use crate::problem::chain;
use crate::store::user::PasswordUse;
use crate::store::{Result, Store, within};
use crate::token::{TokenDigest, TokenKind};

/// How often is asked: a revocation holds within 5 s.
const ASK_EVERY: Duration = Duration::from_secs(3);

/// By what somebody listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// What is shown.
    pub kind: TokenKind,
    /// Which one.
    pub digest: TokenDigest,
    /// What it might in the beginning.
    pub role: Role,
    /// The hosts it might see.
    pub scope: Scope,
}

/// The passes in use. What holds one gets to know its end by the sender's.
#[derive(Debug, Default)]
pub(super) struct Passes(Mutex<HashMap<TokenDigest, (Pass, watch::Sender<()>)>>);

impl Passes {
    fn all(&self) -> MutexGuard<'_, HashMap<TokenDigest, (Pass, watch::Sender<()>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the pass does.
    pub(super) fn hold(&self, pass: Pass) -> watch::Receiver<()> {
        let mut all = self.all();
        match all.get(&pass.digest) {
            Some((known, sender)) if *known == pass => sender.subscribe(),
            // May something else now: streams that began before are over.
            _ => {
                let (sender, receiver) = watch::channel(());
                all.insert(pass.digest.clone(), (pass, sender));
                receiver
            }
        }
    }

    /// Ends those that do not hold any more, for as long as it is polled.
    pub(super) async fn keep(&self, store: &dyn Store) {
        let mut asks = interval(ASK_EVERY);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            asks.tick().await;
            let passes: Vec<Pass> = {
                let mut all = self.all();
                all.retain(|_, (_, sender)| sender.receiver_count() > 0);
                all.values().map(|(pass, _)| pass.clone()).collect()
            };
            for pass in passes {
                let step = "looking who may still listen";
                match within(step, holds(store, &pass)).await {
                    Ok(true) => {}
                    Ok(false) => self.end(&pass),
                    Err(error) => {
                        // No changes come without the database, so nothing is told.
                        tracing::warn!(error = chain(&error), "who may still listen is not known");
                        break;
                    }
                }
            }
        }
    }

    fn end(&self, pass: &Pass) {
        let mut all = self.all();
        if all
            .get(&pass.digest)
            .is_some_and(|(known, _)| known == pass)
        {
            all.remove(&pass.digest);
        }
    }
}

/// Whether a token or session may still what it might.
async fn holds(store: &dyn Store, pass: &Pass) -> Result<bool> {
    let now = unix_millis();
    let may = match pass.kind {
        TokenKind::Session => {
            let owner = store.session_owner(&pass.digest).await?;
            owner.and_then(|owner| {
                let (session, user) = (owner.session, owner.user);
                let is_over =
                    session::session(session.expires, session.seen, now) == Standing::Over;
                let is_lasting = user.password_use == PasswordUse::Lasting;
                (!is_over && is_lasting).then_some((user.role, user.scope))
            })
        }
        TokenKind::Api => {
            let owner = store.token_owner(&pass.digest).await?;
            owner.and_then(|owner| {
                let token = &owner.token;
                let is_over = session::token(token.expires, token.used, now) == Standing::Over;
                (!is_over).then(|| (owner.role(), owner.scope()))
            })
        }
        TokenKind::Host | TokenKind::Enrolment => None,
    };
    Ok(may.is_some_and(|(role, scope)| role == pass.role && scope == pass.scope))
}
