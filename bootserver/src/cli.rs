//! The command line of operators: a client of the API, like the console.
//!
//! In reading order: `verb` lists what can be said, `words` reads what was
//! said, `place` finds the server and the token, `client` asks it, `deed` does
//! each verb, `show` tells what came of it. The one rule: nothing here knows
//! the database; what the API does not offer, no verb does.

mod client;
mod deed;
mod failure;
mod place;
mod show;
mod verb;
mod words;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use client::Client;
use failure::Failure;
use words::Said;

pub use show::visible;
pub use verb::help;

/// Whether a command line is for us: it begins with a noun, or with an option
/// that only we have.
pub fn is_meant(words: &[OsString]) -> bool {
    let first = words.first().and_then(|word| word.to_str());
    let first = first.unwrap_or_default();
    let option = first.split('=').next().unwrap_or_default();
    verb::VERBS.iter().any(|verb| verb.noun == first)
        || ["--server", "--token-file", "--ca-file", "--json"].contains(&option)
}

/// Does what was said, noun and all that follows it. Failures are told on
/// standard error, and what kind they are of by the exit code.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let said = match words::parse(words) {
        Ok(Some(said)) => said,
        Ok(None) => return ended(show::print(&help())),
        Err(failure) => return ended(Err(failure)),
    };
    let done = perform(&said);
    if let (true, Err(Failure::Refused(refusal))) = (said.as_json, &done) {
        // One document, also then.
        let _ = show::print(&format!("{}\n", refusal.document));
    }
    ended(done)
}

fn perform(said: &Said) -> Result<(), Failure> {
    let client = Client::new(place::find(said)?)?;
    (said.verb.deed)(&client, said)
}

fn ended(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = show::visible(&failure.to_string());
            let _ = writeln!(std::io::stderr(), "bootserver: {text}");
            ExitCode::from(failure.exit_code())
        }
    }
}
