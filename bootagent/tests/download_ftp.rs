//! Downloads over FTP from servers in this process, which do what no honest
//! one does; a real one is in `download_vsftpd.rs`.

#[path = "support/web.rs"]
mod web;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bootagent::download::Limits;
use bootagent_protocol::ErrorCode;
use web::{checksum, get, noise, quick};

/// What a server in this process does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Nothing; it wants a user and a password.
    Login,
    /// Knows neither SIZE nor MDTM nor REST, and cuts the first transfer.
    Old,
    /// Says the transfer failed although every byte came.
    Denies,
    /// Never greets.
    Mute,
    /// Greets for ever, a byte at a time.
    Drips,
    /// Answers every command with garbage.
    Garbage,
    /// Sends more than it said.
    Endless,
    /// Is busy for the first client.
    Busy,
    /// Cuts the first transfer, and goes on where it is told.
    Cuts,
    /// Cuts the first transfer, and knows SIZE and MDTM but not REST.
    Forgets,
    /// Greets with a line that has no end, as fast as it is read.
    Floods,
    /// Greets with lines that have no end.
    Chats,
    /// Takes the order for the bytes and never sends one.
    Starves,
    /// Says where the bytes are in words nobody understands.
    Hides,
}

/// A small FTP server; returns its port and what it was told.
fn small_server(habit: Habit, body: Vec<u8>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&told);
    // Ends with the test's process.
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let (log, body) = (Arc::clone(&log), body.clone());
            // A client that went away is no failure of the test.
            thread::spawn(move || session(habit, number, stream, &body, &log));
        }
    });
    (port, told)
}

fn session(
    habit: Habit,
    number: usize,
    mut control: TcpStream,
    body: &[u8],
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    match habit {
        Habit::Mute => {
            thread::sleep(Duration::from_secs(30));
            return Ok(());
        }
        Habit::Drips => loop {
            control.write_all(b"2")?;
            thread::sleep(Duration::from_millis(20));
        },
        Habit::Floods => loop {
            control.write_all(&[b'2'; 4096])?;
        },
        Habit::Chats => loop {
            control.write_all(b"220-and another thing\r\n")?;
        },
        Habit::Busy if number == 0 => return control.write_all(b"421 too many\r\n"),
        _ => control.write_all(b"220 ready\r\n")?,
    }
    let mut data: Option<TcpListener> = None;
    let mut begin = 0;
    let mut lines = BufReader::new(control.try_clone()?).lines();
    while let Some(line) = lines.next().transpose()? {
        log.lock().expect("no panic").push(line.clone());
        let word = line.split(' ').next().unwrap_or_default();
        let reply = match word {
            _ if habit == Habit::Garbage => "what?".to_owned(),
            "USER" => "331 password".to_owned(),
            "PASS" if habit == Habit::Login && line != "PASS p:w d" => "530 no".to_owned(),
            "PASS" => "230 in".to_owned(),
            "TYPE" => "200 ok".to_owned(),
            "SIZE" if habit != Habit::Old => format!("213 {}", body.len()),
            "MDTM" if [Habit::Cuts, Habit::Forgets].contains(&habit) => {
                "213 20261121101500".to_owned()
            }
            "REST" if habit == Habit::Cuts => {
                begin = line[5..].parse().expect("a number");
                "350 from there".to_owned()
            }
            "PASV" if habit == Habit::Hides => "227 somewhere".to_owned(),
            "PASV" => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                let port = listener.local_addr()?.port();
                data = Some(listener);
                format!("227 here (10,255,255,1,{},{})", port >> 8, port & 255)
            }
            "RETR" => {
                control.write_all(b"150 coming\r\n")?;
                let (mut stream, _) = data.take().expect("PASV came first").accept()?;
                match habit {
                    Habit::Old | Habit::Cuts | Habit::Forgets if number == 0 => {
                        stream.write_all(&body[..body.len() / 2])?;
                        drop(stream);
                        "426 cut".to_owned()
                    }
                    Habit::Starves => {
                        thread::sleep(Duration::from_secs(30));
                        return Ok(());
                    }
                    Habit::Endless => loop {
                        stream.write_all(&[7; 4096])?;
                    },
                    _ => {
                        stream.write_all(&body[begin..])?;
                        drop(stream);
                        let good = habit != Habit::Denies;
                        if good { "226 done" } else { "451 disk error" }.to_owned()
                    }
                }
            }
            "QUIT" => "221 bye".to_owned(),
            _ => "502 unknown".to_owned(),
        };
        control.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}

#[test]
fn user_and_password_of_the_url_are_used() {
    let body = noise(10_000);
    let (port, told) = small_server(Habit::Login, body.clone());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("ftp://us%40er:p%3Aw%20d@127.0.0.1:{port}/%2Fabs/a%20b.rpm");
    let done = get(&url, folder.path(), None, &quick()).expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    let told = told.lock().expect("no panic").clone();
    assert_eq!(told[..3], ["USER us@er", "PASS p:w d", "TYPE I"]);
    assert!(told.contains(&"RETR /abs/a b.rpm".to_owned()), "{told:?}");

    let url = format!("ftp://user:wrong@127.0.0.1:{port}/a");
    let failure = get(&url, folder.path(), None, &quick()).expect_err("refused");
    assert!(failure.describe().contains("530"), "{}", failure.describe());
    assert!(
        !failure.describe().contains("wrong"),
        "{}",
        failure.describe()
    );
}

#[test]
fn an_old_server_without_size_and_rest_is_enough() {
    let body = noise(400_000);
    for wanted in [Some(checksum(&body)), None] {
        let (port, _) = small_server(Habit::Old, body.clone());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("ftp://127.0.0.1:{port}/a");
        let done = get(&url, folder.path(), wanted, &quick()).expect("fetched");
        assert_eq!(fs::read(&done.path).expect("there"), body);
    }
}

#[test]
fn a_transfer_that_was_cut_goes_on_where_the_server_can_and_begins_anew_where_not() {
    let body = noise(400_000);
    for (habit, sessions) in [(Habit::Cuts, 2), (Habit::Forgets, 3)] {
        let (port, told) = small_server(habit, body.clone());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("ftp://127.0.0.1:{port}/a");
        let done = get(&url, folder.path(), Some(checksum(&body)), &quick()).expect("fetched");
        assert_eq!(fs::read(&done.path).expect("there"), body);
        let told = told.lock().expect("no panic").clone();
        let count = |start| told.iter().filter(|line| line.starts_with(start)).count();
        let counts = ["USER", "REST 200000", "RETR a"].map(count);
        assert_eq!(counts, [sessions, 1, 2], "{told:?}");
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let body = noise(1000);
    let (port, _) = small_server(Habit::Busy, body.clone());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("ftp://127.0.0.1:{port}/a");
    let done = get(&url, folder.path(), None, &quick()).expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
}

/// What becomes of a download from each of these servers.
fn failures(limits: &Limits, cases: &[(Habit, ErrorCode, &str)]) {
    for (habit, code, words) in cases {
        let (port, _) = small_server(*habit, noise(10_000));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("ftp://127.0.0.1:{port}/a");
        let failure = get(&url, folder.path(), None, limits).expect_err(words);
        let text = failure.describe();
        assert_eq!(failure.code, *code, "{words}: {text}");
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn servers_that_make_us_wait_cost_a_bounded_time() {
    let limits = Limits {
        deadline: Duration::from_secs(4),
        stall: Duration::from_millis(400),
        tries: 2,
        ..quick()
    };
    let begun = Instant::now();
    failures(
        &limits,
        &[
            (
                Habit::Mute,
                ErrorCode::DOWNLOAD_TIMED_OUT,
                "cannot be reached",
            ),
            // A busy machine may not come so far that bytes are waited for.
            (Habit::Starves, ErrorCode::DOWNLOAD_TIMED_OUT, ""),
        ],
    );
    // Its bytes may come late on a busy machine, and never stop for long.
    let limits = Limits {
        stall: Duration::from_secs(3),
        ..limits
    };
    let drips = (Habit::Drips, ErrorCode::DOWNLOAD_TIMED_OUT, "within 4 s");
    failures(&limits, &[drips]);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn servers_that_answer_wrong_are_named() {
    // Bounds in bytes end these, also where the machine is slow.
    let limits = Limits {
        deadline: Duration::from_secs(120),
        stall: Duration::from_secs(60),
        max_bytes: 1_000_000,
        tries: 2,
        ..quick()
    };
    failures(
        &limits,
        &[
            (
                Habit::Garbage,
                ErrorCode::DOWNLOAD_FAILED,
                "answers no FTP (at the login)",
            ),
            (
                Habit::Floods,
                ErrorCode::DOWNLOAD_FAILED,
                "answers no FTP (at the greeting)",
            ),
            (
                Habit::Chats,
                ErrorCode::DOWNLOAD_FAILED,
                "answers no FTP (at the greeting)",
            ),
            (
                Habit::Hides,
                ErrorCode::DOWNLOAD_FAILED,
                "answers no FTP (at the data connection)",
            ),
            (
                Habit::Endless,
                ErrorCode::DOWNLOAD_FAILED,
                "longer than the server said",
            ),
            (Habit::Denies, ErrorCode::DOWNLOAD_FAILED, "451"),
        ],
    );
}

#[test]
fn a_path_cannot_bring_commands() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for path in ["", "a%0d%0aDELE%20b", "%"] {
        let (port, told) = small_server(Habit::Login, Vec::new());
        let url = format!("ftp://u:p@127.0.0.1:{port}/{path}");
        let failure = get(&url, folder.path(), None, &quick()).expect_err("refused");
        assert_eq!(
            failure.code,
            ErrorCode::DOWNLOAD_FAILED,
            "{}",
            failure.describe()
        );
        assert!(told.lock().expect("no panic").is_empty(), "{path:?}");
    }
}
