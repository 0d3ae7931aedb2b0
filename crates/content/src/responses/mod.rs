//! Which answers can a client come back to, and what was said in them? The state behind the Responses API.
//!
//! A response is kept for the account that made it, and nobody else ever sees that it is there. Each keeps only what its own
//! turn added; what came before is found by walking back along `previous`, within bounds.

mod database;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use domain::{Account, ChatMessage, ModelName};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use self::database::{Database, Row};

/// `resp_…`, as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResponseId(pub String);

/// One turn of a conversation, as it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredResponse {
    pub id: ResponseId,
    /// Whose it is. Another's id is not found.
    pub tenant: Account,
    pub created_ms: i64,
    /// Not to be seen from then on; [`ResponseStore::expires_ms`] says when by default.
    pub expires_ms: i64,
    pub model: ModelName,
    /// What this turn continues.
    pub previous: Option<ResponseId>,
    /// The input items of this turn, in the client's dialect, each with its id.
    pub input: Vec<Value>,
    /// What this turn adds to the conversation: its input and then its answer, without `instructions`, which later turns do
    /// not inherit.
    pub messages: Vec<ChatMessage>,
    /// The whole response, as it was last returned; its `output` and `metadata` are in it.
    pub response: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepOptions {
    /// How long a response is kept.
    pub keep: Duration,
    /// All responses together; beyond it the oldest go, whoever's they are.
    pub bytes_max: u64,
    /// One response; a larger one is not kept.
    pub response_bytes_max: u64,
    /// What a chain may sum to, in turns and in bytes of messages.
    pub chain_turns_max: u32,
    pub chain_bytes_max: u64,
    /// A call that is not answered after this long fails.
    pub call_wait_max: Duration,
}

/// 30 days are what the API's users are used to. The bounds on one response and one chain are those of a request's body, about.
impl Default for KeepOptions {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(30 * 24 * 3600),
            bytes_max: 1 << 30,
            response_bytes_max: 32 << 20,
            chain_turns_max: 1_000,
            chain_bytes_max: 32 << 20,
            call_wait_max: Duration::from_secs(5),
        }
    }
}

/// The turns before a new one, the first turn first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    pub turns: Vec<ResponseId>,
    pub messages: Vec<ChatMessage>,
}

/// Which input items to list, as the API's parameters say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// Begin behind the item with this id.
    pub after: Option<String>,
    /// 1 to 100.
    pub limit: usize,
    pub direction: Direction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    OldestFirst,
    #[default]
    NewestFirst,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputPage {
    pub items: Vec<Value>,
    pub has_more: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanedUp {
    /// Whose time was over.
    pub expired: u64,
    /// The oldest, which had to go for newer ones.
    pub crowded_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store of responses at {place}: {why}; {advice}")]
    Open { place: String, why: String, advice: &'static str },
    #[error("the store of responses is not available while {doing}: {why}")]
    Unavailable { doing: &'static str, why: String },
    #[error(
        "the response takes {bytes} bytes, and at most {max} are kept of one; send `store: false`, or raise `responses.max_mib`"
    )]
    TooLarge { bytes: u64, max: u64 },
    #[error("the response {id:?} is unreadable: {why}")]
    Damaged { id: ResponseId, why: String },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It never was, or was deleted, or its time is over, or it is another tenant's: nobody is told which.
    #[error("previous response {0:?} is not found")]
    NotFound(ResponseId),
    #[error("the conversation has more than {max} turns; begin a new one")]
    TooLong { max: u32 },
    #[error("the conversation has more than {max} bytes; begin a new one")]
    TooLarge { max: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct ResponseStore {
    database: Database,
    options: Arc<KeepOptions>,
    /// What all rows take, as far as this process knows; counted anew before anything has to go.
    bytes: Arc<AtomicI64>,
}

/// A row's own names, numbers and places in indices, about.
const ROW_BYTES: usize = 300;
/// Rows whose time is over that one call deletes: few enough to let others in between.
const EXPIRED_MAX: i64 = 256;

impl ResponseStore {
    /// Returns the store at `sqlite:PATH` or `postgres://…`, whose tables it makes where they are not there.
    pub async fn open(url: &str, options: KeepOptions) -> Result<Self, StoreError> {
        Self::over(Database::open(url, options.call_wait_max).await?, options).await
    }

    /// Returns a store that is gone with the process.
    pub async fn in_memory(options: KeepOptions) -> Result<Self, StoreError> {
        Self::over(Database::in_memory().await?, options).await
    }

    async fn over(database: Database, options: KeepOptions) -> Result<Self, StoreError> {
        let store = Self { database, options: Arc::new(options), bytes: Arc::default() };
        store.within("counting responses", store.count()).await?;
        Ok(store)
    }

    /// When a response that is made now is to be forgotten.
    pub fn expires_ms(&self, created_ms: i64) -> i64 {
        created_ms.saturating_add(millis(self.options.keep))
    }

    /// Keeps a response, in the place of what its tenant kept under its id; where all are too many bytes then, the oldest go.
    pub async fn put(&self, response: StoredResponse) -> Result<(), StoreError> {
        let StoredResponse { id, tenant, created_ms, expires_ms, model, previous, input, messages, response } =
            response;
        let [input, messages, response] = [json(&input), json(&messages), json(&response)];
        let bytes = input.len() + messages.len() + response.len() + ROW_BYTES;
        if bytes as u64 > self.options.response_bytes_max {
            return Err(StoreError::TooLarge { bytes: bytes as u64, max: self.options.response_bytes_max });
        }
        let values = vec![
            text(tenant.as_str()),
            text(&id.0),
            integer(created_ms),
            integer(expires_ms),
            text(model.as_str()),
            database::Value::MaybeText(previous.map(|previous| previous.0)),
            integer(bytes as i64),
            integer(messages.len() as i64),
            text(&input),
            text(&messages),
            text(&response),
        ];
        self.within("keeping a response", async {
            self.database.execute(PUT, values).await?;
            let known = self.bytes.fetch_add(bytes as i64, Ordering::Relaxed) + bytes as i64;
            if known > self.bytes_max() {
                self.crowd_out().await?;
            }
            Ok(())
        })
        .await
    }

    pub async fn get(
        &self,
        tenant: &Account,
        id: &ResponseId,
        now_ms: i64,
    ) -> Result<Option<StoredResponse>, StoreError> {
        let values = vec![text(tenant.as_str()), text(&id.0), integer(now_ms)];
        let rows = self.within("reading a response", self.database.rows(GET, values)).await?;
        rows.first().map(|row| stored(row, tenant, id)).transpose()
    }

    /// Whether there was something to delete. What continued it can then no longer be continued.
    pub async fn delete(&self, tenant: &Account, id: &ResponseId) -> Result<bool, StoreError> {
        let values = vec![text(tenant.as_str()), text(&id.0)];
        let deleted = self.database.execute("DELETE FROM response WHERE tenant = $1 AND id = $2", values);
        Ok(self.within("deleting a response", deleted).await? > 0)
    }

    /// Returns some of a response's input items; nothing where there is no such response. Only its own turn's: those of the
    /// turns before are listed with theirs.
    pub async fn input_items(
        &self,
        tenant: &Account,
        id: &ResponseId,
        query: &PageQuery,
        now_ms: i64,
    ) -> Result<Option<InputPage>, StoreError> {
        const INPUT: &str = "SELECT input FROM response WHERE tenant = $1 AND id = $2 AND expires_ms > $3";
        let values = vec![text(tenant.as_str()), text(&id.0), integer(now_ms)];
        let rows = self.within("reading input items", self.database.rows(INPUT, values)).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(page(read(row, 0, id)?, query)))
    }

    /// Returns what was said up to the end of this response.
    pub async fn chain(&self, tenant: &Account, last: &ResponseId, now_ms: i64) -> Result<Chain, ChainError> {
        let KeepOptions { chain_turns_max, chain_bytes_max, .. } = *self.options;
        let bytes_max = i64::try_from(chain_bytes_max).unwrap_or(i64::MAX);
        let values = vec![
            text(tenant.as_str()),
            text(&last.0),
            integer(now_ms),
            integer(chain_turns_max.into()),
            integer(bytes_max),
        ];
        let rows = self.within("reading a conversation", self.database.rows(CHAIN, values)).await?;
        // The first turn comes first; with it the sums of all after it.
        let Some(first) = rows.first() else { return Err(ChainError::NotFound(last.clone())) };
        let (turns, bytes) = (column(first.integer(0))?, column(first.integer(3))?);
        if turns > chain_turns_max.into() {
            return Err(ChainError::TooLong { max: chain_turns_max });
        }
        if bytes > bytes_max {
            return Err(ChainError::TooLarge { max: chain_bytes_max });
        }
        if let Some(missing) = column(first.maybe_text(2))? {
            return Err(ChainError::NotFound(ResponseId(missing)));
        }
        let mut chain = Chain::default();
        for row in &rows {
            let id = ResponseId(column(row.text(1))?);
            chain.messages.extend(read::<Vec<ChatMessage>>(row, 4, &id)?);
            chain.turns.push(id);
        }
        Ok(chain)
    }

    /// Deletes some of what is to go; to be called every minute or so, and again at once until it finds nothing.
    pub async fn clean_up(&self, now_ms: i64) -> Result<CleanedUp, StoreError> {
        // What was kept when `keep` was longer goes too.
        let values = vec![
            integer(now_ms),
            integer(now_ms.saturating_sub(millis(self.options.keep))),
            integer(EXPIRED_MAX),
        ];
        self.within("cleaning up", async {
            let expired = self.database.execute(EXPIRE, values).await?;
            self.count().await?;
            let crowded_out = self.crowd_out().await?;
            self.database.shrink().await?;
            Ok(CleanedUp { expired, crowded_out })
        })
        .await
    }

    /// Returns what all responses take, as of the last count and what was put since.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    pub async fn close(&self) {
        self.database.close().await;
    }

    fn bytes_max(&self) -> i64 {
        i64::try_from(self.options.bytes_max).unwrap_or(i64::MAX)
    }

    async fn count(&self) -> Result<i64, sqlx::Error> {
        let rows = self
            .database
            .rows("SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM response", Vec::new())
            .await?;
        let bytes = rows.first().map_or(Ok(0), |row| row.integer(0))?;
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Deletes the oldest until all fit, and some more, so that not every response that is put has to count all.
    async fn crowd_out(&self) -> Result<u64, sqlx::Error> {
        let (bytes, bytes_max) = (self.count().await?, self.bytes_max());
        if bytes <= bytes_max {
            return Ok(0);
        }
        let deleted = self.database.execute(CROWD_OUT, vec![integer(bytes_max / 50 * 49)]).await?;
        self.count().await?;
        Ok(deleted)
    }

    async fn within<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let wait_max = self.options.call_wait_max;
        match timeout(wait_max, call).await {
            Ok(result) => result.map_err(|error| StoreError::Unavailable { doing, why: error.to_string() }),
            Err(_) => {
                let why = format!("it did not answer within {} ms", wait_max.as_millis());
                Err(StoreError::Unavailable { doing, why })
            }
        }
    }
}

impl StoredResponse {
    /// Returns the output items of the response.
    pub fn output(&self) -> &[Value] {
        self.response["output"].as_array().map_or(&[], Vec::as_slice)
    }
    pub fn metadata(&self) -> Option<&Map<String, Value>> {
        self.response["metadata"].as_object()
    }
}

const PUT: &str = "INSERT INTO response (tenant, id, created_ms, expires_ms, model, previous, bytes, message_bytes, \
     input, messages, response) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
     ON CONFLICT (tenant, id) DO UPDATE SET created_ms = excluded.created_ms, expires_ms = excluded.expires_ms, \
     model = excluded.model, previous = excluded.previous, bytes = excluded.bytes, \
     message_bytes = excluded.message_bytes, input = excluded.input, messages = excluded.messages, \
     response = excluded.response";

const GET: &str = "SELECT created_ms, expires_ms, model, previous, input, messages, response FROM response \
     WHERE tenant = $1 AND id = $2 AND expires_ms > $3";

/// Goes back turn by turn within one tenant, and one turn past either bound, so that it is seen to be passed.
const CHAIN: &str = "WITH RECURSIVE chain (id, previous, turns, bytes) AS ( \
         SELECT id, previous, CAST(1 AS BIGINT), message_bytes FROM response \
         WHERE tenant = $1 AND id = $2 AND expires_ms > $3 \
         UNION ALL \
         SELECT r.id, r.previous, c.turns + 1, c.bytes + r.message_bytes FROM chain c \
         JOIN response r ON r.tenant = $1 AND r.id = c.previous AND r.expires_ms > $3 \
         WHERE c.turns <= $4 AND c.bytes <= $5) \
     SELECT c.turns, c.id, c.previous, c.bytes, r.messages FROM chain c \
     JOIN response r ON r.tenant = $1 AND r.id = c.id ORDER BY c.turns DESC";

const EXPIRE: &str = "DELETE FROM response WHERE (tenant, id) IN (SELECT tenant, id FROM response \
     WHERE expires_ms <= $1 OR created_ms <= $2 LIMIT $3)";

/// Those whose bytes, with all that are newer, are too many. Two servers that say this at once mean the same rows.
const CROWD_OUT: &str = "DELETE FROM response WHERE (tenant, id) IN (SELECT tenant, id FROM (SELECT tenant, id, \
     sum(bytes) OVER (ORDER BY created_ms DESC, tenant DESC, id DESC) AS bytes FROM response) counted WHERE bytes > $1)";

fn stored(row: &Row, tenant: &Account, id: &ResponseId) -> Result<StoredResponse, StoreError> {
    Ok(StoredResponse {
        id: id.clone(),
        tenant: tenant.clone(),
        created_ms: column(row.integer(0))?,
        expires_ms: column(row.integer(1))?,
        model: ModelName::new(column(row.text(2))?),
        previous: column(row.maybe_text(3))?.map(ResponseId),
        input: read(row, 4, id)?,
        messages: read(row, 5, id)?,
        response: read(row, 6, id)?,
    })
}

/// The items behind `after`, in the direction asked for; none where there is no such item.
fn page(mut items: Vec<Value>, query: &PageQuery) -> InputPage {
    if query.direction == Direction::NewestFirst {
        items.reverse();
    }
    let start = match &query.after {
        None => 0,
        Some(after) => {
            let place = items.iter().position(|item| item["id"] == after.as_str());
            place.map_or(items.len(), |place| place + 1)
        }
    };
    let mut items = items.split_off(start);
    let limit = query.limit.clamp(1, PAGE_MAX);
    let has_more = items.len() > limit;
    items.truncate(limit);
    InputPage { items, has_more }
}

const PAGE_MAX: usize = 100;

fn read<T: DeserializeOwned>(row: &Row, place: usize, id: &ResponseId) -> Result<T, StoreError> {
    let damaged = |error: serde_json::Error| StoreError::Damaged { id: id.clone(), why: error.to_string() };
    serde_json::from_str(&column(row.text(place))?).map_err(damaged)
}

fn column<T>(column: Result<T, sqlx::Error>) -> Result<T, StoreError> {
    column.map_err(|error| StoreError::Unavailable { doing: "reading a row", why: error.to_string() })
}

/// JSON escapes the zero byte, which Postgres takes in no text.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("values and messages have names for fields")
}

/// A name with a zero byte is nobody's: it is looked for under one that nobody has either.
fn text(text: &str) -> database::Value {
    database::Value::Text(text.replace('\0', "\u{fffd}"))
}

fn integer(value: i64) -> database::Value {
    database::Value::Integer(value)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
