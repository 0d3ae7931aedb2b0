//! Answers that are given again: nothing is used, what is saved is told, and every limit still counts the request.

use domain::{Money, Usage};
use ledger::{
    Action, Amount, Circumstances, Dimension, Grow, HoldOutcome, How, LedgerError, Month, NewLimit,
    PriceChange, SaveOutcome, SavedBy, Saving, TaskPath, Timestamp, UsageQuery, statement,
};

use super::support::*;

/// 100 input and 20 output tokens: 0.00018 USD.
fn saving(number: u128, way: SavedBy) -> Saving {
    Saving {
        request: request(number),
        account: "local".into(),
        key: None,
        task: None,
        end_user: None,
        model: "tiny".into(),
        circumstances: Circumstances::default(),
        usage: used(100, 0, 20),
        at: at(1_000),
        way,
    }
}

fn limit(measure: &str, amount: i64) -> NewLimit {
    NewLimit {
        name: Some(measure.to_owned()),
        scope: "local".parse().unwrap(),
        measure: measure.parse().unwrap(),
        amount: Amount(amount),
        window: if measure == "concurrency" { "total" } else { "day" }.parse().unwrap(),
        action: Action::Refuse,
        thresholds: Vec::new(),
        at: at(0),
    }
}

fn priced() -> Vec<PriceChange> {
    vec![PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) }]
}

fn booked(outcome: SaveOutcome) -> ledger::EndOutcome {
    match outcome {
        SaveOutcome::Booked(end, _) => end,
        SaveOutcome::Refused(shortage) => panic!("it was refused: {shortage:?}"),
    }
}

#[tokio::test]
async fn a_hit_uses_nothing_and_says_what_it_saved_after_a_restart_too() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_prices(priced()).await.unwrap();
    let end = booked(journal.save(saving(1, SavedBy::Cache)).await.unwrap());
    assert!(!end.repeated);
    assert_eq!(end.ending.usage(), Some(Usage::default()));
    assert_eq!(end.ending.cost, Some(Money::ZERO));
    assert_eq!(end.ending.saved(), Some((used(100, 0, 20), Some(Money::from_pico(180_000_000)))));
    journal.close().await;

    let journal = home.open().await;
    let row = journal.requests(&[request(1)]).await.unwrap().remove(0);
    assert_eq!(row.ending, Some(end.ending));
    assert!(journal.open_holds().await.unwrap().is_empty());
    assert_sound(&journal).await;
}

#[tokio::test]
async fn saving_twice_is_saving_once() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("requests", 1)).await.unwrap();
    let first = booked(journal.save(saving(1, SavedBy::Cache)).await.unwrap());
    let again = booked(journal.save(saving(1, SavedBy::Twin)).await.unwrap());
    assert!(again.repeated);
    assert_eq!(again.ending, first.ending);
    // An end is an end: what was saved is not settled, and what was settled is not saved.
    assert!(journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap().repeated);
    assert!(matches!(journal.hold(hold(request(1))).await.unwrap(), HoldOutcome::AlreadyEnded(..)));
    let rows = journal.usage(&UsageQuery::default()).await.unwrap();
    assert_eq!((rows[0].sums.requests, rows[0].sums.saved.requests), (1, 1));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_saving_counts_as_a_request_and_takes_no_tokens_and_no_money() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_prices(priced()).await.unwrap();
    for (measure, amount) in [("requests", 2), ("tokens", 1), ("money", 1), ("concurrency", 1)] {
        journal.set_limit(limit(measure, amount)).await.unwrap();
    }
    let SaveOutcome::Booked(_, standings) = journal.save(saving(1, SavedBy::Cache)).await.unwrap() else {
        panic!("it takes one request of two")
    };
    assert_eq!(standings.len(), 4, "its caller is told how all its limits stand");
    booked(journal.save(saving(2, SavedBy::Cache)).await.unwrap());
    let SaveOutcome::Refused(shortage) = journal.save(saving(3, SavedBy::Cache)).await.unwrap() else {
        panic!("two requests are all there is")
    };
    assert_eq!(shortage.limit.name, "requests");
    let spent: Vec<_> = journal.standings(None, at(1_000)).await.unwrap();
    let spent: Vec<_> = spent
        .iter()
        .map(|standing| (standing.limit.name.as_str(), standing.spent.0, standing.held.0))
        .collect();
    assert_eq!(spent, [("requests", 2, 0), ("tokens", 0, 0), ("money", 0, 0), ("concurrency", 0, 0)]);
    assert!(journal.requests(&[request(3)]).await.unwrap().is_empty(), "what was refused is not booked");
    assert_sound(&journal).await;
}

#[tokio::test]
async fn while_another_request_has_the_last_place_a_hit_has_none() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("concurrency", 1)).await.unwrap();
    journal.hold(hold(request(1))).await.unwrap();
    assert!(matches!(journal.save(saving(2, SavedBy::Cache)).await.unwrap(), SaveOutcome::Refused(_)));
    journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    booked(journal.save(saving(2, SavedBy::Cache)).await.unwrap());
}

#[tokio::test]
async fn a_twin_waits_with_a_hold_of_nothing_that_ends_as_saved() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_prices(priced()).await.unwrap();
    journal.set_limit(limit("money", 1_000_000_000)).await.unwrap();
    let waiting = saving(1, SavedBy::Twin).hold();
    assert!(matches!(journal.hold(waiting).await.unwrap(), HoldOutcome::Opened(..)));
    let end = booked(journal.save(Saving { at: at(2_000), ..saving(1, SavedBy::Twin) }).await.unwrap());
    assert!(matches!(end.ending.how, How::Saved { way: SavedBy::Twin, .. }));

    // One that had held for work of its own gets all of it back.
    journal.hold(hold(request(2))).await.unwrap();
    booked(journal.save(saving(2, SavedBy::Twin)).await.unwrap());
    let standing = journal.standings(None, at(3_000)).await.unwrap().remove(0);
    assert_eq!((standing.spent, standing.held), (Amount(0), Amount(0)));

    // One whose leader left grows to a hold of its own and settles.
    journal.hold(saving(3, SavedBy::Twin).hold()).await.unwrap();
    journal.grow(Grow { request: request(3), estimate: used(100, 0, 50), at: at(2_000) }).await.unwrap();
    let settled = journal.settle(settlement(request(3), used(100, 0, 20))).await.unwrap();
    assert_eq!(settled.ending.cost, Some(Money::from_pico(180_000_000)));
    let sums = journal.usage(&UsageQuery::default()).await.unwrap().remove(0).sums;
    assert_eq!((sums.requests, sums.priced.requests, sums.saved.requests), (3, 1, 2));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn without_a_price_a_hit_passes_a_money_limit_and_work_does_not() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_limit(limit("money", 1_000)).await.unwrap();
    let end = booked(journal.save(saving(1, SavedBy::Cache)).await.unwrap());
    assert_eq!(end.ending.saved(), Some((used(100, 0, 20), None)), "unpriced is not worth nothing");
    journal.hold(saving(2, SavedBy::Twin).hold()).await.unwrap();
    let grow = Grow { request: request(2), estimate: used(100, 0, 50), at: at(2_000) };
    let refused = journal.grow(grow).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Unpriced { .. }), "{refused}");
    booked(journal.save(saving(2, SavedBy::Twin)).await.unwrap());
    let sums = journal.usage(&UsageQuery::default()).await.unwrap().remove(0).sums;
    assert_eq!((sums.saved.requests, sums.saved_unpriced_requests), (2, 2));
    assert!(sums.unpriced.is_nothing(), "what was not used is not unpriced use");
    assert_sound(&journal).await;
}

#[tokio::test]
async fn nobody_saves_on_anothers_hold_or_more_than_an_entry_holds() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    let stranger = Saving { account: "stranger".into(), ..saving(1, SavedBy::Twin) };
    let error = journal.save(stranger).await.unwrap_err();
    assert_eq!(error, LedgerError::DifferentHold { request: request(1), what: "account" });
    let huge = Saving { usage: used(u64::MAX / 2, 0, 1), ..saving(2, SavedBy::Cache) };
    assert!(matches!(journal.save(huge).await.unwrap_err(), LedgerError::TooLarge { .. }));
    assert!(journal.requests(&[request(2)]).await.unwrap().is_empty(), "not even its hold is booked");
    assert_eq!(journal.open_holds().await.unwrap().len(), 1);
    assert_sound(&journal).await;
}

#[tokio::test]
async fn reports_show_what_was_saved_beside_what_was_spent() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_prices(priced()).await.unwrap();
    let task = TaskPath::parse("local/run-1").unwrap();
    let mut worked = hold(request(1));
    worked.task = Some(task.clone());
    journal.hold(worked).await.unwrap();
    journal.settle(settlement(request(1), used(100, 0, 20))).await.unwrap();
    for (number, way) in [(2, SavedBy::Cache), (3, SavedBy::Cache), (4, SavedBy::Twin)] {
        booked(journal.save(Saving { task: Some(task.clone()), ..saving(number, way) }).await.unwrap());
    }

    let by = vec![Dimension::End];
    // Whole hours are read from the sums, ragged ones from the requests: both must say the same.
    for (since, until) in [(Timestamp::MIN, Timestamp::MAX), (at(1), at(1_001))] {
        let rows = journal.usage(&UsageQuery { by: by.clone(), since, until, within: None }).await.unwrap();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                (row.names[0].as_str(), row.sums.priced.cost.to_string(), row.sums.saved.cost.to_string())
            })
            .collect();
        let row = |end, spent: &str, saved: &str| (end, spent.to_owned(), saved.to_owned());
        assert_eq!(
            rows,
            [
                row("cached", "0.00", "0.00036"),
                row("complete", "0.00018", "0.00"),
                row("joined", "0.00", "0.00018")
            ]
        );
    }
    let total = journal.usage(&UsageQuery::default()).await.unwrap().remove(0).sums;
    assert_eq!((total.usage(), total.saved.usage), (used(100, 0, 20), used(300, 0, 60)));

    let own = journal.task_tree(&task).await.unwrap().remove(0).own;
    assert_eq!((own.calls, own.usage, own.cost.to_string().as_str()), (4, used(100, 0, 20), "0.00018"));
    assert_eq!(own.unpriced_calls, 0);

    let charges = journal.charges(Timestamp::MIN, Timestamp::MAX).await.unwrap();
    let month = statement::statement(Month::of(at(0)), &charges, &std::collections::BTreeMap::new());
    assert_eq!(
        (month.due().to_string().as_str(), month.saved().cost.to_string().as_str()),
        ("0.00018", "0.00054")
    );
    let prices = journal.prices().await.unwrap();
    let (rows, left_out) = statement::focus_rows(&charges, &prices, &statement::Issuer::default());
    assert_eq!(statement::focus_billed(&rows).to_string(), "0.00018");
    assert!(left_out.is_nothing());

    // The sums outlive the requests.
    while journal.drop_old_requests(at(7_200_000)).await.unwrap() > 0 {}
    assert_eq!(journal.usage(&UsageQuery::default()).await.unwrap().remove(0).sums, total);
    assert_sound(&journal).await;
}

#[tokio::test]
async fn the_integrity_check_finds_savings_that_were_made_into_spending_or_changed() {
    for (sql, finding) in [
        ("UPDATE ending SET how = 1, source = 1", "its entries are not those"),
        ("UPDATE ending SET cost = cost + 1", "what it saved is written as"),
        ("UPDATE ending SET output = output + 1", "what it saved is written as"),
        ("UPDATE rollup SET how = 1, source = 1", "but no request"),
    ] {
        let Some(home) = Home::new() else { return };
        let journal = home.open().await;
        journal.set_prices(priced()).await.unwrap();
        booked(journal.save(saving(1, SavedBy::Cache)).await.unwrap());
        home.tamper(sql).await;
        let faults = journal.check_integrity().await.unwrap().faults;
        assert!(faults.iter().any(|fault| fault.contains(finding)), "{sql}: {faults:?}");
    }
}

/// Calls that wait are decided in one transaction, a new price among them.
#[tokio::test]
async fn a_price_may_change_among_requests_of_its_model() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.set_prices(priced()).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200 {
        let journal = journal.clone();
        calls.spawn(async move {
            if number % 10 == 0 {
                let price = format!("{}", number + 1).parse().unwrap();
                let sheet = ledger::Sheet::per_token(price, price, price);
                let change = PriceChange { model: "tiny".into(), sheet, valid_from: at(number as i64) };
                journal.set_prices(vec![change]).await.unwrap();
            } else {
                booked(journal.save(saving(number, SavedBy::Cache)).await.unwrap());
            }
        });
    }
    calls.join_all().await;
    assert_sound(&journal).await;
}
