//! The name bootctl: a link to our bootagentctl where it is free, and never
//! taken from systemd, whose packages own it on many systems, or from anybody.

use super::*;

/// Another package's program, manual page and completion, where systemd's are.
const OTHERS_FILES: &str = "/usr/bin/bootctl /usr/share/man/man1/bootctl.1.gz \
    /usr/share/bash-completion/completions/bootctl";

/// A package manager.
struct Manager {
    install: &'static str,
    upgrade: &'static str,
    remove: &'static str,
    verify: &'static str,
    owner: &'static str,
    /// Makes the other package, from the files in /root/stage.
    make: &'static str,
    other: &'static str,
    file: fn(&str) -> String,
}

const RPM: Manager = Manager {
    install: "rpm -i",
    upgrade: "rpm -U --replacepkgs",
    remove: "rpm -e",
    verify: "rpm -V",
    owner: "rpm -qf",
    make: "cat > /root/other.spec <<'END'
Name: other
Version: 1
Release: 1
Summary: other
License: none
%description
other
%install
cp -a /root/stage/. %{buildroot}/
%files
/usr/bin/bootctl
/usr/share/man/man1/bootctl.1.gz
/usr/share/bash-completion/completions/bootctl
END
rpmbuild --quiet -bb --define '_rpmdir /root' --define '_rpmfilename other.rpm' \
    --define 'debug_package %{nil}' --define '__os_install_post %{nil}' \
    --define '__requires_exclude .*' --define '_binary_payload w9.gzdio' /root/other.spec",
    other: "/root/other.rpm",
    file: |version| format!("/root/bootagent-{version}.x86_64.rpm"),
};

const DEB: Manager = Manager {
    install: "dpkg -i",
    upgrade: "dpkg -i",
    remove: "dpkg -r",
    verify: "dpkg -V",
    owner: "dpkg -S",
    make: "cp -a /root/stage /root/deb && mkdir /root/deb/DEBIAN
printf 'Package: other\\nVersion: 1\\nArchitecture: all\\nMaintainer: other\\nDescription: other\\n' \
    > /root/deb/DEBIAN/control
dpkg-deb -b /root/deb /root/other.deb",
    other: "/root/other.deb",
    file: |version| format!("/root/bootagent_{version}_amd64.deb"),
};

/// The other package's files are what it brought, and still its own.
#[track_caller]
fn the_other_is_whole(machine: &Machine, manager: &Manager) {
    for file in OTHERS_FILES.split_whitespace() {
        let found = run(machine, &format!("test ! -L {file} && cat {file}"));
        assert_eq!(found, "theirs\n", "{file}");
        let owner = run(machine, &format!("{} {file}", manager.owner));
        assert!(owner.starts_with("other"), "{file}: {owner}");
    }
}

/// Our own program is ours, whatever the short name is.
#[track_caller]
fn ours_is_whole(machine: &Machine, manager: &Manager, version: &str) {
    let said = run(machine, &format!("{} bootagent", manager.verify));
    assert_eq!(said, "");
    let said = run(machine, "bootagentctl -V; bootagentctl -h | head -1");
    let first = format!("bootagentctl {version}\nUsage: bootagentctl ");
    assert!(said.starts_with(&first), "{said}");
}

#[test]
fn an_rpm_takes_the_name_bootctl_from_nobody() {
    takes_the_name_from_nobody(&RPM);
}

#[test]
fn a_deb_takes_the_name_bootctl_from_nobody() {
    takes_the_name_from_nobody(&DEB);
}

fn takes_the_name_from_nobody(manager: &Manager) {
    let Some(machine) = machine(First::Shell) else {
        return;
    };
    let Manager {
        install,
        upgrade,
        remove,
        other,
        ..
    } = manager;
    let (old, new) = ((manager.file)(OLD), (manager.file)(NEW));
    run(
        &machine,
        &format!(
            "for file in {OTHERS_FILES}; do
                mkdir -p /root/stage$(dirname $file) && echo theirs > /root/stage$file || exit 1
            done
            {}",
            manager.make
        ),
    );

    // The other one is there first.
    run(&machine, &format!("{install} {other}"));
    let said = run(&machine, &format!("{install} {old}"));
    let wanted = "/usr/bin/bootctl is another program here; ours is bootagentctl";
    assert!(said.contains(wanted), "{said}");
    the_other_is_whole(&machine, manager);
    ours_is_whole(&machine, manager, OLD);
    run(&machine, &format!("{upgrade} {new}"));
    the_other_is_whole(&machine, manager);
    ours_is_whole(&machine, manager, NEW);

    // It goes, and the next upgrade finds the name free.
    run(&machine, &format!("{remove} other"));
    run(&machine, &format!("{upgrade} {new}"));
    assert_eq!(run(&machine, "readlink /usr/bin/bootctl"), "bootagentctl\n");
    let said = run(&machine, "bootctl -h | head -1");
    assert!(said.starts_with("Usage: bootctl "), "{said}");

    // It comes back, over our link and not through it.
    run(&machine, &format!("{install} {other}"));
    the_other_is_whole(&machine, manager);
    ours_is_whole(&machine, manager, NEW);
    run(&machine, &format!("{upgrade} {new}"));
    the_other_is_whole(&machine, manager);
    run(&machine, &format!("{remove} bootagent"));
    run(&machine, "test ! -e /usr/bin/bootagentctl");
    the_other_is_whole(&machine, manager);

    // A name that no package owns is somebody's too, even one that leads nowhere.
    run(&machine, &format!("{remove} other"));
    run(&machine, "ln -s /opt/nothing /usr/bin/bootctl");
    for step in [
        format!("{install} {old}"),
        format!("{upgrade} {new}"),
        format!("{remove} bootagent"),
    ] {
        run(&machine, &step);
        let link = run(&machine, "readlink /usr/bin/bootctl");
        assert_eq!(link, "/opt/nothing\n", "after {step}");
    }
}
