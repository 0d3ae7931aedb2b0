//! How is a conversation asked of Gemini: which fields, and what has no words here?

use domain::{AnswerFormat, Ask, Chat, Input, ReasoningWish, SamplingWish, ServiceTier};
use serde_json::{Map, Value, json};

use super::{Home, conversation, tools, untellable};
use crate::Untellable;
use crate::decimal::decimal;

/// A request's headers and body.
pub(super) struct Said {
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// `stopSequences` takes so many.
const STOPS_MAX: usize = 5;
/// `candidateCount` takes so many.
const CHOICES_MAX: u32 = 8;
/// `logprobs` takes so many.
const LOGPROBS_MAX: u8 = 20;

/// Returns the headers that every request has.
pub(super) fn headers() -> Vec<(&'static str, String)> {
    vec![("content-type", "application/json".to_owned())]
}

pub(super) fn said(ask: &Ask, model: &str, home: Home) -> Result<Said, Untellable> {
    let Input::Chat(chat) = &ask.input else {
        return Err(untellable("prompt", "Gemini continues conversations, not bare text; ask with messages"));
    };
    let conversation = conversation::said(chat, model, home)?;
    let mut body = Map::new();
    body.insert("contents".into(), conversation.contents);
    body.extend(conversation.system.map(|system| ("systemInstruction".to_owned(), system)));
    body.extend(tools::said(chat)?);
    let generation = generation(ask, chat, model)?;
    if !generation.is_empty() {
        body.insert("generationConfig".into(), generation.into());
    }
    let mut headers = headers();
    tier(ask.service_tier, home, &mut headers, &mut body)?;
    let body = serde_json::to_vec(&body).expect("a JSON value is always written");
    Ok(Said { headers, body })
}

fn generation(ask: &Ask, chat: &Chat, model: &str) -> Result<Map<String, Value>, Untellable> {
    let mut config = Map::new();
    let mut say = |name: &str, value: Value| config.insert(name.to_owned(), value);
    if let Some(tokens) = ask.max_output_tokens {
        say("maxOutputTokens", json!(tokens));
    }
    if ask.stop.len() > STOPS_MAX {
        return Err(untellable("stop", format!("Gemini takes at most {STOPS_MAX} stop strings")));
    }
    if !ask.stop.is_empty() {
        say("stopSequences", json!(ask.stop));
    }
    if ask.choices > CHOICES_MAX {
        return Err(untellable("n", format!("Gemini gives at most {CHOICES_MAX} answers to a prompt")));
    }
    if ask.choices > 1 {
        say("candidateCount", json!(ask.choices));
    }
    if let Some(alternatives) = ask.logprobs {
        if alternatives > LOGPROBS_MAX {
            return Err(untellable("top_logprobs", format!("Gemini gives at most {LOGPROBS_MAX}")));
        }
        say("responseLogprobs", json!(true));
        if alternatives > 0 {
            say("logprobs", json!(alternatives));
        }
    }
    if ask.ignore_eos {
        return Err(untellable("ignore_eos", "Gemini always ends where the model ends"));
    }
    config.extend(sampling(&ask.sampling)?);
    config.extend(format(chat, model)?);
    if let Some(thinking) = chat.reasoning.as_ref().map(|wish| thinking(wish, model)).transpose()? {
        config.insert("thinkingConfig".into(), thinking);
    }
    Ok(config)
}

fn sampling(wish: &SamplingWish) -> Result<Map<String, Value>, Untellable> {
    // A value that leaves the model's distribution alone asks for nothing.
    let none = |name: &str| untellable(name, "Gemini has no such sampling");
    if wish.min_p.is_some_and(|min_p| min_p != 0.0) {
        return Err(none("min_p"));
    }
    if wish.repetition_penalty.is_some_and(|penalty| penalty != 1.0) {
        return Err(none("repetition_penalty"));
    }
    if wish.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty()) {
        return Err(none("logit_bias"));
    }
    let said = [
        ("temperature", wish.temperature.map(decimal)),
        ("topP", wish.top_p.map(decimal)),
        ("topK", wish.top_k.filter(|top_k| *top_k > 0).map(|top_k| json!(top_k))),
        ("presencePenalty", wish.presence_penalty.map(decimal)),
        ("frequencyPenalty", wish.frequency_penalty.map(decimal)),
        ("seed", wish.seed.map(|seed| json!(folded(seed)))),
    ];
    Ok(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

/// Returns a seed that fits into Gemini's 31 bits. Small ones stay, and the same one stays the same.
fn folded(seed: u64) -> u32 {
    let low = (seed ^ (seed >> 31) ^ (seed >> 62)) & 0x7fff_ffff;
    u32::try_from(low).expect("31 bits fit into 32")
}

fn format(chat: &Chat, model: &str) -> Result<Map<String, Value>, Untellable> {
    let schema = match &chat.format {
        AnswerFormat::Text => return Ok(Map::new()),
        AnswerFormat::JsonObject => None,
        AnswerFormat::JsonSchema { schema, .. } => Some(schema.clone()),
    };
    if !chat.tools.is_empty() && is_before_third(model) {
        return Err(untellable(
            "response_format",
            "before its third generation Gemini gives JSON or calls tools, not both",
        ));
    }
    let mut config = Map::from_iter([("responseMimeType".to_owned(), json!("application/json"))]);
    config.extend(schema.map(|schema| ("responseJsonSchema".to_owned(), schema)));
    Ok(config)
}

/// Returns the budget (second generation) or the level (since the third) that an effort is.
fn thinking(wish: &ReasoningWish, model: &str) -> Result<Value, Untellable> {
    let effort = wish.effort.as_deref();
    let mut config = Map::new();
    match (wish.budget_tokens, effort) {
        (Some(tokens), _) => config.insert("thinkingBudget".into(), json!(tokens)),
        (None, None) => None,
        (None, Some(effort)) if is_before_third(model) => {
            // Google's own table for clients of its OpenAI surface.
            let tokens = match effort {
                "none" => 0,
                "minimal" | "low" => 1_024,
                "medium" => 8_192,
                "high" | "xhigh" | "max" => 24_576,
                _ => return Err(unknown_effort(effort)),
            };
            config.insert("thinkingBudget".into(), json!(tokens))
        }
        (None, Some(effort)) => {
            let level = match effort {
                // Thinking cannot be turned off any more: the least there is comes nearest.
                "none" | "minimal" if model.contains("pro") => "LOW",
                "none" | "minimal" => "MINIMAL",
                "low" => "LOW",
                "medium" => "MEDIUM",
                "high" | "xhigh" | "max" => "HIGH",
                _ => return Err(unknown_effort(effort)),
            };
            config.insert("thinkingLevel".into(), json!(level))
        }
    };
    let is_off = wish.budget_tokens == Some(0) || wish.budget_tokens.is_none() && effort == Some("none");
    let is_hidden = matches!(wish.summary.as_deref(), Some("none" | "omitted"));
    config.insert("includeThoughts".into(), json!(!is_off && !is_hidden));
    Ok(config.into())
}

fn unknown_effort(effort: &str) -> Untellable {
    let known = "none, minimal, low, medium, high, xhigh and max";
    untellable("reasoning_effort", format!("Gemini's levels are said as {known}; got {effort:?}"))
}

/// Returns whether the model's name says that it is of the first or second generation. Names without a number, such as
/// `gemini-flash-latest`, move on to newer ones.
pub(super) fn is_before_third(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let generation = name.strip_prefix("gemini-").and_then(|rest| rest.split(['.', '-']).next());
    generation.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number < 3)
}

fn tier(
    tier: Option<ServiceTier>,
    home: Home,
    headers: &mut Vec<(&'static str, String)>,
    body: &mut Map<String, Value>,
) -> Result<(), Untellable> {
    match (tier, home) {
        (None, _) | (Some(ServiceTier::Standard), Home::Vertex) => {}
        (Some(ServiceTier::Batch), _) => {
            return Err(untellable("service_tier", "Gemini takes batches through another door"));
        }
        (Some(tier), Home::Studio) => {
            body.insert("serviceTier".into(), json!(tier.name()));
        }
        (Some(tier), Home::Vertex) => {
            headers.push(("x-vertex-ai-llm-shared-request-type", tier.name().to_owned()));
        }
    }
    Ok(())
}
