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
    let made = packages_of("bootserver", programs.path(), OLD);
    scriptlets_are_clean(&made[1], programs.path());
    for package in made
        .iter()
        .chain(&packages_of("bootserver", programs.path(), NEW))
    {
        let target = format!("/root/{}", file_name(package));
        machine.put(package, &target).expect("copied");
    }

    let said = run(
        &machine,
        &format!("dpkg -i /root/bootserver_{OLD}_amd64.deb"),
    );
    assert!(said.contains("first-start.txt"), "{said}");
    serving(&machine);
    it_runs_as_it_should(&machine);
    it_is_confined(&machine);
    run(
        &machine,
        "bootserver group create before --selector svc=ecs",
    );
    it_is_upgraded_at_work(
        &machine,
        &format!("dpkg -i /root/bootserver_{NEW}_amd64.deb </dev/null"),
    );
    let version = run(&machine, "dpkg-query -W -f '${Version}' bootserver");
    assert_eq!(version, NEW);
    // What root does in between is the server's afterwards.
    let with = "-c /etc/bootserver/config.toml";
    run(
        &machine,
        &format!(
            "set -e
             bootserver backup /root/backup {with}
             systemctl stop bootserver
             rm -r /var/lib/bootserver/bootserver.db* /var/lib/bootserver/lock
             bootserver restore /root/backup {with}
             bootserver reset-password admin {with}
             systemctl start bootserver"
        ),
    );
    serving(&machine);
    it_runs_as_it_should(&machine);
    run(&machine, "bootserver group show before");
    // Who has stopped it finds it stopped.
    run(&machine, "systemctl stop bootserver");
    run(
        &machine,
        &format!("dpkg -i /root/bootserver_{NEW}_amd64.deb </dev/null"),
    );
    run(
        &machine,
        "test \"$(systemctl is-active bootserver)\" = inactive",
    );

    // Removed and installed again it goes on with its data, also where it was stopped before.
    let said = run(&machine, "dpkg -r bootserver");
    assert!(said.contains("are kept in /var/lib/bootserver"), "{said}");
    run(
        &machine,
        &format!("dpkg -i /root/bootserver_{NEW}_amd64.deb"),
    );
    serving(&machine);
    run(
        &machine,
        "systemctl is-enabled bootserver && bootserver group show before",
    );

    // Only a purge takes it; here it is put aside meanwhile.
    run(
        &machine,
        "dpkg -r bootserver && cp -a /var/lib/bootserver /root/data",
    );
    let said = run(&machine, "dpkg -P bootserver");
    assert!(
        said.contains("removed with /var/lib/bootserver") && !said.contains("are kept"),
        "{said}"
    );
    run(
        &machine,
        "test ! -e /usr/bin/bootserver -a ! -e /etc/bootserver -a ! -e /var/lib/bootserver",
    );
    run(
        &machine,
        "systemctl --failed --no-legend | grep bootserver && exit 1 || true",
    );
    run(&machine, "mv /root/data /var/lib/bootserver");

    // The other kind of package goes on with the data. This machine's rpm knows the glibc of CentOS 7, and
    // the program was built for a newer one: that alone is overruled.
    run(
        &machine,
        &format!("rpm -i --nodeps /root/bootserver-{OLD}.x86_64.rpm"),
    );
    serving(&machine);
    it_runs_as_it_should(&machine);
    assert_eq!(run(&machine, "rpm -V --nodeps bootserver"), "");
    it_is_upgraded_at_work(
        &machine,
        &format!("rpm -U --nodeps /root/bootserver-{NEW}.x86_64.rpm"),
    );
    let version = run(&machine, "rpm -q --qf '%{VERSION}-%{RELEASE}' bootserver");
    assert_eq!(version, NEW);
    let said = run(&machine, "rpm -e bootserver 2>&1");
    assert!(said.contains("are kept in /var/lib/bootserver"), "{said}");
    run(
        &machine,
        "! pgrep -x bootserver; test -s /var/lib/bootserver/bootserver.db",
    );
}

/// A new version comes while a request is under way: that is answered by the old
/// one, and the new one goes on with data and configuration, and brings the
/// database up to date.
#[track_caller]
fn it_is_upgraded_at_work(machine: &Machine, upgrade: &str) {
    // The operator's own configuration; a request has as long as an upgrade takes here.
    run(
        machine,
        "echo '# mine' >> /etc/bootserver/config.toml
         sed -i 's/^socket = /request_timeout = 600\\nsocket = /' /etc/bootserver/config.toml
         systemctl restart bootserver",
    );
    let first = serving(machine);
    let token = run(
        machine,
        "bootserver token create api drain --role operator 2>/dev/null",
    );
    take_back_a_migration(machine);
    // A request of which a part is still to come.
    let name = format!("drained-{}", first.trim());
    let body = format!(r#"{{"name":"{name}"}}"#);
    let (begin, rest) = body.split_at(1);
    let script = format!(
        r"exec 3<>/dev/tcp/127.0.0.1/8080
printf 'POST /api/v1/groups HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n' >&3
printf 'Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n' >&3
printf '%s' '{begin}' >&3
touch /root/begun
until [ -e /root/go ]; do sleep 0.1; done
printf '%s' '{rest}' >&3
timeout 60 cat <&3 >/root/answer.part
mv /root/answer.part /root/answer
",
        token = token.trim(),
        length = body.len(),
    );
    std::fs::write(machine.path(Path::new("root/request.sh")), script).expect("written");
    run(
        machine,
        "rm -f /root/begun /root/go /root/answer
         setsid bash /root/request.sh </dev/null >/root/request.log 2>&1 &",
    );
    wait(machine, "test -e /root/begun");
    run(machine, upgrade);
    wait(
        machine,
        &format!(
            "journalctl _PID={} | grep 'no new requests are taken'",
            first.trim()
        ),
    );
    run(machine, "touch /root/go");
    wait(machine, "test -e /root/answer");
    let answer = run(machine, "cat /root/answer");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    wait(
        machine,
        &format!(
            "p=$(systemctl show -p MainPID --value bootserver); test \"$p\" != {} -a \"$p\" != 0",
            first.trim()
        ),
    );
    serving(machine);
    run(
        machine,
        &format!("journalctl _PID={} | grep 'bootserver ended'", first.trim()),
    );
    run(machine, "grep '^# mine' /etc/bootserver/config.toml");
    run(machine, "bootserver token list enrolment | grep kept");
    run(
        machine,
        &format!("bootserver group show before && bootserver group show {name}"),
    );
    assert_eq!(database(machine, "SELECT count(*) FROM idempotency"), "0");
}

/// As an older version had left it: a table is not there that none needs before a
/// request with a key comes.
fn take_back_a_migration(machine: &Machine) {
    let script =
        "DROP TABLE idempotency; DELETE FROM _sqlx_migrations WHERE description = 'idempotency'";
    assert_eq!(database(machine, script), "");
}

/// What the database says to statements; a column of its first row.
fn database(machine: &Machine, statements: &str) -> String {
    // SQLite would follow the way through /proc to a path of this machine, so it goes where the file is.
    let script = "
import ctypes, os, sqlite3, sys
space = os.open(os.path.dirname(sys.argv[1]) + '/ns/mnt', os.O_RDONLY)
assert ctypes.CDLL(None).setns(space, 0) == 0
connection = sqlite3.connect('/var/lib/bootserver/bootserver.db', timeout=60)
row = None
for statement in sys.argv[2].split(';'):
    row = connection.execute(statement).fetchone()
connection.commit()
print('' if row is None else row[0])
";
    let said = succeed(
        Command::new("python3")
            .args(["-c", script])
            .arg(machine.path(Path::new("")).components().as_path())
            .arg(statements),
    );
    said.trim_end().to_owned()
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
