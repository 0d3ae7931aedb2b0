//! Limits, by one server: what fits, what is refused, what is counted when, and what survives a crash.

use ledger::{
    Action, Amount, Grow, GrowOutcome, Hold, HoldOutcome, LedgerError, LossReason, Measure, NewLimit,
    PriceChange, Shortage, TaskPath,
};

use super::support::*;

const DAY_MS: i64 = 86_400_000;

fn limit(scope: &str, measure: &str, amount: i64, window: &str) -> NewLimit {
    NewLimit {
        name: Some(format!("{scope} {measure}")),
        scope: scope.parse().unwrap(),
        measure: measure.parse().unwrap(),
        amount: Amount(amount),
        window: window.parse().unwrap(),
        action: Action::Refuse,
        thresholds: Vec::new(),
        at: at(0),
    }
}

/// 150 tokens.
fn hold_of(account: &str, number: u128, millis: i64) -> Hold {
    Hold { account: account.into(), at: at(millis), ..hold(request(number)) }
}

fn shortage(outcome: HoldOutcome) -> Shortage {
    match outcome {
        HoldOutcome::Refused(shortage) => shortage,
        other => panic!("it should not have fitted: {other:?}"),
    }
}

fn assert_opened(outcome: HoldOutcome) {
    assert!(matches!(outcome, HoldOutcome::Opened(..)), "{outcome:?}");
}

#[tokio::test]
async fn a_hold_that_does_not_fit_one_of_its_limits_is_refused_by_that_limits_name() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("acme", "tokens", 1_000, "day")).await.unwrap();
    journal.set_limit(limit("acme/research", "tokens", 200, "day")).await.unwrap();
    assert_opened(journal.hold(hold_of("acme/research/bot", 1, 5)).await.unwrap());
    let shortage = shortage(journal.hold(hold_of("acme/research/bot", 2, 6)).await.unwrap());
    assert_eq!(shortage.limit.name, "acme/research tokens");
    assert_eq!((shortage.needed, shortage.remaining), (Amount(150), Amount(50)));
    assert_eq!(shortage.resets_at, Some(at(DAY_MS)));
    // Refused, it has taken nothing of any limit: others below `acme` have all of the rest.
    for number in 3..8 {
        assert_opened(journal.hold(hold_of("acme/sales", number, 7)).await.unwrap());
    }
    let outcome = journal.hold(hold_of("acme/sales", 9, 8)).await.unwrap();
    assert_eq!(self::shortage(outcome).limit.name, "acme tokens");
    assert_opened(journal.hold(hold_of("other", 10, 9)).await.unwrap());
    assert_sound(&journal).await;
}

#[tokio::test]
async fn what_is_not_used_of_a_hold_is_free_again_and_what_is_used_stays_spent() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("local", "tokens", 200, "day")).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 1, 5)).await.unwrap());
    journal.settle(settlement(request(1), used(40, 0, 10))).await.unwrap();
    let HoldOutcome::Opened(_, standings) = journal.hold(hold_of("local", 2, 6)).await.unwrap() else {
        panic!("50 are spent, 150 fit")
    };
    let standing = &standings[0];
    assert_eq!((standing.spent, standing.held, standing.remaining), (Amount(50), Amount(150), Amount(0)));
    journal.release(release(request(2))).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 3, 7)).await.unwrap());
    let standings = journal.standings(None, at(8)).await.unwrap();
    assert_eq!((standings[0].spent, standings[0].held), (Amount(50), Amount(150)));
}

#[tokio::test]
async fn a_hold_grows_as_long_as_there_is_room() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("local", "tokens", 200, "day")).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 1, 5)).await.unwrap());
    let grow = |output| Grow { request: request(1), estimate: used(100, 0, output), at: at(6) };
    assert!(matches!(journal.grow(grow(100)).await.unwrap(), GrowOutcome::Grown(..)));
    let GrowOutcome::Refused(shortage) = journal.grow(grow(101)).await.unwrap() else {
        panic!("201 do not fit")
    };
    assert_eq!((shortage.needed, shortage.remaining), (Amount(1), Amount(0)));
    let held = journal.open_holds().await.unwrap().remove(0);
    assert_eq!(held.hold.estimate, used(100, 0, 100), "a refused growth changes nothing");
    journal.settle(settlement(request(1), used(100, 0, 100))).await.unwrap();
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_hold_counts_in_the_window_that_it_was_opened_in_and_a_clock_that_goes_back_opens_nothing() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("local", "requests", 2, "day")).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 1, DAY_MS - 1)).await.unwrap());
    // It ends on the next day, and that day has all of its own.
    let mut late = settlement(request(1), used(1, 0, 1));
    late.at = at(DAY_MS + 10);
    journal.settle(late).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 2, DAY_MS + 11)).await.unwrap());
    assert_opened(journal.hold(hold_of("local", 3, DAY_MS + 12)).await.unwrap());
    shortage(journal.hold(hold_of("local", 4, DAY_MS + 13)).await.unwrap());
    // Back: one request of yesterday is spent, one is left.
    assert_opened(journal.hold(hold_of("local", 5, DAY_MS - 5)).await.unwrap());
    shortage(journal.hold(hold_of("local", 6, DAY_MS - 4)).await.unwrap());
    let journal = home.crash(journal).await;
    shortage(journal.hold(hold_of("local", 7, DAY_MS + 14)).await.unwrap());
}

#[tokio::test]
async fn requests_at_once_are_limited_and_free_their_places() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("local", "concurrency", 2, "total")).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 1, 5)).await.unwrap());
    assert_opened(journal.hold(hold_of("local", 2, 5)).await.unwrap());
    assert_eq!(
        shortage(journal.hold(hold_of("local", 3, 6)).await.unwrap()).limit.measure,
        Measure::Concurrency
    );
    journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 4, 7)).await.unwrap());
}

#[tokio::test]
async fn money_is_limited_to_the_picodollar_and_unpriced_models_are_refused_by_name() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    // 100 × 1 + 50 × 4 = 300 millionths of a dollar, twice.
    journal.set_limit(limit("local", "money", 600_000_000, "month in Europe/Berlin")).await.unwrap();
    let error = journal.hold(hold_of("local", 1, 5)).await.unwrap_err();
    assert!(matches!(&error, LedgerError::Unpriced { limit, .. } if limit == "local money"), "{error}");
    let change = PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) };
    journal.set_prices(vec![change]).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 2, 5)).await.unwrap());
    assert_opened(journal.hold(hold_of("local", 3, 5)).await.unwrap());
    let mut last = hold_of("local", 4, 5);
    last.estimate = used(1, 0, 0);
    assert_eq!(shortage(journal.hold(last).await.unwrap()).remaining, Amount(0));
}

#[tokio::test]
async fn everybody_who_was_never_named_has_the_same_limit_from_the_first_request_on() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("each end_user of acme", "requests", 1, "day")).await.unwrap();
    let by = |user: Option<&str>, number| {
        let hold = Hold { end_user: user.map(str::to_owned), ..hold_of("acme/app", number, 5) };
        journal.hold(hold)
    };
    // All at once, in one batch.
    let (first, second, third) = tokio::join!(by(Some("ann"), 1), by(Some("ann"), 2), by(Some("bob"), 3));
    let refused =
        [first, second, third].into_iter().filter(|outcome| matches!(outcome, Ok(HoldOutcome::Refused(_))));
    assert_eq!(refused.count(), 1);
    assert_opened(by(None, 4).await.unwrap());
    assert_eq!(shortage(by(None, 5).await.unwrap()).subject, "");
}

#[tokio::test]
async fn a_task_has_its_own_calls_depth_and_time() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("task acme/run-1", "calls", 3, "total")).await.unwrap();
    journal.set_limit(limit("task acme/run-1", "depth", 2, "total")).await.unwrap();
    journal.set_limit(limit("each task of acme", "wall_clock", 1_000, "total")).await.unwrap();
    let by = |task: &str, number, millis| {
        let task = Some(TaskPath::parse(task).unwrap());
        journal.hold(Hold { task, ..hold_of("acme/bot", number, millis) })
    };
    assert_opened(by("acme/run-1", 1, 5_000).await.unwrap());
    let deep = shortage(by("acme/run-1/plan/search", 2, 5_001).await.unwrap());
    assert_eq!((deep.limit.measure, deep.needed), (Measure::Depth, Amount(3)));
    assert_opened(by("acme/run-1/plan", 3, 5_999).await.unwrap());
    let late = shortage(by("acme/run-1", 4, 6_000).await.unwrap());
    assert_eq!(late.limit.measure, Measure::WallClock);
    assert_opened(by("acme/run-2", 5, 6_000).await.unwrap());
    let journal = home.crash(journal.clone()).await;
    let hold = Hold { task: Some(TaskPath::parse("acme/run-1").unwrap()), ..hold_of("acme/bot", 6, 6_001) };
    assert_eq!(shortage(journal.hold(hold).await.unwrap()).limit.measure, Measure::WallClock, "time goes on");
}

#[tokio::test]
async fn a_limit_that_only_warns_or_downgrades_lets_through_what_it_says() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal
        .set_limit(NewLimit { action: Action::Warn, ..limit("local", "tokens", 10, "day") })
        .await
        .unwrap();
    assert_opened(journal.hold(hold_of("local", 1, 5)).await.unwrap());
    let downgrade = Action::Downgrade("tiny".into());
    journal.set_limit(NewLimit { action: downgrade, ..limit("local", "requests", 1, "day") }).await.unwrap();
    let big = |number| Hold { model: "big".into(), ..hold_of("local", number, 5) };
    assert_opened(journal.hold(big(2)).await.unwrap());
    let refused = shortage(journal.hold(big(3)).await.unwrap());
    assert_eq!(refused.limit.action, Action::Downgrade("tiny".into()));
    assert_opened(journal.hold(hold_of("local", 4, 5)).await.unwrap());
}

#[tokio::test]
async fn limits_are_raised_lowered_ended_and_declared() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let set = |amount| journal.set_limit(limit("local", "requests", amount, "day"));
    let first = set(1).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 1, 5)).await.unwrap());
    shortage(journal.hold(hold_of("local", 2, 5)).await.unwrap());
    // Raised by a tool beside the server: what is spent stays spent.
    let tool = home.attach().await;
    let raised = tool.set_limit(limit("local", "requests", 2, "day")).await.unwrap();
    assert_eq!(raised.id, first.id);
    assert_opened(journal.hold(hold_of("local", 3, 5)).await.unwrap());
    shortage(journal.hold(hold_of("local", 4, 5)).await.unwrap());
    let other = NewLimit { window: "hour".parse().unwrap(), ..limit("local", "requests", 9, "day") };
    let error = journal.set_limit(other).await.unwrap_err().to_string();
    assert!(error.contains("another window"), "{error}");
    tool.end_limit("local requests", at(6)).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 5, 7)).await.unwrap());
    assert!(tool.end_limit("local requests", at(7)).await.is_err());

    let declared = vec![limit("local", "tokens", 1_000, "day"), limit("acme", "tokens", 5, "day")];
    journal.declare_limits(declared.clone(), at(8)).await.unwrap();
    journal.set_limit(limit("acme", "requests", 9, "day")).await.unwrap();
    journal.declare_limits(declared[..1].to_vec(), at(9)).await.unwrap();
    let mut names: Vec<String> =
        journal.limits(None).await.unwrap().into_iter().map(|limit| limit.name).collect();
    names.sort();
    assert_eq!(names, ["acme requests", "local tokens"], "what was set by hand is not declared away");
    assert_eq!(journal.limits(Some(&"acme".into())).await.unwrap().len(), 1);
}

#[tokio::test]
async fn after_a_crash_what_was_held_is_spent_and_the_rest_of_the_grant_is_free() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("local", "tokens", 1_000, "day")).await.unwrap();
    assert_opened(journal.hold(hold_of("local", 1, 5)).await.unwrap());
    assert_opened(journal.hold(hold_of("local", 2, 5)).await.unwrap());
    journal.settle(settlement(request(1), used(10, 0, 10))).await.unwrap();
    let journal = home.crash(journal).await;
    journal.expire_holds(vec![request(2)], LossReason::ProcessLost, at(6)).await.unwrap();
    let standings = journal.standings(None, at(7)).await.unwrap();
    assert_eq!((standings[0].spent, standings[0].held), (Amount(170), Amount(0)));
    // The dead process' grant is folded into nobody's share, so that 830 tokens fit to the last one.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    journal.tend(at(8)).await.unwrap();
    let mut all = hold_of("local", 3, 9);
    all.estimate = used(830, 0, 0);
    if !matches!(journal.hold(all.clone()).await.unwrap(), HoldOutcome::Opened(..)) {
        // Servers that share a database are sure of a death only after a while of silence.
        assert!(home.url().starts_with("postgres"));
    }
    all.request = request(4);
    shortage(journal.hold(all).await.unwrap());
    assert_sound(&journal).await;
}

#[tokio::test]
async fn each_threshold_raises_one_alert_in_each_window() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let thresholds = vec![50, 100];
    journal.set_limit(NewLimit { thresholds, ..limit("local", "requests", 4, "day") }).await.unwrap();
    let mut raised = Vec::new();
    for number in 1..=4 {
        assert_opened(journal.hold(hold_of("local", number, 5)).await.unwrap());
        journal.settle(settlement(request(number), used(1, 0, 1))).await.unwrap();
        raised.push(journal.tend(at(6)).await.unwrap());
    }
    assert_eq!(raised, [0, 1, 0, 1]);
    let alerts = journal.take_alerts(at(7), 10).await.unwrap();
    let mut told: Vec<(u8, i64, i64)> =
        alerts.iter().map(|alert| (alert.threshold, alert.spent.0, alert.tries)).collect();
    told.sort();
    assert_eq!(told, [(50, 2, 1), (100, 4, 1)]);
    assert!(journal.take_alerts(at(8), 10).await.unwrap().is_empty(), "somebody is about it");
    journal.alert_delivered(alerts[0].clone(), at(9)).await.unwrap();
    let again = journal.take_alerts(at(5_007), 10).await.unwrap();
    assert_eq!(
        again.iter().map(|alert| (alert.threshold, alert.tries)).collect::<Vec<_>>(),
        [(alerts[1].threshold, 2)]
    );
    // The next day has alerts of its own; the old ones are not raised anew after a restart.
    let journal = home.crash(journal).await;
    assert_eq!(journal.tend(at(5_008)).await.unwrap(), 0);
    for number in 11..=12 {
        assert_opened(journal.hold(hold_of("local", number, DAY_MS)).await.unwrap());
        journal.settle(settlement(request(number), used(1, 0, 1))).await.unwrap();
    }
    assert_eq!(journal.tend(at(DAY_MS + 1)).await.unwrap(), 1);
}

#[tokio::test]
async fn what_was_served_meanwhile_is_counted_beyond_the_limit_and_the_next_is_refused() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("acme", "tokens", 200, "day")).await.unwrap();
    for number in 1..=2 {
        assert_opened(journal.hold_served(hold_of("acme", number, 5)).await.unwrap());
        journal.settle(settlement(request(number), used(100, 0, 50))).await.unwrap();
    }
    let again = journal.hold_served(hold_of("acme", 1, 7)).await.unwrap();
    assert!(matches!(again, HoldOutcome::AlreadyEnded(..)), "{again:?}");
    let standing = journal.standings(None, at(8)).await.unwrap().remove(0);
    assert_eq!((standing.spent, standing.remaining), (Amount(300), Amount(0)), "the overshoot is visible");
    shortage(journal.hold(hold_of("acme", 3, 9)).await.unwrap());
    assert!(journal.check_integrity().await.unwrap().is_sound());
}
