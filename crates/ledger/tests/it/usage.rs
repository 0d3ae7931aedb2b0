//! What the statements say.

use std::collections::BTreeMap;

use ledger::price::TierPrice;
use ledger::{
    AccountKind, Circumstances, ContextTier, Dimension, Hold, Journal, LedgerError, LossReason, Month,
    NewAccount, PriceChange, Rates, RequestPlace, ServiceTier, Sheet, TaskPath, Timestamp, UsageQuery,
    statement,
};

use super::support::*;

const DAY_MS: i64 = 86_400_000;

#[tokio::test]
async fn usage_counts_priced_unpriced_unknown_and_open_requests_apart() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let change = PriceChange { model: "priced".into(), sheet: sheet(), valid_from: at(0) };
    journal.set_prices(vec![change]).await.unwrap();
    for (number, model) in [(1, "priced"), (2, "priced"), (3, "free"), (4, "free"), (5, "free"), (6, "free")]
    {
        let mut hold = hold(request(number));
        hold.model = model.into();
        journal.hold(hold).await.unwrap();
    }
    journal.settle(settlement(request(1), used(100, 900, 10))).await.unwrap();
    journal.release(release(request(2))).await.unwrap();
    journal.settle(settlement(request(3), used(7, 0, 3))).await.unwrap();
    journal.settle(settlement(request(4), used(0, 0, 0))).await.unwrap();
    journal.expire_holds(vec![request(5)], LossReason::ProcessLost, at(3_000)).await.unwrap();

    let by_model = UsageQuery { by: vec![Dimension::Model], ..UsageQuery::default() };
    let rows = journal.usage(&by_model).await.unwrap();
    let [free, priced] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&free.names[..], &priced.names[..]), (&["free".to_owned()][..], &["priced".to_owned()][..]));
    let (free, priced) = (&free.sums, &priced.sums);
    assert_eq!((free.requests, free.open_requests, free.unknown_requests), (4, 1, 0));
    // What a dead process held is an estimate, and never added to what was measured; one request used nothing.
    assert_eq!((free.unpriced.requests, free.unpriced.usage), (1, used(7, 0, 3)));
    assert_eq!((free.estimated.requests, free.estimated_unpriced_requests), (1, 1));
    assert_eq!(free.estimated.usage, used(100, 0, 50));
    assert!(free.priced.is_nothing());
    assert_eq!((priced.requests, priced.priced.requests), (2, 1));
    assert_eq!(
        (priced.priced.usage, priced.priced.cost.to_string().as_str()),
        (used(100, 900, 10), "0.00023")
    );

    let by_end = UsageQuery { by: vec![Dimension::End], ..UsageQuery::default() };
    let ends: Vec<_> = journal
        .usage(&by_end)
        .await
        .unwrap()
        .into_iter()
        .map(|row| (row.names[0].clone(), row.sums.requests))
        .collect();
    let expected = [("complete", 3), ("lost", 1), ("open", 1), ("refused", 1)];
    assert_eq!(ends, expected.map(|(end, requests)| (end.to_owned(), requests)));
}

#[tokio::test]
async fn days_begin_at_midnight_utc_and_the_end_of_a_range_is_outside() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    for (number, millis) in [(1, -1), (2, 0), (3, DAY_MS - 1), (4, DAY_MS)] {
        let mut hold = hold(request(number));
        hold.at = at(millis);
        journal.hold(hold).await.unwrap();
    }
    let query = UsageQuery { by: vec![Dimension::Day], ..UsageQuery::default() };
    let days = journal.usage(&query).await.unwrap();
    let days: Vec<_> = days.iter().map(|row| (row.names[0].clone(), row.sums.requests)).collect();
    assert_eq!(
        days,
        [("1969-12-31".to_owned(), 1), ("1970-01-01".to_owned(), 2), ("1970-01-02".to_owned(), 1)]
    );
    let first_day = UsageQuery { since: at(0), until: at(DAY_MS), ..UsageQuery::default() };
    assert_eq!(journal.usage(&first_day).await.unwrap()[0].sums.requests, 2);
    let empty = UsageQuery { since: at(DAY_MS * 9), until: at(DAY_MS * 10), ..UsageQuery::default() };
    assert!(journal.usage(&empty).await.unwrap().is_empty());
}

#[tokio::test]
async fn sums_beyond_64_bits_are_exact() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    // 9 USD a token: one entry of 1,000,000 tokens is 9 million USD, just inside 64 bits of picodollars; three are outside.
    let price = domain::Price::from_pico_per_token(9_000_000_000_000);
    let change = PriceChange {
        model: "tiny".into(),
        sheet: ledger::Sheet::per_token(price, price, price),
        valid_from: at(0),
    };
    journal.set_prices(vec![change]).await.unwrap();
    for number in 1..=3 {
        journal.hold(hold(request(number))).await.unwrap();
        journal.settle(settlement(request(number), used(1_000_000, 0, 0))).await.unwrap();
    }
    let rows = journal.usage(&UsageQuery::default()).await.unwrap();
    assert_eq!(rows[0].sums.priced.cost.to_string(), "27000000.00");
    assert_sound(&journal).await;
}

const HOUR_MS: i64 = 3_600_000;

async fn account(journal: &Journal, path: &str, kind: AccountKind, cost_centre: Option<&str>) {
    let cost_centre = cost_centre.map(str::to_owned);
    let new = NewAccount { account: path.into(), kind, display_name: None, cost_centre, at: at(0) };
    journal.create_account(new).await.unwrap();
}

/// One request that is over: who, what, when, under which circumstances.
async fn booked(journal: &Journal, number: u128, change: impl FnOnce(&mut Hold)) {
    let mut hold = hold(request(number));
    change(&mut hold);
    journal.hold(hold).await.unwrap();
    journal.settle(settlement(request(number), used(100, 900, 10))).await.unwrap();
}

async fn by(journal: &Journal, by: &[Dimension]) -> Vec<(String, u64)> {
    let query = UsageQuery { by: by.to_vec(), ..UsageQuery::default() };
    let rows = journal.usage(&query).await.unwrap();
    rows.into_iter().map(|row| (row.names.join(" "), row.sums.requests)).collect()
}

#[track_caller]
fn expect(rows: Vec<(String, u64)>, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(name, requests)| ((*name).to_owned(), *requests)).collect();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn usage_is_grouped_by_the_nearest_account_of_a_kind_and_by_what_a_request_was() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    account(&journal, "acme", AccountKind::Organisation, Some("K0")).await;
    account(&journal, "acme/research", AccountKind::Team, Some("K1")).await;
    account(&journal, "acme/research/lab", AccountKind::Team, None).await;
    account(&journal, "acme/research/lab/alice", AccountKind::User, None).await;
    booked(&journal, 1, |hold| hold.account = "acme/research/lab/alice".into()).await;
    booked(&journal, 2, |hold| hold.account = "acme/research".into()).await;
    booked(&journal, 3, |hold| {
        hold.account = "acme/sales/bob".into();
        hold.task = Some(TaskPath::parse("run-1/plan/search").unwrap());
    })
    .await;
    booked(&journal, 4, |hold| {
        hold.account = "stranger".into();
        let provider = "openai".into();
        hold.circumstances =
            Circumstances { provider, service_tier: ServiceTier::Batch, region: Some("eu".into()) };
    })
    .await;
    use Dimension::{CostCentre, Organisation, Provider, Region, Team, Tier, User};
    expect(by(&journal, &[Organisation]).await, &[("", 1), ("acme", 3)]);
    expect(by(&journal, &[Team]).await, &[("", 2), ("acme/research", 1), ("acme/research/lab", 1)]);
    expect(by(&journal, &[User]).await, &[("", 3), ("acme/research/lab/alice", 1)]);
    expect(by(&journal, &[CostCentre]).await, &[("", 1), ("K0", 1), ("K1", 2)]);
    expect(by(&journal, &[Provider, Tier, Region]).await, &[("local standard ", 3), ("openai batch eu", 1)]);
    assert_eq!(by(&journal, &[Dimension::Task]).await[0], (String::new(), 3));
    let within = |top: &str| UsageQuery { within: Some(top.into()), ..UsageQuery::default() };
    let requests = |rows: Vec<ledger::UsageRow>| rows.iter().map(|row| row.sums.requests).sum::<u64>();
    assert_eq!(requests(journal.usage(&within("acme/research")).await.unwrap()), 2);
    assert_eq!(requests(journal.usage(&within("acme/res")).await.unwrap()), 0);
}

/// However a range cuts the hours, each request is in it or not: from the sums of whole hours, or one by one.
#[tokio::test]
async fn a_range_that_cuts_hours_counts_each_request_once() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let times: Vec<i64> = (0..10).map(|quarter| 5 * HOUR_MS + quarter * HOUR_MS / 4).collect();
    for (number, millis) in times.iter().enumerate() {
        booked(&journal, number as u128, |hold| hold.at = at(*millis)).await;
    }
    let edges: Vec<i64> = (18..34)
        .map(|quarter| quarter * HOUR_MS / 4 + 1)
        .chain([5 * HOUR_MS, 6 * HOUR_MS, 7 * HOUR_MS])
        .collect();
    for since in &edges {
        for until in edges.iter().filter(|until| *until >= since) {
            let query = UsageQuery { since: at(*since), until: at(*until), ..UsageQuery::default() };
            let counted: u64 = journal.usage(&query).await.unwrap().iter().map(|row| row.sums.requests).sum();
            let expected = times.iter().filter(|time| **time >= *since && **time < *until).count();
            assert_eq!(counted, expected as u64, "{since}..{until}");
        }
    }
}

/// A sheet whose rates differ by the length of the input, at half the price in batches.
fn tiered() -> Sheet {
    let mut sheet = sheet();
    let rates = Rates { output: Some("40".parse().unwrap()), ..sheet.standard.rates };
    sheet.standard.long = vec![ContextTier { above_input_tokens: 500, rates }];
    sheet.tiers.insert(ServiceTier::Batch, TierPrice::Times("0.5".parse().unwrap()));
    sheet
}

#[tokio::test]
async fn a_closed_month_stays_and_a_new_price_makes_a_view_beside_it() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let month = Month::of(at(0));
    account(&journal, "acme", AccountKind::Organisation, Some("K0")).await;
    journal
        .set_prices(vec![PriceChange { model: "tiny".into(), sheet: tiered(), valid_from: at(0) }])
        .await
        .unwrap();
    booked(&journal, 1, |hold| hold.account = "acme/a".into()).await;
    booked(&journal, 2, |hold| {
        hold.account = "acme/a".into();
        hold.circumstances.service_tier = ServiceTier::Batch;
    })
    .await;
    let charges = journal.charges(month.start(), month.end()).await.unwrap();
    assert!(
        charges
            .iter()
            .all(|charge| charge.above_input_tokens == 500 && charge.cost_centre.as_deref() == Some("K0"))
    );
    let statement = statement::statement(month, &charges, &BTreeMap::new());
    // 100 × 1 + 900 × 0.1 + 10 × 40 = 590 millionths, and half of it.
    assert_eq!(statement.due().to_string(), "0.000885");
    journal.close_month(statement.clone(), at(9_000), None).await.unwrap();
    booked(&journal, 3, |hold| hold.account = "acme/a".into()).await;
    let again = journal.close_month(statement.clone(), at(9_001), None).await;
    assert_eq!(again, Err(LedgerError::MonthClosed { month: "1970-01".into() }));
    assert_eq!(journal.closed_month(month).await.unwrap(), Some(statement));
    assert_eq!(journal.closed_months().await.unwrap(), [month]);

    let dearer = PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: Timestamp::MIN };
    let mut repricing = ledger::price::Repricing::new(vec![dearer]);
    let (rows, next) =
        journal.requests_between(month.start(), month.end(), RequestPlace::default()).await.unwrap();
    assert_eq!((rows.len(), next), (3, None));
    rows.iter().for_each(|row| repricing.add(row, &Default::default()));
    let view = statement::statement(month, &repricing.charges(), &BTreeMap::new());
    // The batch has no price on that sheet, so it is told as unpriced, and two requests cost 230 millionths each.
    assert_eq!((view.due().to_string(), view.unpriced().requests), ("0.00046".to_owned(), 1));
    assert_sound(&journal).await;
}
