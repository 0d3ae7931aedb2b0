//! How are log-probabilities written and read, in the chat and in the older completions shape?

use std::fmt;

use domain::{Scored, TokenScore};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What JSON says for −∞ (it has no infinity); OpenAI's own choice.
const LEAST_LOGPROB: f32 = -9999.0;

fn finite(logprob: f32) -> f32 {
    if logprob.is_nan() { LEAST_LOGPROB } else { logprob.max(LEAST_LOGPROB) }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ChatLogprobs {
    pub content: Vec<ChatPlace>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ChatPlace {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<ChatRival>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ChatRival {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl ChatLogprobs {
    pub fn new(scores: &[TokenScore]) -> Self {
        let rival = |rival: &Scored| ChatRival {
            token: rival.text.clone(),
            logprob: finite(rival.logprob),
            bytes: rival.bytes.clone(),
        };
        let place = |score: &TokenScore| ChatPlace {
            token: score.text.clone(),
            logprob: finite(score.logprob.unwrap_or(LEAST_LOGPROB)),
            bytes: score.bytes.clone(),
            top_logprobs: score.top.iter().map(rival).collect(),
        };
        Self { content: scores.iter().map(place).collect() }
    }
}

/// Four lists of equal length; `text_offset` counts characters from the start of the choice's text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct CompletionLogprobs {
    pub tokens: Vec<String>,
    pub token_logprobs: Vec<Option<f32>>,
    pub top_logprobs: Vec<Option<Rivals>>,
    pub text_offset: Vec<u64>,
}

impl CompletionLogprobs {
    /// Writes `scores`, the first of which stands `offset` characters into the text.
    pub fn new(scores: &[TokenScore], mut offset: u64) -> Self {
        let mut lists = Self::default();
        for score in scores {
            lists.tokens.push(score.text.clone());
            lists.token_logprobs.push(score.logprob.map(finite));
            lists.top_logprobs.push(score.logprob.map(|_| Rivals::new(&score.top)));
            lists.text_offset.push(offset);
            offset += score.text.chars().count() as u64;
        }
        lists
    }
}

/// An object from token text to log-probability, best first. Of two tokens with the same text the better one is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rivals(Vec<(String, f32)>);

impl Rivals {
    fn new(top: &[Scored]) -> Self {
        let mut rivals: Vec<(String, f32)> = Vec::with_capacity(top.len());
        for rival in top {
            if rivals.iter().all(|(text, _)| *text != rival.text) {
                rivals.push((rival.text.clone(), finite(rival.logprob)));
            }
        }
        Self(rivals)
    }
}

impl Serialize for Rivals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(text, logprob)| (text, logprob)))
    }
}

impl<'de> Deserialize<'de> for Rivals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Rivals;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from token to log-probability")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rivals, A::Error> {
                let mut rivals = Vec::new();
                while let Some(rival) = map.next_entry()? {
                    rivals.push(rival);
                }
                Ok(Rivals(rivals))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Log-probabilities as an upstream writes them: `content` in chats, four lists in completions.
#[derive(Debug, Deserialize)]
pub(super) struct LogprobsHeard {
    content: Option<Vec<PlaceHeard>>,
    refusal: Option<Vec<PlaceHeard>>,
    tokens: Option<Vec<String>>,
    token_logprobs: Option<Vec<Option<f32>>>,
    top_logprobs: Option<Vec<Option<Rivals>>>,
}

#[derive(Debug, Deserialize)]
struct PlaceHeard {
    token: String,
    logprob: Option<f32>,
    bytes: Option<Vec<u8>>,
    top_logprobs: Option<Vec<PlaceHeard>>,
}

impl LogprobsHeard {
    pub fn scores(self) -> Vec<TokenScore> {
        let places = self.content.into_iter().chain(self.refusal).flatten().map(PlaceHeard::score);
        let mut logprobs = self.token_logprobs.unwrap_or_default().into_iter();
        let mut tops = self.top_logprobs.unwrap_or_default().into_iter();
        // This shape has no bytes: they are those of the text.
        let scored =
            |(text, logprob): (String, f32)| Scored { bytes: text.clone().into_bytes(), text, logprob };
        let listed = self.tokens.into_iter().flatten().map(|text| TokenScore {
            bytes: text.clone().into_bytes(),
            text,
            logprob: logprobs.next().flatten(),
            top: tops.next().flatten().map_or_else(Vec::new, |top| top.0.into_iter().map(scored).collect()),
        });
        places.chain(listed).collect()
    }
}

impl PlaceHeard {
    fn score(self) -> TokenScore {
        let scored = |rival: PlaceHeard| {
            let bytes = rival.bytes.unwrap_or_else(|| rival.token.clone().into_bytes());
            Scored { text: rival.token, bytes, logprob: rival.logprob.unwrap_or(LEAST_LOGPROB) }
        };
        TokenScore {
            bytes: self.bytes.unwrap_or_else(|| self.token.clone().into_bytes()),
            text: self.token,
            logprob: self.logprob,
            top: self.top_logprobs.into_iter().flatten().map(scored).collect(),
        }
    }
}
