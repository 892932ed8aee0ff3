//! Requests that are to be done once.

use bootserver::store::Store;
use bootserver::store::idempotency::{Begun, KEPT, KeptAnswer, Once};

fn once(caller: &str, request: &str) -> Once {
    Once {
        caller: caller.into(),
        key: "k".into(),
        request: request.into(),
    }
}

pub(crate) async fn a_request_with_a_key_is_begun_once_and_its_answer_kept_for_a_day(
    store: &dyn Store,
) {
    let begin = async |once: &Once, now: i64| store.begin_once(once, now).await.expect("a write");
    let mine = once("me", "a");
    assert_eq!(begin(&mine, 1).await, Begun::New);
    assert_eq!(begin(&mine, 2).await, Begun::Running);
    assert_eq!(begin(&once("me", "b"), 2).await, Begun::Other);
    assert_eq!(begin(&once("you", "b"), 2).await, Begun::New);
    // It came to nothing: the next one may.
    store.end_once(&mine, None).await.expect("a write");
    assert_eq!(begin(&mine, 3).await, Begun::New);
    let answer = KeptAnswer {
        status: 201,
        etag: Some("1".into()),
        body: Some("sealed".into()),
    };
    store.end_once(&mine, Some(&answer)).await.expect("a write");
    store.end_once(&mine, None).await.expect("a write");
    let last = 3 + i64::try_from(KEPT.as_millis()).expect("a day");
    assert_eq!(begin(&mine, last).await, Begun::Answered(answer));
    assert_eq!(begin(&once("me", "b"), last).await, Begun::Other);
    assert_eq!(begin(&mine, last + 1).await, Begun::New, "its day is over");
}
