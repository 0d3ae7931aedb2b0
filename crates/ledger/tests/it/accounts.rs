//! Accounts: paths that are described, listed by subtree, closed and opened again.

use ledger::{AccountChange, AccountKind, AccountQuery, Journal, LedgerError, NewAccount};

use super::support::*;

fn new(path: &str) -> NewAccount {
    let kind = AccountKind::Team;
    NewAccount { account: path.into(), kind, display_name: None, cost_centre: None, at: at(5) }
}

async fn listed(journal: &Journal, query: AccountQuery) -> Vec<String> {
    journal.accounts(&query).await.unwrap().into_iter().map(|record| record.account.to_string()).collect()
}

fn all() -> AccountQuery {
    AccountQuery { limit: 100, ..AccountQuery::default() }
}

#[tokio::test]
async fn an_account_is_made_once_and_described_anew() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let named = NewAccount { display_name: Some("Research".into()), ..new("acme/research") };
    let record = journal.create_account(named).await.unwrap();
    assert_eq!((record.kind, record.created_at), (Some(AccountKind::Team), Some(at(5))));
    let again = journal.create_account(new("acme/research")).await.unwrap_err();
    assert_eq!(again, LedgerError::AccountExists { account: "acme/research".into() });
    let change = AccountChange {
        kind: Some(AccountKind::App),
        display_name: None,
        cost_centre: Some(Some("K-17".into())),
    };
    let changed = journal.change_account("acme/research".into(), change).await.unwrap();
    assert_eq!(changed.display_name.as_deref(), Some("Research"), "what is not named stays");
    assert_eq!(journal.account(&"acme/research".into()).await.unwrap(), Some(changed));
    let missing = journal.change_account("acme/reserch".into(), AccountChange::default()).await.unwrap_err();
    assert_eq!(missing, LedgerError::NoSuchAccount { account: "acme/reserch".into() });
    let bad = journal.create_account(new("acme/a b")).await.unwrap_err();
    assert!(bad.to_string().contains("' ' is not allowed"), "{bad}");
}

#[tokio::test]
async fn an_account_that_was_only_booked_to_can_still_be_described() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.hold(hold(request(1))).await.unwrap();
    let before = journal.account(&"local".into()).await.unwrap().unwrap();
    assert_eq!((before.kind, before.created_at), (None, None));
    let after = journal.create_account(new("local")).await.unwrap();
    assert_eq!((after.kind, after.created_at), (Some(AccountKind::Team), Some(at(5))));
    assert_sound(&journal).await;
}

#[tokio::test]
async fn a_subtree_is_listed_by_whole_segments_page_by_page() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    for path in ["acme", "acme/research", "acme/research/bot", "acme-evil", "acme0", "globex"] {
        journal.create_account(new(path)).await.unwrap();
    }
    journal.close_account("acme/research/bot".into(), Some(at(9))).await.unwrap();
    let within = |top: &str| AccountQuery { within: Some(top.into()), ..all() };
    assert_eq!(listed(&journal, within("acme")).await, ["acme", "acme/research"]);
    let with_closed = AccountQuery { with_closed: true, ..within("acme/research") };
    assert_eq!(listed(&journal, with_closed).await, ["acme/research", "acme/research/bot"]);
    assert_eq!(listed(&journal, all()).await, ["acme", "acme-evil", "acme/research", "acme0", "globex"]);
    let second = AccountQuery { after: Some("acme-evil".into()), limit: 2, ..all() };
    assert_eq!(listed(&journal, second).await, ["acme/research", "acme0"]);
}

#[tokio::test]
async fn closing_twice_keeps_the_first_time_and_reopening_forgets_it() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.create_account(new("acme")).await.unwrap();
    let close = async |time| journal.close_account("acme".into(), time).await.unwrap().closed_at;
    assert_eq!(close(Some(at(7))).await, Some(at(7)));
    assert_eq!(close(Some(at(8))).await, Some(at(7)));
    assert_eq!(close(None).await, None);
}
