//! What holds for the bytes of packages, as files and in a database.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bootserver::blob::{Blobs, Finished, Moved, move_in};
use bootserver::store::Store;
use bootserver::store::lease::Held;
use bootserver::store::package::{PackageDeleted, PackageInserted};
use bootserver::token::hex;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::make;

/// Two chunks and a half.
const SIZE: usize = (5 << 20) / 2;

fn content(seed: u8) -> Vec<u8> {
    let byte = |at: usize| u8::try_from((at / 1000 + at) % 251).expect("a byte") ^ seed;
    (0..SIZE).map(byte).collect()
}

/// Comes in as from the network, in pieces that fit nothing.
async fn come_in(blobs: &Blobs, bytes: &[u8]) -> Finished {
    let mut upload = blobs.begin().await.expect("an upload");
    for piece in bytes.chunks(123_457) {
        upload.write(piece).await.expect("a write");
    }
    assert_eq!(upload.size(), bytes.len() as u64);
    upload.finish().await.expect("the end of the upload")
}

async fn store_package(store: &dyn Store, blobs: &Blobs, id: &str, bytes: &[u8]) -> String {
    let finished = come_in(blobs, bytes).await;
    let sha256 = finished.sha256.clone();
    assert_eq!(sha256, hex(&Sha256::digest(bytes)));
    let kept = blobs.keep(finished).await.expect("a place");
    let package = make::package(id, id, &sha256);
    let inserted = store
        .insert_package(&package, kept.id(), &make::by(1))
        .await;
    assert_eq!(inserted.expect("a write"), PackageInserted::Done);
    kept.done();
    sha256
}

async fn delete(store: &dyn Store, blobs: &Blobs, id: &str) {
    let deleted = store.delete_package(id, &make::by(1)).await;
    let PackageDeleted::Done { orphan } = deleted.expect("a write") else {
        panic!("{id} is in use");
    };
    if let Some(sha256) = orphan {
        blobs.remove(&sha256).await.expect("its bytes go");
    }
}

async fn part(blobs: &Blobs, sha256: &str, start: u64, end: u64) -> Option<Vec<u8>> {
    let body = blobs.body(sha256, start, end).await.ok()?;
    Some(body.collect().await.ok()?.to_bytes().to_vec())
}

async fn whole(blobs: &Blobs, sha256: &str) -> Option<Vec<u8>> {
    part(blobs, sha256, 0, SIZE as u64).await
}

/// What is given up goes by itself, but not at once.
async fn until_left(left: impl AsyncFn() -> usize, expected: usize) {
    let begun = Instant::now();
    while left().await != expected {
        let found = left().await;
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{found} are left"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn what_came_in_is_what_goes_out_in_any_part(store: &dyn Store, blobs: &Blobs) {
    let bytes = content(1);
    let sha256 = store_package(store, blobs, "p1", &bytes).await;
    assert!(whole(blobs, &sha256).await.is_some_and(|out| out == bytes));
    for (start, end) in [
        (0, 1),
        (10, 20),
        ((1 << 20) - 1, (1 << 20) + 1),
        (1 << 20, 2 << 20),
        (SIZE - 1, SIZE),
        (700_000, SIZE),
        (5, 5),
    ] {
        let out = part(blobs, &sha256, start as u64, end as u64).await;
        assert!(
            out.is_some_and(|out| out == bytes[start..end]),
            "{start}..{end}"
        );
    }
    assert_eq!(whole(blobs, &"0".repeat(64)).await, None);
}

async fn what_came_in_can_be_looked_into_before_it_has_its_place(_: &dyn Store, blobs: &Blobs) {
    let bytes = content(2);
    let finished = come_in(blobs, &bytes).await;
    let mut reader = finished.reader().expect("a reader");
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).expect("all of it");
        reader.seek(SeekFrom::Start(1_048_570)).expect("a place");
        let mut over = [0; 12];
        reader.read_exact(&mut over).expect("twelve bytes");
        reader.seek(SeekFrom::End(-3)).expect("a place");
        let mut last = Vec::new();
        reader.read_to_end(&mut last).expect("the end");
        (all, over, last)
    });
    let (all, over, last) = read.await.expect("no panic");
    assert!(all == bytes);
    assert_eq!(over, bytes[1_048_570..1_048_582]);
    assert_eq!(last, bytes[SIZE - 3..]);
}

async fn bytes_of_two_packages_go_with_the_second(store: &dyn Store, blobs: &Blobs) {
    let bytes = content(3);
    let sha256 = store_package(store, blobs, "p1", &bytes).await;
    assert_eq!(store_package(store, blobs, "p2", &bytes).await, sha256);
    delete(store, blobs, "p1").await;
    assert!(whole(blobs, &sha256).await.is_some_and(|out| out == bytes));
    delete(store, blobs, "p2").await;
    assert_eq!(whole(blobs, &sha256).await, None);
    // They may come again.
    store_package(store, blobs, "p3", &bytes).await;
    assert!(whole(blobs, &sha256).await.is_some_and(|out| out == bytes));
    delete(store, blobs, "p3").await;
}

async fn an_upload_that_is_given_up_leaves_nothing(_: &dyn Store, blobs: &Blobs) {
    let mut upload = blobs.begin().await.expect("an upload");
    upload.write(&content(4)).await.expect("a write");
    drop(upload);
    drop(come_in(blobs, &content(5)).await);
}

macro_rules! blobs {
    ($place:ident, $open:path) => {
        mod $place {
            blobs!(@each $open,
                what_came_in_is_what_goes_out_in_any_part 1
                what_came_in_can_be_looked_into_before_it_has_its_place 0
                bytes_of_two_packages_go_with_the_second 0
                an_upload_that_is_given_up_leaves_nothing 0
            );
        }
    };
    (@each $open:path, $($promise:ident $packages:literal)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let Some(opened) = $open().await else { return };
                let blobs = opened.blobs();
                super::$promise(opened.store(), &blobs).await;
                let expected = $packages * opened.parts(super::SIZE);
                super::until_left(async || opened.left().await, expected).await;
                opened.close().await;
            }
        )*
    };
}

blobs!(as_files, crate::sqlite::open);
blobs!(in_postgres, crate::postgres::open);

#[tokio::test]
async fn another_replica_has_what_one_took_and_reads_only_the_chunks_it_needs() {
    let Some(opened) = crate::postgres::open().await else {
        return;
    };
    let bytes = content(6);
    let finished = come_in(&opened.blobs(), &bytes).await;
    let sha256 = finished.sha256.clone();
    let other = opened.another().await;
    let elsewhere = Blobs::rows(other.chunks().expect("PostgreSQL keeps them"));
    // It is there with its package and not before.
    assert_eq!(whole(&elsewhere, &sha256).await, None);
    drop(finished);
    store_package(opened.store(), &opened.blobs(), "p1", &bytes).await;
    assert!(
        whole(&elsewhere, &sha256)
            .await
            .is_some_and(|out| out == bytes)
    );
    let mut direct = opened.connect().await;
    sqlx::query("DELETE FROM blob_chunk WHERE number = 0")
        .execute(&mut direct)
        .await
        .expect("a chunk less");
    let (start, end) = (1 << 20, SIZE);
    let rest = part(&elsewhere, &sha256, start as u64, end as u64).await;
    assert!(rest.is_some_and(|rest| rest == bytes[start..]));
    // What is not whole is not taken for whole.
    assert_eq!(whole(&elsewhere, &sha256).await, None);
    let plain: String = sqlx::query_scalar(
        "SELECT attstorage::text FROM pg_attribute
         WHERE attrelid = 'blob_chunk'::regclass AND attname = 'bytes'",
    )
    .fetch_one(&mut direct)
    .await
    .expect("how it is stored");
    assert_eq!(plain, "e");
    sqlx::Connection::close(direct).await.expect("a goodbye");
    other.close().await;
    opened.close().await;
}

#[tokio::test]
async fn what_hosts_fetch_is_read_from_the_database_once() {
    let Some(opened) = crate::postgres::open().await else {
        return;
    };
    let folder = TempDir::new().expect("a temporary folder");
    let directory = folder.path().join("copies");
    let chunks = opened.store().chunks().expect("PostgreSQL keeps them");
    let blobs = Blobs::rows_with_copies(chunks.clone(), directory.clone());
    let blobs = Arc::new(blobs.expect("a folder"));
    let bytes = content(9);
    let sha256 = store_package(opened.store(), &blobs, "p1", &bytes).await;
    let downloads: Vec<_> = (0..50)
        .map(|_| {
            let (blobs, sha256) = (blobs.clone(), sha256.clone());
            tokio::spawn(async move { whole(&blobs, &sha256).await })
        })
        .collect();
    for download in downloads {
        let out = download.await.expect("no panic");
        assert!(out.is_some_and(|out| out == bytes));
    }
    let copies = std::fs::read_dir(&directory).expect("a list").count();
    assert_eq!(copies, 1);
    let mut direct = opened.connect().await;
    let emptied = sqlx::query("DELETE FROM blob_chunk").execute(&mut direct);
    emptied.await.expect("no chunk any more");
    let rest = part(&blobs, &sha256, 1_000_000, SIZE as u64).await;
    assert!(rest.is_some_and(|rest| rest == bytes[1_000_000..]));
    // A start begins with none, and a folder that is gone is no reason to fail.
    let again = Blobs::rows_with_copies(chunks.clone(), directory.clone());
    assert_eq!(whole(&again.expect("a folder"), &sha256).await, None);
    let other = content(10);
    let sha256 = store_package(opened.store(), &blobs, "p2", &other).await;
    std::fs::remove_dir_all(&directory).expect("it is ours");
    let out = whole(&blobs, &sha256).await;
    assert!(out.is_some_and(|out| out == other));
    sqlx::Connection::close(direct).await.expect("a goodbye");
    opened.close().await;
}

#[tokio::test]
async fn what_a_killed_server_left_of_uploads_is_swept() {
    let Some(opened) = crate::postgres::open().await else {
        return;
    };
    let chunks = opened.store().chunks().expect("PostgreSQL keeps them");
    let abandoned = chunks.begin().await.expect("an upload");
    for number in 0..3 {
        let stored = chunks.append(&abandoned, number, b"a part").await;
        stored.expect("a part");
    }
    let lease = opened.store().take_lease("test", "us", 60_000).await;
    let lease = lease.expect("a write").expect("nobody has it");
    // Others may be at theirs.
    let hour = opened.store().sweep_uploads(&lease, 3_600_000).await;
    assert_eq!(hour.expect("a write"), Held::Done(0));
    let swept = opened.store().sweep_uploads(&lease, 0).await;
    assert_eq!(swept.expect("a write"), Held::Done(1));
    // Its server hung and comes back: too late.
    let late = chunks.append(&abandoned, 3, b"a part").await;
    assert!(late.is_err());
    chunks.remove_gone().await.expect("a removal");
    assert_eq!(opened.left().await, 0);
    opened.close().await;
}

#[tokio::test]
async fn files_of_before_move_into_the_database() {
    let Some(opened) = crate::postgres::open().await else {
        return;
    };
    let folder = TempDir::new().expect("a temporary folder");
    let directory = folder.path().join("blobs");
    let before = Blobs::files(directory.clone(), folder.path().join("tmp")).expect("two folders");
    let bytes = content(7);
    let sha256 = hex(&Sha256::digest(&bytes));
    for bytes in [bytes.clone(), content(8)] {
        let finished = come_in(&before, &bytes).await;
        before.keep(finished).await.expect("a place").done();
    }
    // One of them is of a package.
    let package = make::package("p1", "1", &sha256);
    let by = make::by(1);
    let inserted = opened.store().insert_package(&package, None, &by);
    assert_eq!(inserted.await.expect("a write"), PackageInserted::Done);
    let chunks = opened.store().chunks().expect("PostgreSQL keeps them");
    for (after, moved, is_there) in [
        (Moved::Stay, 1, true),
        (Moved::Go, 0, false),
        (Moved::Go, 0, false),
    ] {
        let found = move_in(&chunks, &directory, after).await;
        assert_eq!(found.expect("a move"), moved);
        assert_eq!(directory.exists(), is_there);
        let out = whole(&opened.blobs(), &sha256).await;
        assert!(out.is_some_and(|out| out == bytes));
    }
    opened.close().await;
}
