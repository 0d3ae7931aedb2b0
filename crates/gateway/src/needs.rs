//! What does a request need of whoever answers it, and how long is it?

use dialect::BadRequest;
use domain::{AnswerFormat, Ask, Chat, Input, MediaKind, Part, Prompt, Tool, ToolChoice};
use fleet::{Capabilities, Capability, PrefixHasher};

use crate::guard::chat_bytes;

/// What an engine of our own can do today.
pub fn of_an_engine() -> Capabilities {
    use Capability::{Chat, Choices, Completions, Logprobs, Reasoning, Tools};
    Capabilities::of(&[Chat, Completions, Tools, Reasoning, Logprobs, Choices])
}

/// Returns what the ask needs, each with the field that asks for it.
pub fn capabilities(ask: &Ask) -> Vec<(Capability, &'static str)> {
    let mut needs = Vec::new();
    match &ask.input {
        Input::Completion(_) => needs.push((Capability::Completions, "prompt")),
        Input::Chat(chat) => {
            needs.push((Capability::Chat, "messages"));
            of_chat(chat, &mut needs);
        }
    }
    if ask.logprobs.is_some() {
        needs.push((Capability::Logprobs, "logprobs"));
    }
    if ask.choices > 1 {
        needs.push((Capability::Choices, "n"));
    }
    needs
}

fn of_chat(chat: &Chat, needs: &mut Vec<(Capability, &'static str)>) {
    for tool in &chat.tools {
        needs.push(match tool {
            Tool::Function { .. } => (Capability::Tools, "tools"),
            Tool::Native { dialect, .. } => (native(dialect), "tools"),
        });
    }
    if chat.format != AnswerFormat::Text {
        needs.push((Capability::Structured, "response_format"));
    }
    for media in chat.messages.iter().flat_map(|message| message.media()) {
        needs.push(match media.kind {
            MediaKind::Image => (Capability::Images, "messages"),
            MediaKind::Document => (Capability::Documents, "messages"),
            MediaKind::Audio => (Capability::Audio, "messages"),
        });
    }
    needs.dedup();
}

fn native(dialect: &str) -> Capability {
    match dialect.split('.').next() {
        Some("anthropic") => Capability::NativeAnthropic,
        Some("google") => Capability::NativeGemini,
        Some("aws") => Capability::NativeBedrock,
        _ => Capability::NativeOpenai,
    }
}

/// Refuses by name what an engine of our own cannot do although it can chat: it would answer another question.
pub fn check_engine_can(ask: &Ask) -> Result<(), BadRequest> {
    let Input::Chat(chat) = &ask.input else { return Ok(()) };
    let forced = match &chat.tool_choice {
        ToolChoice::Auto | ToolChoice::None => return Ok(()),
        ToolChoice::Required => "the value 'required'",
        ToolChoice::Named(_) => "a named function",
    };
    let message = format!(
        "Unsupported parameter: 'tool_choice' is not supported by this server. It was {forced}, but a call cannot be forced \
         yet; use 'auto' and say in a message which tool to call."
    );
    Err(BadRequest::new(message).at("tool_choice").code("unsupported_parameter"))
}

/// What is thought of a picture or a document whose tokens only its reader can count. Vendors bill pictures at some hundred to
/// two thousand tokens.
const MEDIA_TOKENS: u64 = 1_000;
/// Bytes of a token before a model's own ratio is known: between English (4) and code or JSON (3).
pub const BYTES_PER_TOKEN: f64 = 3.5;

/// Returns the text's bytes and the media of an ask, from which its tokens are guessed where they cannot be counted.
pub fn size(ask: &Ask) -> (u64, u64) {
    match &ask.input {
        Input::Chat(chat) => {
            let media = chat.messages.iter().flat_map(|message| message.media()).count();
            (chat_bytes(chat) as u64, media as u64)
        }
        Input::Completion(prompts) => {
            let bytes = prompts.iter().map(|prompt| match prompt {
                Prompt::Text(text) => text.len() as u64,
                Prompt::Tokens(tokens) => (tokens.len() as f64 * BYTES_PER_TOKEN) as u64,
            });
            (bytes.sum(), 0)
        }
    }
}

/// Returns how many tokens the ask's prompt likely has, for a model that makes a token of so many bytes.
pub fn input_tokens(ask: &Ask, bytes_per_token: f64) -> u64 {
    let (bytes, media) = size(ask);
    (bytes as f64 / bytes_per_token.max(0.5)).ceil() as u64 + media * MEDIA_TOKENS + 8
}

/// Returns which share of the prompt, from its beginning, the client has marked to be kept by its provider.
pub fn marked_share(ask: &Ask) -> f64 {
    let Input::Chat(chat) = &ask.input else { return 0.0 };
    let (mut all, mut marked) = (0, 0);
    for tool in &chat.tools {
        all += tool.to_openai().to_string().len();
        if matches!(tool, Tool::Function { cache: Some(_), .. }) {
            marked = all;
        }
    }
    for part in chat.messages.iter().flat_map(|message| &message.parts) {
        let mark = match part {
            Part::Text { text, cache } => {
                all += text.len();
                cache
            }
            Part::Media(media) => &media.cache,
            Part::ToolCall(call) => {
                all += call.arguments.len();
                &None
            }
            Part::Refusal(text) | Part::SealedReasoning(text) => {
                all += text.len();
                &None
            }
            Part::Reasoning(reasoning) => {
                all += reasoning.text.len();
                &None
            }
        };
        if mark.is_some() {
            marked = all;
        }
    }
    if all == 0 { 0.0 } else { marked as f64 / all as f64 }
}

/// Writes what a provider's prefix cache would see of the prompt, in its order: tools, then messages.
pub fn write_prefix(ask: &Ask, hasher: &mut PrefixHasher) {
    let Input::Chat(chat) = &ask.input else { return };
    for tool in &chat.tools {
        hasher.write(tool.to_openai().to_string().as_bytes());
    }
    for message in &chat.messages {
        hasher.write(message.role.as_str().as_bytes());
        for part in &message.parts {
            match part {
                Part::Text { text, .. } | Part::Refusal(text) | Part::SealedReasoning(text) => {
                    hasher.write(text.as_bytes());
                }
                Part::Reasoning(reasoning) => hasher.write(reasoning.text.as_bytes()),
                Part::ToolCall(call) => {
                    hasher.write(call.name.as_bytes());
                    hasher.write(call.arguments.as_bytes());
                }
                Part::Media(media) => match &media.source {
                    domain::MediaSource::Url(text)
                    | domain::MediaSource::File(text)
                    | domain::MediaSource::Inline { data: text, .. } => hasher.write(text.as_bytes()),
                },
            }
        }
    }
}
