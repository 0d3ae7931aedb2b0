//! What does one `GenerateContentResponse` add to an answer? A stream is many of them, a whole answer is one.

use std::collections::BTreeMap;

use domain::{AnswerEvent, CHOICES_MAX, Delta, Finish, FinishReason, Scored, TokenScore, UsageReport};
use serde::Deserialize;
use serde_json::Value;

use super::usage::Counts;
use super::{PROOF_MARK, fault};
use crate::call_id::fingerprint;
use crate::{BadAnswer, Fault, FaultKind};

/// Begins the ids that we give to calls without one.
pub(super) const OWN_CALL_PREFIX: &str = "call_gemini_";

/// An answer while it grows.
#[derive(Debug, Default)]
pub(super) struct Growing {
    /// The upstream's name of the answer, once its first part has come.
    id: Option<Option<String>>,
    /// At most [`CHOICES_MAX`].
    choices: BTreeMap<u32, Choice>,
    counts: Counts,
    reported: Option<UsageReport>,
}

#[derive(Debug, Default)]
struct Choice {
    calls: u32,
    /// The last reason that came: some models give one with every chunk, so only the last ends anything.
    finish: Option<(String, Option<String>)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    candidates: Option<Vec<Candidate>>,
    prompt_feedback: Option<PromptFeedback>,
    usage_metadata: Option<Counts>,
    model_version: Option<String>,
    response_id: Option<String>,
    error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    /// Zero is left out.
    index: Option<u32>,
    content: Option<Content>,
    finish_reason: Option<String>,
    finish_message: Option<String>,
    logprobs_result: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Content {
    parts: Option<Vec<Part>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    text: Option<String>,
    thought: Option<bool>,
    thought_signature: Option<String>,
    function_call: Option<FunctionCall>,
    inline_data: Option<serde::de::IgnoredAny>,
    file_data: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionCall {
    id: Option<String>,
    name: Option<String>,
    args: Option<Value>,
    partial_args: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback {
    block_reason: Option<String>,
    block_reason_message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logprobs {
    chosen_candidates: Option<Vec<Token>>,
    top_candidates: Option<Vec<TopTokens>>,
}

#[derive(Deserialize)]
struct TopTokens {
    candidates: Option<Vec<Token>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    token: Option<String>,
    log_probability: Option<f32>,
}

impl Growing {
    /// Adds the events of one response. Usage comes first, so that it is known even of an answer that fails.
    pub fn learn(&mut self, json: &[u8], events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let chunk: Chunk = serde_json::from_slice(json).map_err(|error| {
            // The parser's own words could repeat what the model said.
            let (line, column) = (error.line(), error.column());
            BadAnswer::Malformed(format!("no response of generateContent (at line {line}, column {column})"))
        })?;
        if let Some(error) = &chunk.error {
            return Err(BadAnswer::Fault(fault::of_error(error, 200)));
        }
        if self.id.is_none() {
            self.id = Some(chunk.response_id.clone());
            events.push(AnswerEvent::Began { id: chunk.response_id, model: chunk.model_version });
        }
        if let Some(counts) = chunk.usage_metadata {
            self.count(counts, events);
        }
        if let Some(reason) =
            chunk.prompt_feedback.as_ref().and_then(|feedback| feedback.block_reason.as_ref())
        {
            let message =
                chunk.prompt_feedback.as_ref().and_then(|feedback| feedback.block_reason_message.as_deref());
            return Err(BadAnswer::Fault(blocked(reason, message)));
        }
        for candidate in chunk.candidates.into_iter().flatten() {
            self.grow(candidate, events)?;
        }
        Ok(())
    }

    /// Adds what the body's end says: how each choice ended.
    pub fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        if self.choices.is_empty() {
            return Err(BadAnswer::Unfinished);
        }
        for (choice, known) in &self.choices {
            let (reason, message) = known.finish.as_ref().ok_or(BadAnswer::Unfinished)?;
            let reason = ended(reason, message.as_deref(), known.calls > 0).map_err(BadAnswer::Fault)?;
            events.push(AnswerEvent::Finished { choice: *choice, finish: Finish::of(reason) });
        }
        Ok(())
    }

    fn count(&mut self, counts: Counts, events: &mut Vec<AnswerEvent>) {
        self.counts.learn(counts);
        let report = self.counts.report().filter(|report| self.reported.as_ref() != Some(report));
        if let Some(report) = report {
            self.reported = Some(report.clone());
            events.push(AnswerEvent::Used(report));
        }
    }

    fn grow(&mut self, candidate: Candidate, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let number = candidate.index.unwrap_or(0);
        if number >= CHOICES_MAX {
            return Err(BadAnswer::Malformed(format!("a candidate with the number {number}")));
        }
        let answer = self.id.clone().flatten();
        let choice = self.choices.entry(number).or_default();
        let mut deltas = Vec::new();
        for part in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
            choice.hear(part, answer.as_deref(), &mut deltas)?;
        }
        deltas.extend(
            candidate.logprobs_result.map(scores).filter(|scores| !scores.is_empty()).map(Delta::Scores),
        );
        events.extend(deltas.into_iter().map(|delta| AnswerEvent::Delta { choice: number, delta }));
        let reason = candidate.finish_reason.filter(|reason| reason != "FINISH_REASON_UNSPECIFIED");
        if let Some(reason) = reason {
            choice.finish = Some((reason, candidate.finish_message));
        }
        Ok(())
    }
}

impl Choice {
    fn hear(&mut self, part: Part, answer: Option<&str>, deltas: &mut Vec<Delta>) -> Result<(), BadAnswer> {
        if let Some(call) = part.function_call {
            return self.call(call, part.thought_signature, answer, deltas);
        }
        if part.inline_data.is_some() || part.file_data.is_some() {
            return Err(BadAnswer::Malformed("a picture or a sound, which no answer here can carry".into()));
        }
        let text = part.text.filter(|text| !text.is_empty());
        deltas.extend(text.map(|text| match part.thought {
            Some(true) => Delta::Reasoning(text),
            _ => Delta::Text(text),
        }));
        // A proof may stand at a thought, at a text, or at an empty part behind either.
        deltas.extend(
            part.thought_signature
                .map(|proof| Delta::ReasoningProof { proof: Some(format!("{PROOF_MARK}{proof}")), id: None }),
        );
        // What is left unsaid (code that Google ran, searches it made) is no part of the answer.
        Ok(())
    }

    fn call(
        &mut self,
        call: FunctionCall,
        proof: Option<String>,
        answer: Option<&str>,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), BadAnswer> {
        let index = self.calls;
        let name = call.name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| BadAnswer::Malformed("a call without a name".into()))?;
        if call.partial_args.is_some() {
            return Err(BadAnswer::Malformed("a call in pieces, which was not asked for".into()));
        }
        if index >= CHOICES_MAX {
            return Err(BadAnswer::Malformed(format!("more than {CHOICES_MAX} calls")));
        }
        let json =
            call.args.filter(|args| !args.is_null()).map_or_else(|| "{}".to_owned(), |args| args.to_string());
        let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| own_id(index, answer, &name, &json));
        self.calls += 1;
        deltas.push(Delta::ToolCall { index, id, name, proof });
        deltas.push(Delta::Arguments { index, json });
        Ok(())
    }
}

/// Returns an id for a call that has none: the same for the same answer, and another in another. Other providers take it, too.
fn own_id(index: u32, answer: Option<&str>, name: &str, json: &str) -> String {
    const ANSWER_CHARS_MAX: usize = 40;
    let plain = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let answer: String = answer.unwrap_or_default().chars().filter(plain).take(ANSWER_CHARS_MAX).collect();
    match answer.as_str() {
        "" => {
            format!("{OWN_CALL_PREFIX}{index}_{}", fingerprint(name.bytes().chain([0]).chain(json.bytes())))
        }
        answer => format!("{OWN_CALL_PREFIX}{index}_{answer}"),
    }
}

fn blocked(reason: &str, message: Option<&str>) -> Fault {
    let words = message.map_or_else(String::new, |message| format!(": {message}"));
    let mut fault =
        Fault::new(FaultKind::ContentFiltered, &format!("The prompt was blocked ({reason}){words}"));
    fault.code = Some(reason.to_owned());
    fault
}

/// Returns how a choice ended, or that it did not.
fn ended(reason: &str, message: Option<&str>, has_called: bool) -> Result<FinishReason, Fault> {
    let failed = |kind| {
        let words = message.map_or_else(String::new, |message| format!(": {message}"));
        let mut fault = Fault::new(kind, &format!("The model's answer ended with {reason}{words}"));
        fault.code = Some(reason.to_owned());
        Err(fault)
    };
    match reason {
        "STOP" if has_called => Ok(FinishReason::ToolCalls),
        "STOP" => Ok(FinishReason::Stop),
        "MAX_TOKENS" | "CONTINUATION" | "TOO_MANY_TOOL_CALLS" => Ok(FinishReason::Length),
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "MALFORMED_RESPONSE" => {
            failed(FaultKind::Server)
        }
        "MISSING_THOUGHT_SIGNATURE" => failed(FaultKind::BadRequest),
        "PUP_LIMITED_DISABLED" => failed(FaultKind::Credentials),
        // SAFETY, RECITATION, LANGUAGE, BLOCKLIST, PROHIBITED_CONTENT, SPII, IMAGE_…, ESCALATION, MODEL_ARMOR; OTHER and
        // words that are yet to come are no ordinary end either, and nobody shall take them for one.
        _ => Ok(FinishReason::ContentFilter),
    }
}

fn scores(result: Logprobs) -> Vec<TokenScore> {
    let mut tops = result.top_candidates.unwrap_or_default().into_iter();
    let chosen = result.chosen_candidates.unwrap_or_default().into_iter();
    let scores = chosen.map(|token| {
        let text = token.token.unwrap_or_default();
        let top = tops.next().and_then(|top| top.candidates).unwrap_or_default();
        let top = top.into_iter().map(|rival| {
            let text = rival.token.unwrap_or_default();
            Scored { bytes: text.clone().into_bytes(), text, logprob: rival.log_probability.unwrap_or(0.0) }
        });
        // A probability of one has the logarithm zero, which is left out.
        let logprob = Some(token.log_probability.unwrap_or(0.0));
        TokenScore { bytes: text.clone().into_bytes(), text, logprob, top: top.collect() }
    });
    scores.collect()
}
