//! Where keys are trusted, nothing is installed that none of them signed as
//! what it is; and nothing older replaces something newer by accident.

use e2e::agent::{Agent, Settings};
use e2e::bundle::Bundle;
use e2e::minisign::{Signer, Way};
use e2e::server::Server;
use serde_json::{Value, json};

use super::stage::{NAME, Refusal, Stage};

fn signers() -> Option<(Signer, Signer)> {
    match (Signer::new(), Signer::new()) {
        (Ok(ours), Ok(other)) => Some((ours, other)),
        (Err(why), _) | (_, Err(why)) => {
            println!("SKIPPED: signed packages: {why}");
            None
        }
    }
}

fn bundle(version: &str) -> Vec<u8> {
    Bundle::new(NAME, version, &["--ready"]).notify().build()
}

fn comment(version: &str) -> String {
    format!("name={NAME} version={version}")
}

#[test]
fn a_signed_package_is_installed_over_http_and_an_unsigned_one_is_not() {
    let Some((ours, other)) = signers() else {
        return;
    };
    let server = Server::start();
    let mut settings = Settings::of(&server);
    // Any of the keys will do.
    settings.keys = vec![other.key(), ours.key()];
    let host = Agent::start(&settings);
    host.until_confirmed();
    let sn = host.agentsn();
    for (signer, version) in [(&ours, "1.0.0"), (&other, "1.1.0")] {
        let bytes = bundle(version);
        let package = server.upload(&bytes);
        let order = json!({ "action": "install", "name": NAME, "package": package });
        let message = server.fail(&sn, order.clone(), 3002);
        assert!(message.contains("trusted_keys"), "{message}");
        let mut signed = order;
        signed["signature"] = json!(signer.sign(&bytes, &comment(version), Way::Hashed));
        let job = server.succeed(&sn, signed);
        assert_eq!(job["result"]["running"], version);
        let child = host.child(NAME).expect("it is known");
        assert_eq!(child["version"], version);
    }
}

#[test]
fn a_signature_that_is_not_of_this_package_is_refused() {
    let Some((ours, other)) = signers() else {
        return;
    };
    let stage = Stage::trusting(&ours);
    let bytes = bundle("2.0.0");
    let good = ours.sign(&bytes, &comment("2.0.0"), Way::Hashed);
    let order = |id: &str, bytes: &[u8], signature: &str| -> Value {
        let mut job = stage.install(id, NAME, bytes);
        job["signature"] = json!(signature);
        job
    };
    let row = |id, signature: &str, words: &'static [&'static str]| -> Refusal {
        (order(id, &bytes, signature), 3003, words)
    };
    let of = |text: &str| ours.sign(&bytes, text, Way::Hashed);
    let lines: Vec<&str> = good.lines().collect();
    let line = |number: usize, text: &str| {
        let mut lines = lines.clone();
        lines[number] = text;
        lines.join("\n")
    };
    let flipped = {
        let mut line = lines[1].to_owned().into_bytes();
        // Within the signature, past the key's number.
        line[40] = if line[40] == b'A' { b'B' } else { b'A' };
        String::from_utf8(line).expect("base64")
    };
    let renamed = format!("trusted comment: {}", comment("2.0.1"));
    let mut altered = bytes.clone();
    *altered.last_mut().expect("bytes") ^= 1;
    let fits_not: &[&str] = &["does not fit", "changed"];
    let no_minisig: &[&str] = &["no .minisig", "four lines"];
    stage.refuses(&[
        (
            stage.install("none", NAME, &bytes),
            3002,
            &["signed", "signature"],
        ),
        (order("empty", &bytes, ""), 3002, &["signed"]),
        (order("altered", &altered, &good), 3003, fits_not),
        row(
            "stranger",
            &other.sign(&bytes, &comment("2.0.0"), Way::Hashed),
            &["does not trust", "trusted_keys"],
        ),
        row(
            "legacy",
            &ours.sign(&bytes, &comment("2.0.0"), Way::Legacy),
            &["old kind", "-H"],
        ),
        row("flipped", &line(1, &flipped), fits_not),
        row("renamed", &line(2, &renamed), fits_not),
        row("shortened", &line(3, &lines[3][..40]), no_minisig),
        row("cut", &lines[..2].join("\n"), no_minisig),
        row("noise", "\u{fffd}\n\n=\n", no_minisig),
        row("long", &"x".repeat(5000), no_minisig),
        row(
            "speechless",
            &of("built by hand"),
            &["name=NAME", "version="],
        ),
        row(
            "twice",
            &of("name=worker name=other version=2.0.0"),
            &["name=NAME"],
        ),
        row(
            "other",
            &of("name=other version=2.0.0"),
            &["name other", "worker"],
        ),
        row("older", &of(&comment("1.9.0")), &["version 1.9.0", "2.0.0"]),
    ]);
    // The same package, signed as what it is, is taken.
    stage.fake.succeed(order("good", &bytes, &good));
    let child = stage.host.child(NAME).expect("it is known");
    assert_eq!(child["version"], "2.0.0");
}

#[test]
fn an_older_bundle_needs_a_job_that_says_downgrade() {
    let stage = Stage::new("");
    let old = bundle("1.0.0~rc1");
    let refused = stage.install("by-accident", NAME, &old);
    stage.refuses(&[(refused, 3004, &["1.0.0~rc1", "older", "1.0.0", "downgrade"])]);
    let mut meant = stage.install("meant", NAME, &old);
    meant["downgrade"] = json!(true);
    stage.fake.succeed(meant);
    let child = stage.host.child(NAME).expect("it is known");
    assert_eq!(child["version"], "1.0.0~rc1");
    // Newer, and the same again, are no downgrades.
    for id in ["newer", "the-same"] {
        stage
            .fake
            .succeed(stage.install(id, NAME, &bundle("1.0.0")));
    }
}

#[test]
fn a_key_that_is_none_keeps_bootagent_from_starting_and_is_named() {
    let mut settings = Settings::new("127.0.0.1:1");
    settings.keys = vec!["no key".into()];
    let host = Agent::prepare(&settings);
    let output = host.run_to_its_end();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("trusted_keys[0]") && said.contains("minisign.pub"),
        "{said}"
    );
}
