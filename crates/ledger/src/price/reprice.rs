//! What would past use have cost at other prices? A view: nothing that is booked changes.

use std::collections::{BTreeMap, HashMap};

use domain::{Account, ModelName, Money};

use super::{PriceChange, Sheet};
use crate::statement::{ChargeRow, Used};
use crate::{How, PriceId, RequestRow, Timestamp};

/// Prices to look at past use with.
#[derive(Clone, Debug, Default)]
pub struct Repricing {
    /// By name, in the order in which they come into force.
    sheets: HashMap<ModelName, Vec<(Timestamp, Sheet)>>,
    charges: BTreeMap<Vec<String>, ChargeRow>,
}

impl Repricing {
    pub fn new(changes: Vec<PriceChange>) -> Self {
        let mut sheets: HashMap<ModelName, Vec<(Timestamp, Sheet)>> = HashMap::new();
        for PriceChange { model, sheet, valid_from } in changes {
            sheets.entry(model).or_default().push((valid_from, sheet));
        }
        // Of two that begin at once, the later one stays in force.
        sheets.values_mut().for_each(|sheets| sheets.sort_by_key(|(from, _)| *from));
        Self { sheets, charges: BTreeMap::new() }
    }

    /// Adds what a request would have cost, each by itself: context tiers and rounding are those of requests, not of sums.
    pub fn add(&mut self, row: &RequestRow, cost_centres: &HashMap<Account, Option<String>>) {
        let Some(usage) = row.ending.as_ref().and_then(|ending| ending.usage()) else { return };
        let hold = &row.held.hold;
        let is_estimated = matches!(row.ending.as_ref().map(|ending| &ending.how), Some(How::Lost { .. }))
            || matches!(
                row.ending.as_ref().map(|ending| &ending.how),
                Some(How::Settled { source: domain::UsageSource::Estimated, .. })
            );
        if usage == domain::Usage::default() {
            return;
        }
        let sheet = self.sheet_at(&hold.circumstances.priced_as(&hold.model), hold.at);
        let cost = sheet.and_then(|sheet| sheet.cost(&usage, &hold.circumstances));
        let above = sheet.map_or(0, |sheet| sheet.context_tier(usage.input(), &hold.circumstances));
        let day = Timestamp::from_millis(hold.at.millis().div_euclid(86_400_000) * 86_400_000);
        let key = vec![
            day.millis().to_string(),
            hold.account.to_string(),
            hold.model.to_string(),
            serde_json::to_string(&hold.circumstances).expect("circumstances are words"),
            format!("{above} {is_estimated} {}", cost.is_some()),
        ];
        let charge = self.charges.entry(key).or_insert_with(|| ChargeRow {
            day,
            account: hold.account.clone(),
            cost_centre: cost_centres.get(&hold.account).cloned().flatten(),
            model: hold.model.to_string(),
            circumstances: hold.circumstances.clone(),
            // There is no row of it in the ledger: it is only looked at.
            price: cost.map(|_| PriceId(0)),
            above_input_tokens: above,
            is_estimated,
            is_saved: false,
            used: Used::default(),
        });
        charge.used = charge.used.and(&Used { requests: 1, usage, cost: cost.unwrap_or(Money::ZERO) });
    }

    pub fn charges(self) -> Vec<ChargeRow> {
        self.charges.into_values().collect()
    }

    fn sheet_at(&self, model: &ModelName, at: Timestamp) -> Option<&Sheet> {
        self.sheets.get(model)?.iter().rev().find(|(from, _)| *from <= at).map(|(_, sheet)| sheet)
    }
}
