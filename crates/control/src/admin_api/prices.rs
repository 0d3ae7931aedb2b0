//! What can be done with prices: list them, and set new ones?

use axum::extract::State;
use ledger::price::PriceText;
use ledger::{Deed, PriceChange, PriceVersion};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::desk::{Actor, Desk};
use super::error::{AdminError, ErrorBody};
use super::verb::{Call, Verb};
use super::wire::{Answer, Json, Page, Query, page_limit};

/// Prices set by one request: a catalogue is a few of them.
const CHANGES_MAX: usize = 1_000;
const MODEL_BYTES_MAX: usize = 200;

/// The price of a model since an instant. A version never changes: what was booked with it can be computed again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Price)]
pub struct PriceView {
    pub id: i64,
    /// A model of this server, or `provider/model`.
    pub model: String,
    #[schema(format = DateTime)]
    pub valid_from: String,
    /// The whole sheet as the ledger keeps it, in picodollars a token (1 USD per million tokens is 1,000,000) and for machine
    /// time and requests in picodollars. A rate that is missing is unpriced, which is not free.
    #[schema(value_type = Object)]
    pub sheet: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListPrices {
    /// Versions of this model only.
    pub model: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows of the page: 1 to 1,000, 100 without it.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPrices {
    /// Each with the fields of a `[[price]]` in a configuration file: `model`, `input`, `cached`, `output`, … in USD per million
    /// tokens, as strings, so that they stay exact. All are recorded, or none; what is in force already is not recorded again.
    #[schema(value_type = Vec<PriceFields>, max_items = 1000)]
    pub prices: Vec<Map<String, Value>>,
}

/// The usual fields of a `[[price]]`; `docs/how-to/prices.md` has them all.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes; the ledger's own type reads")]
pub struct PriceFields {
    #[schema(min_length = 1, max_length = 200, example = "small")]
    model: String,
    /// The day from which on it counts: `2026-01-31`; now without it.
    #[schema(format = Date)]
    effective: Option<String>,
    #[schema(pattern = "^[0-9]{1,6}([.][0-9]{1,6})?$", example = "0.25")]
    input: Option<String>,
    #[schema(pattern = "^[0-9]{1,6}([.][0-9]{1,6})?$")]
    cached: Option<String>,
    #[schema(pattern = "^[0-9]{1,6}([.][0-9]{1,6})?$")]
    cache_write_5m: Option<String>,
    #[schema(pattern = "^[0-9]{1,6}([.][0-9]{1,6})?$")]
    cache_write_1h: Option<String>,
    #[schema(pattern = "^[0-9]{1,6}([.][0-9]{1,6})?$", example = "1")]
    output: Option<String>,
}

impl Verb for ListPrices {
    type Reply = Page<PriceView>;

    fn call(&self) -> Call {
        Call::get("/admin/v1/prices")
            .with("model", self.model.clone())
            .with("cursor", self.cursor.clone())
            .with("limit", self.limit)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<Page<PriceView>, AdminError> {
        actor.may(Deed::ReadServer)?;
        let limit = page_limit(self.limit)?;
        let after = self.cursor.map(|cursor| cursor.parse::<i64>()).transpose();
        let after =
            after.map_err(|_| AdminError::bad("cursor", "cursor must be a next_cursor of this list"))?;
        let mut versions = desk.journal.prices().await?;
        versions.sort_by_key(|version| version.id);
        let wanted = |version: &PriceVersion| {
            self.model.as_ref().is_none_or(|model| version.model.as_str() == model)
                && after.is_none_or(|after| version.id.0 > after)
        };
        let rows = versions.into_iter().filter(wanted).take(limit + 1).collect();
        Ok(Page::of(rows, limit, |row| row.id.0.to_string(), PriceView::from))
    }
}

impl Verb for SetPrices {
    type Reply = Page<PriceView>;

    fn call(&self) -> Call {
        Call::post("/admin/v1/prices", self)
    }

    async fn perform(self, desk: &Desk, actor: &Actor) -> Result<Page<PriceView>, AdminError> {
        actor.may(Deed::RunServer)?;
        if self.prices.len() > CHANGES_MAX {
            return Err(AdminError::bad("prices", format!("at most {CHANGES_MAX} prices are set at once")));
        }
        let changes = self.prices.into_iter().enumerate().map(|(place, price)| change(desk, place, price));
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        let versions = desk.journal.set_prices(changes).await?;
        Ok(Page { data: versions.into_iter().map(PriceView::from).collect(), next_cursor: None })
    }
}

fn change(desk: &Desk, place: usize, price: Map<String, Value>) -> Result<PriceChange, AdminError> {
    let bad = |why: String| AdminError::bad(format!("prices[{place}]"), why);
    let price: PriceText =
        serde_json::from_value(Value::Object(price)).map_err(|error| bad(error.to_string()))?;
    if price.model.as_str().is_empty() || price.model.as_str().len() > MODEL_BYTES_MAX {
        return Err(bad(format!("a model's name has 1 to {MODEL_BYTES_MAX} bytes")));
    }
    price.change(desk.now()).map_err(|error| bad(error.to_string()))
}

impl From<PriceVersion> for PriceView {
    fn from(version: PriceVersion) -> Self {
        let sheet = serde_json::from_str(&version.sheet.to_text()).expect("a sheet's text is JSON");
        Self {
            id: version.id.0,
            model: version.model.to_string(),
            valid_from: version.valid_from.to_string(),
            sheet,
        }
    }
}

/// List price versions, in the order of their recording
#[utoipa::path(get, path = "/admin/v1/prices", operation_id = "list_prices", tag = "prices", params(ListPrices),
    responses((status = 200, body = Page<PriceView>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn list(
    State(desk): State<Desk>,
    actor: Actor,
    Query(verb): Query<ListPrices>,
) -> Result<Answer<Page<PriceView>>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::ok)
}

/// Set prices
///
/// Later holds use them; what is under way keeps the version it began with. Takes an owner of the root.
#[utoipa::path(post, path = "/admin/v1/prices", operation_id = "set_prices", tag = "prices", request_body = SetPrices,
    responses((status = 201, body = Page<PriceView>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn set(
    State(desk): State<Desk>,
    actor: Actor,
    Json(verb): Json<SetPrices>,
) -> Result<Answer<Page<PriceView>>, AdminError> {
    verb.perform(&desk, &actor).await.map(Answer::created)
}
