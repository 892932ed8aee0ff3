//! A PostgreSQL that vanishes without a word, as behind a cut cable: what was sent
//! is swallowed, and no connection ever ends.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bootserver::ingest::{Ingest, Refused, Writer};
use bootserver::store::postgres::PostgresStore;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::{cluster, make};

/// How often a connection looks whether it was cut.
const LOOK: Duration = Duration::from_millis(5);
/// More than the store has connections to write with.
const CUTS: usize = 8;
/// For what takes no time on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those that wait for a lock.
const WAITING: &str = "SELECT 1 FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";
/// Ends what the store's connections still do, as the server's timeouts do later.
const END_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'bootserver'";

/// A cable between the store and the server, on a Unix socket.
struct Cable {
    directory: TempDir,
    cuts: Arc<AtomicU64>,
}

impl Cable {
    /// A new one to the server's socket. Its threads end with the program.
    fn to(server: String) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let socket = directory.path().join(".s.PGSQL.5432");
        let listener = UnixListener::bind(socket).expect("a socket");
        let cuts = Arc::new(AtomicU64::new(0));
        let of_listener = cuts.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let server = UnixStream::connect(&server).expect("the server");
                let cuts = of_listener.clone();
                let there = client.try_clone().expect("a handle");
                let back = server.try_clone().expect("a handle");
                let before = cuts.load(Ordering::SeqCst);
                let of_other = cuts.clone();
                thread::spawn(move || pass(there, server, &of_other, before));
                thread::spawn(move || pass(back, client, &cuts, before));
            }
        });
        Self { directory, cuts }
    }

    /// Every connection there is never says anything again.
    fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }
}

/// Hands on what comes until the cable is cut; then holds both ends for ever.
fn pass(mut from: UnixStream, mut to: UnixStream, cuts: &AtomicU64, before: u64) {
    from.set_read_timeout(Some(LOOK)).expect("a timeout");
    let mut buffer = [0; 1 << 16];
    loop {
        let read = from.read(&mut buffer);
        while cuts.load(Ordering::SeqCst) != before {
            thread::park();
        }
        match read {
            Ok(0) => return drop(to.shutdown(std::net::Shutdown::Write)),
            Ok(bytes) if to.write_all(&buffer[..bytes]).is_ok() => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Waits until so many rows come back.
async fn wait_for(direct: &mut PgConnection, sql: &'static str, rows: usize) {
    let wait = async {
        loop {
            let found = sqlx::query(sql).fetch_all(&mut *direct).await;
            if found.expect("a list").len() == rows {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.expect("it comes to that");
}

#[tokio::test]
async fn a_batch_on_a_connection_that_died_silently_is_given_up_and_told() {
    let Some(cluster) = cluster::shared() else {
        return;
    };
    let address = cluster.empty().await;
    let direct: PgConnectOptions = address.parse().expect("an address");
    let socket = direct.get_socket().expect("a Unix socket").clone();
    let cable = Cable::to(format!("{}/.s.PGSQL.5432", socket.display()));
    let through = direct.clone().socket(cable.directory.path());
    let store = Arc::new(PostgresStore::open(through).await.expect("a database"));
    for cut in 0..=CUTS {
        make::host(store.as_ref(), &format!("sn-{cut}")).await;
    }
    let (ingest, _writer) = Ingest::start(store.clone());
    let mut holder = PgConnection::connect(&address).await.expect("a connection");
    let mut looker = PgConnection::connect(&address).await.expect("a connection");
    for cut in 0..CUTS {
        // A batch is in the middle of its transaction when the cable is cut.
        let lock = "BEGIN; SELECT 1 FROM host_seen FOR UPDATE";
        sqlx::raw_sql(lock)
            .execute(&mut holder)
            .await
            .expect("a lock");
        let push = tokio::spawn({
            let (ingest, record) = (ingest.clone(), make::status(&format!("sn-{cut}"), 1));
            async move { ingest.submit(record).await }
        });
        wait_for(&mut looker, WAITING, 1).await;
        assert_eq!(ingest.writer(), Writer::Well);
        cable.cut();
        // From here on time passes as soon as everybody waits.
        tokio::time::pause();
        let mut seen = Writer::Well;
        // Far more than it may take.
        for _ in 0..120 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if ingest.writer() != Writer::Well {
                seen = ingest.writer();
            }
        }
        assert_eq!(seen, Writer::Stuck, "cut {cut}");
        assert_eq!(push.await.expect("no panic").err(), Some(Refused::Later));
        tokio::time::sleep(Duration::from_secs(10)).await;
        tokio::time::resume();
        let unlock = sqlx::raw_sql("ROLLBACK").execute(&mut holder).await;
        unlock.expect("an unlock");
        wait_for(&mut looker, END_OTHERS, 0).await;
    }
    let push = ingest.submit(make::status(&format!("sn-{CUTS}"), 1));
    let pushed = tokio::time::timeout(PATIENCE, push).await;
    assert!(pushed.expect("in time").is_ok());
    assert_eq!(ingest.writer(), Writer::Well);
}
