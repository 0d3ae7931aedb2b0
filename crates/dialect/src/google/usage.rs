//! What did an answer of Gemini's use, in dimensions that never overlap?

use domain::{ServiceTier, Usage, UsageReport};
use serde::Deserialize;

use crate::believable;

/// `usageMetadata`. Every chunk of a stream has one that counts from the beginning, with more fields as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    /// The cached tokens among them.
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    /// Without the thoughts.
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    /// What tools that Google runs gave the model to read; beside the prompt's.
    tool_use_prompt_token_count: Option<u64>,
    total_token_count: Option<u64>,
    /// Vertex AI's word for the tier.
    traffic_type: Option<String>,
    /// AI Studio's.
    service_tier: Option<String>,
}

impl Counts {
    /// Takes what a later chunk says; what it leaves out stays.
    pub fn learn(&mut self, later: Counts) {
        let newer =
            |known: &mut Option<u64>, later: Option<u64>| *known = believable::tokens(later).or(*known);
        newer(&mut self.prompt_token_count, later.prompt_token_count);
        newer(&mut self.cached_content_token_count, later.cached_content_token_count);
        newer(&mut self.candidates_token_count, later.candidates_token_count);
        newer(&mut self.thoughts_token_count, later.thoughts_token_count);
        newer(&mut self.tool_use_prompt_token_count, later.tool_use_prompt_token_count);
        newer(&mut self.total_token_count, later.total_token_count);
        self.traffic_type = later.traffic_type.or(self.traffic_type.take());
        self.service_tier = later.service_tier.or(self.service_tier.take());
    }

    /// Returns what is known to be used; nothing, where nothing was counted.
    pub fn report(&self) -> Option<UsageReport> {
        self.prompt_token_count.or(self.candidates_token_count).or(self.total_token_count)?;
        let prompt = self.prompt_token_count.unwrap_or(0);
        let cached = self.cached_content_token_count.unwrap_or(0).min(prompt);
        let usage = Usage {
            input_uncached: prompt - cached + self.tool_use_prompt_token_count.unwrap_or(0),
            cache_read: cached,
            output: self.output(),
            reasoning: self.thoughts_token_count.unwrap_or(0),
            ..Usage::default()
        };
        Some(UsageReport { usage, service_tier: self.tier() })
    }

    fn output(&self) -> u64 {
        let thoughts = self.thoughts_token_count.unwrap_or(0);
        let input = self.prompt_token_count.unwrap_or(0) + self.tool_use_prompt_token_count.unwrap_or(0);
        match (self.candidates_token_count, self.total_token_count) {
            // Some models count the thoughts among the candidates' tokens; then the sum says so.
            (Some(candidates), Some(total)) if thoughts > 0 && input + candidates == total => candidates,
            (Some(candidates), _) => candidates + thoughts,
            // An answer cut while thinking has no candidates' tokens; the sum may know of more than the thoughts.
            (None, Some(total)) => total.saturating_sub(input).max(thoughts),
            (None, None) => thoughts,
        }
    }

    fn tier(&self) -> Option<ServiceTier> {
        let by_traffic = |name: &str| match name {
            "ON_DEMAND" => Some(ServiceTier::Standard),
            "ON_DEMAND_FLEX" => Some(ServiceTier::Flex),
            "ON_DEMAND_PRIORITY" => Some(ServiceTier::Priority),
            // Provisioned throughput and off-peak traffic have prices of their own.
            _ => None,
        };
        let by_name = |name: &str| name.to_ascii_lowercase().parse().ok();
        let studio = self.service_tier.as_deref().and_then(by_name);
        studio.or_else(|| self.traffic_type.as_deref().and_then(by_traffic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(json: &str) -> Option<UsageReport> {
        let mut counts = Counts::default();
        counts.learn(serde_json::from_str(json).unwrap());
        counts.report()
    }

    /// uncached, cached, output, reasoning
    fn counts(json: &str) -> [u64; 4] {
        let usage = report(json).unwrap().usage;
        [usage.input_uncached, usage.cache_read, usage.output, usage.reasoning]
    }

    #[test]
    fn every_ugly_count_comes_out_disjoint() {
        let rows: &[(&str, [u64; 4])] = &[
            (r#"{"promptTokenCount":8,"candidatesTokenCount":5,"totalTokenCount":13}"#, [8, 0, 5, 0]),
            // A prompt of which most was cached.
            (
                r#"{"promptTokenCount":4100,"cachedContentTokenCount":4000,"candidatesTokenCount":1}"#,
                [100, 4000, 1, 0],
            ),
            // More cached than asked cannot be.
            (
                r#"{"promptTokenCount":10,"cachedContentTokenCount":40,"candidatesTokenCount":1}"#,
                [0, 10, 1, 0],
            ),
            // Thoughts stand beside the candidates …
            (
                r#"{"promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":70,"totalTokenCount":85}"#,
                [10, 0, 75, 70],
            ),
            // … or among them, as the sum shows.
            (
                r#"{"promptTokenCount":10,"candidatesTokenCount":75,"thoughtsTokenCount":70,"totalTokenCount":85}"#,
                [10, 0, 75, 70],
            ),
            (r#"{"promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":70}"#, [10, 0, 75, 70]),
            // Cut while thinking: no candidates at all.
            (r#"{"promptTokenCount":10,"thoughtsTokenCount":70,"totalTokenCount":80}"#, [10, 0, 70, 70]),
            (r#"{"promptTokenCount":10,"totalTokenCount":30}"#, [10, 0, 20, 0]),
            (r#"{"promptTokenCount":10,"totalTokenCount":4}"#, [10, 0, 0, 0]),
            // What Google's own tools gave to read.
            (
                r#"{"promptTokenCount":10,"toolUsePromptTokenCount":90,"candidatesTokenCount":5,"totalTokenCount":105}"#,
                [100, 0, 5, 0],
            ),
            (r#"{"promptTokenCount":0,"candidatesTokenCount":0,"totalTokenCount":0}"#, [0, 0, 0, 0]),
            (
                r#"{"promptTokenCount":7,"candidatesTokenCount":null,"promptTokensDetails":[{"modality":"TEXT","tokenCount":7}]}"#,
                [7, 0, 0, 0],
            ),
        ];
        for (json, expected) in rows {
            assert_eq!(counts(json), *expected, "{json}");
        }
    }

    #[test]
    fn a_later_chunk_replaces_what_it_says_and_nothing_else() {
        let mut known = Counts::default();
        for chunk in [
            r#"{"promptTokenCount":10,"cachedContentTokenCount":4,"totalTokenCount":10,"trafficType":"ON_DEMAND_FLEX"}"#,
            r#"{"promptTokenCount":10,"candidatesTokenCount":3,"totalTokenCount":13}"#,
            r#"{"candidatesTokenCount":8,"thoughtsTokenCount":2,"totalTokenCount":20}"#,
        ] {
            known.learn(serde_json::from_str(chunk).unwrap());
        }
        let usage = Usage { input_uncached: 6, cache_read: 4, output: 10, reasoning: 2, ..Usage::default() };
        assert_eq!(known.report(), Some(UsageReport { usage, service_tier: Some(ServiceTier::Flex) }));
    }

    #[test]
    fn what_nobody_counted_is_unknown_and_what_cannot_be_is_not_believed() {
        for json in [
            "{}",
            r#"{"promptTokensDetails":[]}"#,
            r#"{"trafficType":"ON_DEMAND"}"#,
            r#"{"promptTokenCount":18446744073709551615}"#,
        ] {
            assert_eq!(report(json), None, "{json}");
        }
        assert_eq!(
            counts(r#"{"promptTokenCount":8,"candidatesTokenCount":18446744073709551615}"#),
            [8, 0, 0, 0]
        );
    }

    #[test]
    fn a_tier_is_believed_only_under_a_name_with_a_price() {
        for (json, expected) in [
            (r#"{"trafficType":"ON_DEMAND"}"#, Some(ServiceTier::Standard)),
            (r#"{"trafficType":"ON_DEMAND_PRIORITY"}"#, Some(ServiceTier::Priority)),
            (r#"{"trafficType":"PROVISIONED_THROUGHPUT"}"#, None),
            (r#"{"serviceTier":"flex"}"#, Some(ServiceTier::Flex)),
            (r#"{"serviceTier":"STANDARD"}"#, Some(ServiceTier::Standard)),
            (r#"{"serviceTier":"unspecified"}"#, None),
        ] {
            let json = json.replace('{', r#"{"promptTokenCount":1,"#);
            assert_eq!(report(&json).unwrap().service_tier, expected, "{json}");
        }
    }
}
