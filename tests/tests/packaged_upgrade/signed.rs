//! Promise: where keys are trusted, an rpm or deb is installed, upgraded and put
//! back only as what one of them signed, and nothing older by accident.

use e2e::minisign::{Signer, Way};
use e2e::native::{Kind, Native};
use serde_json::{Value, json};

use super::stage::{NAME, Scene, assert_result, failing, good, on_a_machine};

#[test]
fn an_rpm_is_installed_and_upgraded_only_as_what_a_trusted_key_signed() {
    only_what_was_signed(Kind::Rpm);
}

#[test]
fn a_deb_is_installed_and_upgraded_only_as_what_a_trusted_key_signed() {
    only_what_was_signed(Kind::Deb);
}

fn only_what_was_signed(kind: Kind) {
    let (ours, other) = match (Signer::new(), Signer::new()) {
        (Ok(ours), Ok(other)) => (ours, other),
        (Err(why), _) | (_, Err(why)) => {
            println!("SKIPPED: signed packages: {why}");
            return;
        }
    };
    let config = format!("trusted_keys = [{:?}]", ours.key());
    on_a_machine(kind, &config, |scene| {
        scene.start_bootagent();
        // Nothing is there yet, and nothing comes.
        scene.refused("first", &good("1.0"), None, 3002, "trusted_keys");
        let stranger = scene.sign(&other, &good("1.0"), &says("1.0-1"));
        scene.refused(
            "first",
            &good("1.0"),
            Some(stranger),
            3003,
            "does not trust",
        );
        let is_there = match kind {
            Kind::Rpm => "rpm -q mover",
            Kind::Deb => "dpkg-query -s mover",
        };
        scene.run(&format!(
            "! {is_there} && ! ls /usr/lib/bootagent/agents/mover"
        ));

        let signature = scene.sign(&ours, &good("1.0"), &says("1.0-1"));
        let terms = json!({ "action": "install", "signature": signature });
        let result = scene.upgrade("signed", &good("1.0"), &terms);
        assert_result(&result, 0, "1.0-1", Some("1.0-1"));
        let first = scene.assert_only("1.0-1");

        let next = good("2.0");
        let as_said = |text: &str| Some(scene.sign(&ours, &next, text));
        let of_another = scene.sign(&ours, &good("1.0"), &says("2.0-1"));
        let rows = [
            ("unsigned", None, 3002, "trusted_keys"),
            (
                "stranger",
                Some(scene.sign(&other, &next, &says("2.0-1"))),
                3003,
                "does not trust",
            ),
            ("changed", Some(of_another), 3003, "does not fit"),
            (
                "other-name",
                as_said("name=driver version=2.0-1"),
                3003,
                "name driver",
            ),
            (
                "other-version",
                as_said(&says("2.1-1")),
                3003,
                "version 2.1-1",
            ),
            (
                "other-release",
                as_said(&says("2.0-2")),
                3003,
                "version 2.0-2",
            ),
            ("speechless", as_said("made by hand"), 3003, "name=NAME"),
        ];
        for (id, signature, code, words) in rows {
            scene.refused(id, &next, signature, code, words);
            assert_eq!(scene.assert_only("1.0-1"), first, "{id}: what ran runs on");
        }
        // Signed as what the job wants, and something else.
        let driver = Native::new("driver", "2.0", &["--ready"]);
        let signature = scene.sign(&ours, &driver, &says("2.0-1"));
        scene.refused("driver", &driver, Some(signature), 3004, "driver");
        assert_eq!(scene.assert_only("1.0-1"), first);

        let result = scene.upgrade("next", &next, &scene.signed(&ours, &next));
        assert_result(&result, 0, "2.0-1", Some("2.0-1"));
        let second = scene.assert_only("2.0-1");

        // Older: only when the job says so.
        let older = good("1.5");
        let mut terms = scene.signed(&ours, &older);
        let signature = terms["signature"].as_str().map(str::to_owned);
        scene.refused("older", &older, signature, 3004, "downgrade");
        assert_eq!(scene.assert_only("2.0-1"), second);
        terms["downgrade"] = json!(true);
        let result = scene.upgrade("older-meant", &older, &terms);
        assert_result(&result, 0, "1.5-1", Some("1.5-1"));
        scene.assert_only("1.5-1");

        // A trusted key says who made it, not that it works.
        let bad = failing("3.0");
        let mut terms = scene.signed(&ours, &bad);
        terms["watch"] = json!(600);
        let result = scene.upgrade("bad", &bad, &terms);
        assert_result(&result, 4006, "3.0-1", Some("1.5-1"));
        scene.assert_only("1.5-1");
    });
}

fn says(version: &str) -> String {
    format!("name={NAME} version={version}")
}

impl Scene<'_> {
    /// The signature of a package with this trusted comment.
    fn sign(&self, signer: &Signer, package: &Native, comment: &str) -> String {
        let bytes = std::fs::read(self.build(package)).expect("a package");
        signer.sign(&bytes, comment, Way::Hashed)
    }

    /// The terms of a job with `package`, signed as what it is.
    fn signed(&self, signer: &Signer, package: &Native) -> Value {
        json!({ "signature": self.sign(signer, package, &says(package.version())) })
    }

    #[track_caller]
    fn refused(
        &self,
        id: &str,
        package: &Native,
        signature: Option<String>,
        code: u16,
        words: &str,
    ) {
        let id = format!("{id}-{code}");
        let terms = signature.map_or(json!({}), |text| json!({ "signature": text }));
        let result = self.upgrade(&id, package, &terms);
        assert_eq!(result["errcode"], code, "{id}: {result}");
        let message = e2e::server::text(&result, "message");
        assert!(
            message.contains(words),
            "{words:?} is not in {id}: {message}"
        );
        let left = self.run("ls /var/lib/bootagent/packages /var/lib/bootagent/tmp");
        assert!(!left.contains(".new"), "{id}: {left}");
    }
}
