//! What does a completion request ask for?
//!
//! Fields that are not known are accepted without any effect, and listed by [`Request::ignored`]. `suffix` and a `best_of`
//! beyond `n` are refused by name.

use serde_json::Value;

use domain::{Ask, Input, ModelName, Prompt, Sampling, TokenId};

use crate::BadRequest;
use crate::openai::Labels;
use crate::openai::generation::{Generation, empty, take_max_tokens, too_long};
use crate::read::{Fields, integer, unsupported, wrong_type};

#[derive(Clone, Debug)]
pub struct Request {
    generation: Generation,
    prompts: Vec<Prompt>,
    max_output_tokens: u32,
    logprobs: Option<u8>,
    echo: bool,
    labels: Labels,
    ignored: Vec<String>,
}

/// OpenAI's own bound of prompts in one request.
const PROMPTS_MAX: usize = 2048;
/// OpenAI's own default, which surprises everybody once, but which clients rely on.
const OUTPUT_TOKENS_DEFAULT: u32 = 16;

impl Request {
    pub fn read(body: &[u8]) -> Result<Self, BadRequest> {
        let mut fields = Fields::parse(body)?;
        fields.refuse(&[
            ("suffix", "Models here continue a text; they do not fill a gap."),
            ("response_format", "It belongs to /v1/chat/completions."),
            ("prompt_embeds", "Use 'prompt'."),
        ])?;
        let generation = Generation::take(&mut fields)?;
        check_best_of(&mut fields, generation.choices)?;
        Ok(Self {
            max_output_tokens: take_max_tokens(&mut fields, "max_tokens", 0)?
                .unwrap_or(OUTPUT_TOKENS_DEFAULT),
            logprobs: fields.integer("logprobs", 0, 20)?.map(|top| top as u8),
            echo: fields.flag("echo")?,
            prompts: take_prompts(&mut fields)?,
            generation,
            labels: Labels::take(&mut fields),
            ignored: fields.left(),
        })
    }
    /// Returns the model's name, as the client wrote it.
    pub fn model(&self) -> &ModelName {
        &self.generation.model
    }
    /// Returns what the request says about where it belongs.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }
    /// Returns the fields that were accepted without any effect, in the order of the request: for a debug header.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
    /// Returns the ask. What the request left open is taken from the model's `defaults`.
    pub fn into_ask(self, defaults: &Sampling) -> Ask {
        let generation = self.generation;
        Ask {
            model: generation.model,
            input: Input::Completion(self.prompts),
            max_output_tokens: Some(self.max_output_tokens),
            sampling: generation.sampling.over(defaults),
            stop: generation.stop,
            logprobs: self.logprobs,
            choices: generation.choices,
            stream: generation.stream,
            stream_usage: generation.stream_usage,
            echo: self.echo,
            ignore_eos: generation.ignore_eos,
            user: generation.user,
        }
    }
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

/// Takes `prompt`: a text, several texts, a list of tokens, or several lists of tokens.
fn take_prompts(fields: &mut Fields) -> Result<Vec<Prompt>, BadRequest> {
    let prompt = fields.take("prompt").ok_or_else(|| fields.missing("prompt"))?;
    let list = match prompt {
        Value::String(text) => return Ok(vec![Prompt::Text(text)]),
        Value::Array(list) => list,
        other => {
            return Err(wrong_type(
                "prompt",
                "a string or an array of strings, tokens or arrays of tokens",
                &other,
            ));
        }
    };
    if list.is_empty() {
        return Err(empty("prompt"));
    }
    if list[0].is_number() {
        return Ok(vec![Prompt::Tokens(read_tokens("prompt", &list)?)]);
    }
    if list.len() > PROMPTS_MAX {
        return Err(too_long("prompt", PROMPTS_MAX, list.len()));
    }
    let read = |(index, prompt)| {
        let place = format!("prompt[{index}]");
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
