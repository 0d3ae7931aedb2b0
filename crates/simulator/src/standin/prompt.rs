//! What was asked, as far as an answer depends on it; and what it took.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::check::decoded;
use super::tokens;

/// A request as a provider's reader understood it.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// Everything that is counted and cached, in the provider's order: tools, system, messages.
    pub pieces: Vec<Piece>,
    pub system: String,
    /// The text of the last user turn.
    pub ask: String,
    pub media: Vec<Media>,
    pub tools: Vec<Tool>,
    pub choice: Choice,
    pub one_call_only: bool,
    /// What the tools of the last turn said.
    pub tool_results: Vec<String>,
    pub format: Format,
    pub thinks: bool,
    pub max_tokens: Option<u64>,
    pub stop: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Piece {
    pub text: String,
    /// What was said up to here shall be kept.
    pub mark: Option<Lifetime>,
    pub media_tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    FiveMinutes,
    OneHour,
}

#[derive(Clone, Debug)]
pub enum Media {
    Inline { media_type: String, bytes: usize, sha256: String },
    At(String),
}

#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub schema: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    #[default]
    Auto,
    None,
    Any,
    Named(String),
}

#[derive(Clone, Debug, Default)]
pub enum Format {
    #[default]
    Text,
    Object,
    Schema(Value),
}

/// What the provider counted, in disjoint quantities; reasoning is inside output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub input_uncached: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    pub output: u64,
    pub reasoning: u64,
}

impl Tally {
    pub fn input(&self) -> u64 {
        self.input_uncached + self.cache_read + self.cache_write_5m + self.cache_write_1h
    }

    pub fn total(&self) -> u64 {
        self.input() + self.output
    }

    pub fn cache_written(&self) -> u64 {
        self.cache_write_5m + self.cache_write_1h
    }
}

/// A picture costs as much as OpenAI's `low` detail does.
const MEDIA_TOKENS: u64 = 85;

impl Piece {
    pub fn tokens(&self) -> Vec<String> {
        let mut tokens = tokens::tokens(&self.text);
        tokens.extend((0..self.media_tokens).map(|_| String::new()));
        tokens
    }

    pub fn token_count(&self) -> u64 {
        tokens::tokens(&self.text).len() as u64 + self.media_tokens
    }
}

impl Prompt {
    pub fn say(&mut self, text: impl Into<String>) {
        self.say_marked(text, None);
    }

    pub fn say_marked(&mut self, text: impl Into<String>, mark: Option<Lifetime>) {
        self.pieces.push(Piece { text: text.into(), mark, media_tokens: 0 });
    }

    pub fn mark(&mut self, mark: Option<Lifetime>) {
        if let (Some(piece), Some(mark)) = (self.pieces.last_mut(), mark) {
            piece.mark = Some(mark);
        }
    }

    /// A new user turn: what the last one asked is past.
    pub fn turn(&mut self) {
        self.ask.clear();
        self.media.clear();
        self.tool_results.clear();
    }

    pub fn ask(&mut self, text: &str) {
        self.say(text);
        if !self.ask.is_empty() {
            self.ask.push(' ');
        }
        self.ask.push_str(text);
    }

    pub fn instruct(&mut self, text: &str) {
        self.say(text);
        if !self.system.is_empty() {
            self.system.push(' ');
        }
        self.system.push_str(text);
    }

    pub fn show(&mut self, media: Media) {
        let text = match &media {
            Media::Inline { sha256, .. } => sha256.clone(),
            Media::At(url) => url.clone(),
        };
        self.pieces.push(Piece { text, mark: None, media_tokens: MEDIA_TOKENS });
        self.media.push(media);
    }

    pub fn offer(&mut self, name: &str, schema: Value, whole: &Value) {
        self.say(whole.to_string());
        self.tools.push(Tool { name: name.to_owned(), schema });
    }
}

impl Media {
    pub fn of_base64(media_type: &str, data: &str) -> Result<Self, String> {
        let bytes =
            decoded(data).filter(|bytes| !bytes.is_empty()).ok_or("it is not valid base64, or empty")?;
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Ok(Self::Inline {
            media_type: media_type.to_owned(),
            bytes: bytes.len(),
            sha256: sha256[..12].to_owned(),
        })
    }

    /// `data:image/png;base64,…`, or an address.
    pub fn of_url(url: &str) -> Result<Self, String> {
        match url.strip_prefix("data:") {
            Some(rest) => {
                let (media_type, data) =
                    rest.split_once(";base64,").ok_or("a data URL without `;base64,`")?;
                Self::of_base64(media_type, data)
            }
            None if url.starts_with("https://") || url.starts_with("http://") => Ok(Self::At(url.to_owned())),
            None => {
                Err(format!("`{}` is neither a URL nor a data URL", url.chars().take(40).collect::<String>()))
            }
        }
    }
}
