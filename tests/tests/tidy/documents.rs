//! That the documents tell of what is there: paths, links, commands.
//!
//! In ARCHITECTURE.md every code span with a slash in it is a path of the
//! repository, unless it begins with `/`: then it is one of a host, or a route
//! of the server. It names folders, files and crates, never functions, because
//! those change faster than anybody reads the map again.

use std::path::Path;

use crate::{assert_none, files_ending_in, metadata, read, root, shown};

/// What stands between backticks, outside of fenced blocks.
fn code_spans(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut spans = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let inside = line.split('`').skip(1).step_by(2);
            spans.extend(inside.map(str::to_owned));
        }
    }
    spans
}

/// Whether a code span claims that something of the repository is there.
fn is_path(span: &str) -> bool {
    const ENDINGS: &[&str] = &[".md", ".rs", ".toml", ".sh", ".json", ".lock"];
    // A name with an ending but no folder may be a file of a host.
    let at_the_root = !span.contains('/')
        && ENDINGS.iter().any(|end| span.ends_with(end))
        && span.starts_with(|c: char| c.is_ascii_uppercase());
    (span.contains('/') || at_the_root)
        && !span.starts_with('/')
        && !span.contains(char::is_whitespace)
        && !span.contains("://")
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let after = text.split("](").skip(1);
    let targets = after.filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn every_path_in_the_architecture_exists() {
    let spans = code_spans(&read(&root().join("ARCHITECTURE.md")));
    let paths: Vec<_> = spans.iter().filter(|span| is_path(span)).collect();
    assert!(paths.len() > 20, "only {} paths were found", paths.len());
    let missing = paths.iter().filter(|path| !root().join(path).exists());
    let missing: Vec<_> = missing.map(|path| (**path).clone()).collect();
    assert_none(&missing, "ARCHITECTURE.md names what is not there");
}

#[test]
fn every_trap_is_shown_by_tests_and_files_that_are_there() {
    let spans = code_spans(&read(&root().join("tests/TRAPS.md")));
    let sources: Vec<_> = files_ending_in(".rs").iter().map(|f| read(f)).collect();
    let is_there = |span: &str| match is_path(span) {
        true => root().join(span).exists(),
        false => sources.iter().any(|s| s.contains(&format!("fn {span}("))),
    };
    let of_a_test = |span: &&String| is_path(span) || span.matches('_').count() > 2;
    let named: Vec<_> = spans.iter().filter(of_a_test).collect();
    assert!(named.len() > 40, "only {} were found", named.len());
    let missing = named.iter().filter(|span| !is_there(span));
    let missing: Vec<_> = missing.map(|span| (**span).clone()).collect();
    assert_none(&missing, "tests/TRAPS.md names what is not there");
}

#[test]
fn the_architecture_names_every_crate_and_no_function() {
    let spans = code_spans(&read(&root().join("ARCHITECTURE.md")));
    let mut wrong = Vec::new();
    for member in metadata().workspace_packages() {
        let manifest = member.manifest_path.as_std_path();
        let folder = shown(manifest.parent().expect("a manifest lies in a folder"));
        if !spans
            .iter()
            .any(|span| span.trim_end_matches('/') == folder)
        {
            wrong.push(format!("{folder} is not on the map"));
        }
    }
    let functions = spans.iter().filter(|span| span.ends_with("()"));
    wrong.extend(functions.map(|span| format!("{span} is a function")));
    assert_none(&wrong, "the map of ARCHITECTURE.md");
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in files_ending_in(".md") {
        let folder = document.parent().expect("a file lies in a folder");
        for link in links(&read(&document)) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            if !folder.join(target).exists() {
                wrong.push(format!("{}: {link}", shown(&document)));
            }
        }
    }
    assert!(seen > 5, "only {seen} links were found");
    assert_none(&wrong, "dead links");
}

/// What a reader would type: the lines of fenced blocks that begin with `./`.
fn commands(document: &Path) -> Vec<String> {
    let text = read(document);
    let lines = text.lines().map(str::trim);
    let typed = lines.filter(|line| line.starts_with("./"));
    let bare = typed.map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
    bare.collect()
}

#[test]
fn both_readmes_give_the_same_commands_and_links_and_they_are_there() {
    let (english, chinese) = (root().join("README.md"), root().join("README.zh-CN.md"));
    assert_eq!(commands(&chinese), commands(&english));
    let other = |link: &String| !link.starts_with("README");
    let links_of = |path: &Path| -> Vec<String> {
        let mut all: Vec<_> = links(&read(path)).into_iter().filter(other).collect();
        all.sort();
        all
    };
    assert_eq!(links_of(&chinese), links_of(&english));
    let commands = commands(&english);
    assert!(commands.len() >= 2, "README.md gives no commands");
    let mut missing = Vec::new();
    for command in commands {
        let program = command.split_whitespace().next().unwrap_or_default();
        if !root().join(program).is_file() {
            missing.push(program.to_owned());
        }
    }
    assert_none(&missing, "README.md names programs that are not there");
}

#[test]
fn paths_links_and_spans_are_found_where_they_are() {
    let text = "see `bootagent/core` and `/etc/passwd`\n```\n`no/span`\n```\n`a b/c`, [x](y.md#z)";
    assert_eq!(code_spans(text), ["bootagent/core", "/etc/passwd", "a b/c"]);
    assert_eq!(links(text), ["y.md#z"]);
    for path in [
        "bootagent/core",
        "protocol/PROTOCOL.md",
        "Cargo.toml",
        "contrib/",
    ] {
        assert!(is_path(path), "{path}");
    }
    for other in [
        "/agent/status",
        "http://a/b",
        "bootagent.toml",
        "a b/c",
        "READY=1",
    ] {
        assert!(!is_path(other), "{other}");
    }
}
