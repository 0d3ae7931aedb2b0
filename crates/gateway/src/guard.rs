//! Can what is asked be done at all: does the prompt become tokens, and do they fit?

use std::sync::Arc;
use std::time::SystemTime;

use dialect::BadRequest;
use domain::{Ask, Chat, Input, Part, Priority, Prompt, RequestId, Sampling, Tokens, Usage, Work, WorkKey};
use http::header::{HeaderName, HeaderValue};
use ledger::Circumstances;
use text::PromptError;

use crate::app::{App, ServedModel};
use crate::refusal::Refusal;
use crate::task::Turn;
use crate::who::Caller;

/// A request that can be done: everything about it is decided but who does it and when.
pub struct Order {
    pub model: Arc<ServedModel>,
    pub way: Circumstances,
    pub caller: Caller,
    pub priority: Priority,
    pub ask: Ask,
    /// The ask's wish, over the model's defaults.
    pub sampling: Sampling,
    pub prompts: Vec<OrderedPrompt>,
    /// Its place in the task that it belongs to.
    pub task: Option<Turn>,
    /// Fields of the request that have no effect here.
    pub ignored: Vec<String>,
    /// Headers that its admission adds to a good answer.
    pub notes: Vec<(HeaderName, HeaderValue)>,
}

pub struct OrderedPrompt {
    pub tokens: Tokens,
    pub text: String,
    pub max_output_tokens: u32,
}

/// What the endpoint has read.
#[derive(Clone)]
pub struct Draft {
    pub model: Arc<ServedModel>,
    /// How it will be served, as far as its price depends on it.
    pub way: Circumstances,
    pub caller: Caller,
    pub priority: Priority,
    pub ask: Ask,
    pub task: Option<Turn>,
    pub ignored: Vec<String>,
}

/// Returns the order, or what about it cannot be done.
pub async fn check(app: &App, draft: Draft) -> Result<Order, Refusal> {
    let Draft { model, way, caller, priority, ask, task, ignored } = draft;
    let sampling = ask.sampling.over(&model.sampling_defaults);
    check_works(app, &ask)?;
    check_bias(&model, &sampling)?;
    let created = unix_seconds();
    let (text, bytes) = (model.text.clone(), input_bytes(&ask.input));
    check_bytes(app, bytes)?;
    let tokenize = move || {
        let prompts = text.prompts(&ask.input, created as i64);
        (ask, prompts)
    };
    let (ask, prompts) = off_thread(app, bytes > app.limits.tokenize_inline_bytes, tokenize).await?;
    let prompts = prompts.map_err(bad_prompt)?.into_iter().map(|prompt| {
        let max_output_tokens = fit(&model, prompt.tokens.len(), ask.max_output_tokens)?;
        let no_tokens =
            |_| BadRequest::new("the prompt is empty: it has no tokens").at(prompt_param(&ask.input));
        let tokens = Tokens::new(prompt.tokens).map_err(no_tokens)?;
        Ok(OrderedPrompt { tokens, text: prompt.text, max_output_tokens })
    });
    let prompts = prompts.collect::<Result<Vec<_>, Refusal>>()?;
    let notes = Vec::new();
    Ok(Order { model, way, caller, priority, ask, sampling, prompts, task, ignored, notes })
}

/// Refuses a text that is too long to be looked at.
pub fn check_bytes(app: &App, bytes: usize) -> Result<(), Refusal> {
    let limit_bytes = app.limits.prompt_bytes;
    if bytes > limit_bytes { Err(Refusal::PromptTooLarge { bytes, limit_bytes }) } else { Ok(()) }
}

/// Runs work that grows with its input: short work here, long work where blocking hurts nobody, few at a time.
pub async fn off_thread<T: Send + 'static>(
    app: &App,
    is_long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if !is_long {
        return Ok(work());
    }
    let _place = app.tokenizers.acquire().await.expect("the places are never closed");
    // The task ends without a result only by a panic, which has been logged.
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Internal)
}

pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub fn bad_prompt(error: PromptError) -> Refusal {
    let (param, code) = match &error {
        PromptError::Template(_) => ("messages", "chat_template_error"),
        PromptError::NoTemplate => ("model", "no_chat_template"),
        PromptError::UnknownToken { .. } => ("prompt", "unknown_token"),
        PromptError::Encode(_) => ("prompt", "not_tokenizable"),
    };
    BadRequest::new(error.to_string()).at(param).code(code).into()
}

impl Order {
    /// Returns how many sequences it takes: all choices of the first prompt come first.
    pub fn choices_total(&self) -> usize {
        self.prompts.len() * self.ask.choices as usize
    }

    pub fn prompt_of(&self, choice: usize) -> &OrderedPrompt {
        &self.prompts[choice / self.ask.choices as usize]
    }

    /// Returns the most output tokens that it can have in all.
    pub fn output_tokens_max(&self) -> u64 {
        self.estimate(u32::MAX).output
    }

    /// Returns what is held for it: prompts exactly, answers modestly.
    pub fn estimate(&self, output_tokens_max: u32) -> Usage {
        let output = |prompt: &OrderedPrompt| u64::from(prompt.max_output_tokens.min(output_tokens_max));
        Usage {
            input_uncached: self.prompts.iter().map(|prompt| prompt.tokens.len() as u64).sum(),
            output: self.prompts.iter().map(output).sum::<u64>() * u64::from(self.ask.choices),
            ..Usage::default()
        }
    }

    pub fn works(&self, request: &RequestId) -> Vec<Work> {
        (0..self.choices_total()).map(|choice| self.work(request, choice)).collect()
    }

    fn work(&self, request: &RequestId, choice: usize) -> Work {
        let prompt = self.prompt_of(choice);
        let mut sampling = self.sampling.clone();
        // Choices of one prompt shall differ though their request names one seed.
        let place = choice as u64 % u64::from(self.ask.choices);
        sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(place));
        Work {
            key: WorkKey { request: request.clone(), choice: choice as u32 },
            tenant: self.caller.tenant.clone(),
            priority: self.priority,
            prompt: prompt.tokens.clone(),
            max_output_tokens: prompt.max_output_tokens,
            sampling,
            stop_tokens: if self.ask.ignore_eos { Arc::new([]) } else { self.model.text.stop_tokens() },
            logprobs: self.ask.logprobs,
            prompt_logprobs: self.ask.echo && self.ask.logprobs.is_some(),
        }
    }

    /// Returns the headers that only a good answer carries.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        headers(&self.ignored, self.task.as_ref(), self.notes.clone())
    }
}

/// Returns the headers that only a good answer carries: what had no effect, how its task stands, and what else is to be noted.
pub fn headers(
    ignored: &[String],
    task: Option<&Turn>,
    notes: Vec<(HeaderName, HeaderValue)>,
) -> Vec<(HeaderName, HeaderValue)> {
    const IGNORED_BYTES_MAX: usize = 512;
    let mut ignored = ignored.join(", ");
    ignored.truncate(ignored.floor_char_boundary(IGNORED_BYTES_MAX));
    let value = HeaderValue::from_str(&ignored).ok().filter(|_| !ignored.is_empty());
    let ignored = value.map(|value| (HeaderName::from_static("x-baseload-ignored-fields"), value));
    ignored.into_iter().chain(task.into_iter().flat_map(Turn::headers)).chain(notes).collect()
}

fn check_works(app: &App, ask: &Ask) -> Result<(), Refusal> {
    let prompts = match &ask.input {
        Input::Chat(_) => 1,
        Input::Completion(prompts) => prompts.len(),
    };
    let (works, limit) = (prompts.saturating_mul(ask.choices as usize), app.limits.works_per_request);
    match works {
        0 => Err(BadRequest::new("there is no prompt").at("prompt").into()),
        _ if works > limit => Err(Refusal::TooManyWorks { works, limit }),
        _ => Ok(()),
    }
}

fn check_bias(model: &ServedModel, sampling: &Sampling) -> Result<(), Refusal> {
    let vocabulary = model.text.tokenizer().vocabulary_size();
    let strange = sampling.logit_bias.iter().find(|(token, _)| *token as usize >= vocabulary);
    strange.map_or(Ok(()), |(token, _)| {
        let message =
            format!("logit_bias names token {token}; this model has tokens 0 to {}", vocabulary - 1);
        Err(BadRequest::new(message).at("logit_bias").code("unknown_token").into())
    })
}

/// Returns how long the answer may get: what was asked for, or all that the context still holds.
fn fit(model: &ServedModel, prompt_tokens: usize, asked: Option<u32>) -> Result<u32, Refusal> {
    let context_tokens = model.context_tokens;
    let room = context_tokens.saturating_sub(prompt_tokens);
    let fits = match asked {
        Some(asked) => prompt_tokens <= context_tokens && asked as usize <= room,
        None => room > 0,
    };
    match fits {
        true => Ok(asked.unwrap_or(u32::try_from(room).unwrap_or(u32::MAX))),
        false => Err(Refusal::ContextOverflow { prompt_tokens, max_output_tokens: asked, context_tokens }),
    }
}

fn prompt_param(input: &Input) -> &'static str {
    match input {
        Input::Chat(_) => "messages",
        Input::Completion(_) => "prompt",
    }
}

/// Returns how much there is to tokenize; tool definitions count as the text that a template makes of them.
pub fn input_bytes(input: &Input) -> usize {
    match input {
        Input::Chat(chat) => chat_bytes(chat),
        Input::Completion(prompts) => prompts.iter().map(prompt_bytes).sum(),
    }
}

/// Media count as nothing: they are not tokenized here.
pub fn chat_bytes(chat: &Chat) -> usize {
    let part = |part: &Part| match part {
        Part::Text { text, .. } | Part::Refusal(text) | Part::SealedReasoning(text) => text.len(),
        Part::Reasoning(reasoning) => reasoning.text.len(),
        Part::ToolCall(call) => call.name.len() + call.arguments.len(),
        Part::Media(_) => 0,
    };
    let messages = chat.messages.iter().flat_map(|message| &message.parts).map(part);
    messages.sum::<usize>() + chat.tools.iter().map(|tool| tool.to_openai().to_string().len()).sum::<usize>()
}

fn prompt_bytes(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Tokens(tokens) => size_of_val(tokens.as_slice()),
    }
}
