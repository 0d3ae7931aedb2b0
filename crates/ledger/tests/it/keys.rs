//! Keys: shown once, stored hashed, revoked at once.

use ledger::{Journal, KeyId, LedgerError, NewKey};

use crate::support::*;

fn new_key(name: &str, seed: u8) -> NewKey {
    NewKey::member(name, "team-a".into(), [seed; 32], at(5))
}

#[tokio::test]
async fn a_key_opens_its_account_until_it_is_revoked() {
    let home = Home::new();
    let journal = home.open().await;
    assert!(!journal.any_key_exists().await.unwrap());
    let key = journal.create_key(new_key("laptop", 1)).await.unwrap();
    assert!(journal.any_key_exists().await.unwrap());
    let found = journal.find_key(key.secret.reveal()).await.unwrap().unwrap();
    assert_eq!((found.account.as_str(), found.name.as_str()), ("team-a", "laptop"));
    assert_eq!(journal.find_key("bl-guessed").await.unwrap(), None);
    assert_eq!(journal.find_key(&key.record.id.0).await.unwrap(), None);

    let revoked = journal.revoke_key(key.record.id.clone(), at(9)).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(at(9)));
    assert_eq!(journal.find_key(key.secret.reveal()).await.unwrap(), None);
    assert!(!journal.any_key_exists().await.unwrap());
    let again = journal.revoke_key(key.record.id.clone(), at(11)).await.unwrap();
    assert_eq!(again.revoked_at, Some(at(9)), "the first revocation is the one that counts");
    assert_eq!(journal.list_keys().await.unwrap(), [again]);
}

#[tokio::test]
async fn the_secret_is_nowhere_in_the_files() {
    let home = Home::new();
    let journal = home.open().await;
    let key = journal.create_key(new_key("laptop", 0xc4)).await.unwrap();
    journal.close().await;
    let digits = key.secret.reveal().trim_start_matches("bl-").as_bytes().to_vec();
    for file in std::fs::read_dir(home.path().parent().unwrap()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for needle in [&digits[..], &[0xc4; 32]] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    }
}

#[tokio::test]
async fn two_active_keys_never_share_a_name_and_a_revoked_one_gives_its_name_back() {
    let home = Home::new();
    let journal = home.open().await;
    let first = journal.create_key(new_key("laptop", 1)).await.unwrap();
    let error = journal.create_key(new_key("laptop", 2)).await.unwrap_err();
    assert_eq!(error, LedgerError::KeyNameTaken { name: "laptop".into() });
    journal.revoke_key(first.record.id, at(6)).await.unwrap();
    journal.create_key(new_key("laptop", 2)).await.unwrap();
    let error = journal.revoke_key(KeyId("key-none".into()), at(7)).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no key \"key-none\"");
}

#[tokio::test]
async fn a_tool_beside_the_server_makes_and_revokes_keys_that_the_server_sees_at_once() {
    let home = Home::new();
    let server = home.open().await;
    let tool = Journal::attach(&home.path()).await.unwrap();
    let key = tool.create_key(new_key("laptop", 3)).await.unwrap();
    assert!(server.find_key(key.secret.reveal()).await.unwrap().is_some());
    tool.revoke_key(key.record.id, at(8)).await.unwrap();
    assert_eq!(server.find_key(key.secret.reveal()).await.unwrap(), None);
}

#[tokio::test]
async fn a_key_that_repeats_another_ones_randomness_fails_alone() {
    let home = Home::new();
    let journal = home.open().await;
    journal.create_key(new_key("first", 4)).await.unwrap();
    let (twin, neighbour) =
        tokio::join!(journal.create_key(new_key("second", 4)), journal.hold(hold(request(1))));
    assert!(twin.is_err());
    neighbour.unwrap();
    assert_sound(&journal).await;
}
