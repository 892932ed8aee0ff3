//! Secrets that are replaced or taken away, and who gets another identity.

use bootagent_protocol::ErrorCode;
use bootserver::fleet::clone::Verdict;
use bootserver::fleet::enrol::Standing;
use bootserver::fleet::presence::Presence;
use bootserver::store::Store;
use bootserver::store::host::{
    HostChangeQuery, HostQuery, Offer, Offered, OpenOrders, Registered, RegistrationEffect,
    Removal, Removed, RotationOrdered,
};
use bootserver::store::job::JobsInserted;
use bootserver::store::page::Limit;
use bootserver::store::status::{Rotation, StatusOutcome, StatusRecord};
use bootserver::token::{Token, TokenDigest, TokenKind};

use super::{event_count, ids, stored};
use crate::make;

fn digest() -> TokenDigest {
    Token::generate(TokenKind::Host).digest()
}

fn offer(number: i64) -> Offer {
    Offer {
        agentsn: "sn-1".into(),
        number,
        secret: digest(),
        now: i64::MAX,
        again: 5000,
    }
}

async fn push(store: &dyn Store, record: StatusRecord) -> StatusOutcome {
    let mut outcomes = store.record_statuses(&[record]).await.expect("a batch");
    outcomes.pop().expect("one outcome")
}

pub(super) async fn remove(store: &dyn Store, agentsn: &str, to: Presence) -> Removed {
    let removal = Removal {
        agentsn: agentsn.into(),
        to,
        nobody: digest(),
        revision: None,
    };
    store
        .remove_host(&removal, &make::fleet(), &make::by(50))
        .await
        .expect("a write")
}

async fn history(store: &dyn Store, agentsn: &str) -> Vec<String> {
    let query = HostChangeQuery {
        agentsn: agentsn.into(),
        scope: make::fleet(),
        before: None,
        limit: Limit::default(),
    };
    let page = store.host_changes(&query).await.expect("a list");
    page.items.into_iter().map(|change| change.state).collect()
}

async fn count(store: &dyn Store, wanted: Presence) -> i64 {
    let counts = store.host_counts().await.expect("a read");
    let found = counts.iter().find(|(state, _)| *state == wanted);
    found.expect("every state is counted").1
}

/// A host with a secret that is known; returns the secret's digest.
async fn registered(store: &dyn Store, agentsn: &str) -> TokenDigest {
    let effect = RegistrationEffect::Create {
        enrolment: None,
        tags: make::tags("svc=ecs"),
        copy_of: None,
    };
    let registration = make::registration(agentsn, effect);
    store.register_host(&registration).await.expect("a write");
    registration.secret
}

pub(crate) async fn a_status_with_a_secret_that_was_replaced_is_not_stored(store: &dyn Store) {
    registered(store, "sn-1").await;
    make::host(store, "sn-2").await;
    let offered = offer(1);
    assert_eq!(
        store.offer_secret(&offered).await.expect("a write"),
        Offered::Done
    );
    // Both hold until the new one is used; then the number tells them apart.
    assert!(matches!(
        push(store, make::status("sn-1", 10)).await,
        StatusOutcome::Stored(_)
    ));
    let number = store
        .promote_secret(&offered.secret, 99)
        .await
        .expect("a write");
    assert_eq!(number, Some(2));
    let again = store
        .promote_secret(&offered.secret, 99)
        .await
        .expect("a write");
    assert_eq!(again, Some(2), "once is enough");

    let mut old = make::status("sn-1", 20);
    old.events.push(make::event(1, "of the old secret"));
    let mut neighbour = make::status("sn-2", 20);
    neighbour.events.push(make::event(1, "of a neighbour"));
    let outcomes = store
        .record_statuses(&[old.clone(), neighbour])
        .await
        .expect("a batch");
    assert_eq!(outcomes[0], StatusOutcome::SecretChanged);
    assert!(matches!(outcomes[1], StatusOutcome::Stored(_)));
    assert_eq!(event_count(store).await, 1);
    let host = store
        .host("sn-1", &make::fleet())
        .await
        .expect("a read")
        .expect("the host");
    assert_eq!(host.summary.seen, Some(10));

    // In one batch with the new one, the old one still counts for nothing.
    let new = StatusRecord {
        number: 2,
        ..make::status("sn-1", 21)
    };
    let outcomes = store.record_statuses(&[new, old]).await.expect("a batch");
    assert!(matches!(outcomes[0], StatusOutcome::Stored(_)));
    assert_eq!(outcomes[1], StatusOutcome::SecretChanged);
    assert_eq!(event_count(store).await, 1);
    assert_eq!(
        store.offer_secret(&offer(1)).await.expect("a write"),
        Offered::Changed
    );
    assert_eq!(
        store.promote_secret(&digest(), 99).await.expect("a write"),
        None
    );
}

pub(crate) async fn a_secret_that_is_due_is_replaced_once_the_new_one_is_used(store: &dyn Store) {
    let first = registered(store, "sn-1").await;
    let rotation = async |now, number| {
        let record = StatusRecord {
            number,
            ..make::status("sn-1", now)
        };
        stored(&push(store, record).await).rotation
    };
    assert_eq!(rotation(1000, 1).await, Rotation::None);
    let ordered = store
        .order_rotation("sn-1", &make::fleet(), &make::by(2000))
        .await
        .expect("a write");
    assert_eq!(ordered, RotationOrdered::Done);
    assert_eq!(rotation(2000, 1).await, Rotation::Due);
    let lost = offer(1);
    store.offer_secret(&lost).await.expect("a write");
    assert_eq!(
        rotation(4999, 1).await,
        Rotation::None,
        "it may be on its way"
    );
    assert_eq!(rotation(5000, 1).await, Rotation::Due, "the reply was lost");
    let second = offer(1);
    store.offer_secret(&second).await.expect("a write");
    let owner = async |secret: &TokenDigest| {
        let owner = store.secret_owner(secret).await.expect("a read");
        owner.map(|owner| owner.number)
    };
    assert_eq!(
        (owner(&first).await, owner(&lost.secret).await),
        (Some(1), None)
    );
    let number = store
        .promote_secret(&second.secret, 9000)
        .await
        .expect("a write");
    assert_eq!(number, Some(2));
    assert_eq!(
        (owner(&first).await, owner(&second.secret).await),
        (None, Some(2))
    );
    assert_eq!(rotation(8999, 2).await, Rotation::None);
    assert_eq!(rotation(9000, 2).await, Rotation::Due, "by age");
    let unknown = store
        .order_rotation("sn-9", &make::fleet(), &make::by(1))
        .await
        .expect("a write");
    assert_eq!(unknown, RotationOrdered::Unknown);
}

pub(crate) async fn a_revoked_host_cannot_write_and_its_jobs_end(store: &dyn Store) {
    let secret = registered(store, "sn-1").await;
    make::job(store, "j1", "sn-1").await;
    assert_eq!(
        remove(store, "sn-1", Presence::Revoked).await,
        Removed::Done
    );
    assert_eq!(
        remove(store, "sn-1", Presence::Revoked).await,
        Removed::Done
    );
    assert_eq!(
        remove(store, "sn-9", Presence::Revoked).await,
        Removed::Unknown
    );
    assert!(store.secret_owner(&secret).await.expect("a read").is_none());
    let mut late = make::status("sn-1", 60);
    late.results.push(make::outcome("j1", 0));
    assert_eq!(push(store, late).await, StatusOutcome::SecretChanged);
    let job = store
        .job("j1", &make::fleet())
        .await
        .expect("a read")
        .expect("the job");
    assert_eq!(
        (job.errcode, job.finished),
        (Some(ErrorCode::CANCELLED), Some(50))
    );
    assert_eq!(job.message.as_deref(), Some("the host was revoked"));
    let inserted = store
        .insert_jobs(
            &make::jobs("j2", "sn-1", None, None),
            &make::fleet(),
            &make::by(1),
        )
        .await;
    assert_eq!(
        inserted.expect("an insert"),
        JobsInserted::UnknownHosts(vec!["sn-1".into()])
    );
    let known = store
        .known_host("sn-1")
        .await
        .expect("a read")
        .expect("the host");
    assert_eq!(known.standing, Standing::Revoked);
    // A renewal that was decided before it was revoked comes too late.
    let renew = RegistrationEffect::Renew {
        tags: make::tags(""),
        orders: OpenOrders::Stay,
    };
    let renewal = make::registration("sn-1", renew);
    assert_eq!(
        store.register_host(&renewal).await.expect("a write"),
        Registered::Changed
    );
    assert_eq!(history(store, "sn-1").await, ["revoked", "new"]);
    assert_eq!(
        (
            count(store, Presence::Revoked).await,
            count(store, Presence::New).await
        ),
        (1, 0)
    );
}

pub(crate) async fn a_deleted_host_leaves_its_history_and_may_come_back(store: &dyn Store) {
    registered(store, "sn-1").await;
    store
        .insert_enrolment_token(&make::enrolment("e1", None), &make::by(1))
        .await
        .expect("an insert");
    make::job(store, "j1", "sn-1").await;
    let mut record = make::status("sn-1", 10);
    record.events.push(make::event(1, "m"));
    push(store, record).await;
    assert_eq!(
        remove(store, "sn-1", Presence::Deleted).await,
        Removed::Done
    );
    assert_eq!(
        remove(store, "sn-1", Presence::Deleted).await,
        Removed::Unknown
    );
    assert_eq!(event_count(store).await, 1, "what happened stays");
    let list = async |state| {
        let query = HostQuery {
            state,
            ..HostQuery::default()
        };
        store.hosts(&query).await.expect("a list").items.len()
    };
    assert_eq!(
        (list(None).await, list(Some(Presence::Deleted)).await),
        (0, 1)
    );
    let detail = store
        .host("sn-1", &make::fleet())
        .await
        .expect("a read")
        .expect("the tombstone");
    assert!(detail.state.is_none() && detail.summary.tags.is_empty());

    let revive = || {
        let effect = RegistrationEffect::Revive {
            enrolment: "e1".into(),
            tags: make::tags("svc=web"),
        };
        make::registration("sn-1", effect)
    };
    let revived = store.register_host(&revive()).await.expect("a write");
    assert_eq!(revived, Registered::Done(make::tags("svc=web")));
    let twice = store.register_host(&revive()).await.expect("a write");
    assert_eq!(twice, Registered::Changed);
    let old = push(store, make::status("sn-1", 20)).await;
    assert_eq!(old, StatusOutcome::SecretChanged, "the number of before");
    let record = StatusRecord {
        number: 3,
        ..make::status("sn-1", 30)
    };
    assert_eq!(
        ids(&push(store, record).await),
        [""; 0],
        "no order of before"
    );
    assert_eq!(
        history(store, "sn-1").await,
        ["online", "new", "deleted", "online", "new"]
    );
    assert_eq!(
        (
            count(store, Presence::Deleted).await,
            count(store, Presence::Online).await
        ),
        (0, 1)
    );
}

pub(crate) async fn a_host_brought_in_anew_inherits_no_orders(store: &dyn Store) {
    registered(store, "sn-1").await;
    make::job(store, "j1", "sn-1").await;
    let renew = |orders| {
        let tags = make::tags("");
        make::registration("sn-1", RegistrationEffect::Renew { tags, orders })
    };
    store
        .register_host(&renew(OpenOrders::Stay))
        .await
        .expect("a write");
    let open = async || {
        let job = store
            .job("j1", &make::fleet())
            .await
            .expect("a read")
            .expect("the job");
        job.finished.is_none()
    };
    assert!(open().await, "a lost reply costs nothing");
    store
        .register_host(&renew(OpenOrders::End))
        .await
        .expect("a write");
    assert!(!open().await);
}

pub(crate) async fn the_second_of_two_that_alternate_is_told_to_register_again(store: &dyn Store) {
    registered(store, "sn-1").await;
    let from = async |boot: &str, seconds: i64| {
        let mut record = make::status("sn-1", seconds * 1000);
        record.state.machine_id = Some("machine of sn-1".into());
        record.state.boot_id = Some(boot.into());
        record.state.digest = boot.into();
        stored(&push(store, record).await).verdict
    };
    let mut verdicts = Vec::new();
    for (boot, at) in [
        ("b1", 0),
        ("b2", 300),
        ("b1", 600),
        ("b2", 900),
        ("b1", 1200),
    ] {
        verdicts.push(from(boot, at).await);
    }
    let (own, copy) = (Verdict::Own, Verdict::Copy);
    assert_eq!(verdicts, [own, own, own, copy, own]);
    // Also when both are in one batch, again and again.
    registered(store, "sn-3").await;
    let of = |boot: &str, seconds: i64| {
        let mut record = make::status("sn-3", seconds * 1000);
        record.state.boot_id = Some(boot.into());
        record.state.digest = boot.into();
        record
    };
    for (at, expected) in [(0, [own, own]), (600, [own, copy]), (1200, [own, copy])] {
        let together = [of("b1", at), of("b2", at + 1)];
        let outcomes = store.record_statuses(&together).await.expect("a batch");
        let verdicts = [&outcomes[0], &outcomes[1]].map(|outcome| stored(outcome).verdict);
        assert_eq!(verdicts, expected, "at {at}");
    }
    // Once the copy has an identity of its own, the original is alone again.
    let effect = RegistrationEffect::Create {
        enrolment: None,
        tags: make::tags(""),
        copy_of: Some("sn-1".into()),
    };
    let copy = make::registration("sn-2", effect);
    store.register_host(&copy).await.expect("a write");
    let known = store
        .known_host("sn-1")
        .await
        .expect("a read")
        .expect("the host");
    assert_eq!(
        known.sightings,
        bootserver::fleet::clone::Sightings::default()
    );
}

/// A status from a boot; what it says is the same each time.
fn from_boot(agentsn: &str, boot: &str, seconds: i64) -> StatusRecord {
    let mut record = make::status(agentsn, seconds * 1000);
    record.state.machine_id = Some(format!("machine of {agentsn}"));
    record.state.boot_id = Some(boot.into());
    record.state.digest = boot.into();
    record
}

pub(crate) async fn a_copy_gets_no_orders_and_closes_none(store: &dyn Store) {
    registered(store, "sn-1").await;
    for (boot, at) in [("b1", 0), ("b2", 300), ("b1", 600), ("b2", 900)] {
        push(store, from_boot("sn-1", boot, at)).await;
    }
    make::job(store, "j1", "sn-1").await;
    // Again and again, though it says what it said before.
    for at in [910, 920] {
        let mut copy = from_boot("sn-1", "b2", at);
        copy.accepted = vec!["j1".into()];
        copy.results = vec![make::outcome("j1", 0)];
        copy.events = vec![make::event(at, "of the copy")];
        let outcome = push(store, copy).await;
        assert_eq!(stored(&outcome).verdict, Verdict::Copy, "at {at}");
        assert_eq!(ids(&outcome), [""; 0], "at {at}");
        assert_eq!(stored(&outcome).ignored_results, ["j1"], "at {at}");
    }
    let job = async || {
        let job = store.job("j1", &make::fleet()).await.expect("a read");
        job.expect("the job")
    };
    let waiting = job().await;
    assert_eq!(
        (waiting.sent, waiting.accepted, waiting.finished),
        (None, None, None)
    );
    assert_eq!(event_count(store).await, 2, "what happened is kept");
    // In one batch each is who it is.
    let mut copy = from_boot("sn-1", "b2", 1000);
    copy.results = vec![make::outcome("j1", 4000)];
    let batch = [copy, from_boot("sn-1", "b1", 1001)];
    let outcomes = store.record_statuses(&batch).await.expect("a batch");
    assert_eq!(ids(&outcomes[0]), [""; 0]);
    assert_eq!(ids(&outcomes[1]), ["j1"]);
    let mut original = from_boot("sn-1", "b1", 1010);
    original.results = vec![make::outcome("j1", 0)];
    push(store, original).await;
    assert_eq!(job().await.errcode, Some(bootagent_protocol::ErrorCode(0)));
}

pub(crate) async fn a_host_may_push_and_register_at_once(store: &dyn Store) {
    registered(store, "sn-1").await;
    let push = async || {
        for now in 0..30 {
            let outcome = store.record_statuses(&[make::status("sn-1", now)]).await;
            outcome.expect("a batch");
        }
    };
    let register = async || {
        for _ in 0..30 {
            let effect = RegistrationEffect::Renew {
                tags: make::tags(""),
                orders: OpenOrders::Stay,
            };
            let registration = make::registration("sn-1", effect);
            let registered = store.register_host(&registration).await;
            registered.expect("a write");
        }
    };
    tokio::join!(push(), register());
}

pub(crate) async fn a_copy_leaves_while_the_original_pushes(store: &dyn Store) {
    for round in 0..15 {
        let original = format!("sn-{round}");
        registered(store, &original).await;
        let effect = RegistrationEffect::Create {
            enrolment: None,
            tags: make::tags(""),
            copy_of: Some(original.clone()),
        };
        let copy = make::registration(&format!("copy-{round}"), effect);
        let batch = [make::status(&original, round)];
        let (pushed, registered) =
            tokio::join!(store.record_statuses(&batch), store.register_host(&copy));
        pushed.expect("a batch");
        registered.expect("a write");
    }
}

pub(crate) async fn of_two_offers_at_once_the_first_one_holds(store: &dyn Store) {
    registered(store, "sn-1").await;
    let ordered = store
        .order_rotation("sn-1", &make::fleet(), &make::by(2000))
        .await;
    assert_eq!(ordered.expect("a write"), RotationOrdered::Done);
    let at = |now| Offer { now, ..offer(1) };
    let (first, second, later) = (at(2000), at(2001), at(5000));
    let offered = async |offer: &Offer| store.offer_secret(offer).await.expect("a write");
    assert_eq!(offered(&first).await, Offered::Done);
    assert_eq!(offered(&second).await, Offered::Changed);
    let owner = async |offer: &Offer| {
        let owner = store.secret_owner(&offer.secret).await;
        owner.expect("a read").is_some()
    };
    assert_eq!((owner(&first).await, owner(&second).await), (true, false));
    // Its reply was lost: another one takes its place.
    assert_eq!(offered(&later).await, Offered::Done);
    assert_eq!((owner(&first).await, owner(&later).await), (false, true));
}

pub(crate) async fn an_order_in_the_moment_of_a_revocation_is_not_left_open(store: &dyn Store) {
    for round in 0..15 {
        let (agentsn, id) = (format!("sn-{round}"), format!("j{round}"));
        make::host(store, &agentsn).await;
        let order = make::jobs(&id, &agentsn, None, None);
        let (fleet, by) = (make::fleet(), make::by(1));
        let (inserted, removed) = tokio::join!(
            store.insert_jobs(&order, &fleet, &by),
            remove(store, &agentsn, Presence::Revoked)
        );
        assert_eq!(removed, Removed::Done);
        inserted.expect("an insert");
        let job = store.job(&id, &fleet).await.expect("a read");
        assert!(job.is_none_or(|job| job.finished.is_some()), "{agentsn}");
    }
}
