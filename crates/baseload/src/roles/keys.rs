//! `baseload keys`: who may come in from elsewhere.

use anyhow::Context;
use domain::Account;
use ledger::{Journal, KeyId, NewKey, Timestamp};

use crate::cli::{KeysCommand, Place};
use crate::place;

pub async fn keys(command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create { place, name, account } => create(&place, name, account).await,
        KeysCommand::List { place } => list(&place).await,
        KeysCommand::Revoke { place, id } => revoke(&place, id).await,
    }
}

async fn create(place: &Place, name: String, account: Option<String>) -> anyhow::Result<()> {
    anyhow::ensure!(!name.trim().is_empty(), "--name must not be empty");
    let mut random = [0; 32];
    rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut random)
        .context("the operating system gives no randomness")?;
    let account = Account::new(account.unwrap_or_else(|| name.clone()));
    let journal = open(place).await?;
    let key = journal.create_key(NewKey::member(name, account, random, now())).await?;
    println!("{}", key.secret.reveal());
    eprintln!(
        "key {} is booked to the account {}. The secret above is shown once; only its hash is kept.",
        key.record.id.0, key.record.account
    );
    journal.close().await;
    Ok(())
}

async fn list(place: &Place) -> anyhow::Result<()> {
    let journal = open(place).await?;
    let keys = journal.keys(&ledger::KeyQuery { limit: usize::MAX, ..Default::default() }).await?;
    if keys.is_empty() {
        println!("no keys; make one with: baseload keys create --name alice");
    }
    for key in keys {
        let state = key.revoked_at.map_or("active".into(), |at| format!("revoked {at}"));
        println!("{}  {}  account {}  created {}  {state}", key.id.0, key.name, key.account, key.created_at);
    }
    journal.close().await;
    Ok(())
}

async fn revoke(place: &Place, id: String) -> anyhow::Result<()> {
    let journal = open(place).await?;
    let key = journal.revoke_key(KeyId(id), now()).await?;
    println!("{} ({}) is revoked", key.id.0, key.name);
    journal.close().await;
    Ok(())
}

async fn open(place: &Place) -> anyhow::Result<Journal> {
    Ok(Journal::attach(&place::ledger_path(place)?).await?)
}

fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}
