use super::*;

fn argv(command: Option<Command>) -> String {
    let command = command.expect("there is a command");
    let words: Vec<_> = command
        .argv
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

#[test]
fn only_a_job_that_says_so_installs_an_older_version() {
    let path = Path::new("/p/a");
    let lines = [
        (
            Kind::Rpm,
            Downgrade::Refused,
            "rpm -U --replacepkgs -- /p/a",
        ),
        (
            Kind::Rpm,
            Downgrade::Allowed,
            "rpm -U --replacepkgs --oldpackage -- /p/a",
        ),
        (
            Kind::Deb,
            Downgrade::Refused,
            "dpkg --force-confdef --force-confold --refuse-downgrade --install -- /p/a",
        ),
        (
            Kind::Deb,
            Downgrade::Allowed,
            "dpkg --force-confdef --force-confold --install -- /p/a",
        ),
    ];
    for (kind, downgrade, expected) in lines {
        assert_eq!(argv(install(kind, path, downgrade)), expected);
    }
    assert_eq!(install(Kind::Bundle, path, Downgrade::Refused), None);
    assert_eq!(argv(erase(Kind::Rpm, "a")), "rpm -e -- a");
    assert_eq!(argv(erase(Kind::Deb, "a")), "dpkg --remove -- a");
}

#[test]
fn a_package_manager_speaks_english_and_never_asks() {
    let command = erase(Kind::Deb, "a").expect("there is a command");
    for wanted in [("LC_ALL", "C"), ("DEBIAN_FRONTEND", "noninteractive")] {
        let wanted = (wanted.0.into(), wanted.1.into());
        assert!(command.envs.contains(&wanted), "{wanted:?}");
    }
    assert!(command.lock_wait > Duration::ZERO && command.deadline > command.lock_wait);
}

#[test]
fn an_end_is_judged_by_its_exit_and_its_words() {
    let locked = "dpkg: error: dpkg frontend lock was locked by another process with pid 9\n\
                  Note: removing the lock file is always wrong";
    let waiting = "warning: waiting for transaction lock on /var/lib/rpm/.rpm.lock\n";
    let waited = format!("{waiting}Updating / installing...\nerror: %post failed\n");
    let newer = "package a-2-1.noarch (which is newer than a-1-1.noarch) is already installed";
    let skipped = "dpkg: will not downgrade a from 2 to 1, skipping";
    let cases = [
        (Kind::Rpm, Exit::Code(0), "", None),
        (Kind::Rpm, Exit::Code(0), waiting, None),
        (
            Kind::Deb,
            Exit::Code(2),
            locked,
            Some(ErrorCode::PACKAGE_MANAGER_LOCKED),
        ),
        (
            Kind::Rpm,
            Exit::TimedOut,
            waiting,
            Some(ErrorCode::PACKAGE_MANAGER_LOCKED),
        ),
        (
            Kind::Rpm,
            Exit::TimedOut,
            &waited,
            Some(ErrorCode::INSTALLER_TIMED_OUT),
        ),
        (
            Kind::Rpm,
            Exit::Code(1),
            &waited,
            Some(ErrorCode::INSTALLER_FAILED),
        ),
        (
            Kind::Rpm,
            Exit::Code(1),
            newer,
            Some(ErrorCode::PACKAGE_MISMATCH),
        ),
        (
            Kind::Deb,
            Exit::Code(0),
            skipped,
            Some(ErrorCode::PACKAGE_MISMATCH),
        ),
        (
            Kind::Deb,
            Exit::Signal(9),
            "",
            Some(ErrorCode::INSTALLER_FAILED),
        ),
    ];
    for (kind, exit, tail, expected) in cases {
        let code = match judge(kind, exit, tail) {
            Verdict::Done => None,
            Verdict::Locked(failure) | Verdict::Failed(failure) => Some(failure.code),
        };
        assert_eq!(code, expected, "{exit:?} {tail:?}");
    }
}

#[test]
fn half_an_install_is_not_installed() {
    assert_eq!(parse_deb_version("ii \t1.0-1\n").as_deref(), Some("1.0-1"));
    assert_eq!(parse_deb_version("hi \t1.0-1\n").as_deref(), Some("1.0-1"));
    for half in [
        "iF \t1.0-1\n",
        "iU \t1.0-1\n",
        "iHR\t1.0-1\n",
        "rc \t1.0-1\n",
        "un \t\n",
        "",
    ] {
        assert_eq!(parse_deb_version(half), None, "{half:?}");
    }
    assert_eq!(
        parse_rpm_version("(none)\t1-1\n(none)\t2-1\n").as_deref(),
        Some("2-1")
    );
    assert_eq!(parse_rpm_version("3\t1-1\n").as_deref(), Some("3:1-1"));
    assert_eq!(parse_rpm_version(""), None);
}

#[test]
fn a_full_disk_is_told_from_a_broken_package() {
    let said = [
        (
            Kind::Rpm,
            "\tinstalling package mover-2-1.x86_64 needs 8MB more space on the /usr filesystem",
        ),
        (
            Kind::Rpm,
            "\tinstalling package mover-2-1.x86_64 needs 3 more inodes on the / filesystem",
        ),
        (
            Kind::Rpm,
            "error: unpacking of archive failed on file /usr/a;65: cpio: write failed - No space left on device",
        ),
        (
            Kind::Deb,
            "dpkg-deb: error: failed to write (No space left on device)",
        ),
    ];
    for (kind, line) in said {
        match judge(kind, Exit::Code(1), line) {
            Verdict::Failed(failure) => assert_eq!(failure.code, ErrorCode::NO_SPACE, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    match judge(
        Kind::Rpm,
        Exit::Code(1),
        "error: installing package mover failed",
    ) {
        Verdict::Failed(failure) => assert_eq!(failure.code, ErrorCode::INSTALLER_FAILED),
        other => panic!("{other:?}"),
    }
}
