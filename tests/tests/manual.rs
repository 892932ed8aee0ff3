//! The manual pages and completions say what the programs say of themselves.
//!
//! The one rule: an option, command or key that is added is in all of them, or
//! this fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::binaries;

fn packaging(path: &str) -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    repository.join("packaging").join(path)
}

fn read(path: &str) -> String {
    let path = packaging(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a program's `-h` lists: the first words of its lines, such as `-c`,
/// `-V` and `--version`, or `status`.
fn listed(program: &Path) -> Vec<String> {
    let output = Command::new(program).arg("-h").output();
    let help = String::from_utf8(output.expect("it can be run").stdout).expect("text");
    let mut found = Vec::new();
    for line in help.lines() {
        // Two blanks, what is typed, at least two more, what it does.
        let Some(typed) = line
            .strip_prefix("  ")
            .and_then(|line| line.split_once("  "))
        else {
            continue;
        };
        let words: Vec<&str> = typed.0.split([' ', ',']).collect();
        let options = words.iter().filter(|word| word.starts_with('-'));
        let first = words.first().filter(|word| !word.starts_with('-'));
        found.extend(options.chain(first).map(|word| (*word).to_owned()));
    }
    assert!(found.len() > 5, "{found:?}");
    found
}

/// The words a page defines with `.It`: options with their dashes, and what
/// is after the macro `other`.
fn defined(page: &str, other: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in page.lines().filter_map(|line| line.strip_prefix(".It ")) {
        let mut is_option = false;
        let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            match word {
                "Fl" => is_option = true,
                "Ar" | "Op" | "|" => is_option = false,
                _ if word == other => {
                    is_option = false;
                    found.extend(words.next().map(str::to_owned));
                }
                _ if is_option => found.push(format!("-{word}")),
                _ => {}
            }
        }
    }
    found
}

fn assert_same(what: &str, mut left: Vec<String>, mut right: Vec<String>) {
    for list in [&mut left, &mut right] {
        list.sort();
        list.dedup();
    }
    assert_eq!(left, right, "{what}");
}

#[test]
fn every_option_and_command_is_in_the_manual_and_nothing_else() {
    for (program, page) in [
        (binaries::bootagent(), "man/bootagent.8"),
        (binaries::bootctl(), "man/bootagentctl.1"),
    ] {
        let said = listed(&program);
        let mut described = defined(&read(page), "Cm");
        // An option of one command stands with that command.
        described.retain(|word| said.contains(word) || word != "-c");
        assert_same(page, said, described);
    }
}

#[test]
fn every_option_and_command_can_be_completed() {
    for (program, file) in [
        (binaries::bootagent(), "completion/bootagent.bash"),
        (binaries::bootctl(), "completion/bootagentctl.bash"),
    ] {
        let said = listed(&program);
        let name = file
            .trim_start_matches("completion/")
            .trim_end_matches(".bash");
        let offered = completions(file, &[name, ""]);
        for word in &said {
            // `--all` is offered behind `stop` only.
            if word != "--all" {
                assert!(
                    offered.contains(word),
                    "{word} is not in {file}: {offered:?}"
                );
            }
        }
        for word in offered {
            assert!(
                said.contains(&word),
                "{file} offers {word}, which -h does not know"
            );
        }
    }
}

/// What bash would offer for the last of these words.
fn completions(file: &str, words: &[&str]) -> Vec<String> {
    let script = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        "_$1"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["--norc", "-c", script, "bash"])
        .arg(packaging(file))
        .args(words)
        .output()
        .expect("bash can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    let offered = String::from_utf8(output.stdout).expect("text");
    offered
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_follows_a_word_is_completed_by_what_it_wants() {
    let offered = |words: &[&str]| completions("completion/bootagentctl.bash", words);
    assert_eq!(offered(&["bootagentctl", "rest"]), ["restart"]);
    assert_eq!(offered(&["bootagentctl", "--json", "do"]), ["doctor"]);
    assert_eq!(offered(&["bootagentctl", "stop", "--a"]), ["--all"]);
    assert_eq!(offered(&["bootagentctl", "help", "sh"]), ["sha256"]);
    let levels = completions("completion/bootagent.bash", &["bootagent", "-l", "d"]);
    assert_eq!(levels, ["debug"]);
}

/// Keys with their tables, such as `push.step`.
fn keys_of_example() -> Vec<String> {
    let (mut table, mut found) = (String::new(), Vec::new());
    for line in read("bootagent.toml").lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            table = format!("{name}.");
        }
        let setting = line.strip_prefix('#').unwrap_or(line);
        if let Some((key, _)) = setting.split_once(" = ")
            && !key.contains(' ')
            && !key.is_empty()
        {
            found.push(format!("{table}{key}"));
        }
    }
    found
}

fn keys_of_page() -> Vec<String> {
    let (mut table, mut found) = (String::new(), Vec::new());
    for line in read("man/bootagent.toml.5").lines() {
        let name = line
            .strip_prefix(".Ss [")
            .and_then(|line| line.strip_suffix(']'));
        if let Some(name) = name {
            table = format!("{name}.");
        }
        if let Some(key) = line.strip_prefix(".It Ic ") {
            found.push(format!("{table}{key}"));
        }
    }
    found
}

#[test]
fn every_key_of_the_configuration_is_in_the_manual_and_nothing_else() {
    let example = keys_of_example();
    assert!(example.contains(&"push.step".to_owned()), "{example:?}");
    // That the example is complete is checked beside the configuration.
    assert_same("bootagent.toml(5)", keys_of_page(), example);
}

#[test]
fn the_pages_a_unit_names_are_there() {
    let mut named = 0;
    for unit in ["bootagent.service", "bootagent-watcher.service"] {
        for word in read(unit).split(['=', ' ', '\n']) {
            let Some(page) = word.strip_prefix("man:") else {
                continue;
            };
            let page = page.replace('(', ".").replace(')', "");
            assert!(packaging("man").join(&page).is_file(), "{unit}: {page}");
            named += 1;
        }
    }
    assert!(named >= 2, "{named}");
}

#[test]
fn every_page_is_clean() {
    if Command::new("mandoc").arg("-h").output().is_err() {
        println!("SKIPPED: mandoc is missing; install the package mandoc");
        return;
    }
    let folder = std::fs::read_dir(packaging("man")).expect("pages");
    let pages: Vec<PathBuf> = folder
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(pages.len(), 3, "{pages:?}");
    for page in pages {
        let output = Command::new("mandoc")
            .args(["-T", "lint", "-W", "warning"])
            .arg(&page)
            .output()
            .expect("mandoc can be run");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
