//! What does a chat request ask for?
//!
//! All that some model somewhere can do is read; whether the one that is chosen can is decided after the choice.
//!
//! **Accepted without any effect** on a model that does not speak this dialect itself: `store`, `metadata`, `verbosity`,
//! `prediction`, `prompt_cache_retention`, `safety_identifier`, and every field that is not known (SDKs and proxies add their
//! own). [`Heard::ignored`] lists them. Of `metadata`, and of what other gateways take, the names of tasks and sessions are read:
//! [`Heard::labels`].
//!
//! **Refused by name**, because the answer would not be what was asked for: answers in sound, the deprecated `functions`, and
//! other servers' constraints.

use std::sync::Arc;

use serde_json::Map;

use domain::{Ask, Chat, Input};

use super::ChatForm;
use crate::openai::generation::{Generation, take_max_tokens};
use crate::openai::messages::take_messages;
use crate::openai::tools::take_tools;
use crate::openai::wishes::{read_format, take_reasoning, take_tier};
use crate::read::{Fields, unsupported};
use crate::{BadRequest, Heard, Labels};

const UNSUPPORTED: &[(&str, &str)] = &[
    ("audio", "Only text can be answered."),
    ("echo", "Use /v1/completions."),
    ("suffix", "Use /v1/completions."),
    ("best_of", "Use 'n'."),
    ("documents", "Write them into a message."),
    ("chat_template", "The model's own template is used; its variables are set by 'chat_template_kwargs'."),
    ("continue_final_message", "Use /v1/completions to continue a text."),
];

/// Reads a chat request.
pub fn read(body: &[u8]) -> Result<Heard, BadRequest> {
    let mut fields = Fields::parse(body)?;
    fields.refuse(UNSUPPORTED)?;
    check_modalities(&mut fields)?;
    if fields.optional_flag("add_generation_prompt")? == Some(false) {
        return Err(unsupported("add_generation_prompt", "An answer always follows the last message."));
    }
    let generation = Generation::take(&mut fields)?;
    let form = Arc::new(ChatForm { include_usage: generation.stream_usage });
    let ask = Ask {
        max_output_tokens: take_max_output_tokens(&mut fields)?,
        logprobs: take_logprobs(&mut fields)?,
        service_tier: take_tier(&mut fields)?,
        cache_key: fields.text("prompt_cache_key")?,
        input: Input::Chat(take_chat(&mut fields)?),
        ..generation.into_ask()
    };
    Ok(Heard { ask, labels: Labels::take(&mut fields), ignored: fields.left(), form })
}

/// Takes what the template is to print; `/tokenize` reads it the same way.
pub(in crate::openai) fn take_chat(fields: &mut Fields) -> Result<Chat, BadRequest> {
    let messages = take_messages(fields)?;
    let (tools, tool_choice) = take_tools(fields)?;
    let parallel_tool_calls = fields.optional_flag("parallel_tool_calls")?;
    let format = fields.take("response_format");
    let format =
        format.map(|format| read_format("response_format", format, false)).transpose()?.unwrap_or_default();
    let reasoning = take_reasoning(fields)?;
    let template_variables = fields.object("chat_template_kwargs")?.map_or_else(Map::new, Fields::into_map);
    Ok(Chat { messages, tools, tool_choice, parallel_tool_calls, format, reasoning, template_variables })
}

/// `max_tokens` is the older name. Both may be sent, if they agree.
fn take_max_output_tokens(fields: &mut Fields) -> Result<Option<u32>, BadRequest> {
    let older = take_max_tokens(fields, "max_tokens", 1)?;
    let newer = take_max_tokens(fields, "max_completion_tokens", 1)?;
    match (older, newer) {
        (Some(older), Some(newer)) if older != newer => Err(BadRequest::new(format!(
            "Setting 'max_tokens' ({older}) and 'max_completion_tokens' ({newer}) at the same time is not supported."
        ))
        .at("max_tokens")
        .code("invalid_parameter_combination")),
        (older, newer) => Ok(newer.or(older)),
    }
}

fn take_logprobs(fields: &mut Fields) -> Result<Option<u8>, BadRequest> {
    let wanted = fields.flag("logprobs")?;
    match fields.integer("top_logprobs", 0, 20)? {
        Some(1..) if !wanted => {
            let message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.";
            Err(BadRequest::new(message).at("top_logprobs").code("invalid_parameter_combination"))
        }
        top => Ok(wanted.then_some(top.unwrap_or(0) as u8)),
    }
}

fn check_modalities(fields: &mut Fields) -> Result<(), BadRequest> {
    let modalities = fields.list("modalities")?.unwrap_or_default();
    match modalities.iter().find(|modality| *modality != "text") {
        Some(other) => {
            Err(unsupported("modalities", &format!("It has {other}; only \"text\" can be answered.")))
        }
        None => Ok(()),
    }
}
