//! What a configuration file declares of the ledger, and how it is brought about at the start.

use control::admin_api::{Actor, ChangeAccount, CreateAccount, Desk, ShowAccount, UpdateAccount, Verb};
use ledger::price::PriceText;
use ledger::{Journal, Timestamp};

use crate::config::{AccountSetting, LimitSetting};

/// Makes the accounts that are missing, and describes those that are described otherwise. What a file does not name stays.
pub async fn accounts(journal: &Journal, settings: &[AccountSetting]) -> anyhow::Result<()> {
    let (desk, actor) = (Desk::new(journal.clone()), Actor::operator());
    let mut settings: Vec<&AccountSetting> = settings.iter().collect();
    // Parents first, so that each is made as it is declared.
    settings.sort_by(|a, b| a.path.cmp(&b.path));
    for setting in settings {
        let AccountSetting { path, kind, name, cost_centre } = setting.clone();
        let found = match (ShowAccount { account: path.clone() }).perform(&desk, &actor).await {
            Err(error) if error.is_not_found() => None,
            found => Some(found?),
        };
        // Without a kind, nobody has described it: requests were booked to it before it was declared.
        let Some(found) = found.filter(|found| found.kind.is_some()) else {
            let (account, display_name) = (path, name);
            let new = CreateAccount { account, kind, display_name, cost_centre, parents: true };
            new.perform(&desk, &actor).await?;
            continue;
        };
        let is_described = kind.is_none_or(|kind| found.kind == Some(kind))
            && (name.is_none() || found.display_name == name)
            && (cost_centre.is_none() || found.cost_centre == cost_centre);
        if !is_described {
            let update =
                UpdateAccount { kind, display_name: name.map(Some), cost_centre: cost_centre.map(Some) };
            (ChangeAccount { account: path, update }).perform(&desk, &actor).await?;
        }
    }
    Ok(())
}

/// Sets the limits of the file, and ends those that an earlier file declared and this one does not.
pub async fn limits(journal: &Journal, settings: &[LimitSetting], now: Timestamp) -> anyhow::Result<()> {
    let limits = settings.iter().map(|setting| setting.limit(now)).collect::<Result<Vec<_>, _>>();
    journal.declare_limits(limits.map_err(anyhow::Error::msg)?, now).await?;
    Ok(())
}

/// Puts the prices of the file in force; one without a day counts from now on, where it says something new.
pub async fn prices(journal: &Journal, prices: &[PriceText], now: Timestamp) -> anyhow::Result<()> {
    let changes = prices.iter().map(|price| price.change(now)).collect::<Result<Vec<_>, _>>()?;
    journal.set_prices(changes).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_declaration_is_brought_about_once_and_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        let setting = |cost_centre: &str| AccountSetting {
            path: "acme/research".into(),
            kind: None,
            name: None,
            cost_centre: Some(cost_centre.into()),
        };
        for (cost_centre, expected) in [("K-1", "K-1"), ("K-1", "K-1"), ("K-2", "K-2")] {
            accounts(&journal, &[setting(cost_centre)]).await.unwrap();
            let record = journal.account(&"acme/research".into()).await.unwrap().unwrap();
            assert_eq!(record.cost_centre.as_deref(), Some(expected));
        }
        assert!(journal.account(&"acme".into()).await.unwrap().is_some(), "its parent was made");
    }
}
