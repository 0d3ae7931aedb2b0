//! Conversations as text against the reference: `tests/fixtures/make.py` says how the expectations were made.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use domain::{Chat, ChatMessage, Input, Part, Prompt, Reasoning, Role, Tool, ToolCall};
use text::{AnswerPart, ChatTemplate, PromptError, RenderInput, TemplateError, TextModel};

#[derive(Deserialize)]
struct Expectations {
    conversations: HashMap<String, Vec<Value>>,
    tool: Value,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    template: String,
    conversation: String,
    tools: bool,
    variables: Map<String, Value>,
    text: Option<String>,
    error: Option<String>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
fn message(written: &Value) -> ChatMessage {
    let text = |name: &str| written[name].as_str().map(str::to_owned);
    let role = [Role::System, Role::User, Role::Assistant, Role::Tool];
    let call = |call: &Value| ToolCall {
        id: call["id"].as_str().unwrap().to_owned(),
        name: call["function"]["name"].as_str().unwrap().to_owned(),
        arguments: call["function"]["arguments"].to_string(),
        proof: None,
    };
    let reasoning = |text| Part::Reasoning(Reasoning { text, ..Reasoning::default() });
    let calls = written["tool_calls"].as_array().into_iter().flatten().map(call).map(Part::ToolCall);
    let role = role.into_iter().find(|role| written["role"] == role.as_str()).unwrap();
    let said =
        text("reasoning_content").map(reasoning).into_iter().chain([Part::text(text("content").unwrap())]);
    ChatMessage {
        name: text("name"),
        tool_call_id: text("tool_call_id"),
        ..ChatMessage::new(role, said.chain(calls).collect())
    }
}
fn template(name: &str) -> ChatTemplate {
    let source = std::fs::read_to_string(fixture("templates").join(name)).unwrap();
    let special = json!({"bos_token": "<s>", "eos_token": "</s>"}).as_object().unwrap().clone();
    ChatTemplate::new(&source, special).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn templates_print_what_the_reference_prints() {
    let expected: Expectations =
        serde_json::from_slice(&std::fs::read(fixture("templates.json")).unwrap()).unwrap();
    let (mut printed, mut refused) = (0, 0);
    let mut different = Vec::new();
    for row in &expected.rows {
        let messages: Vec<ChatMessage> =
            expected.conversations[&row.conversation].iter().map(message).collect();
        let tools = if row.tools { vec![expected.tool.clone()] } else { Vec::new() };
        let rendered = template(&row.template).render(&RenderInput {
            messages: &messages,
            tools: &tools,
            variables: &row.variables,
            add_generation_prompt: messages.last().unwrap().role != Role::Assistant,
            now_seconds: 0,
        });
        let name = format!("{} with {:?} (tools: {})", row.template, row.conversation, row.tools);
        match (rendered, &row.text, &row.error) {
            (Ok(text), Some(expected), None) if text == *expected => printed += 1,
            (Err(TemplateError { message, .. }), None, Some(expected)) if message == *expected => {
                refused += 1
            }
            (rendered, text, error) => {
                different.push(format!("{name}\n  ours      {rendered:?}\n  reference {text:?} {error:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    assert!(printed > 100 && refused > 3, "{printed} printed, {refused} refused");
}

/// A folder with a real tokenizer, and the files given.
fn folder(name: &str, files: &[(&str, String)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(fixture("byte-level-qwen2/tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    for (file, text) in files {
        std::fs::write(folder.join(file), text).unwrap();
    }
    folder
}
fn chat(tools: Vec<Tool>) -> Input {
    let messages = vec![message(&json!({"role": "user", "content": "hi<|im_end|>"}))];
    Input::Chat(Chat { messages, tools, ..Chat::default() })
}

#[test]
fn a_folder_brings_its_template_and_its_stop_tokens() {
    let config = json!({"eos_token": "<|endoftext|>", "chat_template": "A {{ eos_token }}"}).to_string();
    let generation = json!({"eos_token_id": [420, 422]}).to_string();
    let files = [("tokenizer_config.json", config), ("generation_config.json", generation)];
    let model = TextModel::from_folder(&folder("template-in-config", &files)).unwrap();
    assert_eq!(model.prompts(&chat(Vec::new()), 0).unwrap()[0].text, "A <|endoftext|>");
    assert_eq!(*model.stop_tokens(), [420, 422]);

    let named = json!({"chat_template": [
        {"name": "default", "template": "usual"}, {"name": "tool_use", "template": "with tools"}]});
    let model =
        TextModel::from_folder(&folder("named", &[("tokenizer_config.json", named.to_string())])).unwrap();
    assert_eq!(model.prompts(&chat(Vec::new()), 0).unwrap()[0].text, "usual");
    assert_eq!(
        model.prompts(&chat(vec![Tool::Native { dialect: "openai.chat", tool: json!({}) }]), 0).unwrap()[0]
            .text,
        "with tools"
    );

    let files =
        [("tokenizer_config.json", named.to_string()), ("chat_template.jinja", "own file".to_owned())];
    let model = TextModel::from_folder(&folder("own-file", &files)).unwrap();
    assert_eq!(model.prompts(&chat(Vec::new()), 0).unwrap()[0].text, "own file");

    let files = [("tokenizer_config.json", r#"{"chat_template": "\n{% if %}"}"#.to_owned())];
    let error = TextModel::from_folder(&folder("broken", &files)).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("line 2"), "{error}");
}

#[test]
fn a_model_without_a_template_speaks_chatml_if_it_can() {
    let model = TextModel::from_folder(&fixture("byte-level-qwen2")).unwrap();
    let prompt = &model.prompts(&chat(Vec::new()), 0).unwrap()[0];
    assert_eq!(prompt.text, "<|im_start|>user\nhi<|im_end|><|im_end|>\n<|im_start|>assistant\n");
    let end = model.tokenizer().token_id("<|im_end|>").unwrap();
    assert_eq!(prompt.tokens.iter().filter(|token| **token == end).count(), 2, "special tokens are parsed");
    assert_eq!(*model.stop_tokens(), [end]);

    let model = TextModel::from_folder(&fixture("marked-llama2")).unwrap();
    assert_eq!(model.prompts(&chat(Vec::new()), 0), Err(PromptError::NoTemplate));
}

#[test]
fn a_completion_takes_text_or_tokens_that_exist() {
    let model = TextModel::from_folder(&fixture("marked-llama2")).unwrap();
    let prompts = |prompts| model.prompts(&Input::Completion(prompts), 0);
    let text = &prompts(vec![Prompt::Text("the".into())]).unwrap()[0];
    assert_eq!((text.text.as_str(), text.tokens[0]), ("the", 1), "the begin-of-text token is added");
    let tokens = &prompts(vec![Prompt::Tokens(text.tokens[1..].to_vec())]).unwrap()[0];
    assert_eq!(
        (tokens.text.as_str(), &tokens.tokens),
        ("the", &text.tokens[1..].to_vec()),
        "tokens stay as they are"
    );
    let vocabulary_size = model.tokenizer().vocabulary_size();
    let unknown = PromptError::UnknownToken { token: 9999, vocabulary_size };
    assert_eq!(prompts(vec![Prompt::Tokens(vec![5, 9999])]), Err(unknown));
}

#[test]
fn answers_are_read_as_the_template_writes_them() {
    let source = std::fs::read_to_string(fixture("templates/qwen3.jinja")).unwrap();
    let model = TextModel::from_folder(&folder("reading", &[("chat_template.jinja", source)])).unwrap();
    let answer =
        "<think>\nhm\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
    let read = |prompt: &str, has_tools| {
        let mut reader = model.answer_reader(prompt, has_tools);
        let mut parts = reader.push(answer);
        parts.extend(reader.finish());
        parts
    };
    let hm = AnswerPart::Reasoning("hm".into());
    let call = AnswerPart::ToolCall { name: "f".into(), arguments: "{\"x\": 1}".into() };
    assert_eq!(read("", true), [hm.clone(), call]);
    let text = answer.split_once("\n\n").unwrap().1;
    assert_eq!(read("", false), [hm, AnswerPart::Text(text.into())]);

    let model = TextModel::from_folder(&fixture("byte-level-qwen2")).unwrap();
    assert_eq!(model.answer_reader("", true).push(answer), [AnswerPart::Text(answer.into())]);
}
