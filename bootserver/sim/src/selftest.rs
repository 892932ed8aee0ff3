//! `-T`: whether a run could be made; a line per check, and nothing is changed.

use std::fmt::Write;
use std::sync::Arc;

use crate::args::Options;
use crate::http::{Reuse, Target};
use crate::orders::Operator;
use crate::run::tokens;
use crate::{identities, process};

/// Checks; true unless something failed.
pub(crate) async fn test(options: &Options) -> anyhow::Result<bool> {
    let mut lines = Lines::default();
    let tokens = lines.take("tokens", tokens(options.tokens.as_deref()));
    let known = match &options.identities {
        Some(path) => lines.take("identities", identities::load(path)).flatten(),
        None => None,
    };
    let known = known.map_or(0, |known| known.machines.len());
    let has_token = tokens.as_ref().is_some_and(|it| it.enrolment.is_some());
    match (known, has_token) {
        (0, false) => lines.fail("no host is known and there is no enrolment token to enrol any"),
        (0, true) => lines.ok("no host is known yet; they will be enrolled"),
        (known, _) => lines.ok(&format!("{known} hosts are known")),
    }
    let cpu = process::cpu_seconds(&options.pids);
    lines.take("pids", cpu);
    if let Some(folder) = &options.data {
        lines.take("data", crate::disk::sync_time(folder));
    }
    let target = Target::resolve(&options.server, options.ca_file.as_deref()).await;
    if let Some(target) = lines.take("server", target) {
        let target = Arc::new(target);
        match ready(&target).await {
            Ok(200) => lines.ok(&format!("{} is ready", options.server)),
            Ok(status) => lines.warn(&format!("{}: /readyz says {status}", options.server)),
            Err(broken) => lines.warn(&format!("{}: {broken:?}", options.server)),
        }
        match tokens.and_then(|it| it.api) {
            None => lines.warn("no API token: nothing will be asked for in the end"),
            Some(token) => {
                let checked = Operator::new(target, &token).check().await;
                lines.take("API token", checked);
            }
        }
    }
    crate::print(&lines.text)?;
    Ok(lines.failures == 0)
}

async fn ready(target: &Target) -> Result<u16, crate::http::Broken> {
    let request = target.request("GET", "/readyz", |_| {}, b"", Reuse::Never);
    let (reply, _) = target.connect().await?.exchange(&request).await?;
    Ok(reply.status)
}

#[derive(Default)]
struct Lines {
    text: String,
    failures: u32,
}

impl Lines {
    fn ok(&mut self, message: &str) {
        self.line("ok", message);
    }

    fn warn(&mut self, message: &str) {
        self.line("warn", message);
    }

    fn fail(&mut self, message: &str) {
        self.failures += 1;
        self.line("fail", message);
    }

    fn take<T>(&mut self, what: &str, result: anyhow::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.ok(what);
                Some(value)
            }
            Err(error) => {
                self.fail(&format!("{error:#}"));
                None
            }
        }
    }

    fn line(&mut self, word: &str, message: &str) {
        writeln!(self.text, "{word:<6}{message}").expect("a string takes it");
    }
}
