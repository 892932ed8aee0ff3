//! Batches of statuses, and the events in them.

use bootagent_protocol::ErrorCode;
use bootserver::store::Failure;
use bootserver::store::Store;
use bootserver::store::event::EventQuery;
use bootserver::store::session::{NewSession, SessionBegun};
use bootserver::store::status::StatusOutcome;
use bootserver::token::{Token, TokenKind};

use super::{event_count, limit};
use crate::make;

pub(crate) async fn a_host_nobody_knows_leaves_its_neighbours_alone(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let mut good = make::status("sn-1", 1);
    good.events.push(make::event(1, "m"));
    let mut unknown = make::status("a host nobody knows", 1);
    unknown.events.push(make::event(1, "m"));
    let outcomes = store
        .record_statuses(&[unknown, good])
        .await
        .expect("a batch");
    assert_eq!(outcomes[0], StatusOutcome::SecretChanged);
    assert!(matches!(outcomes[1], StatusOutcome::Stored(_)));
    assert_eq!(event_count(store).await, 1);
}

/// What the database refuses is a status with `make::refused`'s event.
pub(crate) async fn a_batch_is_stored_whole_or_not_at_all(store: &dyn Store) {
    make::host(store, "sn-1").await;
    make::host(store, "sn-2").await;
    let mut good = make::status("sn-1", 1);
    good.events.push(make::event(1, "m"));
    let records = [good.clone(), make::refused("sn-2")];
    let error = store
        .record_statuses(&records)
        .await
        .expect_err("an event the database refuses");
    assert_eq!(error.failure, Failure::Rejected);
    assert_eq!(event_count(store).await, 0);
    assert_eq!(
        store
            .host("sn-1", &make::fleet())
            .await
            .expect("a read")
            .expect("the host")
            .state,
        None
    );
    store.record_statuses(&[good]).await.expect("a batch");
    assert_eq!(event_count(store).await, 1);
    assert_eq!(store.record_statuses(&[]).await.expect("nothing"), []);
}

pub(crate) async fn of_two_statuses_in_one_batch_the_last_is_the_state(store: &dyn Store) {
    make::host(store, "sn-1").await;
    make::job(store, "j1", "sn-1").await;
    let (mut first, mut last) = (make::status("sn-1", 10), make::status("sn-1", 20));
    first.results.push(make::outcome("j1", 5001));
    last.results.push(make::outcome("j1", 0));
    first.events.push(make::event(1, "m"));
    last.events.push(make::event(1, "m"));
    last.events.push(make::event(2, "m"));
    store
        .record_statuses(&[first, last])
        .await
        .expect("a batch");
    let host = store
        .host("sn-1", &make::fleet())
        .await
        .expect("a read")
        .expect("the host");
    assert_eq!(host.summary.seen, Some(20));
    assert_eq!(host.summary.reported.hostname, "name at 20");
    assert_eq!(host.state.expect("a state").changed, 20);
    assert_eq!(event_count(store).await, 2);
    let job = store
        .job("j1", &make::fleet())
        .await
        .expect("a read")
        .expect("the job");
    assert_eq!(job.errcode, Some(ErrorCode(5001)));
    // The same content again: only the time it was seen.
    let mut again = make::status("sn-1", 30);
    again.state.digest = "20".into();
    store.record_statuses(&[again]).await.expect("a batch");
    let host = store
        .host("sn-1", &make::fleet())
        .await
        .expect("a read")
        .expect("the host");
    assert_eq!(
        (host.summary.seen, host.state.map(|state| state.changed)),
        (Some(30), Some(20))
    );
}

pub(crate) async fn an_event_has_one_row(store: &dyn Store) {
    make::host(store, "sn-1").await;
    make::host(store, "sn-2").await;
    for agentsn in ["sn-1", "sn-2", "sn-1"] {
        let mut record = make::status(agentsn, 5);
        record.events = vec![make::event(1, "m"), make::event(2, "m")];
        store.record_statuses(&[record]).await.expect("a batch");
    }
    assert_eq!(event_count(store).await, 4);
    let one = EventQuery {
        agentsn: Some("sn-2".into()),
        ..EventQuery::default()
    };
    assert_eq!(store.events(&one).await.expect("a list").items.len(), 2);
    let page = EventQuery {
        limit: limit(3),
        ..EventQuery::default()
    };
    let page = store.events(&page).await.expect("a list");
    let after = page.next.expect("one more").parse().ok();
    let rest = store
        .events(&EventQuery {
            after,
            ..EventQuery::default()
        })
        .await
        .expect("a list");
    assert_eq!((page.items.len(), rest.items.len()), (3, 1));
    let later = EventQuery {
        since: Some(6),
        ..EventQuery::default()
    };
    assert_eq!(store.events(&later).await.expect("a list").items.len(), 0);
}

pub(crate) async fn text_of_any_script_comes_back(store: &dyn Store) {
    make::host(store, "sn-1").await;
    // Quotes, backslashes and astral characters pass JSON and SQL on their way.
    let text = "流量 'quoted' \"twice\" \\ back\u{1}\u{10ffff} $1 ?";
    let mut record = make::status("sn-1", 1);
    record.events.push(make::event(1, text));
    record.state.hostname = text.into();
    record.state.body.notices.push(text.into());
    store.record_statuses(&[record]).await.expect("a batch");
    let events = store
        .events(&EventQuery::default())
        .await
        .expect("a list")
        .items;
    assert_eq!(
        (events[0].message.as_str(), events[0].tail[0].as_str()),
        (text, text)
    );
    let host = store
        .host("sn-1", &make::fleet())
        .await
        .expect("a read")
        .expect("the host");
    assert_eq!(host.summary.reported.hostname, text);
    assert_eq!(host.state.expect("a state").notices, [text]);
}

pub(crate) async fn after_a_restore_no_number_is_given_twice_and_nobody_is_signed_in(
    store: &dyn Store,
) {
    let user = make::user("admin");
    let inserted = store.insert_user(&user, &make::by(1)).await;
    inserted.expect("a write");
    let session = NewSession {
        id: "s1".into(),
        digest: Token::generate(TokenKind::Session).digest(),
        user: user.id.clone(),
        password: user.password.clone(),
        expires: i64::MAX,
        client: String::new(),
    };
    let begun = store.begin_session(&session, &make::by(1)).await;
    assert_eq!(begun.expect("a write"), SessionBegun::Done);
    let owner = async || {
        let owner = store.session_owner(&session.digest).await;
        owner.expect("a read").is_some()
    };
    assert!(owner().await);
    make::host(store, "sn-1").await;
    make::job(store, "j1", "sn-1").await;
    let newest = async |now| {
        let mut record = make::status("sn-1", now);
        record.events = vec![make::event(now, "m")];
        store.record_statuses(&[record]).await.expect("a batch");
        let events = store.events(&EventQuery::default()).await;
        let events = events.expect("a list").items;
        events.iter().map(|event| event.id).max().expect("an event")
    };
    let before = newest(1).await;
    assert_eq!(store.restored(100).await.expect("a write"), 1);
    let after = newest(2).await;
    assert!(after > before + 999_999_999, "{before} {after}");
    let results = store.job_results(&Default::default()).await;
    let results = results.expect("a list").items;
    assert!(results[0].seq > 1_000_000_000, "{results:?}");
    assert!(!owner().await, "signed in though nobody knows who may be");
}
