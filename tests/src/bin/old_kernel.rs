//! Runs a program as on a kernel of CentOS 7: what Linux has learned since is
//! answered with ENOSYS.
//!
//! `e2e-old-kernel PROGRAM ARGUMENTS...` becomes the program. The one rule:
//! only calls are refused that such a kernel does not have.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Calls later than Linux 3.10.
const MISSING: [libc::c_long; 27] = [
    libc::SYS_sched_setattr,
    libc::SYS_sched_getattr,
    libc::SYS_renameat2,
    libc::SYS_getrandom,
    libc::SYS_memfd_create,
    libc::SYS_execveat,
    libc::SYS_membarrier,
    libc::SYS_mlock2,
    libc::SYS_copy_file_range,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_statx,
    libc::SYS_rseq,
    libc::SYS_pidfd_send_signal,
    libc::SYS_io_uring_setup,
    libc::SYS_pidfd_open,
    libc::SYS_clone3,
    libc::SYS_close_range,
    libc::SYS_openat2,
    libc::SYS_pidfd_getfd,
    libc::SYS_faccessat2,
    libc::SYS_process_madvise,
    libc::SYS_epoll_pwait2,
    libc::SYS_mount_setattr,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_process_mrelease,
    libc::SYS_futex_waitv,
];

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let program = words
        .next()
        .context("usage: e2e-old-kernel PROGRAM ARGUMENTS...")?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        MISSING.iter().map(|call| (*call, Vec::new())).collect();
    // Ambient capabilities came with 4.3.
    let ambient = u64::try_from(libc::PR_CAP_AMBIENT)?;
    let (length, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
    let condition = SeccompCondition::new(0, length, equal, ambient)?;
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![condition])?]);
    let errno = u32::try_from(libc::ENOSYS)?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        std::env::consts::ARCH.try_into()?,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    apply_filter(&filter)?;
    let later = memfd_create("later", MFdFlags::empty());
    ensure!(
        later.err() == Some(Errno::ENOSYS),
        "the filter does not hold"
    );
    Err(Command::new(program).args(words).exec()).context("becoming the program")
}
