//! Under which terms we pass on what others wrote.
//!
//! The rule: a program of ours contains only code whose licence asks for
//! nothing but its own text beside the program.

use cargo_metadata::DependencyKind;

use crate::{assert_none, package, reach_of_all};

/// Licences that ask for no more than notices. MPL-2.0 is left out on purpose:
/// it asks that changes to its files be published, which nobody here would
/// watch; a crate that has it needs a decision in ARCHITECTURE.md first.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an SPDX expression can be met with [`ALLOWED`] alone: of an OR one
/// side, of an AND both. AND binds closer; `/` is the OR of old crates.
fn is_met(expression: &str) -> Result<bool, String> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let (met, rest) = any(&words)?;
    match rest {
        [] => Ok(met),
        [word, ..] => Err(format!("{word:?} is not expected in {expression:?}")),
    }
}

type Parsed<'a> = Result<(bool, &'a [&'a str]), String>;

fn any<'a>(words: &'a [&'a str]) -> Parsed<'a> {
    let (mut met, mut rest) = all(words)?;
    while let ["OR", tail @ ..] = rest {
        let (other, after) = all(tail)?;
        (met, rest) = (met || other, after);
    }
    Ok((met, rest))
}

fn all<'a>(words: &'a [&'a str]) -> Parsed<'a> {
    let (mut met, mut rest) = one(words)?;
    while let ["AND", tail @ ..] = rest {
        let (other, after) = one(tail)?;
        (met, rest) = (met && other, after);
    }
    Ok((met, rest))
}

fn one<'a>(words: &'a [&'a str]) -> Parsed<'a> {
    match words {
        ["(", tail @ ..] => match any(tail)? {
            (met, [")", after @ ..]) => Ok((met, after)),
            _ => Err("a bracket is not closed".into()),
        },
        [licence, "WITH", exception, after @ ..] => {
            let whole = format!("{licence} WITH {exception}");
            Ok((ALLOWED.contains(&whole.as_str()), after))
        }
        [licence, after @ ..] if !["(", ")", "AND", "OR", "WITH"].contains(licence) => {
            Ok((ALLOWED.contains(licence), after))
        }
        _ => Err("a licence is missing".into()),
    }
}

#[test]
fn everything_we_pass_on_may_be_passed_on() {
    let mut wrong = Vec::new();
    for id in reach_of_all(&[DependencyKind::Normal, DependencyKind::Build]) {
        let package = package(&id);
        let shown = format!("{} {}", package.name, package.version);
        match package.license.as_deref().map(is_met) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => wrong.push(format!(
                "{shown}: {}",
                package.license.as_deref().unwrap_or_default()
            )),
            Some(Err(error)) => wrong.push(format!("{shown}: {error}")),
            None => wrong.push(format!("{shown}: no licence is named")),
        }
    }
    assert_none(&wrong, "licences that are not in ALLOWED");
}

#[test]
fn an_expression_is_met_by_one_side_of_or_and_both_of_and() {
    for met in [
        "MIT",
        "MIT OR Apache-2.0",
        "MIT/Apache-2.0",
        "GPL-3.0-only OR MIT",
        "MIT AND BSD-3-Clause",
        "(MIT OR GPL-2.0-only) AND Unicode-3.0",
        "GPL-2.0-only OR MIT AND ISC",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
    ] {
        assert_eq!(is_met(met), Ok(true), "{met}");
    }
    for not_met in [
        "GPL-3.0-only",
        "MPL-2.0",
        "MIT AND GPL-2.0-only",
        "GPL-2.0-only OR MIT AND LGPL-2.1-only",
        "(MIT OR ISC) AND OpenSSL",
        "MIT WITH Classpath-exception-2.0",
        "mit",
    ] {
        assert_eq!(is_met(not_met), Ok(false), "{not_met}");
    }
    for broken in ["", "MIT OR", "(MIT", "MIT)", "MIT ISC", "AND MIT"] {
        assert!(is_met(broken).is_err(), "{broken}");
    }
}
