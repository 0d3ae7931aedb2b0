//! What was said, and how long is it kept? Stored responses, answers worth repeating, and answers that several wait for.
//!
//! Apart from the book: a ledger holds facts that are kept for years, this holds what people wrote, which is kept as briefly
//! as they like. Nothing here reads a clock: every moment is passed in, in milliseconds since 1970 UTC.
#![forbid(unsafe_code)]

pub mod cache;
mod events;
mod key;
mod made;
pub mod responses;
pub mod twins;

pub use cache::{AnswerCache, BadRedisUrl, CacheCounts, CacheOptions, CachedAnswer, RedisOptions};
pub use key::{AskKey, ask_key};
pub use made::MadeBy;
pub use responses::{
    Chain, ChainError, CleanedUp, Direction, InputPage, KeepOptions, PageQuery, ResponseId, ResponseStore,
    StoreError, StoredResponse,
};
pub use twins::{Follower, Joined, Leader, Step, TwinOptions, Twins};
