//! One download from its first try to its end.
//!
//! Opens a source, copies it into the part, and decides what a failure means:
//! give up, try again where it broke off, begin anew, or wait. The one rule:
//! it ends, because every try without progress is counted, every wait fits
//! the deadline, and every byte is bounded.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use bootagent_protocol::{Checksum, ErrorCode};
use sha2::{Digest, Sha256};

use super::part::{Origin, Part};
use super::source::{Ask, Opened, Trouble, fail, open, read_trouble};
use super::url::Url;
use super::{Control, Downloaded, Failure, Limits, Progress, Request, space};

/// Most bytes read at once, and least where a rate cap wants less; also how
/// often the caller is asked.
const CHUNK_BYTES: usize = 64 * 1024;
const LEAST_CHUNK_BYTES: usize = 1024;
/// How often the caller is asked while waiting.
const TICK: Duration = Duration::from_millis(100);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Tries altogether, also with progress: who gets a little further each time
/// for ever is cut here.
const MAX_TRIES: u32 = 200;
/// Where the size is unknown, free space is looked at again after so much.
const SPACE_CHECK_BYTES: u64 = 8 * 1024 * 1024;
/// Inodes a download and its companions take.
const INODES: u64 = 4;

/// Fetches a file, verified, into the directory of the request.
///
/// `control` is told how far it is, and may stop it.
///
/// # Errors
/// 2001 failed, 2002 not found, 2003 larger than the limit, 2004 no space,
/// 2005 out of time, 3001 another checksum, 1006 stopped by `control`, 6002
/// the disk refuses. The message names the URL without its secrets.
pub fn fetch(
    request: &Request<'_>,
    limits: &Limits,
    control: &dyn Fn(Progress) -> Control,
) -> Result<Downloaded, Failure> {
    let url = Url::parse(request.url, request.base)
        .map_err(|error| Failure::new(ErrorCode::DOWNLOAD_FAILED, error.to_string()))?;
    let part = Part::new(request.directory, &url, request.checksum);
    part.prepare()?;
    if let Some((size, checksum)) = part.finished()
        && request.checksum == Some(checksum)
    {
        // What a crash left behind that came right after it got its name.
        part.remove()?;
        return Ok(Downloaded {
            path: part.whole(),
            size,
            checksum,
        });
    }
    if request.checksum.is_none() {
        // From an earlier run, and nothing could tell whether it is whole.
        part.remove()?;
    }
    let deadline = Instant::now() + limits.deadline;
    let transfer = Transfer {
        request,
        limits,
        control,
        url: &url,
        part: &part,
        deadline,
    };
    transfer.run()
}

struct Transfer<'a> {
    request: &'a Request<'a>,
    limits: &'a Limits,
    control: &'a dyn Fn(Progress) -> Control,
    url: &'a Url,
    part: &'a Part,
    deadline: Instant,
}

impl Transfer<'_> {
    fn run(&self) -> Result<Downloaded, Failure> {
        let mut furthest = 0;
        let mut in_vain = 0;
        let mut anew = false;
        let mut tries = 0;
        while tries < MAX_TRIES {
            self.ask(Progress {
                received: furthest,
                total: None,
            })?;
            let failure = match self.attempt() {
                Ok(downloaded) => return Ok(downloaded),
                Err(Trouble::Final(failure)) => {
                    self.tidy(&failure)?;
                    return Err(failure);
                }
                Err(Trouble::Afresh(failure)) => {
                    self.part.remove()?;
                    // Once is a change on the server, twice is something else.
                    if std::mem::replace(&mut anew, true) {
                        return Err(failure);
                    }
                    continue;
                }
                Err(Trouble::Busy(wait, failure)) => {
                    self.wait(wait, &failure)?;
                    continue;
                }
                Err(Trouble::Again(failure)) => failure,
            };
            tries += 1;
            if Instant::now() >= self.deadline {
                return Err(self.out_of_time().because(failure.describe()));
            }
            let reached = self.part.resumable().map_or(0, |(length, _)| length);
            in_vain = if reached > furthest { 1 } else { in_vain + 1 };
            furthest = furthest.max(reached);
            if in_vain >= self.limits.tries {
                return Err(failure);
            }
            let pause = self.limits.pause.saturating_mul(1 << (in_vain - 1).min(16));
            self.wait(jittered(pause.min(LONGEST_PAUSE)), &failure)?;
        }
        let what = format!("broke off {MAX_TRIES} times; look at the server or the line");
        Err(fail(ErrorCode::DOWNLOAD_FAILED, self.url, what))
    }

    /// A part is kept for the same job to go on with, unless it stands in the
    /// way or will never be whole.
    fn tidy(&self, failure: &Failure) -> Result<(), Failure> {
        use ErrorCode as Code;
        match failure.code {
            Code::NO_SPACE | Code::NOT_FOUND | Code::TOO_LARGE => self.part.remove(),
            _ => Ok(()),
        }
    }

    /// One connection.
    fn attempt(&self) -> Result<Downloaded, Trouble> {
        let known = self.part.resumable();
        let (offset, origin) = match &known {
            Some((length, origin)) => (*length, Some(origin)),
            None => (0, None),
        };
        if origin.is_some_and(|origin| origin.total == Some(offset)) {
            // It broke off behind the last byte: there is nothing to ask for.
            return self.verify_whole(offset);
        }
        let opened = open(
            self.url,
            &Ask {
                own_servers: self.request.own_servers,
                token: self.request.token,
                ca_file: self.request.ca_file,
                offset,
                validator: origin.and_then(|origin| origin.validator.as_deref()),
                max_bytes: self.limits.max_bytes,
                deadline: self.deadline,
                stall: self.limits.stall,
            },
        )?;
        if let Some(origin) = origin.filter(|_| opened.starts_at > 0) {
            self.check_same(origin, &opened)?;
        }
        self.receive(opened)
    }

    /// What is fetched now must be the rest of what is on the disk.
    fn check_same(&self, origin: &Origin, opened: &Opened) -> Result<(), Trouble> {
        let same_size = match (origin.total, opened.total) {
            (Some(then), Some(now)) => then == now,
            // Only the checksum could tell: then it will.
            _ => self.request.checksum.is_some(),
        };
        let same_content = match (&origin.validator, &opened.validator) {
            (Some(then), Some(now)) => then == now,
            _ => self.request.checksum.is_some(),
        };
        if same_size && same_content {
            return Ok(());
        }
        let what = "changed on the server while it was fetched";
        Err(Trouble::Afresh(fail(
            ErrorCode::DOWNLOAD_FAILED,
            self.url,
            what,
        )))
    }

    fn receive(&self, opened: Opened) -> Result<Downloaded, Trouble> {
        let Opened {
            mut reader,
            starts_at,
            total,
            validator,
        } = opened;
        if total.is_some_and(|total| total > self.limits.max_bytes) {
            return Err(Trouble::Final(self.too_large(total)));
        }
        let missing = total.map_or(0, |total| total.saturating_sub(starts_at));
        space::require(self.request.directory, missing, INODES).map_err(Trouble::Final)?;
        let mut hash = Sha256::new();
        let mut file = match starts_at {
            0 => self.part.begin(validator, total),
            _ => self.part.go_on(starts_at, &mut hash),
        }
        .map_err(Trouble::Final)?;

        let mut pace = Pace {
            begun: Instant::now(),
            bytes: 0,
            limits: self.limits,
        };
        let mut received = starts_at;
        let mut looked_at = starts_at;
        let mut buffer = vec![0; self.chunk_bytes()];
        loop {
            self.ask(Progress { received, total })
                .map_err(Trouble::Final)?;
            if Instant::now() >= self.deadline {
                return Err(Trouble::Final(self.out_of_time()));
            }
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                    return Err(Trouble::Final(self.too_large(None)));
                }
                Err(error) => return Err(read_trouble(self.url, error)),
            };
            received += count as u64;
            if received > self.limits.max_bytes {
                return Err(Trouble::Final(self.too_large(None)));
            }
            if total.is_some_and(|total| received > total) {
                let what = "is longer than the server said";
                return Err(Trouble::Afresh(fail(
                    ErrorCode::DOWNLOAD_FAILED,
                    self.url,
                    what,
                )));
            }
            if total.is_none() && received - looked_at > SPACE_CHECK_BYTES {
                space::require(self.request.directory, 0, 0).map_err(Trouble::Final)?;
                looked_at = received;
            }
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(|error| {
                Trouble::Final(Failure::file("write", &self.part.path(), error))
            })?;
            self.keep_pace(&mut pace, count, Progress { received, total })?;
        }
        if let Some(total) = total.filter(|total| received < *total) {
            let what = format!(
                "broke off after {received} of {total} bytes; look at the server or the line"
            );
            return Err(Trouble::Again(fail(
                ErrorCode::DOWNLOAD_FAILED,
                self.url,
                what,
            )));
        }
        reader.finish()?;
        let checksum = Checksum(hash.finalize().into());
        self.complete(&file, received, checksum, starts_at)
    }

    /// The part has every byte, from an earlier try.
    fn verify_whole(&self, size: u64) -> Result<Downloaded, Trouble> {
        let mut hash = Sha256::new();
        let file = self.part.go_on(size, &mut hash).map_err(Trouble::Final)?;
        self.complete(&file, size, Checksum(hash.finalize().into()), size)
    }

    /// Compares the checksum; a file that was resumed gets a second chance,
    /// since the first half may be to blame.
    fn complete(
        &self,
        file: &File,
        size: u64,
        checksum: Checksum,
        resumed_at: u64,
    ) -> Result<Downloaded, Trouble> {
        if let Some(wanted) = self.request.checksum.filter(|wanted| *wanted != checksum) {
            self.part.remove().map_err(Trouble::Final)?;
            let what = format!(
                "has {checksum} and {size} bytes, the job says {wanted}; correct the job or upload the package again"
            );
            let failure = fail(ErrorCode::CHECKSUM_MISMATCH, self.url, what);
            return Err(match resumed_at {
                0 => Trouble::Final(failure),
                _ => Trouble::Afresh(failure),
            });
        }
        let path = self.part.complete(file).map_err(Trouble::Final)?;
        Ok(Downloaded {
            path,
            size,
            checksum,
        })
    }

    fn ask(&self, progress: Progress) -> Result<(), Failure> {
        match (self.control)(progress) {
            Control::Continue => Ok(()),
            Control::Cancel => {
                let what = "was stopped; the same job goes on where it was";
                Err(fail(ErrorCode::CANCELLED, self.url, what))
            }
        }
    }

    /// Waits inside the deadline, or says that it does not fit.
    fn wait(&self, wait: Duration, failure: &Failure) -> Result<(), Failure> {
        let until = Instant::now() + wait;
        if until >= self.deadline {
            return Err(self.out_of_time().because(failure.describe()));
        }
        let (received, total) = match self.part.resumable() {
            Some((length, origin)) => (length, origin.total),
            None => (0, None),
        };
        self.sleep_until(until, Progress { received, total })
    }

    fn sleep_until(&self, until: Instant, progress: Progress) -> Result<(), Failure> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.ask(progress)?;
            thread::sleep(left.min(TICK));
        }
    }

    /// Sleeps as long as the rate cap says we are ahead of it. The server is
    /// slowed down by TCP.
    fn keep_pace(
        &self,
        pace: &mut Pace<'_>,
        count: usize,
        progress: Progress,
    ) -> Result<(), Trouble> {
        pace.bytes += count as u64;
        let until = pace.due().min(self.deadline);
        self.sleep_until(until, progress).map_err(Trouble::Final)
    }

    /// With a rate cap four chunks a second: the server must not wait so
    /// long for us that it gives up.
    fn chunk_bytes(&self) -> usize {
        let rate = self.limits.rate.map_or(u64::MAX, |rate| rate.get() / 4);
        let bytes = usize::try_from(rate).unwrap_or(CHUNK_BYTES);
        bytes.clamp(LEAST_CHUNK_BYTES, CHUNK_BYTES)
    }

    fn too_large(&self, total: Option<u64>) -> Failure {
        let limit = self.limits.max_bytes;
        let size = total.map_or_else(|| format!("more than {limit}"), |total| total.to_string());
        let what = format!(
            "has {size} bytes, at most {limit} are fetched; raise max_bytes of [download] in bootagent.toml, or shrink the package"
        );
        fail(ErrorCode::TOO_LARGE, self.url, what)
    }

    fn out_of_time(&self) -> Failure {
        let seconds = self.limits.deadline.as_secs_f32();
        let what =
            format!("was not fetched within {seconds} s; give it more time or look at the line");
        fail(ErrorCode::DOWNLOAD_TIMED_OUT, self.url, what)
    }
}

/// How fast one connection has been.
struct Pace<'a> {
    begun: Instant,
    bytes: u64,
    limits: &'a Limits,
}

impl Pace<'_> {
    /// When these bytes may be here at the earliest.
    fn due(&self) -> Instant {
        match self.limits.rate {
            Some(rate) => {
                let micros = u128::from(self.bytes) * 1_000_000 / u128::from(rate.get());
                self.begun + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
            }
            None => self.begun,
        }
    }
}

/// Between half and all of `pause`, so that a thousand hosts that failed
/// together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
    // A hasher of the standard library is seeded at random.
    let random = RandomState::new().build_hasher().finish();
    half + Duration::from_micros(random % micros.max(1))
}
