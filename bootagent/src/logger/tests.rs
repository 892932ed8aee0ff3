use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

use super::*;

struct Folders {
    _temporary: tempfile::TempDir,
    args: LoggerArgs,
}

fn start(rate: u64) -> (Folders, std::thread::JoinHandle<anyhow::Result<()>>) {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let (outputs, logs) = (
        temporary.path().join("output"),
        temporary.path().join("logs"),
    );
    std::fs::create_dir(&outputs).expect("made");
    std::fs::create_dir(&logs).expect("made");
    let args = LoggerArgs {
        outputs,
        logs,
        max_bytes: 1 << 20,
        keep: 2,
        rate,
    };
    let copy = args.clone();
    let logger = std::thread::spawn(move || run(&copy));
    (
        Folders {
            _temporary: temporary,
            args,
        },
        logger,
    )
}

impl Folders {
    fn fifo(&self, name: &str) -> File {
        let path = self.args.outputs.join(name);
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("made");
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("opened")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.args.logs.join(format!("{name}.log"))
    }

    fn wait_for(&self, name: &str, is_enough: impl Fn(&[u8]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let content = std::fs::read(self.log(name)).unwrap_or_default();
            if is_enough(&content) {
                return;
            }
            assert!(Instant::now() < deadline, "{} bytes", content.len());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn end(self, logger: std::thread::JoinHandle<anyhow::Result<()>>) {
        std::fs::remove_dir_all(&self.args.outputs).expect("removed");
        logger.join().expect("no panic").expect("ended well");
    }
}

#[test]
fn odd_bytes_and_endless_lines_arrive_as_they_were_printed() {
    let (folders, logger) = start(1 << 30);
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend(vec![b'x'; 300_000]);
    folders.fifo("a").write_all(&bytes).expect("taken");
    folders.wait_for("a", |content| content == bytes);
    folders.end(logger);
}

#[test]
fn a_flood_of_one_child_is_dropped_and_does_not_delay_another() {
    let (folders, logger) = start(2048);
    let mut loud = folders.fifo("loud");
    let mut quiet = folders.fifo("quiet");
    loud.write_all(&vec![b'x'; 1 << 20]).expect("drained");
    quiet.write_all(b"hello").expect("taken");
    folders.wait_for("quiet", |content| content == b"hello");
    folders.wait_for("loud", |content| content.len() >= 8192);
    let length = std::fs::metadata(folders.log("loud")).expect("there").len();
    assert!(length < 100_000, "{length}");
    folders.end(logger);
}

#[test]
fn what_is_left_in_a_removed_fifo_is_still_written() {
    let (folders, logger) = start(1 << 30);
    let mut fifo = folders.fifo("a");
    fifo.write_all(b"first ").expect("taken");
    folders.wait_for("a", |content| content == b"first ");
    fifo.write_all(b"last").expect("taken");
    std::fs::remove_file(folders.args.outputs.join("a")).expect("removed");
    folders.wait_for("a", |content| content == b"first last");
    folders.end(logger);
}

#[test]
fn a_fifo_made_in_the_place_of_another_between_two_looks_is_drained() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let args = LoggerArgs {
        outputs: temporary.path().join("output"),
        logs: temporary.path().join("logs"),
        max_bytes: 1 << 20,
        keep: 2,
        rate: 1 << 30,
    };
    std::fs::create_dir(&args.outputs).expect("made");
    std::fs::create_dir(&args.logs).expect("made");
    let (mut outputs, mut buffer) = (BTreeMap::new(), vec![0; CHUNK_BYTES]);
    let path = args.outputs.join("a");
    let open = || {
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("made");
        let mut options = OpenOptions::new();
        options.read(true).write(true).open(&path).expect("opened")
    };
    let mut before = open();
    refresh(&args, &mut outputs, &mut buffer);
    before.write_all(b"before ").expect("taken");
    std::fs::remove_file(&path).expect("removed");
    let mut after = open();
    refresh(&args, &mut outputs, &mut buffer);
    after.write_all(b"after").expect("taken");
    drain(outputs.get_mut("a").expect("open"), &mut buffer);
    let log = std::fs::read_to_string(args.logs.join("a.log")).expect("there");
    assert_eq!(log, "before after");
}
