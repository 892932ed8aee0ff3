//! The packages of a sub-agent: rpm, deb and bundle hold the same folder.

use std::fs;

use e2e::binaries;
use tempfile::TempDir;

use super::*;

const FOLDER: &str = "/usr/lib/bootagent/agents/flux-push";

#[test]
fn a_sub_agents_rpm_installs_and_goes() {
    let Some(machine) = machine(First::Shell) else {
        return;
    };
    run(
        &machine,
        &format!("rpm -i /root/flux-push-{AGENT}.x86_64.rpm"),
    );
    the_folder_is_right(&machine);
    assert_eq!(run(&machine, "rpm -V flux-push"), "");
    run(&machine, "rpm -e flux-push");
    run(&machine, "test ! -e /usr/lib/bootagent");
}

#[test]
fn a_sub_agents_deb_installs_and_goes() {
    let Some(machine) = machine(First::Shell) else {
        return;
    };
    run(
        &machine,
        &format!("dpkg -i /root/flux-push_{AGENT}_amd64.deb"),
    );
    the_folder_is_right(&machine);
    assert_eq!(run(&machine, "dpkg -V flux-push"), "");
    run(&machine, "mkdir -p /var/lib/bootagent/agents/flux-push");
    run(&machine, "dpkg -r flux-push; test ! -e /usr/lib/bootagent");
    run(&machine, "test -d /var/lib/bootagent/agents/flux-push");
    run(
        &machine,
        "dpkg -P flux-push; test ! -e /var/lib/bootagent/agents/flux-push",
    );
}

#[test]
fn it_lives_beside_bootagents_own_package() {
    let Some(machine) = machine(First::Shell) else {
        return;
    };
    let rpms = format!("/root/bootagent-{OLD}.x86_64.rpm /root/flux-push-{AGENT}.x86_64.rpm");
    run(&machine, &format!("rpm -i {rpms}"));
    assert_eq!(run(&machine, "rpm -V bootagent flux-push"), "");
    run(&machine, "rpm -e bootagent");
    the_folder_is_right(&machine);
}

fn the_folder_is_right(machine: &Machine) {
    let owner = run(
        machine,
        &format!("stat -c '%U:%G %a' {FOLDER} {FOLDER}/agent.json {FOLDER}/flux-push"),
    );
    assert_eq!(owner, "root:root 755\nroot:root 644\nroot:root 755\n");
    let manifest: serde_json::Value =
        serde_json::from_str(&run(machine, &format!("cat {FOLDER}/agent.json"))).expect("JSON");
    assert_eq!(manifest["name"], "flux-push");
    assert_eq!(manifest["version"], AGENT);
    // The program is what the manifest runs, and it runs here.
    let exec = manifest["exec"][0].as_str().expect("a program").to_owned();
    run(machine, &format!("cd {FOLDER} && '{exec}' -V"));
    assert_eq!(
        run(machine, "getent passwd bootagent | cut -d: -f6,7"),
        "/var/lib/bootagent:/usr/sbin/nologin\n"
    );
}

#[test]
fn what_an_agent_wants_of_the_kernel_comes_and_goes_with_its_packages() {
    if let Some(reason) = obstacle() {
        println!("SKIPPED: {reason}");
        return;
    }
    let machine = Machine::start(First::Shell).expect("a machine starts");
    let programs = TempDir::new().expect("a folder");
    succeed(
        Command::new("objcopy")
            .arg("--strip-all")
            .arg(binaries::mtr_prober())
            .arg(programs.path().join("mtr-prober")),
    );
    let made = packages_of("mtr-prober", programs.path(), AGENT);
    for package in &made[..2] {
        let target = format!("/root/{}", file_name(package));
        machine.put(package, &target).expect("copied");
    }
    let wanted = fs::read_to_string(repository().join("subagents/mtr-prober/sysctl.conf"));
    let wanted = wanted.expect("it is there");
    let installed = "/usr/lib/sysctl.d/50-mtr-prober.conf";
    for (install, remove) in [
        (
            format!("dpkg -i /root/mtr-prober_{AGENT}_amd64.deb"),
            "dpkg -r mtr-prober",
        ),
        (
            // dpkg's own knows the libraries; the rpm database here stands for CentOS 7.
            format!("rpm -i --nodeps /root/mtr-prober-{AGENT}.x86_64.rpm"),
            "rpm -e mtr-prober",
        ),
    ] {
        run(&machine, &install);
        assert_eq!(run(&machine, &format!("cat {installed}")), wanted);
        run(&machine, &format!("{remove}; test ! -e {installed}"));
    }
    let listing = succeed(Command::new("tar").arg("-tzf").arg(&made[2]));
    assert_eq!(listing, "./\n./agent.json\n./mtr-prober\n");
}

#[test]
fn the_bundle_holds_plain_files_with_the_manifest_at_its_top() {
    let bundle = &made().agent[2];
    let listing = succeed(Command::new("tar").arg("-tvzf").arg(bundle));
    let mut names = Vec::new();
    for line in listing.lines() {
        let kind = line.chars().next();
        assert!(matches!(kind, Some('-' | 'd')), "{line}");
        let mode = &line[1..10];
        assert!(
            !mode.contains(['s', 'S', 't', 'T']) && &mode[7..8] != "w",
            "{line}"
        );
        assert!(line.contains(" 0/0 "), "{line}");
        names.push(line.split_whitespace().last().expect("a name").to_owned());
    }
    assert!(names.contains(&"./agent.json".to_owned()), "{names:?}");
    assert!(names.contains(&"./flux-push".to_owned()), "{names:?}");
    let manifest = succeed(
        Command::new("tar")
            .arg("-xzOf")
            .arg(bundle)
            .arg("./agent.json"),
    );
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(manifest["version"], AGENT);
}
