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
        // A line that goes on with what the one before began has none.
        let first = words
            .first()
            .filter(|word| !word.starts_with('-') && !word.is_empty());
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
        (binaries::bootserver(), "bootserver/bootserver.8"),
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
        (binaries::bootserver(), "bootserver/bootserver.bash"),
    ] {
        let said = listed(&program);
        let name = file.split('/').next_back().unwrap_or_default();
        let name = name.trim_end_matches(".bash");
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
    let offered = |words: &[&str]| completions("bootserver/bootserver.bash", words);
    assert_eq!(
        offered(&["bootserver", "--json", "host", ""]),
        ["list", "show", "edit", "export", "tag", "delete"]
    );
    assert_eq!(
        offered(&["bootserver", "token", "create", "e"]),
        ["enrolment"]
    );
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
fn every_key_of_the_servers_example_is_understood() {
    // As it is, and with every line that is commented out.
    let example = read("bootserver/config.toml");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    for text in [example.clone(), example.replace("\n#", "\n")] {
        let said = the_server_tests(&text, &data, folder.path());
        assert!(said.contains("ok    configuration"), "{said}");
    }
    let wrong = the_server_tests("liste = 1", &data, folder.path());
    assert!(wrong.contains("fail  configuration"), "{wrong}");
}

/// What `-T` says of a configuration.
fn the_server_tests(text: &str, data: &Path, folder: &Path) -> String {
    let file = folder.join("config.toml");
    // Lines of prose are none of settings; two ways to name a database are one too many.
    let settings = text.lines().filter(|line| {
        let word = line.split(' ').next().unwrap_or_default();
        let is_setting =
            line.contains(" = ") && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        (is_setting && !["database_file", "tls_cert", "tls_key"].contains(&word))
            || line.starts_with('[')
    });
    let settings: Vec<&str> = settings.collect();
    std::fs::write(&file, settings.join("\n")).expect("written");
    let output = Command::new(binaries::bootserver())
        .args(["-T", "-c"])
        .arg(&file)
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .arg("--database")
        .arg(folder.join("db"))
        .output()
        .expect("it can be run");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_pages_a_unit_names_are_there() {
    let mut named = 0;
    for unit in [
        "bootagent.service",
        "bootagent-watcher.service",
        "bootserver/bootserver.service",
    ] {
        for word in read(unit).split(['=', ' ', '\n']) {
            let Some(page) = word.strip_prefix("man:") else {
                continue;
            };
            let page = page.replace('(', ".").replace(')', "");
            let folders = ["man", "bootserver"].map(packaging);
            let is_there = folders.iter().any(|folder| folder.join(&page).is_file());
            assert!(is_there, "{unit}: {page}");
            named += 1;
        }
    }
    assert!(named >= 3, "{named}");
}

#[test]
fn every_page_is_clean() {
    if Command::new("mandoc").arg("-h").output().is_err() {
        println!("SKIPPED: mandoc is missing; install the package mandoc");
        return;
    }
    let folder = std::fs::read_dir(packaging("man")).expect("pages");
    let mut pages: Vec<PathBuf> = folder
        .map(|entry| entry.expect("an entry").path())
        .collect();
    pages.push(packaging("bootserver/bootserver.8"));
    assert_eq!(pages.len(), 4, "{pages:?}");
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
