//! What does a completion request ask for?
//!
//! Fields that are not known are accepted without any effect, and listed by [`Heard::ignored`]. `suffix` and a `best_of`
//! beyond `n` are refused by name.

use std::sync::Arc;

use serde_json::Value;

use domain::{Ask, Input, Prompt, TokenId};

use super::CompletionForm;
use crate::openai::generation::{Generation, empty, take_max_tokens, too_long};
use crate::read::{Fields, integer, unsupported, wrong_type};
use crate::{BadRequest, Heard, Labels};

/// OpenAI's own bound of prompts in one request.
const PROMPTS_MAX: usize = 2048;
/// OpenAI's own default, which surprises everybody once, but which clients rely on.
const OUTPUT_TOKENS_DEFAULT: u32 = 16;

/// Reads a completion request.
pub fn read(body: &[u8]) -> Result<Heard, BadRequest> {
    let mut fields = Fields::parse(body)?;
    fields.refuse(&[
        ("suffix", "Models here continue a text; they do not fill a gap."),
        ("response_format", "It belongs to /v1/chat/completions."),
        ("prompt_embeds", "Use 'prompt'."),
    ])?;
    let generation = Generation::take(&mut fields)?;
    check_best_of(&mut fields, generation.choices)?;
    let form = Arc::new(CompletionForm { include_usage: generation.stream_usage });
    let max_output_tokens = take_max_tokens(&mut fields, "max_tokens", 0)?.unwrap_or(OUTPUT_TOKENS_DEFAULT);
    let ask = Ask {
        max_output_tokens: Some(max_output_tokens),
        logprobs: fields.integer("logprobs", 0, 20)?.map(|top| top as u8),
        echo: fields.flag("echo")?,
        input: Input::Completion(take_prompts(&mut fields, "prompt")?),
        ..generation.into_ask()
    };
    Ok(Heard { ask, labels: Labels::take(&mut fields), ignored: fields.left(), form })
}

/// All of `n` answers are given back, so there is no choosing among more.
fn check_best_of(fields: &mut Fields, choices: u32) -> Result<(), BadRequest> {
    match fields.integer("best_of", 0, 128)? {
        Some(best_of) if best_of > i64::from(choices) => Err(unsupported(
            "best_of",
            &format!("It was {best_of}; ask for 'n' answers and choose yourself."),
        )),
        _ => Ok(()),
    }
}

/// Takes a text, several texts, a list of tokens, or several lists of tokens.
pub(in crate::openai) fn take_prompts(fields: &mut Fields, name: &str) -> Result<Vec<Prompt>, BadRequest> {
    let prompt = fields.take(name).ok_or_else(|| fields.missing(name))?;
    let list = match prompt {
        Value::String(text) => return Ok(vec![Prompt::Text(text)]),
        Value::Array(list) => list,
        other => {
            return Err(wrong_type(
                name,
                "a string or an array of strings, tokens or arrays of tokens",
                &other,
            ));
        }
    };
    if list.is_empty() {
        return Err(empty(name));
    }
    if list[0].is_number() {
        return Ok(vec![Prompt::Tokens(read_tokens(name, &list)?)]);
    }
    if list.len() > PROMPTS_MAX {
        return Err(too_long(name, PROMPTS_MAX, list.len()));
    }
    let read = |(index, prompt)| {
        let place = format!("{name}[{index}]");
        match prompt {
            Value::String(text) => Ok(Prompt::Text(text)),
            Value::Array(tokens) if tokens.is_empty() => Err(empty(&place)),
            Value::Array(tokens) => Ok(Prompt::Tokens(read_tokens(&place, &tokens)?)),
            other => Err(wrong_type(&place, "a string or an array of tokens", &other)),
        }
    };
    list.into_iter().enumerate().map(read).collect()
}

/// Whether the tokens exist is the model's to know.
pub(in crate::openai) fn read_tokens(place: &str, tokens: &[Value]) -> Result<Vec<TokenId>, BadRequest> {
    let read = |(index, token): (usize, &Value)| match token.as_u64() {
        Some(token) if token <= u64::from(TokenId::MAX) => Ok(token as TokenId),
        // The place is only written out for what is wrong: there may be a million tokens.
        _ => integer(&format!("{place}[{index}]"), token, 0, i64::from(TokenId::MAX))
            .map(|token| token as TokenId),
    };
    tokens.iter().enumerate().map(read).collect()
}
