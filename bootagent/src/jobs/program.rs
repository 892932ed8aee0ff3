//! Programs a job runs, through the engine: it alone starts and reaps.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootagent_kit::fs::ensure_dir;
use bootagent_protocol::{ErrorCode, Manifest, truncate};

use super::Worker;
use crate::download::Failure;
use crate::engine::child::{environment, make_folders};
use crate::engine::{JobRequest, Leftovers, OneshotEnd, OneshotOrder};
use crate::package::{Command, Exit, Output};
use crate::spawn;

/// How much of a program's output is kept.
const OUTPUT_BYTES: u64 = 64 * 1024;

impl Worker {
    /// Runs a short query of the package manager.
    pub(super) fn query(&self, command: &Command) -> io::Result<Output> {
        let (output, errors) = (self.tmp("query.out"), self.tmp("query.err"));
        let end = self.run_program(OneshotPlan {
            name: "job.query",
            argv: found(command)?,
            envs: command.envs.iter().cloned().collect(),
            output: output.clone(),
            errors: Some(errors.clone()),
            deadline: command.deadline,
            leftovers: Leftovers::Kill,
        });
        let exit = exit(end)?;
        Ok(Output {
            exit,
            stdout: tail(&output),
            stderr: tail(&errors),
        })
    }

    /// Runs the package manager; its output's end comes with its exit.
    pub(super) fn run_installer(
        &self,
        name: &str,
        command: &Command,
    ) -> io::Result<(Exit, String)> {
        let output = self.tmp("installer.out");
        let end = self.run_program(OneshotPlan {
            name,
            argv: found(command)?,
            envs: command.envs.iter().cloned().collect(),
            output: output.clone(),
            errors: None,
            deadline: command.deadline,
            leftovers: Leftovers::Keep,
        });
        Ok((
            exit(end)?,
            String::from_utf8_lossy(&tail(&output)).into_owned(),
        ))
    }

    /// Runs a sub-agent's own check as the sub-agent would run.
    pub(super) fn check(
        &self,
        manifest: &Manifest,
        folder: &Path,
        envs: Option<&BTreeMap<String, String>>,
    ) -> Result<(), Failure> {
        let invalid = |text: String| Failure::new(ErrorCode::MANIFEST_INVALID, text);
        // Also without a check: a wrong user must not stop what runs.
        let account = self.privilege.account(manifest).map_err(invalid)?;
        let Some(check) = &manifest.check else {
            return Ok(());
        };
        let owner = account.as_ref().map(|account| (account.uid, account.gid));
        let failed = |text: String| Failure::new(ErrorCode::CONFIG_CHECK_FAILED, text);
        ensure_dir(&self.paths.agent_state(&manifest.name), 0o750)
            .map_err(anyhow::Error::from)
            .and_then(|()| make_folders(&self.paths, &manifest.name, owner))
            .map_err(|e| failed(format!("{e:#}")))?;
        let output = self.tmp("check.out");
        let order = |reply| OneshotOrder {
            name: "job.check".into(),
            argv: spawn::resolve(check, folder),
            envs: environment(&self.paths, manifest, envs),
            directory: folder.to_path_buf(),
            account,
            output: output.clone(),
            errors: None,
            deadline: Duration::from_secs(self.config.jobs.check_timeout),
            leftovers: Leftovers::Kill,
            reply,
        };
        let end = self.ask(|reply| JobRequest::Run(Box::new(order(reply))));
        let said = tail(&output);
        let how = match end {
            OneshotEnd::Code(0) => return Ok(()),
            OneshotEnd::Code(code) => format!("exit code {code}"),
            OneshotEnd::Signal(signal) => format!("signal {signal}"),
            OneshotEnd::TimedOut => format!("no end within {} s", self.config.jobs.check_timeout),
            OneshotEnd::NotStarted(why) => why,
            OneshotEnd::Unknown => "unknown end".into(),
        };
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        Err(failed(format!(
            "the check of {} {} failed ({how}): {}",
            manifest.name,
            manifest.version,
            truncate(&said, 1500)
        )))
    }

    fn run_program(&self, plan: OneshotPlan<'_>) -> OneshotEnd {
        self.ask(|reply| {
            JobRequest::Run(Box::new(OneshotOrder {
                name: plan.name.to_owned(),
                argv: plan.argv,
                envs: plan.envs,
                directory: PathBuf::from("/"),
                account: None,
                output: plan.output,
                errors: plan.errors,
                deadline: plan.deadline,
                leftovers: plan.leftovers,
                reply,
            }))
        })
    }
}

struct OneshotPlan<'a> {
    name: &'a str,
    argv: Vec<OsString>,
    envs: BTreeMap<OsString, OsString>,
    output: PathBuf,
    errors: Option<PathBuf>,
    deadline: Duration,
    leftovers: Leftovers,
}

fn exit(end: OneshotEnd) -> io::Result<Exit> {
    match end {
        OneshotEnd::Code(code) => Ok(Exit::Code(code)),
        OneshotEnd::Signal(signal) => Ok(Exit::Signal(signal)),
        OneshotEnd::TimedOut => Ok(Exit::TimedOut),
        OneshotEnd::NotStarted(why) => Err(io::Error::other(why)),
        OneshotEnd::Unknown => Err(io::Error::other("nobody saw how it ended")),
    }
}

/// The argv with its program found in the PATH of its own environment.
fn found(command: &Command) -> io::Result<Vec<OsString>> {
    let mut argv = command.argv.clone();
    let path = command.envs.iter().find(|(key, _)| key == "PATH");
    let path = path
        .map(|(_, value)| value.as_os_str())
        .unwrap_or(OsStr::new("/usr/bin:/bin"));
    if let Some(first) = argv.first_mut()
        && !Path::new(first.as_os_str()).is_absolute()
    {
        let places = std::env::split_paths(path).map(|place| place.join(first.as_os_str()));
        *first = places
            .into_iter()
            .find(|place| place.is_file())
            .ok_or_else(|| {
                let text = format!("there is no program {}", first.to_string_lossy());
                io::Error::new(io::ErrorKind::NotFound, text)
            })?
            .into_os_string();
    }
    Ok(argv)
}

/// The end of a file of output.
fn tail(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let start = SeekFrom::Start(length.saturating_sub(OUTPUT_BYTES));
        let _ = file
            .seek(start)
            .and_then(|_| file.take(OUTPUT_BYTES).read_to_end(&mut bytes));
    }
    let _ = std::fs::remove_file(path);
    bytes
}
