//! Packages.

use bootserver::store::Store;
use bootserver::store::job::JobsInserted;
use bootserver::store::package::PackageDeleted;
use bootserver::store::package::PackageInserted;
use bootserver::store::package::PackageQuery;

use crate::make;

pub(crate) async fn a_package_has_one_place(store: &dyn Store) {
    let (one, two) = (
        make::package("p1", "1", "aa"),
        make::package("p2", "1", "bb"),
    );
    assert_eq!(
        store
            .insert_package(&one, None, &make::by(1))
            .await
            .expect("a write"),
        PackageInserted::Done
    );
    let exists = store
        .insert_package(&two, None, &make::by(1))
        .await
        .expect("a write");
    assert_eq!(exists, PackageInserted::Exists(Box::new(one.clone())));
    assert_eq!(
        store.package_by_file("a/a-1").await.expect("a read"),
        Some(one.clone())
    );
    assert_eq!(store.package("p1").await.expect("a read"), Some(one));
    assert_eq!(store.package("p2").await.expect("a read"), None);
    store
        .insert_package(&make::package("p3", "2", "aa"), None, &make::by(1))
        .await
        .expect("a write");
    let all = store
        .packages(&PackageQuery::default())
        .await
        .expect("a list")
        .items;
    assert_eq!(
        all.iter()
            .map(|package| package.id.as_str())
            .collect::<Vec<_>>(),
        ["p3", "p1"]
    );
    let second = PackageQuery {
        version: Some("2".into()),
        ..PackageQuery::default()
    };
    assert_eq!(
        store.packages(&second).await.expect("a list").items.len(),
        1
    );
}

pub(crate) async fn a_package_in_use_stays(store: &dyn Store) {
    make::host(store, "sn-1").await;
    store
        .insert_package(&make::package("p1", "1", "aa"), None, &make::by(1))
        .await
        .expect("a write");
    store
        .insert_package(&make::package("p2", "2", "aa"), None, &make::by(1))
        .await
        .expect("a write");
    let order = make::jobs("j1", "sn-1", Some("p1"), None);
    assert_eq!(
        store
            .insert_jobs(&order, &make::fleet(), &make::by(1))
            .await
            .expect("a write"),
        JobsInserted::Done
    );
    let used = store
        .delete_package("p1", &make::by(1))
        .await
        .expect("a write");
    assert_eq!(used, PackageDeleted::InUse { job: "j1".into() });
    let mut record = make::status("sn-1", 1);
    record.results.push(make::outcome("j1", 0));
    store.record_statuses(&[record]).await.expect("a batch");
    // The other package has the same bytes, so they are no orphan yet.
    let deleted = store
        .delete_package("p1", &make::by(1))
        .await
        .expect("a write");
    assert_eq!(deleted, PackageDeleted::Done { orphan: None });
    let deleted = store
        .delete_package("p2", &make::by(1))
        .await
        .expect("a write");
    assert_eq!(
        deleted,
        PackageDeleted::Done {
            orphan: Some("aa".into())
        }
    );
    assert_eq!(
        store
            .delete_package("p2", &make::by(1))
            .await
            .expect("a write"),
        PackageDeleted::Unknown
    );
    // The job is history and stays.
    assert!(
        store
            .job("j1", &make::fleet())
            .await
            .expect("a read")
            .is_some()
    );
}
