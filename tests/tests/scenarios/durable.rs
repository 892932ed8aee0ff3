//! What BootAgent said or did is on disk: also when it ends a moment later.

use e2e::agent::{Agent, Settings};
use e2e::fake_server::FakeServer;
use e2e::wait;
use serde_json::json;

use super::stage::{NAME, Stage};

#[test]
fn a_host_that_is_stopped_right_after_its_confirmation_stays_confirmed() {
    for _ in 0..10 {
        let fake = FakeServer::start();
        let mut host = Agent::start(&Settings::new(&fake.address()));
        // As soon as the daemon knows; what is on disk is not waited for.
        wait::until_true("the confirmation", || {
            host.status()
                .is_some_and(|status| status["confirmed"] == true)
        });
        assert!(host.stop().success());
        assert_eq!(host.metafile()["confirmed"], true);
    }
}

#[test]
fn what_an_operator_was_told_is_done_survives_a_kill_in_that_moment() {
    let mut stage = Stage::new("");
    for _ in 0..10 {
        for (words, wanted) in [(["stop", NAME], false), (["start", NAME], true)] {
            stage.host.ask(&words);
            stage.host.kill();
            let metafile = stage.host.metafile();
            assert_eq!(metafile["children"][NAME]["wanted_running"], json!(wanted));
            stage.host.run();
            wait::until_true("the daemon", || stage.host.child(NAME).is_some());
            assert_eq!(stage.host.process(NAME).is_some(), wanted);
        }
    }
    stage.host.ask(&["stop", "--all"]);
    stage.host.kill();
    assert_eq!(
        stage.host.metafile()["children"][NAME]["wanted_running"],
        json!(false)
    );
}
