//! Promise: a disk without bytes or without inodes ends the job with 2004 in
//! bounded time; what ran is undisturbed, nothing is left half installed, and
//! once there is room the same order is carried out.

use e2e::bundle::Bundle;
use e2e::native::{Kind, noise};
use serde_json::{Value, json};

use super::stage::{NAME, Scene, assert_result, good, on_a_machine};

/// Where programs of agents are.
const AGENTS: &str = "/usr/lib/bootagent/agents";
/// BootAgent's own state: downloads, kept packages, bundles.
const STATE: &str = "/var/lib/bootagent";

/// What a disk lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Bytes,
    Inodes,
}

#[test]
fn an_rpm_that_finds_no_room_ends_with_its_code_and_changes_nothing() {
    no_room(Kind::Rpm);
}

#[test]
fn a_deb_that_finds_no_room_ends_with_its_code_and_changes_nothing() {
    no_room(Kind::Deb);
}

fn no_room(kind: Kind) {
    on_a_machine(kind, "[jobs]\ninstaller_timeout = 60", |scene| {
        let database = match kind {
            Kind::Rpm => scene.run("rpm --eval '%{_dbpath}'").trim().to_owned(),
            Kind::Deb => "/var/lib/dpkg".to_owned(),
        };
        for folder in [AGENTS, STATE, &database] {
            scene.own_disk(folder);
        }
        scene.start_bootagent();
        let result = scene.upgrade("first", &good("1.0"), &json!({}));
        assert_result(&result, 0, "1.0-1", Some("1.0-1"));

        let mut running = "1.0-1".to_owned();
        let mut minor = 0;
        for folder in [AGENTS, STATE, &database] {
            for lack in [Lack::Bytes, Lack::Inodes] {
                minor += 1;
                let before = scene.assert_only(&running);
                let package = good(&format!("2.{minor}")).filler(4 << 20);
                let id = format!("{lack:?}-of-{folder}");
                let place = scene.put(&package);
                scene.fill(folder, lack);
                scene.offer(&id, &place, &json!({}));
                let result = scene.result(&id);
                assert_eq!(result["errcode"], 2004, "{id}: {result}");
                assert_eq!(scene.assert_only(&running), before, "{id}: it runs on");
                scene.assert_nothing_half(&id);
                scene.run(&format!("rm -rf {folder}/ballast"));
                let again = format!("{id}-again");
                scene.offer(&again, &place, &json!({}));
                let new = package.version();
                assert_result(&scene.result(&again), 0, new, Some(new));
                new.clone_into(&mut running);
                scene.assert_nothing_half(&again);
            }
        }
        scene.assert_only(&running);
        bundles_too(scene);
    });
}

/// A bundle, whose programs are in [`STATE`] as well.
fn bundles_too(scene: &Scene<'_>) {
    let offer = |id: &str, bundle: &Bundle| -> Value {
        let file = scene.folder.path().join("bundle");
        std::fs::write(&file, bundle.build()).expect("written");
        scene.machine.put(&file, "/root/bundle").expect("copied");
        scene.offer(id, "/root/bundle", &json!({ "name": "carried" }));
        scene.result(id)
    };
    let exec = ["/bin/sleep", "976543"];
    let bundle = |version: &str| {
        Bundle::of_manifest(json!({ "name": "carried", "version": version, "exec": exec }))
    };
    assert_result(&offer("carried", &bundle("1")), 0, "1", Some("1"));
    let pid = scene.run("pgrep -f '^/bin/sleep 976543'");
    let assert_undisturbed = |id: &str| {
        assert_eq!(scene.run("pgrep -f '^/bin/sleep 976543'"), pid, "{id}");
        let left = scene.run(&format!("ls {STATE}/bundles/carried"));
        assert_eq!(left, "1\ncurrent\n", "{id}");
        scene.assert_nothing_half(id);
    };
    // Small as long as it is packed, and yet no bomb.
    let large =
        bundle("2")
            .file("noise", &noise(2 << 20), 0o644)
            .file("zeroes", &vec![0; 48 << 20], 0o644);
    let result = offer("unpacked", &large);
    assert_eq!(result["errcode"], 2004, "{result}");
    assert_undisturbed("unpacked");
    for lack in [Lack::Bytes, Lack::Inodes] {
        let id = format!("carried-without-{lack:?}");
        scene.fill(STATE, lack);
        let result = offer(&id, &bundle("3"));
        assert_eq!(result["errcode"], 2004, "{id}: {result}");
        assert_undisturbed(&id);
        scene.run(&format!("rm -rf {STATE}/ballast"));
    }
    assert_result(&offer("room-again", &bundle("3")), 0, "3", Some("3"));
}

impl Scene<'_> {
    /// Gives `folder` a small disk of its own, with what is in it.
    fn own_disk(&self, folder: &str) {
        self.run(&format!(
            "mkdir -p {folder} && mount -t tmpfs -o size=64m,nr_inodes=3000,mode=755 tmpfs /mnt
             cp -a {folder}/. /mnt/ && mount --move /mnt {folder}"
        ));
    }

    /// Uses up what there is. Of [`STATE`] some bytes stay: without them no job
    /// is taken at all (`tests/lab/disk_full.sh`).
    fn fill(&self, folder: &str, lack: Lack) {
        let spare = match folder {
            STATE => 8,
            _ => 0,
        };
        self.run(&match lack {
            Lack::Bytes => format!(
                "mkdir {folder}/ballast && cd {folder}/ballast
                 head -c {spare}M /dev/zero >spare; cat /dev/zero >rest 2>/dev/null; rm spare
                 [ {spare} -gt 0 ] || [ $(stat -f -c %a .) -eq 0 ]"
            ),
            Lack::Inodes => format!(
                "mkdir {folder}/ballast && cd {folder}/ballast
                 perl -e 'my $i = 0; while (open my $file, \">\", $i++) {{ }}'
                 [ $(stat -f -c %d .) -eq 0 ]"
            ),
        });
    }

    /// The package manager's database is whole, and neither it nor BootAgent
    /// left anything behind.
    #[track_caller]
    fn assert_nothing_half(&self, id: &str) {
        match self.kind {
            Kind::Rpm => self.run("rpm --verifydb && rpm -V mover"),
            Kind::Deb => self.run("test -z \"$(dpkg --audit)\" && dpkg -V mover"),
        };
        let left = self.run(&format!(
            "ls -A {STATE}/packages {STATE}/tmp; find {AGENTS}/{NAME} -mindepth 1"
        ));
        let half = [".new", ".part", ".dpkg-", ";"];
        assert!(
            half.iter().all(|word| !left.contains(word)),
            "{id} left something behind:\n{left}"
        );
    }
}
