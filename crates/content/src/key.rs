//! When are two requests the same question?
//!
//! A key is the SHA-256 of everything that can change the answer, each part tagged and with its length before it, so that no
//! two different questions read the same. What cannot change it is left out: whether it streams, for which end user, how
//! urgently, and what a provider shall keep in its own cache. The order of fields means nothing in JSON, with one exception:
//! models write the fields of an object in the order of its schema's `properties`, so that order is part of the question.

use std::fmt;

use domain::{
    Account, AnswerFormat, Ask, Chat, ChatMessage, Input, Media, MediaSource, ModelName, Part, Prompt,
    Reasoning, ReasoningWish, SamplingWish, Tool, ToolCall, ToolChoice,
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A question's name, within the scope that it may be answered again in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskKey([u8; 32]);

/// Returns the key of a question. `scope` is the account whose members may see each other's answers; `unread` holds the
/// fields that the dialect did not read but will pass on, and whatever else must be alike, such as a route's demands.
pub fn ask_key(ask: &Ask, scope: &Account, unread: &Map<String, Value>) -> AskKey {
    // Every field is named here: a new one must decide what it is.
    let Ask {
        model,
        input,
        max_output_tokens,
        sampling,
        stop,
        logprobs,
        choices,
        echo,
        ignore_eos,
        stream: _,
        stream_usage: _,
        user: _,
        service_tier: _,
        cache_key: _,
    } = ask;
    let mut writer = Writer(Sha256::new());
    writer.text(VERSION);
    writer.text(scope.as_str());
    writer.model(model);
    writer.input(input);
    writer.number(max_output_tokens.map(u64::from));
    writer.sampling(sampling);
    writer.list(stop, |writer, stop| writer.text(stop));
    writer.number(logprobs.map(u64::from));
    writer.number(Some((*choices).into()));
    writer.truth(*echo);
    writer.truth(*ignore_eos);
    writer.object(unread, Order::Any);
    AskKey(writer.0.finalize().into())
}

/// Raised when a key's parts change, so that nobody finds an answer to another question in a shared cache.
const VERSION: &str = "baseload ask 1";

impl AskKey {
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// In hexadecimal digits.
impl fmt::Display for AskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for AskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whether the order of an object's fields means anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Any,
    /// Under `properties`, it does.
    OfSchema,
}

/// Writes parts so that their bytes can be read in one way only: a tag or a length comes before whatever varies.
struct Writer(Sha256);

impl Writer {
    fn tag(&mut self, tag: u8) {
        self.0.update([tag]);
    }
    fn length(&mut self, length: usize) {
        self.0.update((length as u64).to_be_bytes());
    }
    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.update(text);
    }
    fn truth(&mut self, truth: bool) {
        self.tag(truth.into());
    }
    fn maybe<T: ?Sized>(&mut self, part: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.truth(part.is_some());
        if let Some(part) = part {
            write(self, part);
        }
    }
    fn maybe_text(&mut self, text: Option<&String>) {
        self.maybe(text, |writer, text| writer.text(text));
    }
    fn number(&mut self, number: Option<u64>) {
        self.maybe(number.as_ref(), |writer, number| writer.0.update(number.to_be_bytes()));
    }
    /// Minus zero is zero; the bits of all else are as different as the numbers.
    fn fraction(&mut self, number: Option<f32>) {
        self.number(number.map(|number| (number + 0.0).to_bits().into()));
    }
    fn list<T>(&mut self, list: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.length(list.len());
        list.iter().for_each(|item| write(self, item));
    }

    fn model(&mut self, model: &ModelName) {
        self.text(model.as_str());
    }

    fn input(&mut self, input: &Input) {
        match input {
            Input::Chat(chat) => {
                self.tag(1);
                self.chat(chat);
            }
            Input::Completion(prompts) => {
                self.tag(2);
                self.list(prompts, |writer, prompt| match prompt {
                    Prompt::Text(text) => {
                        writer.tag(1);
                        writer.text(text);
                    }
                    Prompt::Tokens(tokens) => {
                        writer.tag(2);
                        writer.list(tokens, |writer, token| writer.number(Some((*token).into())));
                    }
                });
            }
        }
    }

    fn chat(&mut self, chat: &Chat) {
        let Chat { messages, tools, tool_choice, parallel_tool_calls, format, reasoning, template_variables } =
            chat;
        self.list(messages, Self::message);
        self.list(tools, Self::tool);
        match tool_choice {
            ToolChoice::Auto => self.tag(1),
            ToolChoice::None => self.tag(2),
            ToolChoice::Required => self.tag(3),
            ToolChoice::Named(name) => {
                self.tag(4);
                self.text(name);
            }
        }
        self.maybe(parallel_tool_calls.as_ref(), |writer, parallel| writer.truth(*parallel));
        match format {
            AnswerFormat::Text => self.tag(1),
            AnswerFormat::JsonObject => self.tag(2),
            AnswerFormat::JsonSchema { name, description, schema, strict } => {
                self.tag(3);
                self.text(name);
                self.maybe_text(description.as_ref());
                self.value(schema, Order::OfSchema);
                self.maybe(strict.as_ref(), |writer, strict| writer.truth(*strict));
            }
        }
        self.maybe(reasoning.as_ref(), |writer, ReasoningWish { effort, budget_tokens, summary }| {
            writer.maybe_text(effort.as_ref());
            writer.number(budget_tokens.map(u64::from));
            writer.maybe_text(summary.as_ref());
        });
        self.object(template_variables, Order::Any);
    }

    fn message(&mut self, message: &ChatMessage) {
        let ChatMessage { role, parts, name, tool_call_id, is_error } = message;
        self.text(role.as_str());
        self.list(parts, Self::part);
        self.maybe_text(name.as_ref());
        self.maybe_text(tool_call_id.as_ref());
        self.truth(*is_error);
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Text { text, cache: _ } => {
                self.tag(1);
                self.text(text);
            }
            Part::Refusal(text) => {
                self.tag(2);
                self.text(text);
            }
            Part::Media(media) => {
                self.tag(3);
                self.media(media);
            }
            Part::Reasoning(Reasoning { text, proof, id }) => {
                self.tag(4);
                self.text(text);
                self.maybe_text(proof.as_ref());
                self.maybe_text(id.as_ref());
            }
            Part::SealedReasoning(sealed) => {
                self.tag(5);
                self.text(sealed);
            }
            Part::ToolCall(ToolCall { id, name, arguments, proof }) => {
                self.tag(6);
                self.text(id);
                self.text(name);
                self.text(arguments);
                self.maybe_text(proof.as_ref());
            }
        }
    }

    fn media(&mut self, media: &Media) {
        let Media { kind, source, detail, name, cache: _ } = media;
        self.tag(*kind as u8);
        match source {
            MediaSource::Url(url) => {
                self.tag(1);
                self.text(url);
            }
            MediaSource::Inline { media_type, data } => {
                self.tag(2);
                self.text(media_type);
                self.text(data);
            }
            MediaSource::File(id) => {
                self.tag(3);
                self.text(id);
            }
        }
        self.maybe_text(detail.as_ref());
        self.maybe_text(name.as_ref());
    }

    fn tool(&mut self, tool: &Tool) {
        match tool {
            Tool::Function { name, description, parameters, strict, cache: _ } => {
                self.tag(1);
                self.text(name);
                self.maybe_text(description.as_ref());
                self.maybe(parameters.as_ref(), |writer, schema| writer.value(schema, Order::OfSchema));
                self.maybe(strict.as_ref(), |writer, strict| writer.truth(*strict));
            }
            Tool::Native { dialect, tool } => {
                self.tag(2);
                self.text(dialect);
                self.value(tool, Order::OfSchema);
            }
        }
    }

    fn sampling(&mut self, sampling: &SamplingWish) {
        let SamplingWish {
            temperature,
            top_p,
            top_k,
            min_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            logit_bias,
            seed,
        } = sampling;
        self.fraction(*temperature);
        self.fraction(*top_p);
        self.number(top_k.map(u64::from));
        self.fraction(*min_p);
        self.fraction(*repetition_penalty);
        self.fraction(*presence_penalty);
        self.fraction(*frequency_penalty);
        // Which token was named first means nothing; a token named twice keeps its order, for the later may count.
        let sorted = logit_bias.clone().map(|mut bias| {
            bias.sort_by_key(|(token, _)| *token);
            bias
        });
        self.maybe(sorted.as_ref(), |writer, bias| {
            writer.list(bias, |writer, (token, bias)| {
                writer.number(Some((*token).into()));
                writer.fraction(Some(*bias));
            });
        });
        self.number(*seed);
    }

    fn object(&mut self, object: &Map<String, Value>, order: Order) {
        let mut fields: Vec<_> = object.iter().collect();
        fields.sort_by_key(|(name, _)| *name);
        self.fields(&fields, order);
    }

    fn fields(&mut self, fields: &[(&String, &Value)], order: Order) {
        self.list(fields, |writer, (name, value)| {
            writer.text(name);
            match value {
                Value::Object(properties) if order == Order::OfSchema && *name == "properties" => {
                    writer.tag(7);
                    writer.fields(&properties.iter().collect::<Vec<_>>(), order);
                }
                value => writer.value(value, order),
            }
        });
    }

    fn value(&mut self, value: &Value, order: Order) {
        match value {
            Value::Null => self.tag(1),
            Value::Bool(truth) => {
                self.tag(2);
                self.truth(*truth);
            }
            Value::Number(number) => {
                self.tag(3);
                self.text(&number.to_string());
            }
            Value::String(text) => {
                self.tag(4);
                self.text(text);
            }
            Value::Array(items) => {
                self.tag(5);
                self.list(items, |writer, item| writer.value(item, order));
            }
            Value::Object(object) => {
                self.tag(6);
                self.object(object, order);
            }
        }
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
pub mod tests;
