//! Whose model is it? What Converse has no field for is said in the words of the model's maker.

use domain::ReasoningWish;
use serde_json::{Map, Value, json};

use super::untellable;
use crate::Untellable;

/// A maker's models, as far as their words differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Claude(Thinking),
    Nova,
    /// OpenAI's open models.
    Gpt,
    Mistral,
    Cohere,
    /// Others, and names that do not say whose they are, such as an inference profile's ARN.
    Unknown,
}

/// How a Claude is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// Before 4.6: with a budget.
    Budget,
    /// 4.6 takes a budget and an effort.
    Either,
    /// Since 4.7: with an effort.
    Effort,
}

/// What a wish for reasoning adds to a request.
#[derive(Default)]
pub(super) struct Reasons {
    /// `outputConfig.effort`.
    pub effort: Option<&'static str>,
    /// `additionalModelRequestFields`.
    pub fields: Map<String, Value>,
}

/// The smallest budget that Claude takes.
const BUDGET_TOKENS_MIN: u32 = 1_024;

impl Family {
    pub fn of(model: &str) -> Self {
        let has = |maker: &str| model.contains(maker);
        if has("anthropic.claude") {
            Self::Claude(thinking_of(model))
        } else if has("amazon.nova") {
            Self::Nova
        } else if has("openai.gpt") {
            Self::Gpt
        } else if has("mistral.") {
            Self::Mistral
        } else if has("cohere.") {
            Self::Cohere
        } else {
            Self::Unknown
        }
    }

    /// Returns whether what was said can be marked to be kept.
    pub fn has_cache_points(self) -> bool {
        matches!(self, Self::Claude(_) | Self::Nova)
    }

    pub fn is_claude(self) -> bool {
        matches!(self, Self::Claude(_))
    }

    pub fn top_k(self, top_k: u32) -> Result<(&'static str, Value), Untellable> {
        match self {
            Self::Claude(_) | Self::Mistral => Ok(("top_k", json!(top_k))),
            Self::Nova => Ok(("inferenceConfig", json!({"topK": top_k}))),
            Self::Cohere => Ok(("k", json!(top_k))),
            Self::Gpt | Self::Unknown => Err(untellable(
                "top_k",
                "Converse has no field for it, and the model's maker none that we know",
            )),
        }
    }

    /// Returns how the wish is said. `output_tokens` is all that the answer may have, thoughts among it.
    pub fn reasons(self, wish: &ReasoningWish, output_tokens: Option<u32>) -> Result<Reasons, Untellable> {
        let mut reasons = Reasons::default();
        let effort = wish.effort.as_deref().map(word).transpose()?;
        match (self, wish.budget_tokens, effort) {
            (_, None, None) => {}
            (Self::Claude(Thinking::Effort), Some(1..), _) => {
                let why = "this Claude thinks by effort only; say reasoning effort instead";
                return Err(untellable("thinking.budget_tokens", why));
            }
            (Self::Claude(_), Some(0), _) | (Self::Claude(_), None, Some("none")) => {
                reasons.fields.insert("thinking".into(), json!({"type": "disabled"}));
            }
            (Self::Claude(_), Some(tokens), _) => {
                reasons.fields.insert("thinking".into(), json!({"type": "enabled", "budget_tokens": tokens}));
            }
            (Self::Claude(Thinking::Budget), None, Some(effort)) => {
                if let Some(tokens) = budget(effort, output_tokens) {
                    reasons
                        .fields
                        .insert("thinking".into(), json!({"type": "enabled", "budget_tokens": tokens}));
                }
            }
            (Self::Claude(_), None, Some(effort)) => {
                reasons.fields.insert("thinking".into(), json!({"type": "adaptive"}));
                reasons.effort = Some(if effort == "minimal" { "low" } else { effort });
            }
            (_, Some(_), _) => {
                return Err(untellable(
                    "thinking.budget_tokens",
                    "this model on Bedrock takes no budget for its thoughts",
                ));
            }
            (Self::Nova, None, Some("none")) => {
                reasons.fields.insert("reasoningConfig".into(), json!({"type": "disabled"}));
            }
            (Self::Nova, None, Some(effort)) => {
                let config = json!({"type": "enabled", "maxReasoningEffort": of_three(effort)});
                reasons.fields.insert("reasoningConfig".into(), config);
            }
            (Self::Gpt, None, Some(effort)) if effort != "none" => {
                reasons.fields.insert("reasoning_effort".into(), json!(of_three(effort)));
            }
            (_, None, Some("none")) => {
                return Err(untellable(
                    "reasoning_effort",
                    "this model on Bedrock cannot be told not to think",
                ));
            }
            (_, None, Some(effort)) => {
                reasons.effort = Some(if effort == "minimal" { "low" } else { effort })
            }
        }
        Ok(reasons)
    }
}

/// Returns the effort's word, if it is one.
fn word(effort: &str) -> Result<&'static str, Untellable> {
    const WORDS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    let known = WORDS.into_iter().find(|word| *word == effort);
    known.ok_or_else(|| {
        untellable("reasoning_effort", format!("expected one of {}; got {effort:?}", WORDS.join(", ")))
    })
}

fn of_three(effort: &str) -> &'static str {
    match effort {
        "minimal" | "low" => "low",
        "medium" => "medium",
        _ => "high",
    }
}

/// Returns a budget for an effort that leaves room for an answer; none where there is no room for both.
fn budget(effort: &str, output_tokens: Option<u32>) -> Option<u32> {
    let wished = match effort {
        "minimal" => BUDGET_TOKENS_MIN,
        "low" => 2_048,
        "medium" => 8_192,
        _ => 16_384,
    };
    let room = output_tokens.map_or(u32::MAX, |tokens| tokens / 4 * 3);
    Some(wished.min(room)).filter(|tokens| *tokens >= BUDGET_TOKENS_MIN)
}

/// Reads a version out of `claude-3-7-sonnet-20250219`, `claude-sonnet-4-5-20250929`, `claude-opus-5`.
fn thinking_of(model: &str) -> Thinking {
    let name = model.split("claude").nth(1).unwrap_or_default();
    let number = |step: &str| step.parse::<u32>().ok().filter(|_| step.len() <= 2);
    let mut steps = name.split(['-', '.', ':', '/']).skip_while(|step| number(step).is_none());
    let major = steps.next().and_then(number);
    let minor = steps.next().and_then(number).unwrap_or(0);
    match major.map(|major| (major, minor)) {
        Some(version) if version < (4, 6) => Thinking::Budget,
        Some((4, 6)) => Thinking::Either,
        _ => Thinking::Effort,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_s_name_says_whose_words_it_takes() {
        for (model, family) in [
            ("anthropic.claude-3-7-sonnet-20250219-v1:0", Family::Claude(Thinking::Budget)),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Family::Claude(Thinking::Budget)),
            ("anthropic.claude-opus-4-20250514-v1:0", Family::Claude(Thinking::Budget)),
            ("anthropic.claude-opus-4-6-v1", Family::Claude(Thinking::Either)),
            ("global.anthropic.claude-opus-4-7", Family::Claude(Thinking::Effort)),
            ("anthropic.claude-opus-5", Family::Claude(Thinking::Effort)),
            ("anthropic.claude-mythos-preview", Family::Claude(Thinking::Effort)),
            ("eu.amazon.nova-2-lite-v1:0", Family::Nova),
            ("openai.gpt-oss-120b-1:0", Family::Gpt),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", Family::Unknown),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
    }

    #[test]
    fn thinking_leaves_room_for_an_answer() {
        assert_eq!(budget("high", None), Some(16_384));
        assert_eq!(budget("high", Some(4_000)), Some(3_000));
        assert_eq!(budget("low", Some(1_000)), None);
    }
}
