//! Nobody rewrites the book, and whoever gets past its guards is found out.

use ledger::{Grow, PriceChange};

use super::support::*;

#[tokio::test]
async fn nobody_changes_or_deletes_what_is_booked() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let change = PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) };
    journal.set_prices(vec![change]).await.unwrap();
    journal.hold(hold(request(1))).await.unwrap();
    journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
    for sql in [
        "UPDATE entry SET money = 0",
        "DELETE FROM entry",
        "UPDATE ending SET cost = 0",
        "DELETE FROM ending",
        "UPDATE hold SET account = 1",
        "DELETE FROM hold",
        "UPDATE price SET sheet = '{}'",
        "DELETE FROM price",
    ] {
        let error = home.meddle(sql).await.unwrap_err().to_string();
        assert!(error.contains("the book is append-only"), "{sql}: {error}");
    }
    assert_sound(&journal).await;
}

#[tokio::test]
async fn the_integrity_check_finds_what_was_tampered_with() {
    for (sql, finding) in [
        ("UPDATE entry SET output = output + 1 WHERE line = 1", "its entries are not those"),
        ("DELETE FROM entry WHERE line = 3", "its entries are not those"),
        ("UPDATE entry SET money = money + 1 WHERE line = 1", "it grew by other money than its price"),
        ("UPDATE ending SET cost = 1", "its cost is written as"),
        ("UPDATE entry SET from_account = 2 WHERE line = 0", "its entries are not those"),
        ("DELETE FROM ending", "are listed as open"),
        ("INSERT INTO open_hold (hold) SELECT id FROM hold", "have ended"),
        (
            "INSERT INTO entry (hold, line, from_account, to_account, input_uncached, cache_read, cache_write_5m, \
             cache_write_1h, output, compute_us, money) VALUES (77, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0)",
            "entries are written",
        ),
        ("UPDATE rollup SET output = output + 1", "their rollup says"),
        ("DELETE FROM rollup", "their rollup says"),
        ("UPDATE rollup SET hour = hour + 1", "but no request"),
    ] {
        let Some(home) = Home::new() else { return };
        let journal = home.open().await;
        let change = PriceChange { model: "tiny".into(), sheet: sheet(), valid_from: at(0) };
        journal.set_prices(vec![change]).await.unwrap();
        journal.hold(hold(request(1))).await.unwrap();
        journal.grow(Grow { request: request(1), estimate: used(100, 0, 80), at: at(1_500) }).await.unwrap();
        journal.settle(settlement(request(1), used(1, 0, 1))).await.unwrap();
        assert_sound(&journal).await;
        home.tamper(sql).await;
        let faults = journal.check_integrity().await.unwrap().faults;
        assert!(faults.iter().any(|fault| fault.contains(finding)), "{sql}: {faults:?}");
    }
}
