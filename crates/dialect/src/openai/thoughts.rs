//! How does reasoning travel in chat messages, which have no words of their own for it?
//!
//! Plain text is `reasoning_content` (DeepSeek, vLLM, SGLang) or `reasoning` (OpenRouter, Groq, newer vLLM). What its maker must
//! get back untouched comes in blocks: OpenRouter's `reasoning_details`, LiteLLM's `thinking_blocks`. Text that comes both ways
//! is one text.

use serde_json::{Map, Value, json};

use domain::{Delta, Part, Reasoning};

/// One block of reasoning, or a piece of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Thought {
    Open(Reasoning),
    Sealed(String),
}

impl Thought {
    /// Reads a block; one of a kind that is not known says nothing.
    pub fn read(block: &Value) -> Option<Self> {
        let text = |name: &str| block[name].as_str().map(str::to_owned);
        let open = |name: &str| {
            let text = text(name).unwrap_or_default();
            Some(Self::Open(Reasoning {
                text,
                proof: block["signature"].as_str().filter(|proof| !proof.is_empty()).map(str::to_owned),
                id: block["id"].as_str().map(str::to_owned),
            }))
        };
        match block["type"].as_str()? {
            "reasoning.text" => open("text"),
            "reasoning.summary" => open("summary"),
            "thinking" => open("thinking"),
            "reasoning.encrypted" | "redacted_thinking" => text("data").map(Self::Sealed),
            _ => None,
        }
    }

    /// Returns the block in `reasoning_details`.
    fn to_detail(part: &Part, index: usize) -> Option<Value> {
        match part {
            Part::Reasoning(Reasoning { text, proof, id }) => {
                let mut detail = Map::from_iter([
                    ("type".to_owned(), json!("reasoning.text")),
                    ("text".to_owned(), json!(text)),
                ]);
                detail.extend(proof.as_ref().map(|proof| ("signature".to_owned(), json!(proof))));
                detail.extend(id.as_ref().map(|id| ("id".to_owned(), json!(id))));
                detail.insert("index".to_owned(), json!(index));
                Some(Value::Object(detail))
            }
            Part::SealedReasoning(data) => {
                Some(json!({"type": "reasoning.encrypted", "data": data, "index": index}))
            }
            _ => None,
        }
    }

    fn into_part(self) -> Part {
        match self {
            Self::Open(reasoning) => Part::Reasoning(reasoning),
            Self::Sealed(data) => Part::SealedReasoning(data),
        }
    }
}

/// Returns the blocks of a message in `reasoning_details`, if one of them must go back to its maker; plain text needs none.
pub(super) fn to_details(parts: &[Part]) -> Vec<Value> {
    let mut details = Vec::new();
    if parts.iter().any(is_wanted_back) {
        for part in parts {
            details.extend(Thought::to_detail(part, details.len()));
        }
    }
    details
}

/// Returns one block that a stream has completed, if it must go back to its maker.
pub(super) fn to_streamed_detail(part: &Part, index: usize) -> Option<Value> {
    Thought::to_detail(part, index).filter(|_| is_wanted_back(part))
}

fn is_wanted_back(part: &Part) -> bool {
    match part {
        Part::Reasoning(Reasoning { proof, id, .. }) => proof.is_some() || id.is_some(),
        part => matches!(part, Part::SealedReasoning(_)),
    }
}

/// Returns a message's reasoning, from its blocks where it has any.
pub(super) fn read_parts(plain: Option<String>, blocks: &[Value]) -> Vec<Part> {
    let thoughts: Vec<Thought> = blocks.iter().filter_map(Thought::read).collect();
    let told = told(&thoughts);
    let plain = plain.unwrap_or_default();
    let (before, after) = match plain.strip_prefix(&told) {
        Some(rest) if !told.is_empty() => (String::new(), rest.to_owned()),
        // The blocks are what counts, where the two do not agree.
        _ if !told.is_empty() => (String::new(), String::new()),
        _ => (plain, String::new()),
    };
    let text = |text: String| {
        let part = Part::Reasoning(Reasoning { text: text.clone(), ..Reasoning::default() });
        (!text.is_empty()).then_some(part)
    };
    text(before).into_iter().chain(thoughts.into_iter().map(Thought::into_part)).chain(text(after)).collect()
}

/// Returns all that the blocks say.
fn told(thoughts: &[Thought]) -> String {
    let text = |thought: &Thought| match thought {
        Thought::Open(reasoning) => reasoning.text.clone(),
        Thought::Sealed(_) => String::new(),
    };
    thoughts.iter().map(text).collect()
}

/// The reasoning of one answer while it grows.
#[derive(Debug, Default)]
pub(super) struct Thoughts {
    /// The plain text of the block that has no proof yet, to know it again in a block that repeats it; at most
    /// [`REPEATED_BYTES_MAX`], beyond which a repetition is not noticed.
    block: String,
}

/// More than any model thinks in one go (about four million tokens).
const REPEATED_BYTES_MAX: usize = 16 << 20;

impl Thoughts {
    /// Adds what one piece of an answer says in plain text and in blocks.
    pub fn hear(&mut self, plain: String, thoughts: Vec<Thought>, deltas: &mut Vec<Delta>) {
        let told = told(&thoughts);
        // A piece that says it both ways says it once, unless its blocks only prove what came before.
        let after = match plain.strip_prefix(&told) {
            Some(rest) if !told.is_empty() => rest.to_owned(),
            _ => {
                self.text(plain, deltas);
                String::new()
            }
        };
        for thought in thoughts {
            match thought {
                Thought::Sealed(data) => deltas.push(Delta::SealedReasoning(data)),
                Thought::Open(Reasoning { text, proof, id }) => {
                    let is_repetition = proof.is_some() && text == self.block;
                    if !is_repetition {
                        self.text(text, deltas);
                    }
                    if proof.is_some() {
                        self.block.clear();
                        deltas.push(Delta::ReasoningProof { proof, id });
                    }
                }
            }
        }
        self.text(after, deltas);
    }

    fn text(&mut self, text: String, deltas: &mut Vec<Delta>) {
        if text.is_empty() {
            return;
        }
        if self.block.len() + text.len() <= REPEATED_BYTES_MAX {
            self.block.push_str(&text);
        }
        deltas.push(Delta::Reasoning(text));
    }
}
