//! How is it said that the model chosen cannot do what is asked? Whether it can is known only after the choice.

use domain::{AnswerFormat, MediaKind, ToolChoice};

use crate::BadRequest;
use crate::read::unsupported;

/// A part of a message that is no text. `place` is such as `messages[0].content[1]`.
pub fn media(place: &str, kind: MediaKind) -> BadRequest {
    let kind = match kind {
        MediaKind::Image => "image_url",
        MediaKind::Audio => "input_audio",
        MediaKind::Document => "file",
    };
    BadRequest::new(format!(
        "Invalid content part '{place}': this model reads text only, but got a part of type '{kind}'."
    ))
    .at(place)
    .code("unsupported_content")
}

/// An answer in a form of its own; nothing for plain text.
pub fn answer_format(format: &AnswerFormat) -> Option<BadRequest> {
    let kind = match format {
        AnswerFormat::Text => return None,
        AnswerFormat::JsonObject => "json_object",
        AnswerFormat::JsonSchema { .. } => "json_schema",
    };
    Some(unsupported(
        "response_format",
        &format!("The type '{kind}' is not available yet; use 'text' and describe the format in a message."),
    ))
}

/// A call that must be made; nothing where the model may choose.
pub fn tool_choice(choice: &ToolChoice) -> Option<BadRequest> {
    let what = match choice {
        ToolChoice::Auto | ToolChoice::None => return None,
        ToolChoice::Required => "the value 'required'",
        ToolChoice::Named(_) => "a named function",
    };
    let advice = format!(
        "It was {what}, but a call cannot be forced yet; use 'auto' and say in a message which tool to call."
    );
    Some(unsupported("tool_choice", &advice))
}

/// A tool that some provider would run itself. `place` is such as `tools[0]`.
pub fn native_tool(place: &str, kind: &str) -> BadRequest {
    unsupported(
        place,
        &format!(
            "The tool '{kind}' is run by a provider, and this model has none; offer a function in its place."
        ),
    )
}
