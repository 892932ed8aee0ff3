//! A server that says what a test wants said, and notes what was asked.
//!
//! By itself it is a bare server of document 002: it accepts everybody and
//! gives no token. The one rule: what it does besides stands in the test.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wait;

/// Longest request it reads, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// Between two bytes of a [`Answer::Trickle`].
const TRICKLE: Duration = Duration::from_millis(100);
/// Between two looks whether to go on keeping somebody waiting.
const LOOK: Duration = Duration::from_millis(20);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// When it was read.
    pub at: Instant,
    /// `POST /agent/status HTTP/1.1`.
    pub line: String,
    /// Header lines, as they came.
    pub headers: Vec<String>,
    /// The body; null when it is no JSON.
    pub body: Value,
    /// How many requests its connection carried before it.
    pub earlier: usize,
}

impl Asked {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The path that was asked for.
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// Whether it is a registration.
    pub fn is_register(&self) -> bool {
        self.path() == "/agent/register"
    }

    /// Whether it is a status.
    pub fn is_status(&self) -> bool {
        self.path() == "/agent/status"
    }
}

/// What it answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 with this body.
    Json(Value),
    /// These bytes, and the end.
    Bytes(Vec<u8>),
    /// These bytes one by one, with a pause after each.
    Trickle(Vec<u8>),
    /// These bytes, and then the others again and again, for as long as
    /// somebody reads them.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing; the connection stays open.
    Silence,
}

impl Answer {
    /// An answer with a status, header lines and a body.
    pub fn of(status: u16, headers: &[&str], body: &[u8]) -> Self {
        let mut head = format!("HTTP/1.1 {status} Said\r\n");
        for header in headers {
            head.push_str(&format!("{header}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        Self::Bytes([head.as_bytes(), body].concat())
    }
}

/// What a test wants said; `None` is the usual answer.
type Script = Box<dyn FnMut(&Asked) -> Option<Answer> + Send>;

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    jobs: VecDeque<Value>,
    is_hurried: bool,
    script: Option<Script>,
}

/// A running fake.
pub struct FakeServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// One that accepts everybody.
    pub fn start() -> Self {
        Self::start_with(|_| None)
    }

    /// One with a script.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start_with(script: impl FnMut(&Asked) -> Option<Answer> + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = State {
            script: Some(Box::new(script)),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&state), Arc::clone(&is_over));
        let listener = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, over) = (Arc::clone(&shared), Arc::clone(&over));
                std::thread::spawn(move || serve(&stream, &shared, &over));
            }
        });
        Self {
            address,
            state,
            is_over,
            listener: Some(listener),
        }
    }

    /// Where it listens, as a server list says it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state).asked.clone()
    }

    /// The registrations so far.
    pub fn registers(&self) -> Vec<Asked> {
        self.asked()
            .into_iter()
            .filter(Asked::is_register)
            .collect()
    }

    /// The statuses so far.
    pub fn statuses(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::is_status).collect()
    }

    /// Waits for a status that comes after this call; returns it.
    pub fn next_status(&self) -> Asked {
        let before = self.statuses().len();
        wait::until("another status", || self.statuses().get(before).cloned())
    }

    /// Gives `job` to whoever sends the next status, once. Only who says
    /// `watch` waits for the end of a new version's trial.
    pub fn offer(&self, mut job: Value) {
        crate::server::without_watch(&mut job);
        lock(&self.state).jobs.push_back(job);
    }

    /// Asks each host to come again after a second, whatever its step.
    pub fn hurry(&self) {
        lock(&self.state).is_hurried = true;
    }

    /// Every result of job `id` that statuses brought so far.
    pub fn results(&self, id: &str) -> Vec<Value> {
        let results = self.statuses().into_iter().flat_map(|asked| {
            let jobs = asked.body["jobs"].as_array();
            jobs.cloned().unwrap_or_default()
        });
        results.filter(|result| result["id"] == id).collect()
    }

    /// Waits for the result of job `id`.
    pub fn result(&self, id: &str) -> Value {
        let what = format!("the result of job {id}");
        // A download that fails is tried five times, with pauses of 15 s in all.
        wait::within(wait::PATIENCE * 3, &what, || {
            self.results(id).first().cloned()
        })
    }

    /// Offers `job` and waits for its result, which has `code`; returns the
    /// message.
    ///
    /// # Panics
    /// When the job has no id, or ends otherwise.
    pub fn fail(&self, job: Value, code: u16) -> String {
        let id = crate::server::text(&job, "id");
        self.offer(job);
        let result = self.result(&id);
        assert_eq!(result["errcode"], code, "{}", result["message"]);
        crate::server::text(&result, "message")
    }

    /// Offers `job` and waits until it is done well; returns its result.
    ///
    /// # Panics
    /// When the job has no id, or fails.
    pub fn succeed(&self, job: Value) -> Value {
        let id = crate::server::text(&job, "id");
        self.offer(job);
        let result = self.result(&id);
        assert_eq!(result["errcode"], 0, "{}", result["message"]);
        result
    }

    /// Every event that statuses brought so far.
    pub fn events(&self) -> Vec<Value> {
        let events = self.statuses().into_iter().flat_map(|asked| {
            let events = asked.body["events"].as_array();
            events.cloned().unwrap_or_default()
        });
        events.collect()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one connection: as many requests as it brings.
fn serve(stream: &TcpStream, state: &Mutex<State>, is_over: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(wait::PATIENCE));
    let mut reader = BufReader::new(stream);
    let mut earlier = 0;
    while let Some(asked) = read(&mut reader, earlier) {
        earlier += 1;
        let answer = answer(&asked, &mut lock(state));
        let bytes = match answer {
            Answer::Json(body) => {
                let body = body.to_string();
                let head = "Content-Type: application/json";
                match Answer::of(200, &[head], body.as_bytes()) {
                    Answer::Bytes(bytes) => bytes,
                    _ => return,
                }
            }
            Answer::Bytes(bytes) => bytes,
            Answer::Trickle(bytes) => {
                let mut bytes = bytes.iter();
                while let (Some(byte), false) = (bytes.next(), is_over.load(Ordering::Relaxed)) {
                    let mut writer = stream;
                    if writer.write_all(&[*byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(TRICKLE);
                }
                return;
            }
            Answer::Endless(first, again) => {
                let mut writer = stream;
                let mut written = writer.write_all(&first);
                while written.is_ok() && !is_over.load(Ordering::Relaxed) {
                    written = writer.write_all(&again);
                }
                return;
            }
            Answer::Silence => {
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(LOOK);
                }
                return;
            }
        };
        let mut writer = stream;
        if writer.write_all(&bytes).is_err() || asked.header("connection") == Some("close") {
            return;
        }
    }
}

fn answer(asked: &Asked, state: &mut State) -> Answer {
    state.asked.push(asked.clone());
    let scripted = state.script.as_mut().and_then(|script| script(asked));
    if let Some(answer) = scripted {
        return answer;
    }
    match asked.path() {
        "/agent/register" => Answer::Json(json!({ "status": 0 })),
        "/agent/status" => {
            let jobs: Vec<Value> = state.jobs.drain(..).collect();
            let mut reply = json!({ "status": 0, "jobs": jobs });
            if state.is_hurried {
                reply["next"] = json!(1);
            }
            Answer::Json(reply)
        }
        _ => Answer::of(404, &[], b""),
    }
}

fn read(reader: &mut BufReader<&TcpStream>, earlier: usize) -> Option<Asked> {
    let line = read_line(reader)?;
    let mut headers = Vec::new();
    loop {
        let header = read_line(reader)?;
        if header.is_empty() {
            break;
        }
        headers.push(header);
    }
    let mut asked = Asked {
        at: Instant::now(),
        line,
        headers,
        body: Value::Null,
        earlier,
    };
    let length: u64 = asked
        .header("content-length")
        .map_or(Some(0), |l| l.parse().ok())?;
    let mut body = Vec::new();
    reader
        .take(length.min(MAX_BYTES))
        .read_to_end(&mut body)
        .ok()?;
    if (body.len() as u64) < length.min(MAX_BYTES) {
        // Whoever asked was killed in the midst of it: nobody has asked.
        return None;
    }
    asked.body = serde_json::from_slice(&body).unwrap_or_default();
    Some(asked)
}

fn read_line(reader: &mut BufReader<&TcpStream>) -> Option<String> {
    let mut line = String::new();
    let length = reader.by_ref().take(64 * 1024).read_line(&mut line).ok()?;
    (length > 0).then(|| line.trim_end().to_owned())
}
