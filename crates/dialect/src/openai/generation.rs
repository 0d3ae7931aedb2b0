//! What do chat and completion requests ask for in the same words?

use serde_json::{Map, Value, json};

use domain::{Ask, Input, ModelName, SamplingWish, TokenId};

use super::tier;
use super::wire::Manner;
use crate::read::{Fields, decimal, unsupported, wrong_type};
use crate::{BadRequest, Target};

/// The fields that both endpoints share, checked.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub model: ModelName,
    pub choices: u32,
    pub stream: bool,
    pub stream_usage: bool,
    pub stop: Vec<String>,
    pub ignore_eos: bool,
    pub user: Option<String>,
    pub sampling: SamplingWish,
}

/// OpenAI takes 4; each costs a search in every piece of text, so more are cheap, but not without end.
const STOPS_MAX: usize = 16;
/// A stop string holds text back until it is decided; longer ones stop nothing that anybody writes.
const STOP_BYTES_MAX: usize = 1024;
/// Each is one addition per token drawn. OpenAI's published bound is lower.
const LOGIT_BIASES_MAX: usize = 1024;

/// Fields of other servers that change the answer and that nobody here would act on: to ignore them would be to answer
/// another question than was asked.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("stop_token_ids", "Use 'stop' with the tokens' text."),
    ("include_stop_str_in_output", "Add the stop string yourself; 'finish_reason' says that one was met."),
    ("bad_words", "Use 'logit_bias'."),
    ("allowed_token_ids", "Use 'logit_bias'."),
    ("use_beam_search", "Use 'n' with sampling."),
    ("prompt_logprobs", "Use /v1/completions with 'echo' and 'logprobs'."),
    ("guided_json", "Structured output is not available yet; describe the format in a message."),
    ("guided_regex", "Structured output is not available yet; describe the format in a message."),
    ("guided_choice", "Structured output is not available yet; describe the format in a message."),
    ("guided_grammar", "Structured output is not available yet; describe the format in a message."),
    ("structured_outputs", "Structured output is not available yet; describe the format in a message."),
];

impl Generation {
    pub fn take(fields: &mut Fields) -> Result<Self, BadRequest> {
        fields.refuse(UNSUPPORTED)?;
        let model = take_model(fields)?.ok_or_else(|| fields.missing("model"))?;
        let choices = fields.integer("n", 1, 128)?.unwrap_or(1) as u32;
        let stream = fields.flag("stream")?;
        let stream_usage = take_stream_usage(fields, stream)?;
        let stop = take_stop(fields)?;
        let ignore_eos = fields.flag("ignore_eos")?;
        take_min_tokens(fields, ignore_eos)?;
        let user = fields.text("user")?;
        let sampling = take_sampling(fields)?;
        Ok(Self { model, choices, stream, stream_usage, stop, ignore_eos, user, sampling })
    }

    /// Returns an ask with what both endpoints share; the rest is the endpoint's.
    pub fn into_ask(self) -> Ask {
        let Self { model, choices, stream, stream_usage, stop, ignore_eos, user, sampling } = self;
        Ask {
            model,
            input: Input::Completion(Vec::new()),
            max_output_tokens: None,
            sampling,
            stop,
            logprobs: None,
            choices,
            stream,
            stream_usage,
            echo: false,
            ignore_eos,
            user,
            service_tier: None,
            cache_key: None,
        }
    }
}

/// Says what both endpoints share to an upstream, field by field.
pub(super) fn say(ask: &Ask, target: &Target<'_>, manner: &Manner, say: &mut dyn FnMut(&str, Option<Value>)) {
    let SamplingWish { temperature, top_p, top_k, min_p, repetition_penalty, .. } = ask.sampling;
    let SamplingWish { presence_penalty, frequency_penalty, seed, .. } = ask.sampling;
    say("n", Some(ask.choices).filter(|choices| *choices != 1).map(Value::from));
    say("stop", Some(&ask.stop).filter(|stop| !stop.is_empty()).map(|stop| json!(stop)));
    say("temperature", temperature.map(number));
    say("top_p", top_p.map(number));
    say("presence_penalty", presence_penalty.map(number));
    say("frequency_penalty", frequency_penalty.map(number));
    say("logit_bias", ask.sampling.logit_bias.as_ref().map(|biases| logit_bias(biases)));
    // Seeds are 64 bits here and signed there.
    say("seed", seed.map(|seed| json!(seed as i64)));
    if manner.is_compatible {
        say("top_k", top_k.map(Value::from));
        say("min_p", min_p.map(number));
        say("repetition_penalty", repetition_penalty.map(number));
        say("ignore_eos", ask.ignore_eos.then_some(json!(true)));
    }
    say("user", ask.user.as_ref().map(|user| json!(user)));
    say("service_tier", ask.service_tier.map(|service_tier| json!(tier::word(service_tier))));
    say("prompt_cache_key", ask.cache_key.as_ref().map(|key| json!(key)));
    if target.stream {
        say("stream", Some(json!(true)));
        // Without it, nobody could say what the answer cost.
        say("stream_options", Some(json!({"include_usage": true})));
    }
}

fn logit_bias(biases: &[(TokenId, f32)]) -> Value {
    Value::Object(
        biases.iter().map(|(token, bias)| (token.to_string(), number(*bias))).collect::<Map<_, _>>(),
    )
}

/// Returns the shortest decimal that reads back as these 32 bits.
pub(super) fn number(number: f32) -> Value {
    json!(number.to_string().parse::<f64>().expect("a number's own digits"))
}

fn take_sampling(fields: &mut Fields) -> Result<SamplingWish, BadRequest> {
    Ok(SamplingWish {
        temperature: fields.decimal("temperature", 0.0, 2.0)?,
        top_p: fields.positive("top_p", 1.0)?,
        // -1 is other servers' word for "all".
        top_k: fields.integer("top_k", -1, i64::from(u32::MAX))?.map(|top_k| top_k.max(0) as u32),
        min_p: fields.decimal("min_p", 0.0, 1.0)?,
        repetition_penalty: fields.positive("repetition_penalty", 10.0)?,
        presence_penalty: fields.decimal("presence_penalty", -2.0, 2.0)?,
        frequency_penalty: fields.decimal("frequency_penalty", -2.0, 2.0)?,
        logit_bias: take_logit_bias(fields)?,
        // Any 64 bits will do as a seed; a negative one is as good as another.
        seed: fields.integer("seed", i64::MIN, i64::MAX)?.map(|seed| seed as u64),
    })
}

/// Returns the model's name, if the request says one.
pub(super) fn take_model(fields: &mut Fields) -> Result<Option<ModelName>, BadRequest> {
    match fields.text("model")? {
        Some(name) if name.is_empty() => {
            let message = "Invalid 'model': empty string. Expected the name of a model; see GET /v1/models.";
            Err(BadRequest::new(message).at("model").code("empty_string"))
        }
        name => Ok(name.map(|name| name.as_str().into())),
    }
}

/// Returns how many tokens the answer may have, at least `min`.
pub(super) fn take_max_tokens(fields: &mut Fields, name: &str, min: i64) -> Result<Option<u32>, BadRequest> {
    Ok(fields.integer(name, min, i64::from(u32::MAX))?.map(|tokens| tokens as u32))
}

fn take_stream_usage(fields: &mut Fields, stream: bool) -> Result<bool, BadRequest> {
    let Some(mut options) = fields.object("stream_options")? else {
        return Ok(false);
    };
    if !stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(BadRequest::new(message).at("stream_options").code("invalid_value"));
    }
    options.flag("include_usage")
}

fn take_stop(fields: &mut Fields) -> Result<Vec<String>, BadRequest> {
    let list = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("stop", "a string or an array of strings", &other)),
    };
    if list.len() > STOPS_MAX {
        return Err(too_long("stop", STOPS_MAX, list.len()));
    }
    let check = |(place, stop): (usize, Value)| {
        let place = format!("stop[{place}]");
        match stop {
            Value::String(stop) if stop.is_empty() => Err(BadRequest::new(format!(
                "Invalid '{place}': empty string. An empty string stops every answer before its first token."
            ))
            .at(place)
            .code("empty_string")),
            Value::String(stop) if stop.len() > STOP_BYTES_MAX => Err(BadRequest::new(format!(
                "Invalid '{place}': string too long. Expected at most {STOP_BYTES_MAX} bytes, but got {} instead.",
                stop.len()
            ))
            .at(place)
            .code("string_above_max_length")),
            Value::String(stop) => Ok(stop),
            other => Err(wrong_type(&place, "a string", &other)),
        }
    };
    list.into_iter().enumerate().map(check).collect()
}

/// Load generators send `min_tokens` beside `ignore_eos`, which already implies it. Alone it would change the answer.
fn take_min_tokens(fields: &mut Fields, ignore_eos: bool) -> Result<(), BadRequest> {
    match fields.integer("min_tokens", 0, i64::from(u32::MAX))? {
        Some(1..) if !ignore_eos => Err(unsupported(
            "min_tokens",
            "Use 'ignore_eos' with 'max_tokens' for answers of a known length.",
        )),
        _ => Ok(()),
    }
}

fn take_logit_bias(fields: &mut Fields) -> Result<Option<Vec<(TokenId, f32)>>, BadRequest> {
    let Some(biases) = fields.object("logit_bias")? else {
        return Ok(None);
    };
    let biases = biases.into_map();
    if biases.len() > LOGIT_BIASES_MAX {
        return Err(too_long("logit_bias", LOGIT_BIASES_MAX, biases.len()));
    }
    let read = |(key, value): (String, Value)| match key.parse::<TokenId>() {
        Ok(token) => Ok((token, decimal(&format!("logit_bias.{token}"), &value, -100.0, 100.0)?)),
        Err(_) => Err(BadRequest::new(format!(
            "Invalid key in 'logit_bias': {:?}. Keys are token ids, written as decimal integers.",
            key.chars().take(32).collect::<String>()
        ))
        .at("logit_bias")
        .code("invalid_key")),
    };
    biases.into_iter().map(read).collect::<Result<_, _>>().map(Some)
}

pub(super) fn too_long(place: &str, max: usize, got: usize) -> BadRequest {
    BadRequest::new(format!(
        "Invalid '{place}': array too long. Expected an array with maximum length {max}, but got an array with length {got} instead."
    ))
    .at(place)
    .code("array_above_max_length")
}

pub(super) fn empty(place: &str) -> BadRequest {
    BadRequest::new(format!(
        "Invalid '{place}': empty array. Expected an array with minimum length 1, but got an empty array instead."
    ))
    .at(place)
    .code("empty_array")
}
