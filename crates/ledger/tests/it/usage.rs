//! What the statements say.

use domain::UsageEnd;
use ledger::{Dimension, LossReason, PriceChange, ReleaseReason, RequestEnd, UsageQuery};

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
    assert_eq!(free.model.as_ref().unwrap().as_str(), "free");
    assert_eq!((free.requests, free.open_requests), (4, 1));
    assert_eq!((free.unknown_requests, free.unpriced_requests), (0, 2));
    assert_eq!((free.usage, free.cost.to_string().as_str()), (used(107, 0, 53), "0.00"));
    assert_eq!((priced.requests, priced.unpriced_requests), (2, 0));
    assert_eq!((priced.usage, priced.cost.to_string().as_str()), (used(100, 900, 10), "0.00023"));

    let by_end = UsageQuery { by: vec![Dimension::End], ..UsageQuery::default() };
    let ends: Vec<_> = journal
        .usage(&by_end)
        .await
        .unwrap()
        .into_iter()
        .map(|row| (row.end.unwrap(), row.requests))
        .collect();
    assert_eq!(
        ends,
        [
            (RequestEnd::Open, 1),
            (RequestEnd::Settled(UsageEnd::Complete), 3),
            (RequestEnd::Released(ReleaseReason::Refused), 1),
            (RequestEnd::Lost, 1),
        ]
    );
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
    let days: Vec<_> = days.iter().map(|row| (row.day.unwrap().to_string(), row.requests)).collect();
    assert_eq!(
        days,
        [("1969-12-31".to_owned(), 1), ("1970-01-01".to_owned(), 2), ("1970-01-02".to_owned(), 1)]
    );
    let first_day = UsageQuery { by: vec![], since: at(0), until: at(DAY_MS) };
    assert_eq!(journal.usage(&first_day).await.unwrap()[0].requests, 2);
    let empty = UsageQuery { by: vec![], since: at(DAY_MS * 9), until: at(DAY_MS * 10) };
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
    assert_eq!(rows[0].cost.to_string(), "27000000.00");
    assert_sound(&journal).await;
}
