//! Who operates, what they may see, and what is written down of it.

use bootserver::access::password::PasswordHash;
use bootserver::access::role::Role;
use bootserver::access::throttle::{Attempt, buckets, name_bucket};
use bootserver::store::Store;
use bootserver::store::api_token::{ApiTokenInserted, ApiTokenQuery, NewApiToken};
use bootserver::store::audit::{AuditQuery, AuditRow};
use bootserver::store::enrolment::Revoked;
use bootserver::store::host::TagsSet;
use bootserver::store::job::Cancelled;
use bootserver::store::lease::Held;
use bootserver::store::retention::Kept;
use bootserver::store::session::{NewSession, SessionBegun, SessionEnded};
use bootserver::store::user::{
    NewPassword, PasswordUse, UserChange, UserChanged, UserInserted, UserRow, UserState,
};
use bootserver::token::{Token, TokenKind};

use super::limit;
use crate::make;

async fn user(store: &dyn Store, name: &str) -> UserRow {
    let inserted = store.insert_user(&make::user(name), &make::by(1)).await;
    match inserted.expect("a write") {
        UserInserted::Done(user) => user,
        other => panic!("{name}: {other:?}"),
    }
}

fn role(role: Role) -> UserChange {
    UserChange {
        role: Some(role),
        ..UserChange::default()
    }
}

fn state(state: UserState) -> UserChange {
    UserChange {
        state: Some(state),
        ..UserChange::default()
    }
}

fn session(user: &UserRow, token: &Token) -> NewSession {
    NewSession {
        id: format!("session of {}", user.name),
        digest: token.digest(),
        user: user.id.clone(),
        password: PasswordHash::kept(format!("hash of {}", user.name)),
        expires: 1000,
        client: "test".into(),
    }
}

async fn audit(store: &dyn Store) -> Vec<AuditRow> {
    let query = AuditQuery::default();
    store.audit(&query).await.expect("a list").items
}

pub(crate) async fn the_last_admin_stays(store: &dyn Store) {
    let ann = user(store, "ann").await;
    let twice = store.insert_user(&make::user("ann"), &make::by(1)).await;
    assert_eq!(twice.expect("a write"), UserInserted::NameTaken);
    let by = make::by(2);
    let restricted = UserChange {
        scope: Some(make::scope("svc=ecs")),
        ..UserChange::default()
    };
    for change in [
        role(Role::Operator),
        state(UserState::Disabled),
        restricted.clone(),
    ] {
        let found = store.change_user(&ann.id, &change, None, &by).await;
        assert_eq!(found.expect("a write"), UserChanged::LastAdmin);
    }
    let found = store.delete_user(&ann.id, None, &by).await;
    assert_eq!(found.expect("a write"), UserChanged::LastAdmin);
    // Another one who is restricted, or disabled, is no replacement.
    let bob = user(store, "bob").await;
    let found = store.change_user(&bob.id, &restricted, None, &by).await;
    assert!(matches!(found.expect("a write"), UserChanged::Done(_)));
    let found = store.delete_user(&ann.id, None, &by).await;
    assert_eq!(found.expect("a write"), UserChanged::LastAdmin);
    user(store, "eve").await;
    let found = store.delete_user(&ann.id, None, &by).await;
    assert!(matches!(found.expect("a write"), UserChanged::Done(_)));
    let found = store.delete_user(&ann.id, None, &by).await;
    assert_eq!(found.expect("a write"), UserChanged::Unknown);
    let page = store.users(None, limit(1)).await.expect("a list");
    assert_eq!(page.items[0].name, "bob");
    let rest = store.users(page.next, limit(9)).await.expect("a list");
    assert_eq!((rest.items[0].name.as_str(), rest.next), ("eve", None));
}

pub(crate) async fn of_two_admins_who_demote_each_other_one_stays(store: &dyn Store) {
    let (ann, bob) = (user(store, "ann").await, user(store, "bob").await);
    let by = make::by(2);
    let change = role(Role::Viewer);
    for _ in 0..10 {
        let (one, two) = tokio::join!(
            store.change_user(&ann.id, &change, None, &by),
            store.change_user(&bob.id, &change, None, &by)
        );
        let found = [one.expect("a write"), two.expect("a write")];
        let refused = found.iter().filter(|it| **it == UserChanged::LastAdmin);
        assert_eq!(refused.count(), 1, "{found:?}");
        for id in [&ann.id, &bob.id] {
            let found = store.change_user(id, &role(Role::Admin), None, &by).await;
            assert!(matches!(found.expect("a write"), UserChanged::Done(_)));
        }
    }
}

pub(crate) async fn a_change_to_what_somebody_else_changed_is_refused(store: &dyn Store) {
    let (_, bob) = (user(store, "ann").await, user(store, "bob").await);
    let (by, seen) = (make::by(2), Some(bob.revision));
    let change = role(Role::Viewer);
    let found = store.change_user(&bob.id, &change, seen, &by).await;
    let UserChanged::Done(now) = found.expect("a write") else {
        panic!("the first change is made");
    };
    assert_eq!((now.role, now.revision), (Role::Viewer, bob.revision + 1));
    let found = store.change_user(&bob.id, &change, seen, &by).await;
    assert_eq!(found.expect("a write"), UserChanged::Stale);
    let found = store.delete_user(&bob.id, seen, &by).await;
    assert_eq!(found.expect("a write"), UserChanged::Stale);
    assert_eq!(store.user(&bob.id).await.expect("a read"), Some(now));
}

pub(crate) async fn a_session_holds_until_it_is_ended_or_its_user_is_disabled(store: &dyn Store) {
    let (_, bob) = (user(store, "ann").await, user(store, "bob").await);
    let by = make::by(5);
    let (one, two) = (
        Token::generate(TokenKind::Session),
        Token::generate(TokenKind::Session),
    );
    for (id, token) in [("s1", &one), ("s2", &two)] {
        let mut new = session(&bob, token);
        new.id = id.into();
        let begun = store.begin_session(&new, &by).await.expect("a write");
        assert_eq!(begun, SessionBegun::Done);
    }
    let owner = async |token: &Token| store.session_owner(&token.digest()).await.expect("a read");
    let found = owner(&one).await.expect("a session");
    assert_eq!(
        (found.user.name.as_str(), found.user.signed_in),
        ("bob", Some(5))
    );
    assert_eq!((found.session.seen, found.session.expires), (5, 1000));
    store.touch_session("s1", 9).await.expect("a write");
    assert_eq!(owner(&one).await.expect("a session").session.seen, 9);
    // Another user cannot end it, its own can.
    let ended = store.end_session("s1", Some("id of ann"), &by).await;
    assert_eq!(ended.expect("a write"), SessionEnded::Unknown);
    let ended = store.end_session("s1", Some(&bob.id), &by).await;
    assert_eq!(ended.expect("a write"), SessionEnded::Done);
    assert!(owner(&one).await.is_none());
    let left = store
        .sessions(&bob.id, None, limit(9))
        .await
        .expect("a list");
    assert_eq!(left.items.len(), 1);
    let change = state(UserState::Disabled);
    let found = store.change_user(&bob.id, &change, None, &by).await;
    assert!(matches!(found.expect("a write"), UserChanged::Done(_)));
    assert!(owner(&two).await.is_none());
    // What is over goes, what holds stays.
    let change = state(UserState::Enabled);
    store
        .change_user(&bob.id, &change, None, &by)
        .await
        .expect("a write");
    store
        .begin_session(&session(&bob, &one), &by)
        .await
        .expect("a write");
    store.sweep_sessions(999, 4).await.expect("a write");
    assert!(owner(&one).await.is_some());
    store.sweep_sessions(1000, 4).await.expect("a write");
    assert!(owner(&one).await.is_none());
}

pub(crate) async fn a_password_changed_meanwhile_opens_nothing(store: &dyn Store) {
    let ann = user(store, "ann").await;
    assert_eq!(ann.password_use, PasswordUse::OneTime);
    let by = make::by(5);
    let (old, kept) = (
        Token::generate(TokenKind::Session),
        Token::generate(TokenKind::Session),
    );
    for (id, token) in [("old", &old), ("kept", &kept)] {
        let mut new = session(&ann, token);
        new.id = id.into();
        store.begin_session(&new, &by).await.expect("a write");
    }
    let password = NewPassword {
        hash: PasswordHash::kept("another".into()),
        password_use: PasswordUse::Lasting,
        keep_session: Some("kept".into()),
    };
    let found = store.set_password(&ann.id, &password, &by).await;
    let UserChanged::Done(now) = found.expect("a write") else {
        panic!("the password is changed");
    };
    assert_eq!(now.password_use, PasswordUse::Lasting);
    let owner = async |token: &Token| store.session_owner(&token.digest()).await.expect("a read");
    assert!(owner(&old).await.is_none() && owner(&kept).await.is_some());
    let known = store.user_by_name("ann").await.expect("a read");
    assert_eq!(known.expect("ann").password, password.hash);
    let late = session(&ann, &Token::generate(TokenKind::Session));
    let begun = store.begin_session(&late, &by).await.expect("a write");
    assert_eq!(begun, SessionBegun::Refused);
}

pub(crate) async fn a_token_may_what_its_maker_may_now(store: &dyn Store) {
    let (_, bob) = (user(store, "ann").await, user(store, "bob").await);
    let by = make::by(5);
    let token = Token::generate(TokenKind::Api);
    let new = NewApiToken {
        id: "t1".into(),
        name: "backup".into(),
        digest: token.digest(),
        role: Role::Operator,
        scope: make::scope("cmpt=DB"),
        maker: Some(bob.id.clone()),
        expires: Some(99),
    };
    let stored = store.insert_api_token(&new, &by).await.expect("a write");
    let ApiTokenInserted::Done(row) = stored else {
        panic!("{stored:?}");
    };
    assert_eq!((row.created, row.expires, row.used), (5, Some(99), None));
    let owner = async || store.token_owner(&token.digest()).await.expect("a read");
    assert_eq!(owner().await.expect("a token").role(), Role::Operator);
    store.touch_api_token("t1", 7).await.expect("a write");
    let change = UserChange {
        role: Some(Role::Viewer),
        scope: Some(make::scope("svc=ecs")),
        ..UserChange::default()
    };
    store
        .change_user(&bob.id, &change, None, &by)
        .await
        .expect("a write");
    let found = owner().await.expect("a token");
    assert_eq!((found.role(), found.token.used), (Role::Viewer, Some(7)));
    assert_eq!(
        found.scope(),
        make::scope("svc=ecs").and(make::scope("cmpt=DB"))
    );
    for (state_then, holds) in [(UserState::Disabled, false), (UserState::Enabled, true)] {
        let change = state(state_then);
        store
            .change_user(&bob.id, &change, None, &by)
            .await
            .expect("a write");
        assert_eq!(owner().await.is_some(), holds, "{state_then:?}");
    }
    // Another user cannot revoke it; with its maker it goes.
    let revoked = store
        .revoke_api_token("t1", Some("id of ann"), None, &by)
        .await;
    assert_eq!(revoked.expect("a write"), Revoked::Unknown);
    store
        .delete_user(&bob.id, None, &by)
        .await
        .expect("a write");
    assert!(owner().await.is_none());
    let query = ApiTokenQuery {
        maker: Some(bob.id),
        ..ApiTokenQuery::default()
    };
    let page = store.api_tokens(&query).await.expect("a list");
    assert_eq!(page.items[0].revoked, Some(5));
}

pub(crate) async fn attempts_at_once_are_counted_one_by_one(store: &dyn Store) {
    let counts = buckets("ann", "10.0.0.1".parse().ok());
    let tries = (0..16).map(|_| store.count_attempt(&counts, 1_000_000));
    let mut allowed = 0;
    for attempt in futures(tries).await {
        match attempt.expect("a write") {
            Attempt::Allowed { .. } => allowed += 1,
            Attempt::Wait { millis } => assert!((1..=30_000).contains(&millis), "{millis}"),
        }
    }
    assert_eq!(allowed, 10);
    // Another name from there has its own count; waiting pays.
    let others = buckets("bob", "10.0.0.1".parse().ok());
    let other = store.count_attempt(&others, 1_000_000).await;
    assert!(matches!(other.expect("a write"), Attempt::Allowed { .. }));
    let later = store.count_attempt(&counts, 1_030_000).await;
    assert!(matches!(later.expect("a write"), Attempt::Allowed { .. }));
    // One that was right costs nothing, and takes back no other.
    let again = async || {
        store
            .count_attempt(&counts, 1_030_000)
            .await
            .expect("a write")
    };
    assert!(matches!(again().await, Attempt::Wait { .. }));
    store.refund_attempt(&counts).await.expect("a write");
    assert!(matches!(again().await, Attempt::Allowed { .. }));
    assert!(matches!(again().await, Attempt::Wait { .. }));
    let name = name_bucket("ann");
    store.forget_attempts(&name).await.expect("a write");
    for _ in 0..10 {
        assert!(matches!(again().await, Attempt::Allowed { .. }));
    }
}

/// All at once, as far as the store lets them.
async fn futures<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        match waiting.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done
}

pub(crate) async fn a_change_and_its_audit_row_are_stored_together(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let by = make::by(7);
    let set = store
        .set_tags("sn-1", &make::tags("svc=ecs"), None, &make::fleet(), &by)
        .await;
    assert_eq!(set.expect("a write"), TagsSet::Done);
    make::job(store, "j1", "sn-1").await;
    store
        .cancel_job("j1", "x1", &make::fleet(), &by)
        .await
        .expect("a write");
    let token = store
        .insert_enrolment_token(&make::enrolment("e1", None), &by)
        .await
        .expect("a write");
    store
        .revoke_enrolment_token(&token.id, None, &by)
        .await
        .expect("a write");
    let package = make::package("p1", "1", "aa");
    store
        .insert_package(&package, None, &by)
        .await
        .expect("a write");
    store.delete_package("p1", &by).await.expect("a write");
    // What was refused leaves no row.
    let refused = store.cancel_job("j1", "x2", &make::fleet(), &by).await;
    assert_eq!(refused.expect("a write"), Cancelled::Finished);
    store.delete_package("p1", &by).await.expect("a write");
    let rows = audit(store).await;
    let seen: Vec<_> = rows
        .iter()
        .rev()
        .map(|row| (row.action.as_str(), row.target.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("host.set-tags", "sn-1"),
            ("job.create", "j1"),
            ("job.cancel", "j1"),
            ("enrolment-token.create", "e1"),
            ("enrolment-token.revoke", "e1"),
            ("package.upload", "p1"),
            ("package.delete", "p1"),
        ]
    );
    let tags = rows.last().expect("the first");
    assert_eq!(tags.by, by);
    assert_eq!(tags.detail["after"], "svc=ecs");
}

pub(crate) async fn the_audit_is_filtered_and_paged(store: &dyn Store) {
    for (at, name) in [(1, "ann"), (2, "bob"), (3, "eve")] {
        let inserted = store.insert_user(&make::user(name), &make::by(at)).await;
        inserted.expect("a write");
    }
    let find = async |query: AuditQuery| {
        let page = store.audit(&query).await.expect("a list");
        let targets = page.items.into_iter().map(|row| row.target);
        (targets.collect::<Vec<_>>(), page.next)
    };
    let first = AuditQuery {
        limit: limit(2),
        ..AuditQuery::default()
    };
    let (targets, next) = find(first).await;
    assert_eq!(targets, ["id of eve", "id of bob"]);
    let rest = AuditQuery {
        after: next.and_then(|next| next.parse().ok()),
        ..AuditQuery::default()
    };
    assert_eq!(find(rest).await, (vec!["id of ann".to_owned()], None));
    let middle = AuditQuery {
        since: Some(2),
        until: Some(3),
        action: Some("user.create".into()),
        ..AuditQuery::default()
    };
    assert_eq!(find(middle).await.0, ["id of bob"]);
    let target = AuditQuery {
        target: Some("id of eve".into()),
        ..AuditQuery::default()
    };
    assert_eq!(find(target).await.0, ["id of eve"]);
    let lease = super::leases::lease(store).await;
    let forgotten = store.forget(&lease, Kept::Audit, 3, 1).await;
    assert_eq!(forgotten.expect("a write"), Held::Done(1));
    let (left, _) = find(AuditQuery::default()).await;
    assert_eq!(left, ["id of eve", "id of bob"]);
    let nobody = AuditQuery {
        actor: Some("nobody".into()),
        ..AuditQuery::default()
    };
    assert_eq!(find(nobody).await.0, [""; 0]);
}
