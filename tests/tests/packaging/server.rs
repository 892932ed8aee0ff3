//! bootserver's packages through their life, under systemd: who runs it, what
//! it may do, what an upgrade and a removal leave.
//!
//! The program is the one the other tests run, packaged as it is: building
//! it as for a release takes minutes and shows nothing more here.

use std::time::Duration;

use e2e::binaries;
use tempfile::TempDir;

use super::*;

/// A start of the service, and its end.
const START: Duration = Duration::from_secs(60);
/// What `systemd-analyze security` may say at most.
const MOST_EXPOSED: f32 = 3.0;

/// Rpm and deb, in that order.
fn server_packages(programs: &Path) -> Vec<PathBuf> {
    let output = Command::new(repository().join("contrib/package.sh"))
        .args(["bootserver", OLD, "all"])
        .env("BOOT_PROGRAMS", programs)
        .stdin(Stdio::null())
        .output()
        .expect("package.sh can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.lines().map(PathBuf::from).collect()
}

#[track_caller]
fn wait(machine: &Machine, condition: &str) {
    if let Err(error) = machine.wait_until(condition, START) {
        let log = machine.run("journalctl -u bootserver --no-pager -n 20");
        panic!(
            "{error:#}\n{}",
            log.map(|log| log.output).unwrap_or_default()
        );
    }
}

/// The process that serves, once it does.
#[track_caller]
fn serving(machine: &Machine) -> String {
    wait(machine, "systemctl is-active bootserver");
    run(machine, "systemctl show -p MainPID --value bootserver")
}

#[test]
fn the_server_is_installed_confined_upgraded_and_removed_and_its_data_stays() {
    if let Some(reason) = obstacle() {
        println!("SKIPPED: {reason}");
        return;
    }
    let programs = TempDir::new().expect("a folder");
    succeed(
        Command::new("objcopy")
            .arg("--strip-all")
            .arg(binaries::bootserver())
            .arg(programs.path().join("bootserver")),
    );
    let machine = Machine::start(First::Systemd).expect("a machine starts");
    let made = server_packages(programs.path());
    scriptlets_are_clean(&made[1], programs.path());
    for package in &made {
        let target = format!("/root/{}", file_name(package));
        machine.put(package, &target).expect("copied");
    }

    let said = run(
        &machine,
        &format!("dpkg -i /root/bootserver_{OLD}_amd64.deb"),
    );
    assert!(said.contains("first-start.txt"), "{said}");
    let first = serving(&machine);
    it_runs_as_it_should(&machine);
    it_is_confined(&machine);

    // The same version again takes the way of an upgrade: it lets requests end,
    // keeps the configuration, and comes back.
    run(&machine, "echo '# mine' >> /etc/bootserver/config.toml");
    run(
        &machine,
        &format!("dpkg -i /root/bootserver_{OLD}_amd64.deb </dev/null"),
    );
    wait(
        &machine,
        &format!(
            "p=$(systemctl show -p MainPID --value bootserver); test \"$p\" != {} -a \"$p\" != 0",
            first.trim()
        ),
    );
    serving(&machine);
    run(
        &machine,
        "journalctl -u bootserver | grep 'bootserver ended'",
    );
    run(&machine, "grep '^# mine' /etc/bootserver/config.toml");
    run(&machine, "bootserver token list enrolment | grep kept");
    // Who has stopped it finds it stopped.
    run(&machine, "systemctl stop bootserver");
    run(
        &machine,
        &format!("dpkg -i /root/bootserver_{OLD}_amd64.deb </dev/null"),
    );
    run(
        &machine,
        "test \"$(systemctl is-active bootserver)\" = inactive",
    );

    // Removed and installed again it is as new, also where it was stopped before.
    run(
        &machine,
        &format!("dpkg -r bootserver && dpkg -i /root/bootserver_{OLD}_amd64.deb"),
    );
    serving(&machine);
    run(&machine, "systemctl is-enabled bootserver");

    let said = run(&machine, "dpkg -P bootserver");
    assert!(said.contains("are kept in /var/lib/bootserver"), "{said}");
    run(
        &machine,
        "test ! -e /usr/bin/bootserver -a ! -e /etc/bootserver",
    );
    run(
        &machine,
        "systemctl --failed --no-legend | grep bootserver && exit 1 || true",
    );

    // The other kind of package goes on with the data. This machine's rpm knows the glibc of CentOS 7, and
    // the program was built for a newer one: that alone is overruled.
    run(
        &machine,
        &format!("rpm -i --nodeps /root/bootserver-{OLD}.x86_64.rpm"),
    );
    let first = serving(&machine);
    it_runs_as_it_should(&machine);
    assert_eq!(run(&machine, "rpm -V --nodeps bootserver"), "");
    run(&machine, "bootserver token list enrolment | grep kept");
    run(&machine, "echo '# mine' >> /etc/bootserver/config.toml");
    run(
        &machine,
        &format!("rpm -U --nodeps --replacepkgs /root/bootserver-{OLD}.x86_64.rpm"),
    );
    wait(
        &machine,
        &format!(
            "p=$(systemctl show -p MainPID --value bootserver); test \"$p\" != {} -a \"$p\" != 0",
            first.trim()
        ),
    );
    run(&machine, "grep '^# mine' /etc/bootserver/config.toml");
    let said = run(&machine, "rpm -e bootserver 2>&1");
    assert!(said.contains("are kept in /var/lib/bootserver"), "{said}");
    run(
        &machine,
        "! pgrep -x bootserver; test -s /var/lib/bootserver/bootserver.db",
    );
}

/// The rpm's are made of the same steps.
fn scriptlets_are_clean(deb: &Path, folder: &Path) {
    if !(have("shellcheck", "shellcheck") && have("dash", "dash")) {
        return;
    }
    let control = folder.join("control");
    succeed(Command::new("dpkg-deb").arg("-e").arg(deb).arg(&control));
    for moment in ["preinst", "postinst", "prerm", "postrm"] {
        build::check_scriptlet(&control.join(moment));
    }
}

/// As its own user, known to root of the machine by its socket alone.
fn it_runs_as_it_should(machine: &Machine) {
    let found = run(
        machine,
        "stat -c '%U:%G %a %n' /etc/bootserver /etc/bootserver/config.toml /run/bootserver/api.sock \
         /usr/bin/bootserver /var/lib/bootserver /var/lib/bootserver/bootserver.db",
    );
    assert_eq!(
        found,
        "root:root 755 /etc/bootserver\n\
         root:bootserver 640 /etc/bootserver/config.toml\n\
         bootserver:bootserver 600 /run/bootserver/api.sock\n\
         root:root 755 /usr/bin/bootserver\n\
         bootserver:bootserver 700 /var/lib/bootserver\n\
         bootserver:bootserver 600 /var/lib/bootserver/bootserver.db\n"
    );
    let listed = run(machine, "bootserver host list");
    assert!(listed.starts_with("HOSTNAME"), "{listed}");
    run(
        machine,
        "bootserver token list enrolment | grep kept || bootserver token create enrolment kept",
    );
    let as_it = "runuser -u bootserver -- bootserver";
    let tested = run(
        machine,
        &format!("{as_it} -T -c /etc/bootserver/config.toml"),
    );
    assert!(tested.contains("a server runs"), "{tested}");
    // Another user is nobody there.
    run(machine, "! runuser -u nobody -- bootserver host list");
}

fn it_is_confined(machine: &Machine) {
    let said = run(
        machine,
        "systemd-analyze verify --man=no /usr/lib/systemd/system/bootserver.service 2>&1",
    );
    assert_eq!(said, "");
    let said = run(
        machine,
        "systemd-analyze security --no-pager bootserver.service 2>&1",
    );
    let level = said
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for bootserver.service: "))
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f32>().ok());
    let level = level.unwrap_or_else(|| panic!("no level: {said}"));
    assert!(level <= MOST_EXPOSED, "{level}: {said}");
    println!("exposure level {level}");
}
