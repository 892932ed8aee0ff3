//! A PostgreSQL server for the tests of one program: its own files, a Unix
//! socket and nothing else, and for each test a database of its own.
//!
//! Servers do not run as root, so as root it runs as `postgres`. A shell
//! watches over it: whatever ends the tests, even SIGKILL, closes the shell's
//! standard input, and then the server and its files go.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};

/// Nothing about a server takes longer.
const PATIENCE: Duration = Duration::from_secs(180);
/// Runs as long as its standard input is open, and does what it says. SIGQUIT
/// ends the server as a crash would, without finishing anything.
const WATCH: &str = r#"
    home=${PGDATA%/*}
    trap '' INT TERM HUP
    launch() {
        "$0" "$@" >>"$home/log" 2>&1 &
        server=$!
    }
    end() {
        kill -QUIT "$server"
        wait "$server"
    }
    launch "$@"
    while read -r order; do
        case $order in
        start) launch "$@" ;;
        stop) end ;;
        esac
    done
    end
    rm -rf "$home"
"#;

/// A server that runs.
pub(crate) struct Cluster {
    programs: PathBuf,
    directory: PathBuf,
    /// Its standard input is what keeps the server running, and takes orders.
    pub(crate) watch: Child,
    databases: AtomicU32,
}

/// The server all tests of this program share, or `None` where there is no
/// PostgreSQL; then the test has said so and ends.
pub(crate) fn shared() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(Cluster::start);
    if cluster.is_none() {
        say_skipped();
    }
    cluster.as_ref()
}

/// The folder of the newest release's programs.
fn programs() -> Option<PathBuf> {
    let releases = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let release = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    releases
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| release(path))
        .map(|path| path.join("bin"))
}

/// Where [`Cluster::start`] gave nothing.
pub(crate) fn say_skipped() {
    println!("SKIPPED: PostgreSQL's programs are not in /usr/lib/postgresql/*/bin");
}

impl Cluster {
    /// A server; nothing where there is no PostgreSQL.
    pub(crate) fn start() -> Option<Self> {
        let programs = &programs()?;
        // A socket's path is short, so it is not below a long TMPDIR.
        let directory = tempfile::Builder::new()
            .prefix("pg-")
            .tempdir_in("/tmp")
            .expect("a temporary directory")
            .keep();
        let owner = Uid::effective().is_root().then(|| {
            let postgres = User::from_name("postgres").expect("the list of users");
            postgres.expect("PostgreSQL's package makes the user postgres")
        });
        if let Some(owner) = &owner {
            let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
            chown(&directory, Some(uid), Some(gid)).expect("a directory of postgres");
        }
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))
            .expect("a private directory");
        let as_owner = |program: &Path| {
            let mut command = Command::new(program);
            command
                .current_dir("/")
                .env("PGDATA", directory.join("data"));
            if let Some(owner) = &owner {
                command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
            }
            command
        };
        let mut initdb = as_owner(&programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--no-sync"]);
        initdb.args(["--encoding=UTF8", "--locale=C.UTF-8"]);
        if has_icu_locales(programs) {
            // Sorts by language unless told otherwise, as many servers do.
            initdb.args(["--locale-provider=icu", "--icu-locale=en-US"]);
        }
        let made = initdb.output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {made:?}");
        let mut watch = as_owner(Path::new("/bin/sh"));
        watch.arg("-c").arg(WATCH).arg(programs.join("postgres"));
        let sockets = directory.to_str().expect("a path we made");
        for setting in [
            "listen_addresses=",
            &format!("unix_socket_directories={sockets}"),
            "max_connections=200",
            "shared_buffers=32MB",
            "wal_level=minimal",
            // No test takes the machine's power.
            "fsync=off",
            "max_wal_senders=0",
        ] {
            watch.arg("-c").arg(setting);
        }
        let watch = watch
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let cluster = Self {
            directory,
            programs: programs.to_owned(),
            watch,
            databases: AtomicU32::new(0),
        };
        cluster.wait_until(true);
        Some(cluster)
    }

    /// Waits until the server answers, or does not any more.
    pub(crate) fn wait_until(&self, answers: bool) {
        let begun = Instant::now();
        loop {
            let asked = Command::new(self.programs.join("pg_isready"))
                .arg("-q")
                .arg("-h")
                .arg(&self.directory)
                .status()
                .expect("pg_isready runs");
            if asked.success() == answers {
                return;
            }
            let log = || std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(
                begun.elapsed() < PATIENCE,
                "PostgreSQL does not do as it is told:\n{}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address of a database.
    pub(crate) fn address(&self, database: &str) -> String {
        let sockets = self.directory.display();
        format!("postgres:///{database}?host={sockets}&user=postgres")
    }

    /// The address of a new database without tables.
    pub(crate) async fn empty(&self) -> String {
        self.copy_of("template0").await
    }

    /// The address of a new database with what another one has.
    pub(crate) async fn copy_of(&self, template: &str) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{number}");
        self.sql(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .await;
        self.address(&name)
    }

    /// Asks the server itself for something, by its own program.
    pub(crate) async fn sql(&self, statement: &str) {
        let asked = Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"])
            .arg(format!("--dbname={}", self.address("postgres")))
            .arg(format!("--command={statement}"))
            .output();
        let asked = asked.expect("psql runs");
        assert!(asked.status.success(), "{statement}: {asked:?}");
    }
}

impl Drop for Cluster {
    /// Only one of its own comes here; the shared one goes with the program.
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        // It only removes files by now.
        let _ = self.watch.wait();
    }
}

/// Releases from 15 on can be told to.
fn has_icu_locales(programs: &Path) -> bool {
    let help = Command::new(programs.join("initdb")).arg("--help").output();
    let help = help.expect("initdb runs").stdout;
    String::from_utf8_lossy(&help).contains("--icu-locale")
}
