//! Which answers can be given again to the same question?
//!
//! In memory first, then in a Redis that servers share. A cache never fails a request and hardly slows one: whatever goes
//! wrong is a miss.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::{Answer, Usage};
use serde::{Deserialize, Serialize};

use crate::{AskKey, MadeBy};

/// An answer worth repeating, with what must be known to repeat it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedAnswer {
    pub answer: Answer,
    pub made_by: MadeBy,
    /// What it took the first time, as it was settled: what a repetition saves.
    pub usage: Usage,
    pub made_at_ms: i64,
}

#[derive(Clone, Debug, Default)]
pub struct CacheOptions {
    /// What entries in memory may take, counted with what keeping them costs; 0 keeps none.
    pub memory_bytes_max: usize,
    pub redis: Option<RedisOptions>,
}

/// `Debug` keeps the URL's password to itself.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://…` or `rediss://…`
    pub url: String,
    /// How long a question may wait for it.
    pub get_wait_max: Duration,
    /// A larger answer is not put there.
    pub value_bytes_max: usize,
}

/// Counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    pub memory_hits: u64,
    pub redis_hits: u64,
    pub misses: u64,
    /// Found, but not for this asker, for instance because it was made where the asker's data may not go.
    pub not_admitted: u64,
    /// Calls to Redis that failed or took too long, and those that were not made because of that.
    pub redis_failures: u64,
    pub redis_skipped: u64,
    pub memory_entries: usize,
    pub memory_bytes: usize,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct AnswerCache {}

impl AnswerCache {
    /// Fails only on a URL that is none; Redis itself is asked in the background. Must be called inside a runtime.
    pub fn new(options: CacheOptions) -> Result<Self, BadRedisUrl> {
        unimplemented!("{}", options.memory_bytes_max)
    }

    /// Returns the answer to this question if there is one that this asker may have.
    pub async fn get(
        &self,
        key: &AskKey,
        now_ms: i64,
        admits: impl Fn(&CachedAnswer) -> bool,
    ) -> Option<Arc<CachedAnswer>> {
        let _ = admits;
        unimplemented!("{key} {now_ms}")
    }

    /// Keeps an answer for so long. Returns at once; Redis is written in the background.
    pub fn put(&self, key: AskKey, answer: CachedAnswer, time_to_live: Duration, now_ms: i64) {
        unimplemented!("{key} {answer:?} {time_to_live:?} {now_ms}")
    }

    pub fn counts(&self) -> CacheCounts {
        unimplemented!()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cache's Redis address is none: {0}; write redis://HOST:PORT or rediss://…")]
pub struct BadRedisUrl(pub String);

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, get_wait_max, value_bytes_max } = self;
        f.debug_struct("RedisOptions")
            .field("get_wait_max", get_wait_max)
            .field("value_bytes_max", value_bytes_max)
            .finish_non_exhaustive()
    }
}
