//! install and upgrade of BootAgent itself.
//!
//! The running program is saved and watches (see [`crate::watcher`]) while its
//! package manager puts the new one in its place; then this process executes
//! it. Outcome is a status of the new one that a server answered. Every step
//! is on disk, so whichever program runs goes on where the other one was. The
//! rule: until the watcher runs, nothing is changed.

use std::path::Path;
use std::time::Duration;

use bootagent_kit::fs::{read_limited, write_atomic};
use bootagent_protocol::{AgentName, ErrorCode};

use super::{Outcome, Worker};
use crate::download::Failure;
use crate::engine::JobRequest;
use crate::host;
use crate::journal::TakenJob;
use crate::package::{self, Command, Exit, Expected, Kind};
use crate::takeover::{self, Phase, Standing, Takeover, Upgrade};
use crate::watcher;

/// The name of our own package.
pub(super) const NAME: &str = "bootagent";
/// Largest program, in bytes.
const MAX_PROGRAM_BYTES: u64 = 256 << 20;
/// How long systemd may take to start the watcher.
const WATCHER_DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at what the watcher does.
const LOOK: Duration = Duration::from_secs(1);
/// How long a program of the wrong version waits to be replaced by the watcher.
const REPLACED_WITHIN: Duration = Duration::from_secs(300);

impl Worker {
    pub(super) fn upgrade_self(&self, taken: &TakenJob) -> Result<Outcome, Failure> {
        let takeover = Takeover::new(&self.paths.takeover());
        let standing = takeover.standing();
        let is_ours = |standing: &Standing| standing.upgrade().job == taken.job.id;
        let result = match standing.filter(is_ours) {
            Some(standing) => self.go_on(taken, &takeover, standing),
            None => self.begin_upgrade(taken, &takeover),
        };
        if !matches!(&result, Ok(outcome) if outcome.code == ErrorCode::SUCCESS) {
            self.discard(&AgentName::parse(NAME).expect("it is one"));
        }
        result
    }

    fn begin_upgrade(&self, taken: &TakenJob, takeover: &Takeover) -> Result<Outcome, Failure> {
        let name = AgentName::parse(NAME).expect("it is one");
        let package = self.obtain(taken, &name)?;
        let query = |command: &Command| self.query(command);
        let kind = Kind::of(&package)?;
        let own_kind = match kind {
            Kind::Rpm => takeover::Kind::Rpm,
            Kind::Deb => takeover::Kind::Deb,
            Kind::Bundle => {
                return Err(Failure::new(
                    ErrorCode::PACKAGE_KIND_UNSUPPORTED,
                    "BootAgent itself is no bundle; order its rpm or deb",
                ));
            }
        };
        kind.check_supported(self.paths.root())?;
        check_somebody_outlives_us()?;
        let header = package::inspect(&package, kind, &query)?;
        let expected = Expected {
            name: name.clone(),
            version: taken.job.terms.version.clone(),
        };
        package::check(&header, &expected)?;
        self.check_version(taken, kind, &header)?;
        let to = header.full_version();
        if to == host::VERSION {
            self.keep(&name);
            return Ok(success(&to, "runs already"));
        }
        let program = crate::handover::program()
            .map_err(|error| Failure::file("find", Path::new("our own program"), error))?;
        self.save_program()?;
        // Only the package of what runs can bring it back.
        let is_ours = |path: &std::path::PathBuf| {
            package::inspect(path, kind, &query)
                .is_ok_and(|kept| kept.full_version() == host::VERSION)
        };
        let upgrade = Upgrade {
            job: taken.job.id.clone(),
            from: host::VERSION.to_owned(),
            to,
            phase: Phase::Installing,
            program,
            arguments: std::env::args_os()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            directory: crate::handover::directory(),
            kind: own_kind,
            package: Some(self.kept(&name)).filter(is_ours),
            config: std::path::absolute(&self.config_path)
                .unwrap_or_else(|_| self.config_path.clone()),
            cause: None,
            remedy: None,
        };
        takeover.open(&upgrade).map_err(not_written)?;
        self.go_on(taken, takeover, Standing::Open(upgrade))
    }

    /// From wherever an earlier run of this job came to.
    fn go_on(
        &self,
        taken: &TakenJob,
        takeover: &Takeover,
        standing: Standing,
    ) -> Result<Outcome, Failure> {
        match standing {
            Standing::Confirmed(upgrade) => Ok(self.finish(&upgrade)),
            Standing::GoingBack(_) | Standing::WentBack(_) => self.await_the_old_one(takeover),
            Standing::Open(upgrade) => {
                if let Err(failure) = self.start_watcher() {
                    // Nobody would put the old one back.
                    if upgrade.phase == Phase::Installing {
                        takeover.close().map_err(not_written)?;
                        return Err(failure);
                    }
                    log::error!("the watcher does not run: {}", failure.describe());
                }
                match upgrade.phase {
                    Phase::Installing => self.replace_program(taken, takeover, upgrade),
                    Phase::Executed => self.execute(taken, takeover, &upgrade),
                }
            }
        }
    }

    fn replace_program(
        &self,
        taken: &TakenJob,
        takeover: &Takeover,
        mut upgrade: Upgrade,
    ) -> Result<Outcome, Failure> {
        let placed = self.place_own_package(taken);
        if let Err(failure) = placed {
            // The package manager refused, or was stopped half way: what is on
            // the disk then is not what runs, and would run after the next start.
            if self.says_version(&upgrade.program, &upgrade.from) {
                takeover.close().map_err(not_written)?;
                return Err(failure);
            }
            return self.leave_to_the_watcher(takeover, &upgrade, &failure.describe());
        }
        // One of an upgrade before may have ended at the moment it was seen.
        if let Err(failure) = self.start_watcher() {
            log::error!("the watcher does not run: {}", failure.describe());
        }
        upgrade.phase = Phase::Executed;
        match takeover.advance(&upgrade).map_err(not_written)? {
            true => self.execute(taken, takeover, &upgrade),
            false => self.await_the_old_one(takeover),
        }
    }

    fn place_own_package(&self, taken: &TakenJob) -> Result<(), Failure> {
        let name = AgentName::parse(NAME).expect("it is one");
        let package = self.obtain(taken, &name)?;
        let query = |command: &Command| self.query(command);
        let kind = Kind::of(&package)?;
        let header = package::inspect(&package, kind, &query)?;
        self.place_packaged(taken, kind, &package, &header)
    }

    /// Becomes the new program, or, being it, waits for a server's answer.
    fn execute(
        &self,
        taken: &TakenJob,
        takeover: &Takeover,
        upgrade: &Upgrade,
    ) -> Result<Outcome, Failure> {
        if host::VERSION == upgrade.to {
            self.ask(|reply| JobRequest::CheckedIn { reply });
            return match takeover.confirm().map_err(not_written)? {
                true => Ok(self.finish(upgrade)),
                // Too late: it is being replaced.
                false => self.await_the_old_one(takeover),
            };
        }
        let why = if taken.steps.iter().any(|step| step == "executing") {
            format!("its program says it is {}", host::VERSION)
        } else {
            self.step(taken, "executing")?;
            self.ask(|reply| JobRequest::Reexec { reply })
        };
        self.leave_to_the_watcher(takeover, upgrade, &why)
    }

    /// The watcher puts the old one back.
    fn leave_to_the_watcher(
        &self,
        takeover: &Takeover,
        upgrade: &Upgrade,
        why: &str,
    ) -> Result<Outcome, Failure> {
        log::error!("{} is not used: {why}", upgrade.to);
        takeover.go_back(upgrade, why).map_err(not_written)?;
        self.await_the_old_one(takeover)
    }

    /// The result of an upgrade that was taken back is told by the program that
    /// was put back, or, if nobody replaces this one, by this one.
    fn await_the_old_one(&self, takeover: &Takeover) -> Result<Outcome, Failure> {
        let begun = std::time::Instant::now();
        loop {
            match takeover.standing() {
                Some(Standing::WentBack(upgrade))
                    if upgrade.from == host::VERSION || begun.elapsed() > REPLACED_WITHIN =>
                {
                    return Ok(went_back(&upgrade));
                }
                Some(Standing::Confirmed(upgrade)) => return Ok(self.finish(&upgrade)),
                Some(_) if !watcher::is_watching(&self.paths) => {
                    if let Err(failure) = self.start_watcher() {
                        log::error!("the watcher does not run: {}", failure.describe());
                    }
                }
                Some(_) => {}
                None => {
                    let text = "how the upgrade stands can no longer be read";
                    return Err(Failure::new(ErrorCode::ROLLED_BACK, text));
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    fn finish(&self, upgrade: &Upgrade) -> Outcome {
        let name = AgentName::parse(NAME).expect("it is one");
        self.keep(&name);
        success(&upgrade.to, "success")
    }

    /// The program that runs, also if its file has been replaced.
    fn save_program(&self) -> Result<(), Failure> {
        let path = self.paths.saved_program();
        read_limited("/proc/self/exe".as_ref(), MAX_PROGRAM_BYTES)
            .and_then(|program| write_atomic(&path, &program, 0o755))
            .map_err(not_written)
    }

    fn start_watcher(&self) -> Result<(), Failure> {
        if watcher::is_watching(&self.paths) {
            return Ok(());
        }
        let saved = self.paths.saved_program();
        let words: Vec<&std::ffi::OsStr> = if watcher::has_systemd() {
            let words = ["systemctl", "start", "bootagent-watcher.service"];
            words.map(std::ffi::OsStr::new).to_vec()
        } else {
            // By this program, whatever version the saved one is.
            vec![
                "/proc/self/exe".as_ref(),
                "--start-watcher".as_ref(),
                saved.as_os_str(),
            ]
        };
        let command = Command::new(&words, WATCHER_DEADLINE);
        let failed = |text: String| {
            Failure::new(
                ErrorCode::INSTALLER_FAILED,
                format!("the watcher of the upgrade was not started, nothing is changed: {text}"),
            )
        };
        match self.run_installer("job.watcher", &command) {
            Ok((Exit::Code(0), _)) => Ok(()),
            Ok((exit, said)) => Err(failed(format!("{exit:?} {}", said.trim()))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    fn says_version(&self, program: &Path, version: &str) -> bool {
        let words = [program.as_os_str(), std::ffi::OsStr::new("-V")];
        let said = self.query(&Command::new(&words, WATCHER_DEADLINE));
        let wanted = format!("bootagent {version} ");
        said.is_ok_and(|said| {
            said.exit == Exit::Code(0) && said.stdout.starts_with(wanted.as_bytes())
        })
    }
}

/// Whether a job is about BootAgent itself, however its name is written.
pub(super) fn is_own(name: &AgentName) -> bool {
    name.as_str().eq_ignore_ascii_case(NAME)
}

/// The first process of a container takes everything with it when it ends, and
/// so does what a container's own init has started: nobody could put the old
/// version back.
fn check_somebody_outlives_us() -> Result<(), Failure> {
    let init = || std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let is_alone = match std::process::id() {
        1 => true,
        _ => nix::unistd::getppid().as_raw() == 1 && ends_with_its_child(init().trim_end()),
    };
    if is_alone {
        return Err(Failure::new(
            ErrorCode::PACKAGE_KIND_UNSUPPORTED,
            "this container ends with BootAgent, and nobody could take a bad version back; change \
             the container's image",
        ));
    }
    Ok(())
}

/// Whether this first process (its `comm`) is one that only reaps, and ends when
/// the one program ends that it has started: `docker run --init` and the like.
fn ends_with_its_child(init: &str) -> bool {
    const KNOWN: [&str; 6] = [
        "tini",
        "tini-static",
        "docker-init",
        "dumb-init",
        "catatonit",
        "podman-init",
    ];
    KNOWN.contains(&init)
}

fn success(version: &str, message: &str) -> Outcome {
    let mut outcome = Outcome::success(format!("{message}: bootagent {version}"));
    outcome.tried = Some(version.to_owned());
    outcome.running = Some(version.to_owned());
    outcome
}

fn went_back(upgrade: &Upgrade) -> Outcome {
    let cause = upgrade.cause.clone().unwrap_or_default();
    let remedy = upgrade.remedy.clone().unwrap_or_default();
    let text = format!("bootagent {} was tried: {cause}; {remedy}", upgrade.to);
    let mut outcome = Outcome::new(ErrorCode::ROLLED_BACK, text);
    outcome.tried = Some(upgrade.to.clone());
    outcome.running = Some(host::VERSION.to_owned());
    outcome.cause = Some(cause);
    outcome
}

fn not_written(error: bootagent_kit::fs::FsError) -> Failure {
    Failure::new(ErrorCode::NOT_PERSISTED, "the upgrade cannot be prepared").because(error)
}
