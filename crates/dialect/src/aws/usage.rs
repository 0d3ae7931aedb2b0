//! What did an answer of Converse's use, in dimensions that never overlap?

use domain::{ServiceTier, Usage, UsageReport};
use serde::Deserialize;

use crate::believable::tokens;

/// `usage`. Unlike OpenAI's, `inputTokens` are only those that no cache knew: reads and writes stand beside them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    /// The first names of these two, which some models still come with, alone or beside the new ones.
    cache_read_input_token_count: Option<u64>,
    cache_write_input_token_count: Option<u64>,
    /// How the writes divide by lifetime.
    cache_details: Option<Vec<CacheDetail>>,
}

/// There are two lifetimes.
const DETAILS_MAX: usize = 16;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheDetail {
    ttl: Option<String>,
    input_tokens: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tier {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Returns what was used; nothing, where nothing was counted.
pub(super) fn report(counts: &Counts, tier: Option<&Tier>) -> Option<UsageReport> {
    let (input, output) = (tokens(counts.input_tokens), tokens(counts.output_tokens));
    input.or(output)?;
    let read = tokens(counts.cache_read_input_tokens.or(counts.cache_read_input_token_count));
    let written = tokens(counts.cache_write_input_tokens.or(counts.cache_write_input_token_count));
    let details = || counts.cache_details.iter().flatten().take(DETAILS_MAX);
    let hour = details().filter(|detail| detail.ttl.as_deref() == Some("1h"));
    let hour: u64 = hour.filter_map(|detail| tokens(detail.input_tokens)).sum();
    let detailed: u64 = details().filter_map(|detail| tokens(detail.input_tokens)).sum();
    // The details divide the writes. Where they disagree the larger count is believed.
    let written = written.unwrap_or(0).max(detailed);
    let usage = Usage {
        input_uncached: input.unwrap_or(0),
        cache_read: read.unwrap_or(0),
        cache_write_5m: written - hour,
        cache_write_1h: hour,
        output: output.unwrap_or(0),
        ..Usage::default()
    };
    Some(UsageReport { usage, service_tier: tier.and_then(|tier| tier_named(tier.kind.as_deref()?)) })
}

fn tier_named(name: &str) -> Option<ServiceTier> {
    match name {
        "default" => Some(ServiceTier::Standard),
        "flex" => Some(ServiceTier::Flex),
        "priority" => Some(ServiceTier::Priority),
        // Reserved capacity has a price of its own.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// uncached, read, written for 5 minutes, written for an hour, output
    fn counts(json: &str) -> [u64; 5] {
        let usage = report(&serde_json::from_str(json).unwrap(), None).unwrap().usage;
        [usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.output]
    }

    #[test]
    fn every_ugly_count_comes_out_disjoint() {
        let rows: &[(&str, [u64; 5])] = &[
            (r#"{"inputTokens":30,"outputTokens":5,"totalTokens":35}"#, [30, 0, 0, 0, 5]),
            // What the cache knew stands beside the input, not in it.
            (
                r#"{"inputTokens":4,"outputTokens":9,"totalTokens":1713,"cacheReadInputTokens":1700}"#,
                [4, 1700, 0, 0, 9],
            ),
            (
                r#"{"inputTokens":4,"outputTokens":9,"totalTokens":1713,"cacheWriteInputTokens":1700}"#,
                [4, 0, 1700, 0, 9],
            ),
            (
                r#"{"inputTokens":1,"outputTokens":1,"totalTokens":102,"cacheReadInputTokens":0,"cacheWriteInputTokens":100,
                    "cacheDetails":[{"ttl":"1h","inputTokens":60},{"ttl":"5m","inputTokens":40}]}"#,
                [1, 0, 40, 60, 1],
            ),
            // Details without a sum, and a sum beyond the details.
            (
                r#"{"inputTokens":1,"outputTokens":1,"cacheDetails":[{"ttl":"1h","inputTokens":60}]}"#,
                [1, 0, 0, 60, 1],
            ),
            (
                r#"{"inputTokens":1,"outputTokens":1,"cacheWriteInputTokens":90,"cacheDetails":[{"ttl":"1h","inputTokens":60}]}"#,
                [1, 0, 30, 60, 1],
            ),
            // Both names at once.
            (
                r#"{"inputTokens":1,"outputTokens":1,"cacheReadInputTokenCount":7,"cacheReadInputTokens":7,"cacheWriteInputTokenCount":3,"cacheWriteInputTokens":3}"#,
                [1, 7, 3, 0, 1],
            ),
            (
                r#"{"inputTokens":1,"outputTokens":1,"cacheReadInputTokenCount":7,"cacheDetails":[]}"#,
                [1, 7, 0, 0, 1],
            ),
        ];
        for (json, expected) in rows {
            assert_eq!(counts(json), *expected, "{json}");
        }
    }

    #[test]
    fn what_nobody_counted_is_unknown_and_what_cannot_be_is_not_believed() {
        let unknown = |json: &str| report(&serde_json::from_str(json).unwrap(), None).is_none();
        assert!(
            unknown("{}")
                && unknown(r#"{"cacheDetails":[]}"#)
                && unknown(r#"{"inputTokens":18446744073709551615}"#)
        );
        assert_eq!(
            counts(r#"{"inputTokens":3,"cacheReadInputTokens":18446744073709551615}"#),
            [3, 0, 0, 0, 0]
        );
    }
}
