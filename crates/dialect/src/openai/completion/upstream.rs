//! How is a server asked for completions in OpenAI's dialect, and how is its answer read?

use serde_json::{Map, Value, json};

use domain::{Ask, Input, Prompt};

use super::DIALECT;
use crate::openai::answer::ObjectReader;
use crate::openai::body::BodyReader;
use crate::openai::fault;
use crate::openai::generation;
use crate::openai::wire::{self, Manner};
use crate::{ErrorAnswer, Fault, Reader, Target, Untellable, Upstream, WireRequest};

/// `POST …/completions`.
#[derive(Clone, Debug, Default)]
pub struct CompletionUpstream {
    pub manner: Manner,
}

impl Upstream for CompletionUpstream {
    fn name(&self) -> &'static str {
        DIALECT
    }
    fn request(&self, ask: &Ask, target: &Target<'_>) -> Result<WireRequest, Untellable> {
        let Input::Completion(prompts) = &ask.input else {
            let why = "this upstream continues texts".to_owned();
            return Err(Untellable { what: "messages".to_owned(), why });
        };
        let mut body = Map::new();
        let mut say = |name: &str, value: Option<Value>| {
            body.extend(value.map(|value| (name.to_owned(), value)));
        };
        say("model", Some(json!(target.model)));
        say("prompt", Some(prompt(prompts)));
        say("max_tokens", ask.max_output_tokens.map(Value::from));
        say("logprobs", ask.logprobs.map(Value::from));
        say("echo", ask.echo.then_some(json!(true)));
        generation::say(ask, target, &self.manner, &mut say);
        Ok(self.manner.request(target.model, "completions", Value::Object(body).to_string().into_bytes()))
    }
    fn passed(&self, original: &[u8], target: &Target<'_>) -> Result<WireRequest, Untellable> {
        let body = wire::passed(original, target, self.manner.is_compatible, true)?;
        Ok(self.manner.request(target.model, "completions", body))
    }
    fn reader(&self, is_stream: bool) -> Box<dyn Reader> {
        Box::new(BodyReader::new(is_stream, ObjectReader::default()))
    }
    fn fault(&self, answer: &ErrorAnswer<'_>) -> Fault {
        fault::read(answer)
    }
}

/// One prompt is written as itself, several as a list.
pub(in crate::openai) fn prompt(prompts: &[Prompt]) -> Value {
    let one = |prompt: &Prompt| match prompt {
        Prompt::Text(text) => json!(text),
        Prompt::Tokens(tokens) => json!(tokens),
    };
    match prompts {
        [only] => one(only),
        several => several.iter().map(one).collect(),
    }
}
