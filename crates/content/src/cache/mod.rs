//! Which answers can be given again to the same question?
//!
//! In memory first, then in a Redis that servers share. A cache never fails a request and hardly slows one: whatever goes
//! wrong is a miss.

mod breaker;
mod memory;
mod redis;
mod slab;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::{Answer, Usage};
use serde::{Deserialize, Serialize};

use self::memory::Memory;
use self::redis::Redis;
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
    /// What answers in memory may take, with what keeping them costs; less than 10 KiB keeps none.
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
pub struct AnswerCache {
    memory: Arc<Memory>,
    redis: Option<Redis>,
    told: Arc<Told>,
}

#[derive(Debug, Default)]
struct Told {
    memory_hits: AtomicU64,
    redis_hits: AtomicU64,
    misses: AtomicU64,
    not_admitted: AtomicU64,
}

impl AnswerCache {
    /// Fails only on a URL that is none; Redis itself is asked in the background. Must be called inside a runtime.
    pub fn new(options: CacheOptions) -> Result<Self, BadRedisUrl> {
        let redis = options.redis.map(Redis::new).transpose()?;
        Ok(Self { memory: Arc::new(Memory::new(options.memory_bytes_max)), redis, told: Arc::default() })
    }

    /// Returns the answer to this question if there is one that this asker may have.
    pub async fn get(
        &self,
        key: &AskKey,
        now_ms: i64,
        admits: impl Fn(&CachedAnswer) -> bool,
    ) -> Option<Arc<CachedAnswer>> {
        let mut is_refused = false;
        let mut admitted = |answer: &CachedAnswer| {
            let is_admitted = admits(answer);
            is_refused |= !is_admitted;
            is_admitted
        };
        let kept = self.memory.get(key, now_ms).and_then(|value| read(&value));
        if let Some((answer, _)) = kept.filter(|(answer, _)| admitted(answer)) {
            count(&self.told.memory_hits);
            return Some(Arc::new(answer));
        }
        // Another server may have an answer that was made elsewhere.
        if let Some(redis) = &self.redis
            && let Some(value) = redis.get(key).await
            && let Some((answer, expires_ms)) = read(&value).filter(|(_, expires_ms)| *expires_ms > now_ms)
            && admitted(&answer)
        {
            self.memory.put(*key, &value, expires_ms);
            count(&self.told.redis_hits);
            return Some(Arc::new(answer));
        }
        count(if is_refused { &self.told.not_admitted } else { &self.told.misses });
        None
    }

    /// Keeps an answer for so long, in the place of any other to this question. Returns at once; Redis is written in the
    /// background. Only whole answers that ended by themselves are worth it: the caller sees to that.
    pub fn put(&self, key: AskKey, answer: CachedAnswer, time_to_live: Duration, now_ms: i64) {
        let millis = i64::try_from(time_to_live.as_millis()).unwrap_or(i64::MAX);
        if millis == 0 {
            return;
        }
        let expires_ms = now_ms.saturating_add(millis);
        // A number that JSON cannot write, such as an infinite log-probability, makes an answer that is not kept.
        let Ok(value) = serde_json::to_vec(&Kept { expires_ms, answer }) else { return };
        if let Some(redis) = &self.redis {
            redis.put(key, &value, time_to_live);
        }
        self.memory.put(key, &value, expires_ms);
    }

    pub fn counts(&self) -> CacheCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (memory_entries, memory_bytes) = self.memory.size();
        let (redis_failures, redis_skipped) = self.redis.as_ref().map(Redis::counts).unwrap_or_default();
        CacheCounts {
            memory_hits: read(&self.told.memory_hits),
            redis_hits: read(&self.told.redis_hits),
            misses: read(&self.told.misses),
            not_admitted: read(&self.told.not_admitted),
            redis_failures,
            redis_skipped,
            memory_entries,
            memory_bytes,
        }
    }
}

/// As it is kept: with its end, so that every server forgets it at the same moment.
#[derive(Serialize, Deserialize)]
struct Kept<A> {
    expires_ms: i64,
    answer: A,
}

/// What cannot be read is not ours, or of another version: no answer.
fn read(value: &[u8]) -> Option<(CachedAnswer, i64)> {
    let Kept { expires_ms, answer } = serde_json::from_slice(value).ok()?;
    Some((answer, expires_ms))
}

fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
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
