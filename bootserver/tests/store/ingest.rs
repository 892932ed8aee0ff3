//! The one writer: everybody is answered after the commit, and a record the
//! database refuses fails alone.

use std::sync::Arc;

use bootserver::ingest::{Ingest, Refused};
use bootserver::store::Store;

use crate::{make, sqlite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_record_does_not_fail_its_neighbours() {
    let opened = sqlite::open().await.expect("a store");
    let store: Arc<dyn Store> = Arc::new(opened.sqlite());
    sqlite::refuse(&opened).await;
    for n in 0..42 {
        make::host(store.as_ref(), &format!("sn-{n}")).await;
    }
    let (ingest, writer) = Ingest::start(store.clone());
    let pushes: Vec<_> = (0..42)
        .map(|n| {
            let ingest = ingest.clone();
            let agentsn = format!("sn-{n}");
            let record = match n {
                0..40 => make::status(&agentsn, 7),
                _ => make::refused(&agentsn),
            };
            tokio::spawn(async move { ingest.submit(record).await })
        })
        .collect();
    for (n, push) in pushes.into_iter().enumerate() {
        let outcome = push.await.expect("no panic");
        assert_eq!(
            outcome.err(),
            (n >= 40).then_some(Refused::Never),
            "host {n}"
        );
    }
    for n in 0..40 {
        let host = store
            .host(&format!("sn-{n}"), &make::fleet())
            .await
            .expect("a read")
            .expect("the host");
        assert_eq!(host.summary.seen, Some(7), "host {n}");
    }
    // Without senders the writer ends.
    drop(ingest);
    writer.await.expect("no panic");
    opened.close().await;
}

#[tokio::test]
async fn a_database_that_is_closed_means_later_and_not_never() {
    let opened = sqlite::open().await.expect("a store");
    let store = opened.sqlite();
    make::host(&store, "sn-1").await;
    let (ingest, _writer) = Ingest::start(Arc::new(store.clone()));
    store.close().await;
    let outcome = ingest.submit(make::status("sn-1", 1)).await;
    assert_eq!(outcome.err(), Some(Refused::Later));
}
