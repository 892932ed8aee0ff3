//! The only unsafe code of the daemon: fork and exec, pidfd, prctl.
//!
//! Everything the child of a fork touches is prepared before the fork: between
//! fork and exec it allocates nothing and takes no lock of ours. One long file,
//! so that all of what the compiler cannot check is read at once.
#![expect(
    unsafe_code,
    reason = "fork, exec, pidfd and prctl have no safe wrapper"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, pipe2};

/// Everything a child needs to become its program.
#[derive(Debug)]
pub struct ExecPlan {
    /// Path of the program.
    pub program: CString,
    /// Its words, the program's name first.
    pub argv: Vec<CString>,
    /// Its whole environment, `KEY=value` each.
    pub envs: Vec<CString>,
    /// Where it starts.
    pub directory: CString,
    /// Its standard output.
    pub output: OwnedFd,
    /// Its standard error.
    pub errors: OwnedFd,
    /// Its standard input, mostly /dev/null.
    pub input: OwnedFd,
    /// Whom it runs as; `None` means as ourselves.
    pub account: Option<Account>,
    /// Open files of one process.
    pub files: Option<u64>,
}

/// A user with groups and capabilities.
#[derive(Debug, Clone)]
pub struct Account {
    /// User id.
    pub uid: libc::uid_t,
    /// Group id.
    pub gid: libc::gid_t,
    /// Supplementary groups.
    pub groups: Vec<libc::gid_t>,
    /// The only capabilities it keeps.
    pub capabilities: caps::CapsHashSet,
    /// Every other capability of the bounding set.
    pub dropped: Vec<caps::Capability>,
}

/// A child that waits before exec, until [`Forked::go`].
#[derive(Debug)]
pub struct Forked {
    /// The child.
    pub pid: i32,
    go: OwnedFd,
    failure: OwnedFd,
}

/// The step in which a child could not become its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecFailure {
    /// Index into [`STEPS`].
    step: u8,
    errno: i32,
}

/// What the child does between fork and exec, in order.
const STEPS: [&str; 9] = [
    "taking the output",
    "changing directory",
    "setting the limit of open files",
    "dropping capabilities from the bounding set",
    "setting groups",
    "setting the user",
    "setting capabilities",
    "forbidding new privileges",
    "executing the program",
];

impl std::fmt::Display for ExecFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let step = STEPS
            .get(usize::from(self.step))
            .copied()
            .unwrap_or("starting");
        write!(f, "{step}: {}", io::Error::from_raw_os_error(self.errno))
    }
}

impl Forked {
    /// Lets the child exec. Its run record must be on disk before this: if we
    /// die earlier the pipe closes and the child ends without having run.
    pub fn go(self) -> io::Result<OwnedFd> {
        nix::unistd::write(&self.go, b"g")?;
        Ok(self.failure)
    }
}

/// Why the child of `failure` never became its program; `None` if it did, or
/// has not come so far yet.
pub fn exec_failure(failure: &OwnedFd) -> Option<ExecFailure> {
    let mut message = [0; 5];
    match nix::unistd::read(failure, &mut message) {
        Ok(5) => {
            let errno = i32::from_ne_bytes([message[1], message[2], message[3], message[4]]);
            Some(ExecFailure {
                step: message[0],
                errno,
            })
        }
        _ => None,
    }
}

/// Forks a child that waits for [`Forked::go`] and then becomes the program.
pub fn fork_exec(plan: &ExecPlan) -> io::Result<Forked> {
    let argv = pointers(&plan.argv);
    let envs = pointers(&plan.envs);
    let (go_read, go_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (failure_read, failure_write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // SAFETY: the child calls only async-signal-safe functions and code that
    // reads memory prepared above, then execs or exits.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked {
            pid: child.as_raw(),
            go: go_write,
            failure: failure_read,
        }),
        ForkResult::Child => {
            drop(go_write);
            wait_for_go(&go_read);
            let (step, errno) = become_program(plan, &argv, &envs);
            let [a, b, c, d] = (errno as i32).to_ne_bytes();
            let _ = nix::unistd::write(&failure_write, &[step, a, b, c, d]);
            // SAFETY: ends the child without running our exit handlers.
            unsafe { libc::_exit(127) }
        }
    }
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts
        .iter()
        .map(|text| text.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

fn wait_for_go(go: &OwnedFd) {
    let mut byte = [0];
    loop {
        match nix::unistd::read(go, &mut byte) {
            Ok(1) => return,
            Err(Errno::EINTR) => {}
            // The daemon died before the run record was written.
            // SAFETY: ends the child without running our exit handlers.
            _ => unsafe { libc::_exit(0) },
        }
    }
}

/// Returns only on failure: the step and its errno.
fn become_program(
    plan: &ExecPlan,
    argv: &[*const libc::c_char],
    envs: &[*const libc::c_char],
) -> (u8, Errno) {
    let failed = |step: u8| (step, Errno::last());
    // SAFETY: system calls on memory that `plan`, `argv` and `envs` keep
    // alive; the pointer arrays end in null.
    unsafe {
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut empty);
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &empty, std::ptr::null_mut());
        libc::setsid();
        libc::umask(0o027);
        reset_oom_score();
        let (input, output) = (plan.input.as_raw_fd(), plan.output.as_raw_fd());
        if [(input, 0), (output, 1), (plan.errors.as_raw_fd(), 2)]
            .iter()
            .any(|(from, to)| place(*from, *to) < 0)
        {
            return failed(0);
        }
        seal_descriptors();
        if libc::chdir(plan.directory.as_ptr()) != 0 {
            return failed(1);
        }
        if limit_open_files(plan.files) != 0 {
            return failed(2);
        }
        if let Some(account) = &plan.account
            && let Err(step) = become_account(account)
        {
            return failed(step);
        }
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return failed(7);
        }
        libc::execve(plan.program.as_ptr(), argv.as_ptr(), envs.as_ptr());
        failed(8)
    }
}

/// dup2 that also clears close-on-exec when both are the same.
fn place(from: RawFd, to: RawFd) -> RawFd {
    // SAFETY: both are plain numbers; a bad one gives EBADF.
    unsafe {
        if from == to {
            libc::fcntl(from, libc::F_SETFD, 0)
        } else {
            libc::dup2(from, to)
        }
    }
}

/// Marks every descriptor above standard error close-on-exec: our own are
/// already, but what we inherited ourselves may not be.
fn seal_descriptors() {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: numbers only; a descriptor that is not open gives EBADF.
    unsafe {
        if libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            CLOSE_RANGE_CLOEXEC,
        ) != 0
        {
            // Before Linux 5.11.
            for descriptor in 3..4096 {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// Our own score is low so that the kernel kills a child before us; children
/// start with the default.
fn reset_oom_score() {
    // SAFETY: constant strings; failure is harmless, the score stays.
    unsafe {
        let file = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if file >= 0 {
            libc::write(file, c"0".as_ptr().cast(), 1);
            libc::close(file);
        }
    }
}

/// A child's own limit, or what systemd and the kernel give every program: our
/// own is higher, and programs that use select() or close every descriptor
/// must not see it.
fn limit_open_files(files: Option<u64>) -> libc::c_int {
    const DEFAULT: libc::rlim_t = 1024;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: plain system calls on a struct of our own.
    unsafe {
        if let Some(files) = files {
            (limit.rlim_cur, limit.rlim_max) = (files, files);
        } else if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return -1;
        } else {
            limit.rlim_cur = DEFAULT.min(limit.rlim_max);
        }
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    }
}

/// Becomes the account: bounding set first, while we still may, then groups,
/// user, and the capabilities that survive it. `Err` is the step that failed.
fn become_account(account: &Account) -> Result<(), u8> {
    use caps::{CapSet, securebits};
    if account
        .dropped
        .iter()
        .any(|dropped| caps::drop(None, CapSet::Bounding, *dropped).is_err())
    {
        return Err(3);
    }
    // SAFETY: plain system calls; the groups outlive the call.
    unsafe {
        if libc::setgroups(account.groups.len(), account.groups.as_ptr()) != 0
            || libc::setresgid(account.gid, account.gid, account.gid) != 0
        {
            return Err(4);
        }
        if !account.capabilities.is_empty() && securebits::set_keepcaps(true).is_err() {
            return Err(6);
        }
        if libc::setresuid(account.uid, account.uid, account.uid) != 0 {
            return Err(5);
        }
    }
    let wanted = &account.capabilities;
    let set = |kind| caps::set(None, kind, wanted);
    if account.uid == 0 {
        // exec gives uid 0 what the bounding set has left.
        return Ok(());
    }
    if set(CapSet::Effective).is_err()
        || set(CapSet::Permitted).is_err()
        || set(CapSet::Inheritable).is_err()
        || (!wanted.is_empty() && set(CapSet::Ambient).is_err())
    {
        return Err(6);
    }
    Ok(())
}

/// A pidfd of `pid`; ENOSYS before Linux 5.3.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers; a descriptor it returns is ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        match RawFd::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Signals the process `pidfd` pins.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> nix::Result<()> {
    // SAFETY: a null siginfo is allowed; the rest are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

/// A child of ours that has ended and is not reaped yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedChild {
    /// Its pid, which is its own until it is reaped.
    pub pid: i32,
    /// Whether a signal ended it.
    pub by_signal: bool,
    /// The number of that signal, or the exit code.
    pub status: i32,
}

/// The next child that has ended; it stays to be reaped.
pub fn ended_child() -> Option<EndedChild> {
    ended(libc::P_ALL, 0)
}

/// By hand, because a real-time signal is an error to nix: one child that
/// ended by one would hide every other end for ever.
fn ended(kind: libc::idtype_t, id: libc::id_t) -> Option<EndedChild> {
    // SAFETY: all zeroes are a valid siginfo, which waitid fills; the fields
    // that are read are those of SIGCHLD, and zero when nothing has ended.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(kind, id, &mut info, flags) != 0 || info.si_pid() == 0 {
            return None;
        }
        Some(EndedChild {
            pid: info.si_pid(),
            by_signal: info.si_code != libc::CLD_EXITED,
            status: info.si_status(),
        })
    }
}

/// Orphaned grandchildren become ours, so that nothing is lost to init.
pub fn become_subreaper() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Whether the kernel has ambient capabilities (4.3).
pub fn has_ambient_capabilities() -> bool {
    // SAFETY: the call takes numbers only.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET, 0, 0, 0) >= 0 }
}

/// One heap for all threads: the daemon allocates little, and an arena per
/// thread would cost more than it uses.
pub fn keep_one_heap() {
    // SAFETY: called before any thread exists.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Bytes waiting in a pipe.
pub fn pending_bytes(fd: BorrowedFd<'_>) -> usize {
    let mut pending: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut pending) };
    if result == 0 {
        usize::try_from(pending).unwrap_or(0)
    } else {
        0
    }
}

/// A descriptor the kernel has just given us, as a value that closes it.
pub fn own_descriptor(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the caller got it from accept and hands it over.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Gives back what is not needed while nothing happens: free heap, and the
/// pages of our own code, which the kernel maps sixteen at a time and keeps.
/// Whatever is needed again comes back from the page cache, or from the disk
/// on a host that is short of memory.
pub fn give_back_memory() {
    static CODE: OnceLock<Vec<(usize, usize)>> = OnceLock::new();
    // SAFETY: malloc_trim takes a number. The ranges are mappings of our own
    // file that nothing writes to (code, and constants before it), so what is
    // dropped is read from the file again.
    unsafe {
        libc::malloc_trim(0);
        for (start, length) in CODE.get_or_init(code_ranges) {
            libc::madvise(*start as *mut libc::c_void, *length, libc::MADV_DONTNEED);
        }
    }
}

/// Where our program's code and constants are mapped. Mappings with
/// relocations in them lie at other offsets and are left alone.
fn code_ranges() -> Vec<(usize, usize)> {
    let Ok(program) = std::fs::read_link("/proc/self/exe") else {
        return Vec::new();
    };
    let program = program.to_string_lossy();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let range = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (range, access, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let is_code = access == "r-xp" || (access == "r--p" && offset.bytes().all(|b| b == b'0'));
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (is_code && line.ends_with(&*program)).then_some((start, end.checked_sub(start)?))
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    /// Waits until `script` has ended, and says how, before it is reaped.
    fn end_of(script: &str) -> super::EndedChild {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .expect("a shell");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let ended = loop {
            match super::ended(libc::P_PID, child.id()) {
                Some(ended) => break ended,
                None if std::time::Instant::now() > deadline => panic!("{script}: no end is seen"),
                None => std::thread::sleep(std::time::Duration::from_millis(2)),
            }
        };
        assert_eq!(u32::try_from(ended.pid), Ok(child.id()));
        child.wait().expect("still there to be reaped");
        ended
    }

    #[test]
    fn every_end_is_seen_also_one_by_a_signal_without_a_name() {
        let how = |script| {
            let ended = end_of(script);
            (ended.by_signal, ended.status)
        };
        assert_eq!(how("exit 0"), (false, 0));
        assert_eq!(how("exit 7"), (false, 7));
        assert_eq!(how("kill -KILL $$"), (true, 9));
        assert_eq!(how("kill -40 $$"), (true, 40));
    }

    #[test]
    fn code_and_constants_are_there_again_after_they_were_given_back() {
        let text = String::from("kept on the heap");
        assert!(!super::code_ranges().is_empty());
        for _ in 0..3 {
            super::give_back_memory();
            assert_eq!(
                format!("{text} {:?}", [1.5, 2.5]),
                "kept on the heap [1.5, 2.5]"
            );
        }
    }
}
