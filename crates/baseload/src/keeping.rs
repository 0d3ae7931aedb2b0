//! Where does a server keep what stands beside the ledger: requests that wait for it, answers, responses?

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use content::{AnswerCache, CacheOptions, KeepOptions, RedisOptions, ResponseStore};
use gateway::{Spool, SpoolBounds, SpoolError};
use ledger::Journal;

use crate::config::{CacheSettings, LedgerSettings, ResponsesSettings, UnavailableSetting};
use crate::now;

/// Books what is left in the spool, and returns it where it is to be used. In the other mode it is only emptied; a server that
/// uses the same folder then empties its own.
pub async fn spool(
    data: &Path,
    settings: &LedgerSettings,
    journal: &Journal,
) -> anyhow::Result<Option<Spool>> {
    let path = data.join("spool.jsonl");
    let is_used = settings.when_unavailable == UnavailableSetting::Spool;
    if !is_used && !path.exists() {
        return Ok(None);
    }
    let time_max = Duration::from_secs(settings.spool_seconds);
    let bounds = SpoolBounds { bytes_max: settings.spool_mib << 20, time_max };
    let spool = match Spool::open(&path, bounds, now()) {
        Err(SpoolError::InUse { .. }) if !is_used => return Ok(None),
        opened => opened?,
    };
    spool.replay(journal).await?;
    Ok(is_used.then_some(spool))
}

/// A cache that takes longer than this costs more than it saves; asking the model goes on without it.
const REDIS_WAIT_MAX: Duration = Duration::from_millis(50);
/// Answers are some KiB; one above a MiB is not worth everybody's memory.
const REDIS_VALUE_BYTES_MAX: usize = 1 << 20;

/// Where answers are kept that routes let be given again.
pub fn answer_cache(settings: &CacheSettings) -> anyhow::Result<AnswerCache> {
    let redis = match &settings.redis {
        None => None,
        Some(redis) => {
            let url = redis.url.read().context("the URL of the cache's Redis cannot be had")?;
            Some(RedisOptions {
                url: url.reveal().to_owned(),
                get_wait_max: REDIS_WAIT_MAX,
                value_bytes_max: REDIS_VALUE_BYTES_MAX,
            })
        }
    };
    let memory_bytes_max = usize::try_from(settings.memory_mib << 20)?;
    AnswerCache::new(CacheOptions { memory_bytes_max, redis }).context("opening the cache of answers")
}

/// Where turns are kept that clients go on from: a file beside the ledger.
pub async fn response_store(data: &Path, settings: &ResponsesSettings) -> anyhow::Result<ResponseStore> {
    let keep = Duration::from_secs(u64::from(settings.keep_days) * 86_400);
    let options = KeepOptions { keep, bytes_max: settings.max_mib << 20, ..KeepOptions::default() };
    let url = format!("sqlite:{}", data.join("responses.sqlite").display());
    ResponseStore::open(&url, options).await.context("opening the store of responses")
}
