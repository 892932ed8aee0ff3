//! Changing to another program in place: the file that is at our path now is
//! executed by this very process, so children keep their parent and systemd
//! its main process.
//!
//! The file has to show first that it may, see [`candidate`]. Then the
//! journal stands still, because an exec ends every thread wherever it is;
//! the work of jobs and a push are taken up again by the next one, as after a
//! crash. The rule: when it fails, everything goes on as before.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::bail;
use bootagent_kit::notify;

use super::{Engine, Message, candidate};
use crate::config::{Config, ReloadError};
use crate::control::Reply;
use crate::control::send::answer;
use crate::handover::Bequest;
use crate::host;

/// How long the journal may take to finish what it is writing.
const HOLD_DEADLINE: Duration = Duration::from_secs(10);

/// Who ordered it. Only a failure is told here; when it went well, the next
/// BootAgent answers `bootctl`, and takes the job up again.
pub enum Orderer {
    /// `bootctl reexec`.
    Bootctl(Arc<OwnedFd>),
    /// A job.
    Job(Sender<String>),
}

impl Orderer {
    fn refuse(&self, why: String) {
        match self {
            Self::Bootctl(connection) => answer(connection, &Reply::Failed(why)),
            // The job's thread runs as long as we do.
            Self::Job(reply) => drop(reply.send(why)),
        }
    }
}

/// What became of the look at the new program.
pub struct Checked {
    orderer: Orderer,
    program: anyhow::Result<PathBuf>,
}

impl Engine {
    /// Has the program at our path looked at; [`Engine::on_checked`] follows.
    pub(super) fn reexec(&mut self, orderer: Orderer) {
        if std::mem::replace(&mut self.is_checking, true) {
            return match orderer {
                // An operator was quicker. If nothing comes of that, it is the
                // job's turn; else its next run sees what runs.
                Orderer::Job(_) => self.next_reexec = Some(orderer),
                Orderer::Bootctl(_) => {
                    orderer.refuse("another change to a new program is under way".into());
                }
            };
        }
        let inbox = self.host.inbox.clone();
        let output = self.host.paths.tmp().join("reexec.out");
        let journal = self.host.journal.clone();
        let (config, config_path) = (self.host.config.clone(), self.host.config_path.clone());
        let checker = bootagent_kit::thread::spawn("reexec", move || {
            // Looking at the program needs a file: what a full disk would make
            // of that is not worth telling.
            let kept = journal.wait_for(|keeper| keeper.all_kept());
            let program = kept
                .map_err(anyhow::Error::msg)
                .and_then(|()| check_config(&config, &config_path))
                .and_then(|()| candidate::look(&inbox, &output));
            inbox.send(Message::Checked(Checked { orderer, program }));
        });
        if let Err(error) = checker {
            self.is_checking = false;
            log::error!("the new program cannot be looked at: {error}");
        }
    }

    /// Becomes the new program if it is one.
    pub(super) fn on_checked(&mut self, checked: &Checked) {
        self.is_checking = false;
        let failed = match &checked.program {
            Ok(program) => self.become_program(program, &checked.orderer),
            Err(error) => format!("{error:#}"),
        };
        self.go_on(&checked.orderer, &failed);
        if let Some(orderer) = self.next_reexec.take() {
            self.reexec(orderer);
        }
    }

    fn go_on(&self, orderer: &Orderer, why: &str) {
        let text = format!(
            "bootagent {} goes on, its new program is not used: {why}",
            host::VERSION
        );
        log::error!("{text}");
        self.host.event("reexec", "bootagent", text.clone());
        orderer.refuse(text);
    }

    /// Every child is known again: whoever ordered the change is told.
    pub(super) fn finish_handover(&mut self) {
        let Some(left) = self.handover.take() else {
            return;
        };
        // Whoever ended meanwhile is still there to be reaped; its signal may
        // have been taken by the program before us.
        self.reap();
        let text = match left.from.as_str() {
            host::VERSION => format!("bootagent {} was executed anew", host::VERSION),
            from => format!("bootagent {} runs in place of {from}", host::VERSION),
        };
        log::info!("{text}");
        if left.from != host::VERSION {
            self.host.event("upgrade", "bootagent", text.clone());
        }
        if let Some(caller) = left.caller {
            answer(&Arc::new(caller), &Reply::Done(text));
        }
    }

    /// Returns only when it failed, and why.
    fn become_program(&mut self, program: &Path, orderer: &Orderer) -> String {
        let _hold = match self.host.journal.hold(HOLD_DEADLINE) {
            Ok(hold) => hold,
            // The next one would know nothing of what is in memory alone.
            Err(why) => return why,
        };
        let _ = notify::reloading();
        let notify = self.children.iter().filter_map(|(name, child)| {
            let (socket, _) = child.notify.as_ref()?;
            Some((name.to_string(), socket.as_fd()))
        });
        let bequest = Bequest {
            lock: Some(self.lock.as_fd()),
            listener: Some(self.control.listener()),
            caller: match orderer {
                Orderer::Bootctl(connection) => Some(connection.as_fd()),
                Orderer::Job(_) => None,
            },
            notify: notify.collect::<BTreeMap<_, _>>(),
        };
        log::info!("executing {} in place", program.display());
        log::logger().flush();
        let error = bequest.exec(program);
        let _ = notify::ready();
        format!("{error:#}")
    }
}

/// What the next program would start with, where it passes its test with it:
/// what a SIGHUP does not take must not come by this way. One that is wrong is
/// left to the test, for it may be right for the new program alone.
fn check_config(config: &Config, path: &Path) -> anyhow::Result<()> {
    match config.load_again(path) {
        Err(error @ ReloadError::SaysNothing(_)) => Err(error.into()),
        Ok(read) if read.root != config.root => bail!(
            "{} names the root {}, and {} is in use: restart bootagent to change it",
            path.display(),
            read.root.display(),
            config.root.display()
        ),
        Ok(_) | Err(ReloadError::Config(_)) => Ok(()),
    }
}
