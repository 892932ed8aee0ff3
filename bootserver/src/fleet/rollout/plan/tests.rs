//! Terms that contradict themselves are named; the others become a plan.

use super::*;
use serde_json::json;

fn plan(terms: serde_json::Value) -> Result<Plan, String> {
    let terms: Terms = serde_json::from_value(terms).map_err(|error| error.to_string())?;
    Plan::try_from(terms).map_err(|error| error.to_string())
}

#[test]
fn an_amount_is_a_number_a_part_or_all() {
    let check = |text: serde_json::Value| serde_json::from_value::<Amount>(text).ok();
    assert_eq!(check(json!(5)), Some(Amount::Hosts(5)));
    assert_eq!(check(json!("10%")), Some(Amount::Percent(10)));
    assert_eq!(check(json!("all")), Some(Amount::ALL));
    for bad in [
        json!(0),
        json!("0%"),
        json!("101%"),
        json!("5"),
        json!(-1),
        json!(1.5),
    ] {
        assert_eq!(check(bad.clone()), None, "{bad}");
    }
}

#[test]
fn a_part_is_rounded_up_and_at_least_one() {
    assert_eq!(Amount::Percent(10).of(1_000_000), 100_000);
    assert_eq!(Amount::Percent(10).of(11), 2);
    assert_eq!(Amount::Percent(1).of(1), 1);
    assert_eq!(Amount::Percent(1).of(0), 0);
    assert_eq!(Amount::Hosts(50).of(3), 3);
}

#[test]
fn stages_end_where_they_say_and_never_before_the_one_before() {
    let stages = json!({"stages": [{"upto": 5}, {"upto": "10%"}, {"upto": "all"}]});
    let plan = plan(stages).expect("a plan");
    assert_eq!(plan.stage_ends(1000), [5, 100, 1000]);
    assert_eq!(plan.stage_ends(20), [5, 5, 20]);
    assert_eq!(plan.stage_ends(3), [3, 3, 3]);
    assert_eq!(plan.stage_ends(0), [0, 0, 0]);
}

#[test]
fn a_plan_reads_back_from_its_text() {
    let plan = plan(json!({
        "parallel": "5%", "fail_count": 3, "fail_rate": 20, "min_sample": 5,
        "stages": [{"upto": 1, "soak": 60}, {"upto": "all"}],
        "window": {"zone": "Europe/Berlin", "from": "22:00", "until": "04:00"},
    }))
    .expect("a plan");
    let text = serde_json::to_string(&plan).expect("a text");
    assert_eq!(serde_json::from_str::<Plan>(&text).ok(), Some(plan));
}

#[test]
fn terms_that_contradict_are_refused_and_named() {
    let week = 7 * 86_400;
    for (terms, named) in [
        (
            json!({"stages": [{"upto": "10%"}, {"upto": "5%"}, {"upto": "all"}]}),
            "number 2",
        ),
        (
            json!({"stages": [{"upto": "all"}, {"upto": 9}]}),
            "number 2",
        ),
        (
            json!({"stages": [{"upto": 1}, {"upto": "10%"}]}),
            "must be \"all\"",
        ),
        (
            json!({"stages": [{"upto": "all", "success": 90}]}),
            "nothing comes after",
        ),
        (
            json!({"stages": [{"upto": 1, "success": 0}, {"upto": "all"}]}),
            "1 to 100",
        ),
        (
            json!({"stages": [{"upto": 1, "soak": week}, {"upto": "all"}]}),
            "expires_in",
        ),
        (json!({"fail_count": -2}), "fail_count"),
        (json!({"fail_rate": 100}), "fail_rate"),
        (json!({"fail_rate": 10, "min_sample": 0}), "min_sample"),
        (json!({"min_sample": 10}), "belongs to fail_rate"),
        (
            json!({"fail_count": -1, "count_as_failed": ["expired"]}),
            "nothing is counted",
        ),
        (json!({"expires_in": 1}), "expires_in"),
        (json!({"parallel": 0}), "is expected"),
        (json!({"paralel": 1}), "unknown field"),
        (
            json!({"window": {"zone": "Mars", "from": "1:00", "until": "02:00"}}),
            "window",
        ),
    ] {
        let refused = plan(terms.clone()).expect_err("a contradiction");
        assert!(refused.contains(named), "{terms}: {refused}");
    }
}

#[test]
fn a_window_that_opens_after_the_end_is_refused() {
    let weekend = |expires_in: u64| {
        let window = json!({
            "zone": "UTC", "days": ["sat"], "from": "00:00", "until": "06:00",
        });
        plan(json!({"window": window, "expires_in": expires_in})).expect("a plan")
    };
    // 1970 began on a Thursday.
    assert_eq!(
        weekend(86_400).begins_in_time(0),
        Err(PlanError::WindowOpensTooLate)
    );
    assert_eq!(weekend(3 * 86_400).begins_in_time(0), Ok(()));
}

#[test]
fn limits_are_exceeded_and_not_met() {
    let check = |terms, succeeded, failed, waiting| {
        let mut tally = Tally::default();
        tally.add(TargetState::Succeeded, succeeded);
        tally.add(TargetState::Failed, failed);
        tally.add(TargetState::Waiting, waiting);
        plan(terms).expect("a plan").exceeded(&tally, tally.all())
    };
    let count = || json!({"fail_count": 3});
    assert_eq!(check(count(), 0, 3, 0), None);
    assert_eq!(check(count(), 0, 4, 0), Some(Limit::FailCount));
    let none = || json!({"fail_count": -1});
    assert_eq!(check(none(), 0, 1000, 0), None);
    let rate = || json!({"fail_count": -1, "fail_rate": 20});
    assert_eq!(check(rate(), 8, 2, 90), None, "met");
    assert_eq!(check(rate(), 7, 3, 90), Some(Limit::FailRate));
    assert_eq!(check(rate(), 0, 9, 90), None, "too few to say");
    assert_eq!(
        check(rate(), 0, 2, 0),
        Some(Limit::FailRate),
        "all there are"
    );
    let both = || json!({"fail_count": 1, "fail_rate": 50});
    assert_eq!(check(both(), 100, 2, 0), Some(Limit::FailCount));
    assert_eq!(check(both(), 0, 1, 0), Some(Limit::FailRate));
}
