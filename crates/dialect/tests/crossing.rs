//! Does what one dialect says arrive in another, for every client's dialect and every provider's?
//!
//! A dialect with both sides is its own witness: what its form writes, its reader reads, and what its upstream asks, its `read`
//! hears. Providers without a client's side are played by bodies written here.

use dialect::{Form, Head, Read, Target, Upstream, anthropic, aws, google, openai};
use domain::{
    Answer, AnswerEvent, AnswerFormat, Ask, CacheMark, Chat, ChatMessage, Delta, Finish, FinishReason, Input,
    Media, MediaKind, MediaSource, Part, ReasoningWish, Role, SamplingWish, Tool, ToolCall, ToolChoice,
    Usage, UsageReport,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A dialect that clients speak, and providers too.
struct Both {
    read: Read,
    upstream: Box<dyn Upstream>,
    /// The Responses API has no words for stop strings nor marks of what to cache, and a tool that says nothing is strict there.
    is_responses: bool,
}

fn both() -> [Both; 3] {
    let chat = openai::chat::ChatUpstream { manner: openai::Manner::compatible() };
    let responses = openai::responses::ResponsesUpstream { manner: openai::Manner::compatible() };
    let read_response: Read = |body| openai::responses::read(body).map(|(heard, _)| heard);
    [
        Both { read: openai::chat::read, upstream: Box::new(chat), is_responses: false },
        Both { read: anthropic::read, upstream: Box::new(anthropic::Messages), is_responses: false },
        Both { read: read_response, upstream: Box::new(responses), is_responses: true },
    ]
}

impl Both {
    fn form(&self) -> std::sync::Arc<dyn Form> {
        let request = json!({"model": "m", "max_tokens": 9, "input": "Hi", "messages": [{"role": "user", "content": "Hi"}], "stream": true,
            "stream_options": {"include_usage": true}});
        (self.read)(request.to_string().as_bytes()).unwrap().form
    }

    /// Returns the ask without what this dialect has no words for.
    fn sayable(&self, mut ask: Ask) -> Ask {
        if self.is_responses {
            ask.stop.clear();
            let Input::Chat(chat) = &mut ask.input else { return ask };
            for tool in &mut chat.tools {
                if let Tool::Function { strict, .. } = tool {
                    strict.get_or_insert(false);
                }
            }
            for part in chat.messages.iter_mut().flat_map(|message| &mut message.parts) {
                if let Part::Text { cache, .. } = part {
                    *cache = None;
                }
            }
        }
        ask
    }

    /// Asks in this dialect, and hears what was asked.
    fn carry(&self, ask: &Ask) -> Ask {
        let target = Target { model: ask.model.as_str(), stream: ask.stream };
        let request = self.upstream.request(ask, &target).unwrap();
        let heard = (self.read)(&request.body);
        let heard = heard.unwrap_or_else(|bad| panic!("{bad:?}: {}", String::from_utf8_lossy(&request.body)));
        // `include` asks for proofs of reasoning, which are there without it, too.
        assert!(heard.ignored.iter().all(|name| name == "include"), "{:?}", heard.ignored);
        let mut ask = heard.ask;
        // How a stream's usage is asked for is each dialect's own affair, and so is whether a default is said.
        ask.stream_usage = false;
        if let Input::Chat(chat) = &mut ask.input {
            for part in chat.messages.iter_mut().flat_map(|message| &mut message.parts) {
                if let Part::Media(media) = part {
                    media.detail.take_if(|detail| detail == "auto");
                }
            }
        }
        ask
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-z é\"\\\\{}]{4,12}[a-zé]"
}

fn arguments() -> impl Strategy<Value = String> {
    let value =
        prop_oneof![text().prop_map(Value::from), any::<i64>().prop_map(Value::from), Just(json!([1, {}]))];
    prop::collection::btree_map("[a-z]{1,3}", value, 0..3).prop_map(|map| json!(map).to_string())
}

fn call() -> impl Strategy<Value = ToolCall> {
    ("[a-zA-Z0-9_-]{1,8}", "[a-z_]{1,8}", arguments()).prop_map(|(id, name, arguments)| ToolCall {
        id,
        name,
        arguments,
        proof: None,
    })
}

fn marked(text: String, cache: Option<CacheMark>) -> Part {
    Part::Text { text, cache }
}

fn mark() -> impl Strategy<Value = Option<CacheMark>> {
    prop_oneof![3 => Just(None), 1 => Just(Some(CacheMark::FiveMinutes)), 1 => Just(Some(CacheMark::OneHour))]
}

fn picture() -> impl Strategy<Value = Part> {
    let inline = MediaSource::Inline { media_type: "image/png".into(), data: "AAAA".into() };
    let source = prop_oneof![Just(inline), Just(MediaSource::Url("https://example.com/a.png".into()))];
    source.prop_map(|source| {
        Part::Media(Media { kind: MediaKind::Image, source, detail: None, name: None, cache: None })
    })
}

/// Turns of a conversation: what the assistant says and asks for, what the tools say, what the user says to that.
fn messages(user: BoxedStrategy<Vec<Part>>) -> impl Strategy<Value = Vec<ChatMessage>> {
    let said = (prop::option::of(text()), prop::collection::vec(call(), 0..3))
        .prop_filter("says something", |(text, calls)| text.is_some() || !calls.is_empty());
    let turn = (said, text(), user.clone());
    (prop::option::of(text()), user, prop::collection::vec(turn, 0..3)).prop_map(|(system, user, turns)| {
        let mut messages: Vec<ChatMessage> =
            system.into_iter().map(|text| ChatMessage::of_text(Role::System, text)).collect();
        messages.push(ChatMessage::new(Role::User, user));
        for ((said, calls), result, user) in turns {
            let ids: Vec<String> = calls.iter().map(|call| call.id.clone()).collect();
            let parts = said.map(Part::text).into_iter().chain(calls.into_iter().map(Part::ToolCall));
            messages.push(ChatMessage::new(Role::Assistant, parts.collect()));
            messages.extend(ids.into_iter().map(|id| ChatMessage {
                tool_call_id: Some(id),
                ..ChatMessage::of_text(Role::Tool, result.clone())
            }));
            messages.push(ChatMessage::new(Role::User, user));
        }
        messages
    })
}

fn tools() -> impl Strategy<Value = Vec<Tool>> {
    let function = ("[a-z_-]{1,8}", prop::option::of(text()), prop::option::of(any::<bool>()));
    let tool = function.prop_map(|(name, description, strict)| {
        let parameters = Some(json!({"type": "object", "properties": {"a": {"type": "string"}}}));
        Tool::Function { name, description, parameters, strict, cache: None }
    });
    prop::collection::vec(tool, 0..3)
}

fn ask_of(model: &str, chat: Chat) -> Ask {
    Ask {
        model: model.into(),
        input: Input::Chat(chat),
        max_output_tokens: Some(1_000),
        sampling: SamplingWish::default(),
        stop: Vec::new(),
        logprobs: None,
        choices: 1,
        stream: false,
        stream_usage: false,
        echo: false,
        ignore_eos: false,
        user: None,
        service_tier: None,
        cache_key: None,
    }
}

/// What both dialects can say. Newer models think by effort, older ones sample as they are told.
fn ask() -> impl Strategy<Value = Ask> {
    let user = prop::collection::vec(
        prop_oneof![(text(), mark()).prop_map(|(text, mark)| marked(text, mark)), picture()],
        1..3,
    );
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        "[a-z]{1,5}".prop_map(ToolChoice::Named),
    ];
    let format = prop_oneof![
        Just(AnswerFormat::Text),
        Just(AnswerFormat::JsonSchema {
            name: "answer".into(),
            description: None,
            schema: json!({"type": "object", "additionalProperties": false}),
            strict: Some(true),
        }),
    ];
    let effort = prop::option::of(prop::sample::select(vec!["low", "medium", "high", "xhigh"]));
    let sampling = (prop::option::of(0.0f32..=1.0), prop::option::of(0.1f32..=1.0));
    let rest = (prop::collection::vec("[a-z]{1,4}", 0..3), any::<bool>(), prop::option::of("[a-z]{1,6}"));
    (messages(user.boxed()), tools(), choice, prop::option::of(any::<bool>()), format, effort, sampling, rest)
        .prop_map(
            |(
                messages,
                tools,
                choice,
                parallel,
                format,
                effort,
                (temperature, top_p),
                (stop, stream, user),
            )| {
                let has_tools = !tools.is_empty();
                let tool_choice = if has_tools { choice } else { ToolChoice::Auto };
                // Where no tool may be called, Anthropic has no word for how many.
                let parallel_tool_calls = parallel.filter(|_| has_tools && tool_choice != ToolChoice::None);
                let reasoning = effort
                    .map(|effort| ReasoningWish { effort: Some(effort.into()), ..ReasoningWish::default() });
                let model = if reasoning.is_some() { "claude-opus-5-5" } else { "claude-3-haiku-20240307" };
                let sampling = match reasoning {
                    Some(_) => SamplingWish::default(),
                    None => SamplingWish { temperature, top_p, ..SamplingWish::default() },
                };
                let chat = Chat {
                    messages,
                    tools,
                    tool_choice,
                    parallel_tool_calls,
                    format,
                    reasoning,
                    ..Chat::default()
                };
                Ask { sampling, stop, stream, user, ..ask_of(model, chat) }
            },
        )
}

/// A conversation with tools and nothing else, which every provider must be able to continue.
fn plain_ask() -> impl Strategy<Value = Chat> {
    let user = prop::collection::vec(text().prop_map(Part::text), 1..3);
    // Bedrock wants tools offered wherever one was ever called.
    let tools = tools().prop_filter("offers tools", |tools| !tools.is_empty());
    (messages(user.boxed()), tools).prop_map(|(messages, tools)| Chat { messages, tools, ..Chat::default() })
}

/// Calls of one answer, each under an id of its own.
fn calls() -> impl Strategy<Value = Vec<ToolCall>> {
    prop::collection::vec(call(), 0..3).prop_map(|mut calls| {
        (0..).zip(&mut calls).for_each(|(index, call): (u32, _)| call.id.push_str(&index.to_string()));
        calls
    })
}

/// An answer in the order that all dialects have in common.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    reasoning: Option<String>,
    text: Option<String>,
    calls: Vec<ToolCall>,
    reason: FinishReason,
    usage: Usage,
}

fn said() -> impl Strategy<Value = Said> {
    let count = || 0u64..100_000;
    (
        prop::option::of(text()),
        prop::option::of(text()),
        calls(),
        any::<bool>(),
        (count(), count(), count(), count()),
    )
        .prop_filter("says something", |(_, text, calls, _, _)| text.is_some() || !calls.is_empty())
        .prop_map(|(reasoning, text, calls, is_cut, (input_uncached, cache_read, output, thought))| {
            let reason = match (is_cut, calls.is_empty()) {
                (true, _) => FinishReason::Length,
                (false, false) => FinishReason::ToolCalls,
                (false, true) => FinishReason::Stop,
            };
            let usage = Usage {
                input_uncached,
                cache_read,
                output: output + thought,
                reasoning: thought,
                ..Usage::default()
            };
            Said { reasoning, text, calls, reason, usage }
        })
}

impl Said {
    fn answer(&self) -> Answer {
        let mut deltas: Vec<Delta> = self.reasoning.iter().cloned().map(Delta::Reasoning).collect();
        deltas.extend(self.text.iter().cloned().map(Delta::Text));
        for (index, call) in (0..).zip(&self.calls) {
            let (id, name) = (call.id.clone(), call.name.clone());
            deltas.push(Delta::ToolCall { index, id, name, proof: None });
            deltas.push(Delta::Arguments { index, json: call.arguments.clone() });
        }
        let mut answer = Answer::default();
        answer.fold(AnswerEvent::Began { id: Some("a_1".into()), model: Some("m".into()) });
        deltas.into_iter().for_each(|delta| answer.fold(AnswerEvent::Delta { choice: 0, delta }));
        answer.fold(AnswerEvent::Finished { choice: 0, finish: Finish::of(self.reason) });
        answer.fold(AnswerEvent::Used(UsageReport { usage: self.usage, service_tier: None }));
        answer
    }

    fn of(answer: &Answer) -> Self {
        let choice = &answer.choices[0];
        let call = |call: &ToolCall| ToolCall { proof: None, ..call.clone() };
        Self {
            reasoning: choice.reasoning(),
            text: Some(choice.text()).filter(|text| !text.is_empty()),
            calls: choice.tool_calls().map(call).collect(),
            reason: choice.finish.as_ref().unwrap().reason,
            usage: answer.report.as_ref().unwrap().usage,
        }
    }

    /// A call's id is not every provider's to give, and its JSON not every provider's to keep as it was written.
    fn comparable(mut self) -> Self {
        for call in &mut self.calls {
            call.id = String::new();
            call.arguments = serde_json::from_str::<Value>(&call.arguments).unwrap().to_string();
        }
        self
    }

    /// Says it as Gemini does: its count of answers' tokens excludes what was thought.
    fn gemini(&self) -> Vec<u8> {
        let mut parts: Vec<Value> =
            self.reasoning.iter().map(|text| json!({"text": text, "thought": true})).collect();
        parts.extend(self.text.iter().map(|text| json!({"text": text})));
        parts.extend(self.calls.iter().map(|call| {
            let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
            json!({"functionCall": {"name": call.name, "args": arguments}})
        }));
        let reason = if self.reason == FinishReason::Length { "MAX_TOKENS" } else { "STOP" };
        let usage = json!({
            "promptTokenCount": self.usage.input(), "cachedContentTokenCount": self.usage.cache_read,
            "candidatesTokenCount": self.usage.output - self.usage.reasoning, "thoughtsTokenCount": self.usage.reasoning,
            "totalTokenCount": self.usage.total(),
        });
        let candidate =
            json!({"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0});
        json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "a_1"})
            .to_string()
            .into_bytes()
    }

    /// Says it as Bedrock does, which does not tell what of the output was thought.
    fn converse(&self) -> Vec<u8> {
        let mut content: Vec<Value> = Vec::new();
        content.extend(
            self.reasoning.iter().map(|text| json!({"reasoningContent": {"reasoningText": {"text": text}}})),
        );
        content.extend(self.text.iter().map(|text| json!({"text": text})));
        content.extend(self.calls.iter().map(|call| {
            let input: Value = serde_json::from_str(&call.arguments).unwrap();
            json!({"toolUse": {"toolUseId": call.id, "name": call.name, "input": input}})
        }));
        let reason = match self.reason {
            FinishReason::Length => "max_tokens",
            FinishReason::ToolCalls => "tool_use",
            _ => "end_turn",
        };
        let usage = json!({
            "inputTokens": self.usage.input_uncached, "cacheReadInputTokens": self.usage.cache_read,
            "outputTokens": self.usage.output, "totalTokens": self.usage.total(),
        });
        json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": reason, "usage": usage,
            "metrics": {"latencyMs": 1}})
        .to_string()
        .into_bytes()
    }
}

fn head() -> Head {
    Head { id: "a_1".into(), created: 7, model: "m".into(), system_fingerprint: None }
}

/// Returns an answer's bytes in a client's dialect, whole or as a stream.
fn written(form: &dyn Form, answer: &Answer, is_stream: bool) -> Vec<u8> {
    let report = answer.report.clone().unwrap();
    if !is_stream {
        return form.whole(&head(), answer, &report);
    }
    let mut writer = form.writer(head(), 1);
    let mut bytes = writer.open();
    for event in answer.events() {
        match event {
            AnswerEvent::Delta { choice, delta } => bytes.append(&mut writer.delta(choice, &[delta])),
            AnswerEvent::Finished { choice, finish } => bytes.append(&mut writer.finish(choice, &finish)),
            AnswerEvent::Began { .. } | AnswerEvent::Used(_) => {}
        }
    }
    bytes.append(&mut writer.end(&report));
    bytes
}

fn read(upstream: &dyn Upstream, bytes: &[u8], is_stream: bool) -> Answer {
    let (mut reader, mut events) = (upstream.reader(is_stream), Vec::new());
    let result = reader.feed(bytes, &mut events).and_then(|()| reader.end(&mut events));
    assert_eq!(result, Ok(()), "{}", String::from_utf8_lossy(bytes));
    let mut answer = Answer::default();
    events.into_iter().for_each(|event| answer.fold(event));
    answer
}

/// Adds all strings of a JSON value, and the text of what is JSON inside a string.
fn strings(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            into.push(text.clone());
            if let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
                strings(&inner, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| strings(value, into)),
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            into.push(name.clone());
            strings(value, into);
        }),
        _ => {}
    }
}

proptest! {
    #[test]
    fn an_ask_crosses_every_pair_of_dialects_and_back(ask in ask()) {
        for first in both() {
            for second in both() {
                let ask = second.sayable(first.sayable(ask.clone()));
                let crossed = second.carry(&first.carry(&ask));
                prop_assert_eq!(crossed, ask, "{} to {}", first.upstream.name(), second.upstream.name());
            }
        }
    }

    #[test]
    fn a_plain_conversation_reaches_every_provider_with_every_word(chat in plain_ask()) {
        let providers: [(Box<dyn Upstream>, &str); 4] = [
            (Box::new(google::Gemini::studio()), "gemini-2.5-pro"),
            (Box::new(google::Gemini::vertex("p", "europe-west1")), "gemini-3-pro"),
            (Box::new(aws::Converse), "anthropic.claude-sonnet-4-5-20250929-v1:0"),
            (Box::new(anthropic::Messages), "claude-opus-5-5"),
        ];
        let mut words: Vec<String> = Vec::new();
        for message in &chat.messages {
            words.extend(message.parts.iter().filter_map(|part| match part {
                Part::Text { text, .. } => Some(text.clone()),
                _ => None,
            }));
            for call in message.tool_calls() {
                words.push(call.name.clone());
                strings(&serde_json::from_str(&call.arguments).unwrap(), &mut words);
            }
        }
        words.extend(chat.tools.iter().filter_map(Tool::name).map(str::to_owned));
        for client in both() {
            // What a client of each dialect asks is what the provider is told.
            let heard = client.carry(&ask_of("claude-opus-5-5", chat.clone()));
            for (provider, model) in &providers {
                let request = provider.request(&heard, &Target { model, stream: false });
                let body: Value = serde_json::from_slice(&request.unwrap().body).unwrap();
                let mut told = Vec::new();
                strings(&body, &mut told);
                for word in &words {
                    prop_assert!(told.contains(word), "{word:?} is lost on the way to {}: {body}", provider.name());
                }
            }
        }
    }

    #[test]
    fn an_answer_crosses_every_pair_of_dialects(said in said()) {
        for provider in both() {
            for provider_streams in [false, true] {
                let bytes = written(&*provider.form(), &said.answer(), provider_streams);
                let answer = read(&*provider.upstream, &bytes, provider_streams);
                prop_assert_eq!(&Said::of(&answer), &said);
                for client in both() {
                    for client_streams in [false, true] {
                        let bytes = written(&*client.form(), &answer, client_streams);
                        let crossed = Said::of(&read(&*client.upstream, &bytes, client_streams));
                        prop_assert_eq!(crossed, said.clone(), "{} to {}", provider.upstream.name(), client.upstream.name());
                    }
                }
            }
        }
    }

    #[test]
    fn what_gemini_and_bedrock_answer_reaches_every_client(said in said()) {
        let without_thoughts = Usage { reasoning: 0, ..said.usage };
        let providers: [(Box<dyn Upstream>, Vec<u8>, Said); 2] = [
            (Box::new(google::Gemini::studio()), said.gemini(), said.clone()),
            (Box::new(aws::Converse), said.converse(), Said { usage: without_thoughts, ..said.clone() }),
        ];
        for (provider, bytes, expected) in providers {
            let answer = read(&*provider, &bytes, false);
            for client in both() {
                for is_stream in [false, true] {
                    let bytes = written(&*client.form(), &answer, is_stream);
                    let crossed = Said::of(&read(&*client.upstream, &bytes, is_stream)).comparable();
                    prop_assert_eq!(crossed, expected.clone().comparable(), "{} to {}", provider.name(), client.upstream.name());
                }
            }
        }
    }
}
