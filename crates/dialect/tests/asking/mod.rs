//! Which conversations do the tests ask?

use dialect::{Target, Untellable, Upstream};
use domain::{
    AnswerFormat, Ask, CacheMark, Chat, ChatMessage, Input, Media, MediaKind, MediaSource, ModelName, Part,
    Reasoning, ReasoningWish, Role, SamplingWish, Tool, ToolCall,
};
use serde_json::{Value, json};

pub fn asked(chat: Chat) -> Ask {
    Ask {
        model: ModelName::new("public-name"),
        input: Input::Chat(chat),
        max_output_tokens: None,
        sampling: SamplingWish::default(),
        stop: Vec::new(),
        logprobs: None,
        choices: 1,
        stream: false,
        stream_usage: false,
        echo: false,
        ignore_eos: false,
        user: None,
        service_tier: None,
        cache_key: None,
    }
}

pub fn chat(messages: Vec<ChatMessage>) -> Chat {
    Chat { messages, ..Chat::default() }
}

/// A user's word, and nothing else.
pub fn short() -> Ask {
    asked(chat(vec![ChatMessage::of_text(Role::User, "Hi")]))
}

/// Returns what this ask becomes where the chat is changed so.
pub fn with_chat(change: impl FnOnce(&mut Chat)) -> Ask {
    let mut chat = chat(vec![ChatMessage::of_text(Role::User, "Hi")]);
    change(&mut chat);
    asked(chat)
}

pub fn function(name: &str, strict: Option<bool>) -> Tool {
    Tool::Function {
        name: name.into(),
        description: Some("Looks.".into()),
        parameters: Some(json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": false
        })),
        strict,
        cache: None,
    }
}

pub fn call(id: &str, name: &str, arguments: &str, proof: Option<&str>) -> Part {
    let (id, name, arguments) = (id.into(), name.into(), arguments.into());
    Part::ToolCall(ToolCall { id, name, arguments, proof: proof.map(str::to_owned) })
}

pub fn result(id: &str, text: &str, is_error: bool) -> ChatMessage {
    let mut message = ChatMessage::of_text(Role::Tool, text);
    message.tool_call_id = Some(id.into());
    message.is_error = is_error;
    message
}

pub fn thought(text: &str, proof: Option<&str>) -> Part {
    Part::Reasoning(Reasoning { text: text.into(), proof: proof.map(str::to_owned), id: None })
}

pub fn media(kind: MediaKind, source: MediaSource, name: Option<&str>) -> Part {
    Part::Media(Media { kind, source, detail: None, name: name.map(str::to_owned), cache: None })
}

pub fn inline(media_type: &str) -> MediaSource {
    MediaSource::Inline { media_type: media_type.into(), data: "AAAA".into() }
}

/// A conversation with all that a conversation can have.
pub fn long() -> Ask {
    let user = vec![
        Part::text("Look at these."),
        media(MediaKind::Image, inline("image/png"), None),
        media(MediaKind::Document, inline("application/pdf"), Some("Q3_report.pdf")),
        Part::Text { text: "Which city is warmer?".into(), cache: Some(CacheMark::OneHour) },
    ];
    let assistant = vec![
        thought("Two cities.", Some("gemini:c2ln")),
        thought("Of another maker.", Some("ErUB")),
        Part::text("I look."),
        call("call_gemini_0_r1", "weather", r#"{"city":"Oslo"}"#, Some("CiQB")),
        call("toolu_2", "weather", r#"{"city":"Bergen"}"#, None),
    ];
    let mut chat = chat(vec![
        ChatMessage::of_text(Role::System, "Be short."),
        ChatMessage::new(Role::User, user),
        ChatMessage::new(Role::Assistant, assistant),
        result("call_gemini_0_r1", r#"{"celsius":4}"#, false),
        result("toolu_2", "no such city", true),
        ChatMessage::of_text(Role::Developer, "Use Celsius."),
        ChatMessage::of_text(Role::User, "And?"),
    ]);
    chat.tools = vec![function("weather", None)];
    chat.reasoning = Some(ReasoningWish { effort: Some("low".into()), ..ReasoningWish::default() });
    chat.format = AnswerFormat::JsonSchema {
        name: "city".into(),
        description: None,
        schema: json!({"type": "object", "properties": {"city": {"type": "string"}}}),
        strict: Some(true),
    };
    let mut ask = asked(chat);
    ask.max_output_tokens = Some(500);
    ask.stop = vec!["END".into()];
    ask.sampling =
        SamplingWish { temperature: Some(0.7), top_p: Some(0.9), top_k: Some(40), ..SamplingWish::default() };
    ask.user = Some("u-1".into());
    ask
}

/// A path, the headers but the content's type, and the body.
pub type Asked = (String, Vec<(&'static str, String)>, Value);

/// Returns what the upstream is sent.
pub fn request(upstream: &dyn Upstream, ask: &Ask, model: &str) -> Result<Asked, Untellable> {
    let mut wire = upstream.request(ask, &Target { model, stream: ask.stream })?;
    assert_eq!(wire.headers.remove(0), ("content-type", "application/json".to_owned()));
    // For whoever wants to show the bodies to the makers' own libraries.
    if let Ok(folder) = std::env::var("DIALECT_DUMP") {
        let name = wire.path.replace(['/', '%', ':', '?', '='], "_");
        let number = std::fs::read_dir(&folder).map_or(0, Iterator::count);
        std::fs::write(format!("{folder}/{number}{name}.json"), &wire.body).expect("a folder to write to");
    }
    Ok((wire.path, wire.headers, serde_json::from_slice(&wire.body).expect("a body is JSON")))
}

/// Returns the field that the upstream has no words for.
pub fn refused(upstream: &dyn Upstream, ask: &Ask, model: &str) -> String {
    request(upstream, ask, model).expect_err("something that cannot be told").what
}
