//! How is usage written and read in Anthropic's words?

use serde::{Deserialize, Serialize};

use domain::{ServiceTier, Usage, UsageReport};

/// A count above this is not believed: no model reads a trillion tokens, and sums must not overflow.
const TOKENS_MAX: u64 = 1 << 40;

/// Usage as it is written. `input_tokens` excludes what was read from a cache or written to one.
#[derive(Debug, Serialize)]
pub(super) struct UsageOut {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation: CacheCreation,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutputDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

/// Usage as it is read, kept as it came: an answer that grows says some of it at its beginning, and more or better at its end.
/// `null` is not said.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct UsageIn {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
    service_tier: Option<String>,
    speed: Option<String>,
    iterations: Option<Vec<Iteration>>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_5m_input_tokens: u64,
    #[serde(default)]
    ephemeral_1h_input_tokens: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: u64,
}

/// One step of an answer that the provider took several for.
#[derive(Clone, Debug, Deserialize)]
struct Iteration {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    output_tokens: Option<u64>,
}

impl From<&UsageReport> for UsageOut {
    fn from(report: &UsageReport) -> Self {
        let usage = &report.usage;
        let details = OutputDetails { thinking_tokens: usage.reasoning };
        Self {
            input_tokens: usage.input_uncached,
            cache_creation_input_tokens: usage.cache_write_5m + usage.cache_write_1h,
            cache_read_input_tokens: usage.cache_read,
            cache_creation: CacheCreation {
                ephemeral_5m_input_tokens: usage.cache_write_5m,
                ephemeral_1h_input_tokens: usage.cache_write_1h,
            },
            output_tokens: usage.output,
            output_tokens_details: (usage.reasoning > 0).then_some(details),
            service_tier: report.service_tier.map(ServiceTier::name),
        }
    }
}

impl UsageIn {
    /// Takes what a later event says; what it does not say stays.
    pub fn update(&mut self, later: UsageIn) {
        fn put<T>(known: &mut Option<T>, later: Option<T>) {
            if later.is_some() {
                *known = later;
            }
        }
        put(&mut self.input_tokens, later.input_tokens);
        put(&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        put(&mut self.cache_read_input_tokens, later.cache_read_input_tokens);
        put(&mut self.cache_creation, later.cache_creation);
        put(&mut self.output_tokens, later.output_tokens);
        put(&mut self.output_tokens_details, later.output_tokens_details);
        put(&mut self.service_tier, later.service_tier);
        put(&mut self.speed, later.speed);
        put(&mut self.iterations, later.iterations);
    }

    /// Forgets the count of output: at an answer's beginning it is a placeholder, often 1, and nobody's bill.
    pub fn without_output(self) -> Self {
        Self { output_tokens: None, output_tokens_details: None, ..self }
    }

    /// Returns the counts in disjoint dimensions, or nothing where none was said.
    ///
    /// Tokens of a compaction are billed, but not in the totals: they are added. Fast mode is what others call priority.
    pub fn report(&self) -> Option<UsageReport> {
        let totals = Counts {
            input_tokens: self.input_tokens,
            cache_creation_input_tokens: self.cache_creation_input_tokens,
            cache_read_input_tokens: self.cache_read_input_tokens,
            cache_creation: self.cache_creation,
            output_tokens: self.output_tokens,
        };
        if totals.is_empty() {
            return None;
        }
        let mut usage = Usage::default();
        totals.add_to(&mut usage);
        usage.reasoning = count(self.output_tokens_details.map(|details| details.thinking_tokens));
        usage.reasoning = usage.reasoning.min(usage.output);
        let iterations = self.iterations.iter().flatten();
        iterations.filter(|step| step.kind == "compaction").for_each(|step| step.counts.add_to(&mut usage));
        let service_tier = match self.speed.as_deref() {
            Some("fast") => Some(ServiceTier::Priority),
            _ => self.service_tier.as_ref().and_then(|tier| tier.parse().ok()),
        };
        Some(UsageReport { usage, service_tier })
    }
}

impl Counts {
    fn is_empty(&self) -> bool {
        let told = [
            self.input_tokens,
            self.cache_creation_input_tokens,
            self.cache_read_input_tokens,
            self.output_tokens,
        ];
        told.iter().all(Option::is_none) && self.cache_creation.is_none()
    }

    /// The total of what was written to caches rules; the split only divides it, and what it leaves over is the default
    /// lifetime's. A total may be updated without its split.
    fn add_to(&self, usage: &mut Usage) {
        let split = self.cache_creation.unwrap_or_default();
        let (five, hour) =
            (count(Some(split.ephemeral_5m_input_tokens)), count(Some(split.ephemeral_1h_input_tokens)));
        let total = self.cache_creation_input_tokens.map_or(five + hour, |total| count(Some(total)));
        let hour = hour.min(total);
        usage.input_uncached += count(self.input_tokens);
        usage.cache_read += count(self.cache_read_input_tokens);
        usage.cache_write_1h += hour;
        usage.cache_write_5m += total - hour;
        usage.output += count(self.output_tokens);
    }
}

fn count(tokens: Option<u64>) -> u64 {
    tokens.unwrap_or(0).min(TOKENS_MAX)
}
