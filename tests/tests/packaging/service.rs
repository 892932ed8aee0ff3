//! BootAgent's own package through its life: install, upgrade, removal.

use super::*;

/// What the package puts on a host: owner, group, mode, path.
const LAYOUT: &str = "\
root:root 755 /etc/bootagent
root:root 755 /usr/bin/bootagentctl
root:root 755 /usr/lib/bootagent
root:root 755 /usr/lib/bootagent/agents
root:root 644 /usr/lib/systemd/system/bootagent-watcher.service
root:root 644 /usr/lib/systemd/system/bootagent.service
root:root 644 /usr/lib/tmpfiles.d/bootagent.conf
root:root 755 /usr/sbin/bootagent
root:root 644 /usr/share/bash-completion/completions/bootagent
root:root 644 /usr/share/bash-completion/completions/bootagentctl
root:root 644 /usr/share/man/man1/bootagentctl.1.gz
root:root 644 /usr/share/man/man5/bootagent.toml.5.gz
root:root 644 /usr/share/man/man8/bootagent.8.gz
root:root 755 /var/lib/bootagent
root:root 755 /var/log/bootagent
";

fn the_host_is_right(machine: &Machine, version: &str) {
    let paths: Vec<_> = LAYOUT
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    let found = run(
        machine,
        &format!("stat -c '%U:%G %a %n' {}", paths.join(" ")),
    );
    assert_eq!(found, LAYOUT);
    let user = run(
        machine,
        "getent passwd bootagent | cut -d: -f6,7; id -Gn bootagent",
    );
    assert_eq!(user, "/var/lib/bootagent:/usr/sbin/nologin\nbootagent\n");
    run(machine, "test \"$(id -u bootagent)\" -lt 1000");
    let link = run(machine, "readlink /usr/bin/bootctl");
    assert_eq!(link, "bootagentctl\n");
    let said = run(machine, "/usr/sbin/bootagent -V");
    assert!(said.contains(version), "{said}");
}

#[test]
fn an_rpm_is_installed_upgraded_and_erased_where_no_systemd_runs() {
    let Some(machine) = machine(First::Shell) else {
        return;
    };
    let said = run(
        &machine,
        &format!("rpm -i /root/bootagent-{OLD}.x86_64.rpm"),
    );
    assert!(
        said.contains("systemd does not run here; start /usr/sbin/bootagent"),
        "{said}"
    );
    assert!(said.contains("to enrol this host, name the file"), "{said}");
    the_host_is_right(&machine, OLD);
    assert_eq!(run(&machine, "rpm -V bootagent"), "");
    // An image made in a chroot starts it at its first boot.
    run(&machine, "systemctl is-enabled bootagent");

    run(&machine, "echo known > /var/lib/bootagent/metafile.json");
    run(
        &machine,
        "setsid sleep 600 >/dev/null 2>&1 & echo $! > /root/marker",
    );
    let said = run(
        &machine,
        &format!("rpm -U /root/bootagent-{NEW}.x86_64.rpm"),
    );
    assert!(!said.contains("to enrol"), "{said}");
    the_host_is_right(&machine, NEW);
    assert_eq!(
        run(&machine, "rpm -V bootagent; rpm -q bootagent"),
        format!("bootagent-{NEW}.x86_64\n")
    );
    run(&machine, "kill -0 $(cat /root/marker)");

    run(&machine, "rpm -e bootagent");
    run(&machine, "test ! -e /usr/sbin/bootagent");
    run(&machine, "test ! -L /usr/bin/bootctl");
    run(
        &machine,
        "test ! -e /usr/lib/systemd/system/bootagent.service",
    );
    run(&machine, "! find /etc/systemd -name 'bootagent*' | grep .");
    // Its identity stays: rpm knows no purge.
    assert_eq!(
        run(&machine, "cat /var/lib/bootagent/metafile.json"),
        "known\n"
    );
}

#[test]
fn a_deb_is_installed_upgraded_removed_and_purged_where_no_systemd_runs() {
    let Some(machine) = machine(First::Shell) else {
        return;
    };
    let said = run(
        &machine,
        &format!("dpkg -i /root/bootagent_{OLD}_amd64.deb"),
    );
    assert!(said.contains("systemd does not run here"), "{said}");
    the_host_is_right(&machine, OLD);
    assert_eq!(run(&machine, "dpkg -V bootagent"), "");

    run(&machine, "echo known > /var/lib/bootagent/metafile.json");
    // An operator's own decision outlives an upgrade.
    run(&machine, "systemctl disable bootagent");
    run(
        &machine,
        &format!("dpkg -i /root/bootagent_{NEW}_amd64.deb"),
    );
    the_host_is_right(&machine, NEW);
    run(&machine, "! systemctl is-enabled bootagent");

    run(&machine, "dpkg -r bootagent");
    run(&machine, "test ! -e /usr/sbin/bootagent");
    run(&machine, "test ! -L /usr/bin/bootctl");
    assert_eq!(
        run(&machine, "cat /var/lib/bootagent/metafile.json"),
        "known\n"
    );

    // Removed and not purged: dpkg gives the next installation an old version.
    let said = run(
        &machine,
        &format!("dpkg -i /root/bootagent_{NEW}_amd64.deb"),
    );
    assert!(!said.contains("to enrol"), "{said}");
    run(&machine, "systemctl is-enabled bootagent");

    run(
        &machine,
        "echo 'step = 1' > /etc/bootagent/bootagent.toml; dpkg -P bootagent",
    );
    run(
        &machine,
        "test ! -e /var/lib/bootagent -a ! -e /var/log/bootagent -a ! -e /etc/bootagent",
    );
    run(
        &machine,
        "! dpkg-query -W bootagent; ! find /etc/systemd -name 'bootagent*' | grep .",
    );
}

#[test]
fn the_unit_is_clean_and_its_start_limit_is_off() {
    let Some(machine) = machine(First::Systemd) else {
        return;
    };
    run(
        &machine,
        &format!("rpm -i /root/bootagent-{OLD}.x86_64.rpm"),
    );
    // The machine has no man; the pages are looked for in tests/tests/manual.rs.
    let said = run(
        &machine,
        "systemd-analyze verify --man=no /usr/lib/systemd/system/bootagent.service 2>&1
         systemd-analyze verify --man=no /usr/lib/systemd/system/bootagent-watcher.service 2>&1 | grep -v bootagent.saved || true",
    );
    assert_eq!(said, "");
    let properties = "Type,Restart,KillMode,StartLimitIntervalUSec,WatchdogUSec,OOMScoreAdjust,\
        NotifyAccess,Delegate,RuntimeDirectory,UnitFileState";
    let shown = run(
        &machine,
        &format!("systemctl show bootagent -p {properties} | sort"),
    );
    assert_eq!(
        shown,
        "Delegate=no\nKillMode=process\nNotifyAccess=main\nOOMScoreAdjust=-900\nRestart=always\n\
         RuntimeDirectory=\nStartLimitIntervalUSec=0\nType=notify\nUnitFileState=enabled\n\
         WatchdogUSec=3min\n"
    );
    assert_eq!(
        run(&machine, "stat -c '%U:%G %a' /run/bootagent"),
        "root:root 755\n"
    );
}

#[test]
fn an_erasure_ends_whoever_executes_the_packaged_file_and_nobody_else() {
    let Some(machine) = machine(First::Shell) else {
        return;
    };
    run(
        &machine,
        &format!("rpm -i /root/bootagent-{OLD}.x86_64.rpm"),
    );
    // Stands for a daemon that no systemd started, whose file an upgrade has
    // replaced since; the other one is called alike and lies elsewhere.
    run(
        &machine,
        "cp /bin/sleep /root/bootagent; mv /usr/sbin/bootagent /root/kept
         cp /bin/sleep /usr/sbin/bootagent
         setsid /usr/sbin/bootagent 600 >/dev/null 2>&1 & echo $! > /root/ours
         setsid /root/bootagent 600 >/dev/null 2>&1 & echo $! > /root/other
         sleep 0.2; rm /usr/sbin/bootagent; mv /root/kept /usr/sbin/bootagent
         readlink /proc/$(cat /root/ours)/exe | grep deleted",
    );
    run(&machine, "rpm -e bootagent");
    run(
        &machine,
        "! kill -0 $(cat /root/ours) && kill -0 $(cat /root/other)",
    );
}
