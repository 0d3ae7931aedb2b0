//! Keys: shown once, stored hashed, narrowed, rotated, revoked at once.

use std::time::Duration;

use ledger::{
    FoundKey, Journal, KeyId, KeyQuery, KeyRecord, KeyState, LedgerError, NewAccount, NewKey, Pattern, Role,
    Rotation, Scopes,
};

use super::support::*;

fn new_key(name: &str, seed: u8) -> NewKey {
    NewKey::member(name, "team-a".into(), [seed; 32], at(5))
}

async fn found(journal: &Journal, secret: &str) -> Option<KeyRecord> {
    journal.find_key(secret).await.unwrap().map(|found| found.record)
}

async fn names(journal: &Journal, query: KeyQuery) -> Vec<String> {
    journal.keys(&query).await.unwrap().into_iter().map(|key| key.name).collect()
}

#[tokio::test]
async fn a_key_opens_its_account_until_it_is_revoked() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    assert!(!journal.any_key_exists().await.unwrap());
    let key = journal.create_key(new_key("laptop", 1)).await.unwrap();
    assert!(journal.any_key_exists().await.unwrap());
    let record = found(&journal, key.secret.reveal()).await.unwrap();
    assert_eq!((record.account.as_str(), record.name.as_str()), ("team-a", "laptop"));
    assert_eq!(record.state(at(6)), KeyState::Active);
    assert_eq!(found(&journal, "bl-guessed").await, None);
    assert_eq!(found(&journal, &key.record.id.0).await, None);

    let revoked = journal.revoke_key(key.record.id.clone(), at(9)).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(at(9)));
    assert_eq!(found(&journal, key.secret.reveal()).await.unwrap().state(at(9)), KeyState::Revoked);
    assert!(!journal.any_key_exists().await.unwrap());
    let again = journal.revoke_key(key.record.id.clone(), at(11)).await.unwrap();
    assert_eq!(again.revoked_at, Some(at(9)), "the first revocation is the one that counts");
    assert_eq!(journal.key(&key.record.id).await.unwrap(), Some(again));
}

#[tokio::test]
async fn what_a_key_may_comes_back_as_it_was_written() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let patterns = |names: &[&str]| Some(names.iter().map(|name| Pattern::new(*name)).collect());
    let scopes =
        Scopes { models: patterns(&["small", "gpt-5*"]), regions: patterns(&["eu"]), ..Scopes::EVERYTHING };
    let key = journal
        .create_key(NewKey {
            role: Role::Admin,
            scopes: scopes.clone(),
            expires_at: Some(at(99)),
            created_by: Some(KeyId("key-maker".into())),
            ..new_key("laptop", 1)
        })
        .await
        .unwrap();
    let record = found(&journal, key.secret.reveal()).await.unwrap();
    assert_eq!(record, key.record);
    assert_eq!((record.role, &record.scopes, record.expires_at), (Role::Admin, &scopes, Some(at(99))));
    assert_eq!(record.created_by, Some(KeyId("key-maker".into())));
}

#[tokio::test]
async fn the_secret_is_nowhere_in_the_store() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let key = journal.create_key(new_key("laptop", 0xc4)).await.unwrap();
    let rotation = Rotation { id: key.record.id, overlap: Duration::ZERO, created_by: None, at: at(6) };
    let rotated = journal.rotate_key(rotation, &[0xc5; 32]).await.unwrap();
    journal.close().await;
    let digits = |secret: &str| secret.trim_start_matches("bl-").as_bytes().to_vec();
    let (first, second) = (digits(key.secret.reveal()), digits(rotated.secret.reveal()));
    let bytes = home.all_bytes().await;
    for needle in [&first[..], &[0xc4; 32], &second[..], &[0xc5; 32]] {
        assert!(!bytes.windows(needle.len()).any(|window| window == needle));
    }
}

#[tokio::test]
async fn a_rotated_key_and_its_successor_both_open_for_the_overlap() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let old = journal.create_key(NewKey { role: Role::Viewer, ..new_key("ci", 1) }).await.unwrap();
    let rotate = |id: &KeyId, at_ms| {
        let overlap = Duration::from_millis(50);
        Rotation { id: id.clone(), overlap, created_by: None, at: at(at_ms) }
    };
    let new = journal.rotate_key(rotate(&old.record.id, 100), &[2; 32]).await.unwrap();
    assert_eq!((new.record.name.as_str(), new.record.role), ("ci", Role::Viewer));
    assert_eq!(new.record.rotated_from, Some(old.record.id.clone()));
    let state = async |secret: &str, now| found(&journal, secret).await.unwrap().state(at(now));
    assert_eq!(state(old.secret.reveal(), 149).await, KeyState::Active);
    assert_eq!(state(old.secret.reveal(), 150).await, KeyState::Expired);
    assert_eq!(state(new.secret.reveal(), 150).await, KeyState::Active);

    let twice = journal.rotate_key(rotate(&old.record.id, 120), &[3; 32]).await.unwrap_err();
    assert_eq!(twice, LedgerError::KeyReplaced { id: old.record.id.0.clone(), by: new.record.id.0.clone() });
    let late = journal.rotate_key(rotate(&old.record.id, 200), &[3; 32]).await.unwrap_err();
    assert_eq!(late, LedgerError::KeyNotActive { id: old.record.id.0.clone(), state: "expired" });
    let name = journal.create_key(new_key("ci", 4)).await.unwrap_err();
    assert_eq!(name, LedgerError::KeyNameTaken { name: "ci".into() });
    journal.rotate_key(rotate(&new.record.id, 200), &[5; 32]).await.unwrap();
}

#[tokio::test]
async fn two_keys_of_an_account_never_share_a_name_and_a_revoked_one_gives_its_name_back() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    let first = journal.create_key(new_key("laptop", 1)).await.unwrap();
    let error = journal.create_key(new_key("laptop", 2)).await.unwrap_err();
    assert_eq!(error, LedgerError::KeyNameTaken { name: "laptop".into() });
    journal.create_key(NewKey { account: "team-b".into(), ..new_key("laptop", 3) }).await.unwrap();
    journal.revoke_key(first.record.id, at(6)).await.unwrap();
    journal.create_key(new_key("laptop", 2)).await.unwrap();
    let error = journal.revoke_key(KeyId("key-none".into()), at(7)).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no key \"key-none\"");
}

#[tokio::test]
async fn a_key_of_a_closed_account_or_below_one_says_which() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    for account in ["acme", "acme/research"] {
        let (kind, at) = (ledger::AccountKind::Team, at(1));
        let new = NewAccount { account: account.into(), kind, display_name: None, cost_centre: None, at };
        journal.create_account(new).await.unwrap();
    }
    let key =
        journal.create_key(NewKey { account: "acme/research".into(), ..new_key("bot", 1) }).await.unwrap();
    let closed = async || {
        let FoundKey { closed, .. } = journal.find_key(key.secret.reveal()).await.unwrap().unwrap();
        closed.map(|account| account.to_string())
    };
    assert_eq!(closed().await, None);
    journal.close_account("acme".into(), Some(at(7))).await.unwrap();
    assert_eq!(closed().await.as_deref(), Some("acme"));
    journal.close_account("acme".into(), None).await.unwrap();
    journal.close_account("acme/research".into(), Some(at(8))).await.unwrap();
    assert_eq!(closed().await.as_deref(), Some("acme/research"));
}

#[tokio::test]
async fn a_subtree_lists_its_own_keys_page_by_page() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    for (seed, account, name) in [
        (1, "acme/research", "one"),
        (2, "acme", "two"),
        (3, "acme-evil", "three"),
        (4, "acme/research/bot", "four"),
    ] {
        journal.create_key(NewKey { account: account.into(), ..new_key(name, seed) }).await.unwrap();
    }
    let within = |account: &str| KeyQuery { within: Some(account.into()), limit: 9, ..KeyQuery::default() };
    let sorted = async |query| {
        let mut names = names(&journal, query).await;
        names.sort();
        names
    };
    assert_eq!(sorted(within("acme")).await, ["four", "one", "two"]);
    assert_eq!(sorted(within("acme/research")).await, ["four", "one"]);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = journal.keys(&KeyQuery { after, limit: 3, ..KeyQuery::default() }).await.unwrap();
        seen.extend(page.iter().map(|key| key.name.clone()));
        after = page.last().map(|key| key.id.clone());
        if page.len() < 3 {
            break;
        }
    }
    seen.sort();
    assert_eq!(
        seen,
        ["four", "one", "three", "two"],
        "all were made in one millisecond, and each comes once"
    );
}

#[tokio::test]
async fn a_tool_beside_the_server_makes_and_revokes_keys_that_the_server_sees_at_once() {
    let Some(home) = Home::new() else { return };
    let server = home.open().await;
    let tool = home.attach().await;
    let key = tool.create_key(new_key("laptop", 3)).await.unwrap();
    assert!(found(&server, key.secret.reveal()).await.is_some());
    tool.revoke_key(key.record.id, at(8)).await.unwrap();
    assert_eq!(found(&server, key.secret.reveal()).await.unwrap().state(at(8)), KeyState::Revoked);
}

#[tokio::test]
async fn a_key_that_repeats_another_ones_randomness_fails_alone() {
    let Some(home) = Home::new() else { return };
    let journal = home.open().await;
    journal.create_key(new_key("first", 4)).await.unwrap();
    let (twin, neighbour) =
        tokio::join!(journal.create_key(new_key("second", 4)), journal.hold(hold(request(1))));
    assert!(twin.is_err());
    neighbour.unwrap();
    assert_sound(&journal).await;
}
