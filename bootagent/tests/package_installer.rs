//! Real packages, built by rpmbuild and dpkg-deb, put into a private root by
//! the commands of the product. Only the private root is added to them here.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bootagent::package::installer::{erase, install, installed, judge};
use bootagent::package::{
    Command, Downgrade, Exit, Expected, Kind, Output, Run, Verdict, check, inspect,
};
use bootagent_protocol::{AgentName, ErrorCode, Version};

/// Says aloud why a test does not run.
fn has_programs(programs: &[&str]) -> bool {
    let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    for program in programs {
        if !folders
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
        {
            println!("SKIPPED: the program {program} is missing");
            return false;
        }
    }
    true
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED: installing into a private root needs root");
    }
    root
}

/// Runs commands as the supervisor would, but against the root in `folder`.
struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in [
            "root/var/lib/dpkg/updates",
            "root/var/lib/dpkg/info",
            "root/var/lib/rpm",
        ] {
            fs::create_dir_all(folder.path().join(name)).expect("made");
        }
        for name in ["status", "available"] {
            fs::write(folder.path().join("root/var/lib/dpkg").join(name), b"").expect("made");
        }
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The options that lead each program to the private root.
    fn private(&self, program: &str) -> Vec<OsString> {
        let root = self.root();
        let with = |option: &str, path: &Path| {
            let mut word = OsString::from(option);
            word.push(path);
            word
        };
        match program {
            "rpm" => vec![
                with("--root=", &root),
                "--define=_dbpath /var/lib/rpm".into(),
            ],
            "dpkg" => vec![with("--root=", &root), "--log=/dev/null".into()],
            "dpkg-query" => vec![with("--admindir=", &root.join("var/lib/dpkg"))],
            _ => Vec::new(),
        }
    }

    /// What the lead's supervisor does with a long command.
    fn install(&self, kind: Kind, command: Option<Command>) -> Verdict {
        let command = command.expect("there is a command");
        let output = self.run(&command).expect("started");
        let mut tail = output.stdout;
        tail.extend(output.stderr);
        judge(kind, output.exit, &String::from_utf8_lossy(&tail))
    }

    fn done(&self, kind: Kind, command: Option<Command>) {
        match self.install(kind, command) {
            Verdict::Done => {}
            Verdict::Locked(failure) | Verdict::Failed(failure) => {
                panic!("{} {}", failure.code, failure.describe())
            }
        }
    }
}

impl Run for Host {
    fn run(&self, command: &Command) -> io::Result<Output> {
        let program = command.argv[0].to_string_lossy().into_owned();
        let (out, err) = (
            self.folder.path().join("out"),
            self.folder.path().join("err"),
        );
        let mut child = Process::new(&program)
            .args(self.private(&program))
            .args(&command.argv[1..])
            .env_clear()
            .envs(command.envs.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()?;
        let begun = Instant::now();
        let exit = loop {
            if let Some(status) = child.try_wait()? {
                break status.code().map_or(Exit::Signal(0), Exit::Code);
            }
            if begun.elapsed() > command.deadline {
                child.kill()?;
                child.wait()?;
                break Exit::TimedOut;
            }
            thread::sleep(Duration::from_millis(5));
        };
        Ok(Output {
            exit,
            stdout: fs::read(&out)?,
            stderr: fs::read(&err)?,
        })
    }
}

fn run_to_end(process: &mut Process) {
    let output = process.stdin(Stdio::null()).output().expect("started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn build_rpm(folder: &Path, version: &str, arch: &str) -> PathBuf {
    let top = folder.join(format!("rpm-{version}-{arch}"));
    fs::create_dir_all(&top).expect("made");
    let (epoch, plain) = version.split_once(':').unwrap_or(("0", version));
    let epoch = if epoch == "0" {
        String::new()
    } else {
        format!("Epoch: {epoch}\n")
    };
    let spec = format!(
        "Name: BasicAgent\nVersion: {plain}\nRelease: 0\n{epoch}Summary: x\nLicense: MIT\n\
         %description\nx\n%install\n\
         mkdir -p %{{buildroot}}/usr/lib/bootagent/agents/BasicAgent\n\
         echo '{version}' > %{{buildroot}}/usr/lib/bootagent/agents/BasicAgent/version\n\
         %files\n/usr/lib/bootagent/agents/BasicAgent\n"
    );
    fs::write(top.join("a.spec"), spec).expect("written");
    run_to_end(
        Process::new("rpmbuild")
            .args(["-bb", "--quiet", "--target", arch])
            .arg(format!("--define=_topdir {}", top.display()))
            .arg(top.join("a.spec")),
    );
    let package = top.join(format!("RPMS/{arch}/BasicAgent-{plain}-0.{arch}.rpm"));
    // The product's files have no telling names.
    let plain_name = folder.join(format!("{plain}-{arch}.package"));
    fs::rename(&package, &plain_name).expect("built");
    plain_name
}

fn build_deb(folder: &Path, version: &str, arch: &str) -> PathBuf {
    let top = folder.join(format!("deb-{version}-{arch}"));
    let files = top.join("usr/lib/bootagent/agents/BasicAgent");
    fs::create_dir_all(&files).expect("made");
    fs::create_dir_all(top.join("DEBIAN")).expect("made");
    fs::write(files.join("version"), format!("{version}\n")).expect("written");
    let control = format!(
        "Package: basicagent\nVersion: {version}\nArchitecture: {arch}\n\
         Maintainer: x <x@example.com>\nDescription: x\n"
    );
    fs::write(top.join("DEBIAN/control"), control).expect("written");
    let package = folder.join("built.package");
    run_to_end(
        Process::new("dpkg-deb")
            .args(["--root-owner-group", "-b"])
            .arg(&top)
            .arg(&package),
    );
    let plain_name = folder.join(format!("{}-{arch}.package", version.replace(':', "_")));
    fs::rename(&package, &plain_name).expect("built");
    plain_name
}

fn expected(version: Option<&str>) -> Expected {
    Expected {
        name: AgentName::parse("BasicAgent").expect("valid"),
        version: version.map(|version| Version::parse(version).expect("valid")),
    }
}

#[test]
fn packages_say_what_they_are() {
    if !has_programs(&["rpm", "rpmbuild", "dpkg-deb"]) {
        return;
    }
    let host = Host::new();
    let folder = host.folder.path();
    let foreign = if std::env::consts::ARCH == "aarch64" {
        "x86_64"
    } else {
        "aarch64"
    };
    let foreign_deb = if foreign == "x86_64" {
        "amd64"
    } else {
        "arm64"
    };
    for (kind, package, full) in [
        (Kind::Rpm, build_rpm(folder, "0.1.0", "noarch"), "0.1.0-0"),
        (
            Kind::Rpm,
            build_rpm(folder, "3:0.2.0", "noarch"),
            "3:0.2.0-0",
        ),
        (Kind::Deb, build_deb(folder, "0.1.0-0", "all"), "0.1.0-0"),
        (
            Kind::Deb,
            build_deb(folder, "3:0.2.0-0", "all"),
            "3:0.2.0-0",
        ),
    ] {
        assert_eq!(Kind::of(&package).expect("a kind"), kind);
        let header = inspect(&package, kind, &host).expect("read");
        assert_eq!(header.full_version(), full);
        check(&header, &expected(None)).expect("any version");
        check(&header, &expected(Some(full))).expect("this version");
        let failure = check(&header, &expected(Some("9"))).expect_err("another version");
        assert_eq!(failure.code, ErrorCode::PACKAGE_MISMATCH);
    }
    for (kind, package) in [
        (Kind::Rpm, build_rpm(folder, "0.1.0", foreign)),
        (Kind::Deb, build_deb(folder, "0.1.0-0", foreign_deb)),
    ] {
        let header = inspect(&package, kind, &host).expect("read");
        let failure = check(&header, &expected(None)).expect_err("another machine");
        assert!(failure.message.contains("architecture"), "{failure}");
    }
}

#[test]
fn a_file_that_only_looks_like_a_package_is_refused() {
    if !has_programs(&["rpm", "rpmbuild", "dpkg-deb"]) {
        return;
    }
    let host = Host::new();
    let folder = host.folder.path();
    for package in [
        build_rpm(folder, "1", "noarch"),
        build_deb(folder, "1-0", "all"),
    ] {
        let kind = Kind::of(&package).expect("a kind");
        let whole = fs::read(&package).expect("there");
        fs::write(&package, &whole[..100]).expect("cut");
        let failure = inspect(&package, kind, &host).expect_err("cut");
        assert_eq!(failure.code, ErrorCode::PACKAGE_MISMATCH, "{failure}");
    }
    for (bytes, words) in [
        (&b"<html>login</html>"[..], "web page"),
        (b"", "empty"),
        (b"root:secret", "0x72"),
    ] {
        let path = folder.join("other");
        fs::write(&path, bytes).expect("written");
        let failure = Kind::of(&path).expect_err("no package");
        assert_eq!(failure.code, ErrorCode::PACKAGE_KIND_UNSUPPORTED);
        assert!(failure.message.contains(words), "{failure}");
        assert!(!failure.message.contains("secret"), "{failure}");
    }
}

#[test]
fn only_the_system_root_takes_rpms_and_debs() {
    let root = Path::new("/var/tmp/elsewhere");
    assert!(Kind::Bundle.check_supported(root).is_ok());
    for kind in [Kind::Rpm, Kind::Deb] {
        let failure = kind.check_supported(root).expect_err("another root");
        assert_eq!(failure.code, ErrorCode::PACKAGE_KIND_UNSUPPORTED);
        assert!(failure.message.contains("/var/tmp/elsewhere"), "{failure}");
    }
}

/// Install, upgrade, refused and allowed downgrade, the same again, removal:
/// each looked at in the database and on the disk.
fn walk_through(host: &Host, kind: Kind, old: &Path, new: &Path, name: &str) {
    let version = || installed(kind, name, host).expect("the database answers");
    let file = host
        .root()
        .join("usr/lib/bootagent/agents/BasicAgent/version");
    let on_disk = || {
        fs::read_to_string(&file)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    assert_eq!(version(), None);

    host.done(kind, install(kind, old, Downgrade::Refused));
    assert_eq!(version().as_deref(), Some("1.0-0"));
    host.done(kind, install(kind, new, Downgrade::Refused));
    assert_eq!(version().as_deref(), Some("2.0-0"));
    host.done(kind, install(kind, new, Downgrade::Refused));
    assert_eq!(version().as_deref(), Some("2.0-0"));

    match host.install(kind, install(kind, old, Downgrade::Refused)) {
        Verdict::Failed(failure) => {
            assert_eq!(failure.code, ErrorCode::PACKAGE_MISMATCH);
            assert!(failure.message.contains("say downgrade"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(version().as_deref(), Some("2.0-0"));
    assert!(on_disk().is_some_and(|text| text.starts_with("2.0")));

    host.done(kind, install(kind, old, Downgrade::Allowed));
    assert_eq!(version().as_deref(), Some("1.0-0"));
    assert!(on_disk().is_some_and(|text| text.starts_with("1.0")));

    host.done(kind, erase(kind, name));
    assert_eq!((version(), on_disk()), (None, None));
    match host.install(kind, erase(kind, name)) {
        // rpm calls it an error to remove what is not there, dpkg does not.
        Verdict::Done => assert_eq!(kind, Kind::Deb),
        Verdict::Failed(failure) => assert!(failure.message.contains("not installed"), "{failure}"),
        other @ Verdict::Locked(_) => panic!("{other:?}"),
    }
}

#[test]
fn an_rpm_lives_its_whole_life() {
    if !has_programs(&["rpm", "rpmbuild"]) || !is_root() {
        return;
    }
    let host = Host::new();
    let folder = host.folder.path();
    let (old, new) = (
        build_rpm(folder, "1.0", "noarch"),
        build_rpm(folder, "2.0", "noarch"),
    );
    walk_through(&host, Kind::Rpm, &old, &new, "BasicAgent");
}

#[test]
fn a_deb_lives_its_whole_life() {
    if !has_programs(&["dpkg", "dpkg-deb", "dpkg-query"]) || !is_root() {
        return;
    }
    let host = Host::new();
    let folder = host.folder.path();
    let (old, new) = (
        build_deb(folder, "1.0-0", "all"),
        build_deb(folder, "2.0-0", "all"),
    );
    walk_through(&host, Kind::Deb, &old, &new, "basicagent");
}

/// Holds the lock a package manager takes, as another one would: a record
/// lock, which belongs to this process.
fn hold_lock(path: &Path) -> File {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("the lock file");
    let lock: libc::flock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&lock)).expect("locked");
    file
}

#[test]
fn a_locked_package_manager_is_told_from_a_failed_one() {
    if !has_programs(&["dpkg", "dpkg-deb", "rpm", "rpmbuild"]) || !is_root() {
        return;
    }
    let host = Host::new();
    let folder = host.folder.path();
    let (deb, rpm) = (
        build_deb(folder, "1.0-0", "all"),
        build_rpm(folder, "1.0", "noarch"),
    );
    for (kind, package, lock) in [
        (Kind::Deb, &deb, "var/lib/dpkg/lock-frontend"),
        (Kind::Deb, &deb, "var/lib/dpkg/lock"),
        (Kind::Rpm, &rpm, "var/lib/rpm/.rpm.lock"),
    ] {
        let held = hold_lock(&host.root().join(lock));
        let mut command = install(kind, package, Downgrade::Refused).expect("a command");
        // rpm waits by itself, so it is its deadline that ends it.
        command.deadline = Duration::from_secs(2);
        match host.install(kind, Some(command)) {
            Verdict::Locked(failure) => {
                assert_eq!(failure.code, ErrorCode::PACKAGE_MANAGER_LOCKED, "{lock}");
            }
            other => panic!("{lock}: {other:?}"),
        }
        drop(held);
        host.done(kind, install(kind, package, Downgrade::Refused));
    }
}

#[test]
fn a_package_that_fails_half_way_is_not_called_installed() {
    if !has_programs(&["dpkg", "dpkg-deb", "dpkg-query"]) || !is_root() {
        return;
    }
    let host = Host::new();
    let folder = host.folder.path();
    // Its dependency is not there: unpacked, but never configured.
    let top = folder.join("half/DEBIAN");
    fs::create_dir_all(&top).expect("made");
    let control = "Package: basicagent\nVersion: 1.0-0\nArchitecture: all\nDepends: missing\n\
                   Maintainer: x <x@example.com>\nDescription: x\n";
    fs::write(top.join("control"), control).expect("written");
    let package = folder.join("half.package");
    run_to_end(
        Process::new("dpkg-deb")
            .arg("-b")
            .arg(folder.join("half"))
            .arg(&package),
    );
    match host.install(Kind::Deb, install(Kind::Deb, &package, Downgrade::Refused)) {
        Verdict::Failed(failure) => assert_eq!(failure.code, ErrorCode::INSTALLER_FAILED),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        installed(Kind::Deb, "basicagent", &host).expect("answered"),
        None
    );
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let none = |_: &Command| Err(io::Error::from(io::ErrorKind::NotFound));
    for kind in [Kind::Rpm, Kind::Deb] {
        let failure = installed(kind, "a", &none).expect_err("no program");
        assert_eq!(
            failure.code,
            ErrorCode::PACKAGE_KIND_UNSUPPORTED,
            "{failure}"
        );
        let failure = inspect(Path::new("/a"), kind, &none).expect_err("no program");
        assert_eq!(
            failure.code,
            ErrorCode::PACKAGE_KIND_UNSUPPORTED,
            "{failure}"
        );
    }
    // A database that is broken is not one that lacks the package.
    let broken = |_: &Command| {
        let stderr = b"error: cannot open Packages database\n".to_vec();
        Ok(Output {
            exit: Exit::Code(1),
            stdout: Vec::new(),
            stderr,
        })
    };
    let failure = installed(Kind::Rpm, "a", &broken).expect_err("broken");
    assert!(
        failure.message.contains("cannot open Packages"),
        "{failure}"
    );
}
