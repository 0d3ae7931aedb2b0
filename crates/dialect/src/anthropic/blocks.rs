//! How is a conversation written in Anthropic's words?
//!
//! - What system and developer messages say goes before the conversation, in its order, wherever it stood.
//! - Neighbours of one role become one message; a tool's result is the user's to say.
//! - Empty text is left out, because it is refused; so is reasoning without a proof, and reasoning whose proof has a name of its
//!   maker's, because only Anthropic's own proofs are taken. Sealed reasoning goes back as it is.
//! - A participant's `name` and how closely to look at a picture have no words here.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use domain::{ChatMessage, Media, MediaKind, MediaSource, Part, Role};

use super::wire::{Block, Source, object};
use crate::Untellable;

#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

/// A conversation, written.
#[derive(Debug, Default)]
pub(super) struct Written<'a> {
    pub system: Vec<Block<'a>>,
    pub messages: Vec<Message<'a>>,
    /// It names files that the provider keeps.
    pub has_files: bool,
}

const USER: &str = "user";
const ASSISTANT: &str = "assistant";

impl<'a> Written<'a> {
    pub fn of(messages: &'a [ChatMessage]) -> Result<Self, Untellable> {
        let mut written = Self::default();
        for (index, message) in messages.iter().enumerate() {
            written.add(&format!("messages[{index}]"), message)?;
        }
        if written.messages.is_empty() {
            return Err(untellable("messages", "at least one message must be a user's and say something"));
        }
        Ok(written)
    }

    fn add(&mut self, place: &str, message: &'a ChatMessage) -> Result<(), Untellable> {
        match message.role {
            Role::System | Role::Developer => {
                let blocks = self.blocks(place, message)?;
                if blocks.iter().any(|block| !matches!(block, Block::Text { .. })) {
                    return Err(untellable(place, "a system message is text only"));
                }
                self.system.extend(blocks);
            }
            Role::User => {
                let blocks = self.blocks(place, message)?;
                self.say(USER, blocks);
            }
            Role::Assistant => {
                let blocks = self.blocks(place, message)?;
                if blocks.iter().any(|block| matches!(block, Block::Image { .. } | Block::Document { .. })) {
                    return Err(untellable(place, "an assistant's message has no pictures or documents"));
                }
                self.say(ASSISTANT, blocks);
            }
            Role::Tool => {
                let result = self.result(place, message)?;
                self.say(USER, vec![result]);
            }
        }
        Ok(())
    }

    fn say(&mut self, role: &'static str, mut blocks: Vec<Block<'a>>) {
        match self.messages.last_mut() {
            _ if blocks.is_empty() => {}
            Some(last) if last.role == role => last.content.append(&mut blocks),
            _ => self.messages.push(Message { role, content: blocks }),
        }
    }

    /// A mark on the last part of a result is the result's own: what is inside has none.
    fn result(&mut self, place: &str, message: &'a ChatMessage) -> Result<Block<'a>, Untellable> {
        let id = message.tool_call_id.as_deref();
        let id = id.ok_or_else(|| untellable(place, "a tool's message must name the call it answers"))?;
        let mut content = self.blocks(place, message)?;
        let mut mark = None;
        for block in &mut content {
            match block {
                Block::Text { cache_control, .. }
                | Block::Image { cache_control, .. }
                | Block::Document { cache_control, .. } => mark = cache_control.take().or(mark),
                _ => return Err(untellable(place, "a tool's message has text, pictures and documents only")),
            }
        }
        let is_error = message.is_error;
        Ok(Block::ToolResult { tool_use_id: plain_id(id), content, is_error, cache_control: mark })
    }

    fn blocks(&mut self, place: &str, message: &'a ChatMessage) -> Result<Vec<Block<'a>>, Untellable> {
        let mut blocks = Vec::new();
        for (index, part) in message.parts.iter().enumerate() {
            blocks.extend(self.block(&format!("{place}.content[{index}]"), part)?);
        }
        Ok(blocks)
    }

    fn block(&mut self, place: &str, part: &'a Part) -> Result<Option<Block<'a>>, Untellable> {
        Ok(match part {
            Part::Text { text, .. } | Part::Refusal(text) if text.is_empty() => None,
            Part::Text { text, cache } => {
                Some(Block::Text { text: Cow::Borrowed(text), cache_control: cache.map(Into::into) })
            }
            Part::Refusal(text) => Some(Block::Text { text: Cow::Borrowed(text), cache_control: None }),
            Part::Media(media) => Some(self.media(place, media)?),
            Part::Reasoning(reasoning) => match (&reasoning.proof, &reasoning.id) {
                (Some(signature), None) => Some(Block::Thinking { thinking: &reasoning.text, signature }),
                _ => None,
            },
            Part::SealedReasoning(data) => Some(Block::RedactedThinking { data }),
            Part::ToolCall(call) => {
                let input = object(&call.arguments);
                let input =
                    input.ok_or_else(|| untellable(place, "a call's arguments must be a JSON object"))?;
                Some(Block::ToolUse { id: plain_id(&call.id), name: &call.name, input })
            }
        })
    }

    fn media(&mut self, place: &str, media: &'a Media) -> Result<Block<'a>, Untellable> {
        let cache_control = media.cache.map(Into::into);
        self.has_files |= matches!(media.source, MediaSource::File(_));
        let source = source(place, media)?;
        match media.kind {
            MediaKind::Image => Ok(Block::Image { source, cache_control }),
            MediaKind::Document => {
                Ok(Block::Document { source, title: media.name.as_deref(), cache_control })
            }
            MediaKind::Audio => Err(untellable(place, "it takes no sound")),
        }
    }
}

fn source<'a>(place: &str, media: &'a Media) -> Result<Source<'a>, Untellable> {
    Ok(match &media.source {
        MediaSource::Url(url) => Source::Url { url },
        MediaSource::File(file_id) => Source::File { file_id },
        MediaSource::Inline { media_type, data }
            if media.kind == MediaKind::Document && media_type.starts_with("text/") =>
        {
            let bytes = BASE64_STANDARD.decode(data).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| untellable(place, "a text document must be UTF-8 in base64"))?;
            Source::Text { media_type: "text/plain", data: text }
        }
        MediaSource::Inline { media_type, data } => Source::Base64 { media_type, data },
    })
}

/// Returns a call's id in the letters that Anthropic takes; others' ids may have dots and colons.
fn plain_id(id: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    match id.chars().all(is_plain) {
        true => Cow::Borrowed(id),
        false => id.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect(),
    }
}

pub(super) fn untellable(what: &str, why: &str) -> Untellable {
    Untellable { what: what.to_owned(), why: why.to_owned() }
}
