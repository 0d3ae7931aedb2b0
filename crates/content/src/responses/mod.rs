//! Which answers can a client come back to, and what was said in them? The state behind the Responses API.
//!
//! A response is kept for the account that made it, and nobody else ever sees that it is there. Each keeps only what its own
//! turn added; what came before is found by walking back along `previous`, within bounds.

use std::time::Duration;

use domain::{Account, ChatMessage, ModelName};
use serde_json::Value;

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
    #[error("there is a response {0:?} already")]
    Taken(ResponseId),
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
pub struct ResponseStore {}

impl ResponseStore {
    /// Returns the store at `sqlite:PATH` or `postgres://…`, whose tables it makes where they are not there.
    pub async fn open(url: &str, options: KeepOptions) -> Result<Self, StoreError> {
        unimplemented!("{url} {options:?}")
    }

    /// Returns a store that is gone with the process.
    pub async fn in_memory(options: KeepOptions) -> Result<Self, StoreError> {
        unimplemented!("{options:?}")
    }

    /// When a response that is made now is to be forgotten.
    pub fn expires_ms(&self, created_ms: i64) -> i64 {
        unimplemented!("{created_ms}")
    }

    /// Keeps a response; where all are too many bytes then, the oldest go.
    pub async fn put(&self, response: StoredResponse) -> Result<(), StoreError> {
        unimplemented!("{response:?}")
    }

    pub async fn get(
        &self,
        tenant: &Account,
        id: &ResponseId,
        now_ms: i64,
    ) -> Result<Option<StoredResponse>, StoreError> {
        unimplemented!("{tenant} {id:?} {now_ms}")
    }

    /// Whether there was something to delete. What continued it can then no longer be continued.
    pub async fn delete(&self, tenant: &Account, id: &ResponseId) -> Result<bool, StoreError> {
        unimplemented!("{tenant} {id:?}")
    }

    /// Returns some of a response's input items; nothing where there is no such response.
    pub async fn input_items(
        &self,
        tenant: &Account,
        id: &ResponseId,
        query: &PageQuery,
        now_ms: i64,
    ) -> Result<Option<InputPage>, StoreError> {
        unimplemented!("{tenant} {id:?} {query:?} {now_ms}")
    }

    /// Returns what was said up to the end of this response.
    pub async fn chain(&self, tenant: &Account, last: &ResponseId, now_ms: i64) -> Result<Chain, ChainError> {
        unimplemented!("{tenant} {last:?} {now_ms}")
    }

    /// Deletes some of what is to go; to be called every minute or so, and again at once until it finds nothing.
    pub async fn clean_up(&self, now_ms: i64) -> Result<CleanedUp, StoreError> {
        unimplemented!("{now_ms}")
    }

    pub async fn close(&self) {}
}
