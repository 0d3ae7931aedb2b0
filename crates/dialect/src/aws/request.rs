//! How is a conversation asked of Converse: which fields, and what has no words here?

use domain::{AnswerFormat, Ask, Chat, Input, SamplingWish, ServiceTier};
use serde_json::{Map, Value, json};

use super::family::Family;
use super::{conversation, tools, untellable};
use crate::Untellable;
use crate::decimal::decimal;

pub(super) fn said(ask: &Ask, model: &str) -> Result<Vec<u8>, Untellable> {
    let Input::Chat(chat) = &ask.input else {
        return Err(untellable(
            "prompt",
            "Converse continues conversations, not bare text; ask with messages",
        ));
    };
    refuse(ask)?;
    let family = Family::of(model);
    let mut body = Map::new();
    let conversation = conversation::said(chat, family)?;
    body.insert("messages".into(), conversation.messages);
    body.extend(conversation.system.map(|system| ("system".to_owned(), system)));
    let offer = tools::said(chat, family)?;
    body.extend(offer.config.map(|config| ("toolConfig".to_owned(), config)));
    let inference = inference(ask)?;
    if !inference.is_empty() {
        body.insert("inferenceConfig".into(), inference.into());
    }
    shape(ask, chat, family, offer.choice, &mut body)?;
    if let Some(user) = ask.user.as_deref().filter(|user| fits_metadata(user)) {
        body.insert("requestMetadata".into(), json!({"user": user}));
    }
    if let Some(tier) = ask.service_tier {
        body.insert("serviceTier".into(), json!({"type": tier_name(tier)?}));
    }
    Ok(serde_json::to_vec(&body).expect("a JSON value is always written"))
}

/// Returns whether Bedrock's log of invocations takes this value; another is left out, for it changes no answer.
fn fits_metadata(value: &str) -> bool {
    const VALUE_CHARS_MAX: usize = 256;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" :_@$#=/+,-.".contains(&byte);
    (1..=VALUE_CHARS_MAX).contains(&value.len()) && value.bytes().all(is_plain)
}

/// Refuses what Converse has no words for, unless it asks for nothing.
fn refuse(ask: &Ask) -> Result<(), Untellable> {
    let SamplingWish {
        min_p, repetition_penalty, presence_penalty, frequency_penalty, logit_bias, seed, ..
    } = &ask.sampling;
    let none = |value: &Option<f32>, neutral: f32| value.is_none_or(|value| value == neutral);
    let table = [
        ("n", ask.choices <= 1),
        ("logprobs", ask.logprobs.is_none()),
        ("ignore_eos", !ask.ignore_eos),
        ("min_p", none(min_p, 0.0)),
        ("repetition_penalty", none(repetition_penalty, 1.0)),
        ("presence_penalty", none(presence_penalty, 0.0)),
        ("frequency_penalty", none(frequency_penalty, 0.0)),
        ("logit_bias", logit_bias.as_ref().is_none_or(Vec::is_empty)),
        ("seed", seed.is_none()),
    ];
    match table.into_iter().find(|(_, asks_nothing)| !asks_nothing) {
        Some((name, _)) => Err(untellable(name, "Converse has no field for it")),
        None => Ok(()),
    }
}

fn inference(ask: &Ask) -> Result<Map<String, Value>, Untellable> {
    let mut config = Map::new();
    config.extend(ask.max_output_tokens.map(|tokens| ("maxTokens".to_owned(), json!(tokens))));
    if let Some(temperature) = ask.sampling.temperature {
        if temperature > 1.0 {
            return Err(untellable("temperature", "Converse takes 0 to 1"));
        }
        config.insert("temperature".into(), decimal(temperature));
    }
    config.extend(ask.sampling.top_p.map(|top_p| ("topP".to_owned(), decimal(top_p))));
    if !ask.stop.is_empty() {
        config.insert("stopSequences".into(), json!(ask.stop));
    }
    Ok(config)
}

/// Adds the answer's format, how much to think, and what only the model's maker has words for.
fn shape(
    ask: &Ask,
    chat: &Chat,
    family: Family,
    choice: Option<Value>,
    body: &mut Map<String, Value>,
) -> Result<(), Untellable> {
    let mut output = Map::new();
    let mut fields = Map::from_iter(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    output.extend(format(&chat.format)?.map(|format| ("textFormat".to_owned(), format)));
    if let Some(wish) = &chat.reasoning {
        let reasons = family.reasons(wish, ask.max_output_tokens)?;
        output.extend(reasons.effort.map(|effort| ("effort".to_owned(), json!(effort))));
        fields.extend(reasons.fields);
    }
    if let Some(top_k) = ask.sampling.top_k.filter(|top_k| *top_k > 0) {
        let (name, value) = family.top_k(top_k)?;
        fields.insert(name.to_owned(), value);
    }
    if !output.is_empty() {
        body.insert("outputConfig".into(), output.into());
    }
    if !fields.is_empty() {
        body.insert("additionalModelRequestFields".into(), fields.into());
    }
    if family.is_claude() && !ask.stop.is_empty() {
        // Converse itself does not say which stop string it was.
        body.insert("additionalModelResponseFieldPaths".into(), json!(["/stop_sequence"]));
    }
    Ok(())
}

fn format(format: &AnswerFormat) -> Result<Option<Value>, Untellable> {
    match format {
        AnswerFormat::Text => Ok(None),
        AnswerFormat::JsonObject => Err(untellable(
            "response_format",
            "Converse gives JSON to a schema only; say which with json_schema",
        )),
        AnswerFormat::JsonSchema { name, description, schema, .. } => {
            let mut definition = Map::from_iter([
                ("schema".to_owned(), json!(schema.to_string())),
                ("name".to_owned(), json!(name)),
            ]);
            definition.extend(description.as_ref().map(|text| ("description".to_owned(), json!(text))));
            Ok(Some(json!({"type": "json_schema", "structure": {"jsonSchema": definition}})))
        }
    }
}

fn tier_name(tier: ServiceTier) -> Result<&'static str, Untellable> {
    match tier {
        ServiceTier::Standard => Ok("default"),
        ServiceTier::Flex => Ok("flex"),
        ServiceTier::Priority => Ok("priority"),
        ServiceTier::Batch => Err(untellable("service_tier", "Bedrock takes batches through another door")),
    }
}
