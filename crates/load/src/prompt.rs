//! Which words make a prompt of a wanted number of tokens, when only the endpoint knows its tokenizer.

use rand::Rng;
use rand::rngs::SmallRng;

use crate::client::Endpoint;

/// Short common words: most tokenizers spend one token on each, a small vocabulary spends two or three.
const WORDS: &[&str] = &[
    "the", "time", "work", "system", "number", "water", "people", "place", "small", "great", "line", "point",
    "house", "world", "table", "light", "power", "money", "right", "order", "state", "value", "music",
    "paper", "group", "story", "river", "field", "month", "night", "white", "green", "open", "long", "first",
    "last", "many", "more", "when", "where", "which", "there", "under", "after", "before", "again", "other",
    "every",
];

/// Text of a stated length, by the endpoint's own count.
#[derive(Clone, Debug)]
pub struct PromptMaker {
    tokens_per_word: f64,
    /// Tokens that the chat template adds around the text.
    overhead_tokens: f64,
}

impl PromptMaker {
    /// Learns the endpoint's tokens per word and its template's overhead from two short requests.
    pub async fn calibrate(endpoint: &Endpoint, random: &mut SmallRng) -> anyhow::Result<Self> {
        let (few, many) = (32, 160);
        let mut counts = Vec::new();
        for words in [few, many] {
            let sample = endpoint.ask(&words_of(words, random), 1).await;
            if let Some(error) = sample.error {
                anyhow::bail!("the endpoint does not answer a short request: {error}");
            }
            counts.push(sample.input_tokens as f64);
        }
        let tokens_per_word = ((counts[1] - counts[0]) / (many - few) as f64).max(0.25);
        let overhead_tokens = (counts[0] - tokens_per_word * few as f64).max(0.0);
        Ok(Self { tokens_per_word, overhead_tokens })
    }

    /// Returns a prompt of about `tokens` tokens, of which the first `shared.len()` words are the given ones.
    pub fn make(&self, tokens: usize, shared: &str, random: &mut SmallRng) -> String {
        let words = ((tokens as f64 - self.overhead_tokens) / self.tokens_per_word).round().max(1.0) as usize;
        let shared_words = shared.split_whitespace().count();
        let own = words_of(words.saturating_sub(shared_words).max(1), random);
        if shared.is_empty() { own } else { format!("{shared} {own}") }
    }

    /// Returns text of about `tokens` tokens that prompts can begin with.
    pub fn prefix(&self, tokens: usize, random: &mut SmallRng) -> String {
        if tokens == 0 {
            return String::new();
        }
        words_of((tokens as f64 / self.tokens_per_word).round().max(1.0) as usize, random)
    }
}

fn words_of(count: usize, random: &mut SmallRng) -> String {
    let words: Vec<&str> = (0..count).map(|_| WORDS[random.random_range(0..WORDS.len())]).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn prompts_have_the_wanted_length_and_share_their_prefix() {
        let maker = PromptMaker { tokens_per_word: 2.0, overhead_tokens: 10.0 };
        let mut random = SmallRng::seed_from_u64(1);
        let prefix = maker.prefix(100, &mut random);
        assert_eq!(prefix.split_whitespace().count(), 50);
        let (a, b) = (maker.make(210, &prefix, &mut random), maker.make(210, &prefix, &mut random));
        assert_eq!(a.split_whitespace().count(), 100);
        assert!(a.starts_with(&prefix) && b.starts_with(&prefix));
        assert_ne!(a, b);
    }
}
