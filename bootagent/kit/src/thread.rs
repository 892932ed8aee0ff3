//! Threads with a name that cannot die unnoticed.
//!
//! The one rule: a panic in any thread ends the process. A supervisor whose
//! push or download thread is gone would look healthy and do nothing; its
//! own supervisor can only help when it ends.

use std::io;
use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;

/// Stack of a thread. What runs there is shallow; the default of 2 MiB is
/// only address space, yet small machines run without overcommit.
const STACK_BYTES: usize = 256 * 1024;

/// Starts a thread. `name` is shown by `ps -L`, the first 15 bytes of it.
///
/// Fails only when the system has no thread left to give.
pub fn spawn<F, T>(name: &str, run: F) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let thread_name = name.to_owned();
    std::thread::Builder::new()
        .name(thread_name.clone())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
                // The panic hook has logged message and place already.
                log::error!("thread {thread_name} panicked, the process ends");
                log::logger().flush();
                std::process::abort()
            })
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Set for the copy of this test program that is to die.
    const DIES: &str = "KIT_TEST_THREAD_PANICS";

    #[test]
    fn a_thread_has_its_name_and_hands_back_its_value() {
        let thread = super::spawn("push", || std::thread::current().name().map(str::to_owned));
        let name = thread.expect("spawned").join().expect("joined");
        assert_eq!(name.as_deref(), Some("push"));
    }

    #[test]
    fn a_panic_in_a_thread_ends_the_process() {
        if std::env::var_os(DIES).is_some() {
            let thread = super::spawn("doomed", || panic!("on purpose"));
            let _ = thread.expect("spawned").join();
            // Reached only when the process did not end.
            std::process::exit(0);
        }
        let output = Command::new(std::env::current_exe().expect("our path"))
            .args([
                "--exact",
                "thread::tests::a_panic_in_a_thread_ends_the_process",
            ])
            .args(["--nocapture", "--test-threads=1"])
            .env(DIES, "1")
            .output()
            .expect("our test program runs");
        assert_eq!(output.status.signal(), Some(nix::libc::SIGABRT));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("on purpose"), "{text}");
    }
}
