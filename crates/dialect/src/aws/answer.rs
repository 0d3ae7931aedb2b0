//! What does an answer of Converse's add up to? A whole one has blocks, a stream says their beginnings, pieces and ends.

use std::collections::BTreeMap;

use domain::{AnswerEvent, CHOICES_MAX, Delta, Finish, FinishReason};
use serde::Deserialize;
use serde_json::Value;

use super::usage::{Counts, Tier, report};
use crate::{BadAnswer, Fault, FaultKind};

/// An answer while it grows. Converse gives one choice.
#[derive(Debug, Default)]
pub(super) struct Growing {
    has_begun: bool,
    /// The blocks that have begun and not ended; at most [`CHOICES_MAX`].
    open: BTreeMap<u32, Block>,
    calls: u32,
    end: Option<End>,
}

#[derive(Debug)]
enum Block {
    Text,
    Reasoning {
        proof: Option<String>,
    },
    Call {
        index: u32,
        has_arguments: bool,
    },
    /// What the provider's own tools did, and what no answer here can carry.
    Silent,
}

#[derive(Debug)]
enum End {
    Well,
    /// Told at the body's end, so that the usage behind it is heard first.
    Badly(Fault),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WholeAnswer {
    output: Output,
    #[serde(flatten)]
    stop: MessageStop,
    #[serde(flatten)]
    meta: Metadata,
}

#[derive(Deserialize)]
struct Output {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Vec<WholeBlock>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WholeBlock {
    text: Option<String>,
    tool_use: Option<WholeCall>,
    reasoning_content: Option<WholeReasoning>,
    citations_content: Option<Cited>,
}

/// Text with its sources, of which only the text is kept.
#[derive(Deserialize)]
struct Cited {
    content: Option<Vec<CitedText>>,
}

#[derive(Deserialize)]
struct CitedText {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WholeCall {
    tool_use_id: String,
    name: String,
    input: Option<Value>,
    r#type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WholeReasoning {
    reasoning_text: Option<ReasoningText>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    text: Option<String>,
    signature: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart {
    #[serde(default)]
    content_block_index: u32,
    start: Option<Start>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    tool_use: Option<WholeCall>,
    tool_result: Option<serde::de::IgnoredAny>,
    image: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta {
    #[serde(default)]
    content_block_index: u32,
    delta: Option<Piece>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece {
    text: Option<String>,
    tool_use: Option<CallPiece>,
    reasoning_content: Option<ReasoningPiece>,
}

#[derive(Deserialize)]
struct CallPiece {
    #[serde(default)]
    input: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningPiece {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStop {
    #[serde(default)]
    content_block_index: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop {
    stop_reason: String,
    additional_model_response_fields: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    usage: Option<Counts>,
    service_tier: Option<Tier>,
}

impl Growing {
    /// Adds all events of an answer that came whole.
    pub fn whole(&mut self, json: &[u8], events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        let answer: WholeAnswer = parsed(json, "answer of Converse")?;
        self.begin(events);
        for (number, block) in (0..).zip(answer.output.message.content) {
            self.block(number, block, events)?;
            self.close(number, events);
        }
        self.stop(&answer.stop, events);
        self.meter(&answer.meta, events);
        Ok(())
    }

    /// Adds the events of one frame of a stream.
    pub fn event(&mut self, name: &str, json: &[u8], events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        match name {
            "messageStart" => self.begin(events),
            "contentBlockStart" => {
                let BlockStart { content_block_index, start } = parsed(json, name)?;
                if let Some(start) = start {
                    self.start(content_block_index, start, events)?;
                }
            }
            "contentBlockDelta" => {
                let BlockDelta { content_block_index, delta } = parsed(json, name)?;
                if let Some(delta) = delta {
                    self.piece(content_block_index, delta, events)?;
                }
            }
            "contentBlockStop" => {
                let BlockStop { content_block_index } = parsed(json, name)?;
                self.close(content_block_index, events);
            }
            "messageStop" => {
                // What never said its own end, ends here.
                let open: Vec<u32> = self.open.keys().copied().collect();
                open.into_iter().for_each(|number| self.close(number, events));
                self.stop(&parsed(json, name)?, events);
            }
            "metadata" => self.meter(&parsed(json, name)?, events),
            // Events that are yet to come say nothing that is known here.
            _ => {}
        }
        Ok(())
    }

    /// Says whether the answer came to its end.
    pub fn end(&mut self) -> Result<(), BadAnswer> {
        match self.end.take() {
            Some(End::Well) => Ok(()),
            Some(End::Badly(fault)) => Err(BadAnswer::Fault(fault)),
            None => Err(BadAnswer::Unfinished),
        }
    }

    fn begin(&mut self, events: &mut Vec<AnswerEvent>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            // The answer's id stands in a header, and its model is the one that was asked.
            events.push(AnswerEvent::Began { id: None, model: None });
        }
    }

    fn block(
        &mut self,
        number: u32,
        block: WholeBlock,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), BadAnswer> {
        let cited = block.citations_content.and_then(|cited| cited.content).into_iter().flatten();
        for text in block.text.into_iter().chain(cited.filter_map(|piece| piece.text)) {
            self.text(number, text, events)?;
        }
        if let Some(call) = block.tool_use {
            let input = call.input.clone();
            self.call(number, call, events)?;
            let json =
                input.filter(|input| !input.is_null()).map_or_else(String::new, |input| input.to_string());
            self.arguments(number, json, events)?;
        }
        if let Some(WholeReasoning { reasoning_text, redacted_content }) = block.reasoning_content {
            let (text, signature) =
                reasoning_text.map_or((None, None), |known| (known.text, known.signature));
            self.reasoning(number, ReasoningPiece { text, signature, redacted_content }, events)?;
        }
        Ok(())
    }

    fn start(&mut self, number: u32, start: Start, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        self.begin(events);
        if start.image.is_some() {
            return Err(BadAnswer::Malformed("a picture, which no answer here can carry".into()));
        }
        if start.tool_result.is_some() {
            self.opened(number, || Block::Silent)?;
        }
        start.tool_use.map_or(Ok(()), |call| self.call(number, call, events))
    }

    fn piece(&mut self, number: u32, piece: Piece, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        self.begin(events);
        if let Some(text) = piece.text {
            self.text(number, text, events)?;
        }
        if let Some(call) = piece.tool_use {
            self.arguments(number, call.input, events)?;
        }
        piece.reasoning_content.map_or(Ok(()), |reasoning| self.reasoning(number, reasoning, events))
    }

    fn text(&mut self, number: u32, text: String, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        match self.opened(number, || Block::Text)? {
            Block::Text => events.extend((!text.is_empty()).then(|| delta(Delta::Text(text)))),
            Block::Silent => {}
            _ => return Err(BadAnswer::Malformed("text within another block".into())),
        }
        Ok(())
    }

    fn reasoning(
        &mut self,
        number: u32,
        piece: ReasoningPiece,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), BadAnswer> {
        if let Some(sealed) = piece.redacted_content {
            self.opened(number, || Block::Silent)?;
            events.push(delta(Delta::SealedReasoning(sealed)));
        }
        if piece.text.is_none() && piece.signature.is_none() {
            return Ok(());
        }
        let Block::Reasoning { proof } = self.opened(number, || Block::Reasoning { proof: None })? else {
            return Err(BadAnswer::Malformed("reasoning within another block".into()));
        };
        if let Some(signature) = piece.signature {
            proof.get_or_insert_default().push_str(&signature);
        }
        let text = piece.text.filter(|text| !text.is_empty());
        events.extend(text.map(|text| delta(Delta::Reasoning(text))));
        Ok(())
    }

    fn call(&mut self, number: u32, call: WholeCall, events: &mut Vec<AnswerEvent>) -> Result<(), BadAnswer> {
        if call.r#type.as_deref() == Some("server_tool_use") {
            self.opened(number, || Block::Silent)?;
            return Ok(());
        }
        let index = self.calls;
        if index >= CHOICES_MAX {
            return Err(BadAnswer::Malformed(format!("more than {CHOICES_MAX} calls")));
        }
        self.opened(number, || Block::Call { index, has_arguments: false })?;
        self.calls += 1;
        let WholeCall { tool_use_id: id, name, .. } = call;
        events.push(delta(Delta::ToolCall { index, id, name, proof: None }));
        Ok(())
    }

    fn arguments(
        &mut self,
        number: u32,
        json: String,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), BadAnswer> {
        match self.open.get_mut(&number) {
            Some(Block::Call { .. } | Block::Silent) if json.is_empty() => Ok(()),
            Some(Block::Call { index, has_arguments }) => {
                *has_arguments = true;
                events.push(delta(Delta::Arguments { index: *index, json }));
                Ok(())
            }
            Some(Block::Silent) => Ok(()),
            _ => Err(BadAnswer::Malformed(format!("arguments in block {number}, which is no call"))),
        }
    }

    /// Returns the block of this number, begun now if it was not.
    fn opened(&mut self, number: u32, block: impl FnOnce() -> Block) -> Result<&mut Block, BadAnswer> {
        if self.open.len() >= CHOICES_MAX as usize && !self.open.contains_key(&number) {
            return Err(BadAnswer::Malformed(format!("more than {CHOICES_MAX} blocks at once")));
        }
        Ok(self.open.entry(number).or_insert_with(block))
    }

    fn close(&mut self, number: u32, events: &mut Vec<AnswerEvent>) {
        match self.open.remove(&number) {
            // Even without proof: what follows is another block.
            Some(Block::Reasoning { proof }) => events.push(delta(Delta::ReasoningProof { proof, id: None })),
            Some(Block::Call { index, has_arguments: false }) => {
                events.push(delta(Delta::Arguments { index, json: "{}".to_owned() }));
            }
            _ => {}
        }
    }

    fn stop(&mut self, stop: &MessageStop, events: &mut Vec<AnswerEvent>) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(match ended(&stop.stop_reason) {
            Ok(reason) => {
                let fields = stop.additional_model_response_fields.as_ref();
                let stop = fields.and_then(|fields| fields["stop_sequence"].as_str()).map(str::to_owned);
                events.push(AnswerEvent::Finished { choice: 0, finish: Finish { reason, stop } });
                End::Well
            }
            Err(fault) => End::Badly(fault),
        });
    }

    fn meter(&mut self, meta: &Metadata, events: &mut Vec<AnswerEvent>) {
        let report = meta.usage.as_ref().and_then(|counts| report(counts, meta.service_tier.as_ref()));
        events.extend(report.map(AnswerEvent::Used));
    }
}

fn delta(delta: Delta) -> AnswerEvent {
    AnswerEvent::Delta { choice: 0, delta }
}

/// Returns how the answer ended, or that it did not.
fn ended(reason: &str) -> Result<FinishReason, Fault> {
    match reason {
        "end_turn" | "stop_sequence" => Ok(FinishReason::Stop),
        "tool_use" => Ok(FinishReason::ToolCalls),
        "max_tokens" | "model_context_window_exceeded" => Ok(FinishReason::Length),
        "malformed_model_output" | "malformed_tool_use" => {
            let mut fault = Fault::new(FaultKind::Server, &format!("The model's answer ended with {reason}"));
            fault.code = Some(reason.to_owned());
            Err(fault)
        }
        // guardrail_intervened, content_filtered; words that are yet to come are no ordinary end either.
        _ => Ok(FinishReason::ContentFilter),
    }
}

fn parsed<'a, T: Deserialize<'a>>(json: &'a [u8], what: &str) -> Result<T, BadAnswer> {
    serde_json::from_slice(json).map_err(|error| {
        // The parser's own words could repeat what the model said.
        let (line, column) = (error.line(), error.column());
        BadAnswer::Malformed(format!("no {what} (at line {line}, column {column})"))
    })
}
