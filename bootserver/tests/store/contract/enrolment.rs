//! Who is let in, and with which secret.

use bootserver::fleet::tags::Tags;
use bootserver::store::FirstStart;
use bootserver::store::FirstTokens;
use bootserver::store::Store;
use bootserver::store::enrolment::Revoked;
use bootserver::store::host::OpenOrders;
use bootserver::store::host::Registered;
use bootserver::store::host::RegistrationEffect;
use bootserver::store::host::SecretStanding;
use bootserver::token::Token;
use bootserver::token::TokenKind;

use super::limit;
use crate::make;

pub(crate) async fn the_first_start_happens_once(store: &dyn Store) {
    let tokens = || FirstTokens {
        admin: make::user("admin"),
        api: Token::generate(TokenKind::Api).digest(),
        enrolment: Token::generate(TokenKind::Enrolment).digest(),
    };
    assert_eq!(
        store.is_first_start().await.expect("a read"),
        FirstStart::First
    );
    let (first, second) = (tokens(), tokens());
    assert_eq!(
        store.first_start(&first, 1).await.expect("a write"),
        FirstStart::First
    );
    assert_eq!(
        store.first_start(&second, 2).await.expect("a write"),
        FirstStart::Later
    );
    assert_eq!(
        store.is_first_start().await.expect("a read"),
        FirstStart::Later
    );
    assert!(
        store
            .token_owner(&first.api)
            .await
            .expect("a read")
            .is_some()
    );
    assert!(
        store
            .token_owner(&second.api)
            .await
            .expect("a read")
            .is_none()
    );
    assert!(
        store
            .enrolment_token(&first.enrolment)
            .await
            .expect("a read")
            .is_some()
    );
    assert!(
        store
            .enrolment_token(&second.enrolment)
            .await
            .expect("a read")
            .is_none()
    );
}

pub(crate) async fn an_enrolment_token_pays_once_per_host(store: &dyn Store) {
    let token = make::enrolment("e1", Some(1));
    store
        .insert_enrolment_token(&token, &make::by(1))
        .await
        .expect("an insert");
    let create = || RegistrationEffect::Create {
        enrolment: Some("e1".into()),
        tags: make::tags("svc=ecs"),
        copy_of: None,
    };
    let register = async |agentsn: &str| {
        store
            .register_host(&make::registration(agentsn, create()))
            .await
            .expect("a write")
    };
    assert_eq!(
        register("sn-1").await,
        Registered::Done(make::tags("svc=ecs"))
    );
    // Used up: nothing of the second host is stored.
    assert_eq!(register("sn-2").await, Registered::Changed);
    assert!(
        store
            .host("sn-2", &make::fleet())
            .await
            .expect("a read")
            .is_none()
    );
    let stored = store
        .enrolment_token(&token.digest)
        .await
        .expect("a read")
        .expect("the token");
    assert_eq!((stored.used, stored.uses), (1, Some(1)));

    store
        .insert_enrolment_token(&make::enrolment("e2", None), &make::by(1))
        .await
        .expect("an insert");
    assert_eq!(
        store
            .revoke_enrolment_token("e2", None, &make::by(9))
            .await
            .expect("a write"),
        Revoked::Done
    );
    assert_eq!(
        store
            .revoke_enrolment_token("e2", None, &make::by(10))
            .await
            .expect("a write"),
        Revoked::Done
    );
    assert_eq!(
        store
            .revoke_enrolment_token("e9", None, &make::by(9))
            .await
            .expect("a write"),
        Revoked::Unknown
    );
    let effect = RegistrationEffect::Create {
        enrolment: Some("e2".into()),
        tags: Tags::default(),
        copy_of: None,
    };
    let registered = store
        .register_host(&make::registration("sn-3", effect))
        .await;
    assert_eq!(registered.expect("a write"), Registered::Changed);
    let page = store
        .enrolment_tokens(None, limit(1))
        .await
        .expect("a list");
    assert_eq!(
        (page.items[0].id.as_str(), page.items[0].revoked),
        ("e2", Some(9))
    );
    let rest = store
        .enrolment_tokens(page.next, limit(1))
        .await
        .expect("a list");
    assert_eq!((rest.items[0].id.as_str(), rest.next), ("e1", None));
}

pub(crate) async fn a_registration_whose_facts_changed_is_told_so(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let create = RegistrationEffect::Create {
        enrolment: None,
        tags: Tags::default(),
        copy_of: None,
    };
    let taken = store
        .register_host(&make::registration("sn-1", create))
        .await;
    assert_eq!(taken.expect("a write"), Registered::Changed);
    let renew = || RegistrationEffect::Renew {
        tags: make::tags("rack=7"),
        orders: OpenOrders::Stay,
    };
    let mut other = make::registration("sn-1", renew());
    other.reported.machine_id = Some("another machine".into());
    assert_eq!(
        store.register_host(&other).await.expect("a write"),
        Registered::Changed
    );
    let missing = store
        .register_host(&make::registration("sn-2", renew()))
        .await;
    assert_eq!(missing.expect("a write"), Registered::Changed);
    let same = store
        .register_host(&make::registration("sn-1", renew()))
        .await;
    assert_eq!(
        same.expect("a write"),
        Registered::Done(make::tags("rack=7"))
    );
    let known = store
        .known_host("sn-1")
        .await
        .expect("a read")
        .expect("the host");
    assert_eq!(known.machine_id.as_deref(), Some("machine of sn-1"));
}

pub(crate) async fn a_renewal_is_overruled_by_the_next_status(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let push = || make::status("sn-1", 20);
    store.record_statuses(&[push()]).await.expect("a batch");
    let renew = RegistrationEffect::Renew {
        tags: Tags::default(),
        orders: OpenOrders::Stay,
    };
    store
        .register_host(&make::registration("sn-1", renew))
        .await
        .expect("a write");
    let hostname = async || {
        let host = store
            .host("sn-1", &make::fleet())
            .await
            .expect("a read")
            .expect("the host");
        host.summary.reported.hostname
    };
    assert_eq!(hostname().await, "host of sn-1");
    store.record_statuses(&[push()]).await.expect("a batch");
    assert_eq!(hostname().await, "name at 20");
}

pub(crate) async fn both_secrets_hold_until_the_new_one_is_used(store: &dyn Store) {
    let create = RegistrationEffect::Create {
        enrolment: None,
        tags: Tags::default(),
        copy_of: None,
    };
    let first = make::registration("sn-1", create);
    store.register_host(&first).await.expect("a write");
    let renew = || RegistrationEffect::Renew {
        tags: Tags::default(),
        orders: OpenOrders::Stay,
    };
    let (lost, second) = (
        make::registration("sn-1", renew()),
        make::registration("sn-1", renew()),
    );
    store.register_host(&lost).await.expect("a write");
    store.register_host(&second).await.expect("a write");
    let standing = async |registration: &bootserver::store::host::Registration| {
        let owner = store
            .secret_owner(&registration.secret)
            .await
            .expect("a read");
        owner.map(|owner| owner.standing)
    };
    assert_eq!(standing(&first).await, Some(SecretStanding::Current));
    assert_eq!(standing(&lost).await, None);
    assert_eq!(standing(&second).await, Some(SecretStanding::New));
    store
        .promote_secret(&second.secret, 99)
        .await
        .expect("a write");
    assert_eq!(standing(&first).await, None);
    assert_eq!(standing(&second).await, Some(SecretStanding::Current));
    // Promoting what is no new secret changes nothing.
    store
        .promote_secret(&second.secret, 99)
        .await
        .expect("a write");
    assert_eq!(standing(&second).await, Some(SecretStanding::Current));
}
