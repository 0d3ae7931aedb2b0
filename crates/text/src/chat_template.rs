//! What does a conversation look like as one text?

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Variable};
use serde_json::{Map, Value};

use domain::{ChatMessage, Role, ToolCall};

use crate::python;

/// The template failed or refused: the request, not the server, is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chat template says, in line {line}: {message}")]
pub struct TemplateError {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

/// What a template sees.
#[derive(Clone, Copy, Debug)]
pub struct RenderInput<'a> {
    pub messages: &'a [ChatMessage],
    pub tools: &'a [Value],
    /// Further variables, such as `enable_thinking`.
    pub variables: &'a Map<String, Value>,
    /// Ask for an answer after the last message.
    pub add_generation_prompt: bool,
    /// Seconds since 1970; `strftime_now` prints it in UTC.
    pub now_seconds: i64,
}

/// A model's template, ready to render. Cheap to clone and free to share between threads.
///
/// It behaves as under the reference (Jinja with `trim_blocks`, `lstrip_blocks`, loop controls, `raise_exception`,
/// `strftime_now`, a `tojson` that does not escape HTML, Python's methods and spelling of values). A template belongs to a
/// model and is trusted as its weights are; what is bounded here is what clients can make of it.
///
/// Known differences from Python, which no template we have seen relies on: a printed tuple looks like a list, and
/// `object['items']` of an object without that key is undefined instead of the method.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    source: Arc<str>,
    special_tokens: Map<String, Value>,
    knows_developer: bool,
}

/// A rendered conversation: more than a context of three million tokens has.
pub const TEXT_BYTES_MAX: usize = 16 << 20;
/// Instructions of one rendering: ten thousand messages take a few million, about a second.
pub const STEPS_MAX: u64 = 20_000_000;

const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Reads a Jinja template. `special_tokens` are the variables such as `bos_token` and `eos_token`.
    pub fn new(source: &str, special_tokens: Map<String, Value>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(STEPS_MAX));
        environment.set_unknown_method_callback(python::method);
        environment.set_formatter(python::print);
        environment.add_filter("tojson", python::to_json);
        environment.add_filter("string", |value: &Variable| python::text(value));
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(TemplateError::from)?;
        let knows_developer = source.contains("developer");
        Ok(Self {
            environment: Arc::new(environment),
            source: source.into(),
            special_tokens,
            knows_developer,
        })
    }
    pub fn source(&self) -> &str {
        &self.source
    }
    pub fn render(&self, input: &RenderInput<'_>) -> Result<String, TemplateError> {
        // The template engine panics on a few things, such as an empty text read backwards. That is one bad request, and
        // the engine keeps nothing between two of them.
        catch_unwind(AssertUnwindSafe(|| self.render_bounded(input))).unwrap_or_else(|_| {
            Err(TemplateError {
                line: 1,
                message: "the template engine failed on this conversation".to_owned(),
            })
        })
    }
    fn render_bounded(&self, input: &RenderInput<'_>) -> Result<String, TemplateError> {
        let mut text = Bounded::default();
        let template = self.environment.get_template(NAME)?;
        template.render_captured_to(self.variables(input), &mut text).map_err(|error| {
            match text.is_full {
                true => TemplateError {
                    line: error.line().unwrap_or(1),
                    message: format!("the conversation is longer than {TEXT_BYTES_MAX} bytes as text"),
                },
                false => error.into(),
            }
        })?;
        Ok(String::from_utf8(text.bytes).expect("templates print text"))
    }
    fn variables(&self, input: &RenderInput<'_>) -> Variable {
        let mut variables: Map<String, Value> = self.special_tokens.clone();
        variables.extend(input.variables.clone());
        variables.insert(
            "messages".to_owned(),
            input.messages.iter().map(|message| self.message(message)).collect(),
        );
        let tools = (!input.tools.is_empty()).then(|| input.tools.to_vec());
        variables.insert("tools".to_owned(), tools.into());
        variables.insert("documents".to_owned(), Value::Null);
        variables.insert("add_generation_prompt".to_owned(), input.add_generation_prompt.into());
        let now_seconds = input.now_seconds;
        let strftime_now = move |format: &str| strftime(now_seconds, format);
        let mut all: Vec<(String, Variable)> =
            variables.iter().map(|(name, value)| (name.clone(), Variable::from_serialize(value))).collect();
        all.push(("strftime_now".to_owned(), Variable::from_function(strftime_now)));
        Variable::from_iter(all)
    }
    /// Fields that the client did not send are absent, because templates ask whether they are there.
    fn message(&self, message: &ChatMessage) -> Value {
        let role = match message.role {
            // The newer name of the same thing, which few templates know.
            Role::Developer if !self.knows_developer => Role::System,
            role => role,
        };
        let mut fields = Map::new();
        fields.insert("role".to_owned(), role.as_str().into());
        fields.insert("content".to_owned(), message.text().into());
        if let Some(name) = &message.name {
            fields.insert("name".to_owned(), name.clone().into());
        }
        if let Some(reasoning) = message.reasoning() {
            // Templates differ in what they call it.
            fields.insert("reasoning_content".to_owned(), reasoning.clone().into());
            fields.insert("thinking".to_owned(), reasoning.into());
        }
        let calls: Vec<Value> = message.tool_calls().map(tool_call).collect();
        if !calls.is_empty() {
            fields.insert("tool_calls".to_owned(), calls.into());
        }
        if let Some(id) = &message.tool_call_id {
            fields.insert("tool_call_id".to_owned(), id.clone().into());
        }
        Value::Object(fields)
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Templates print arguments as JSON, or walk through them: they get them as an object, if they are one.
fn tool_call(call: &ToolCall) -> Value {
    let arguments = match serde_json::from_str(&call.arguments) {
        Ok(Value::Object(arguments)) => Value::Object(arguments),
        _ if call.arguments.is_empty() => Value::Object(Map::new()),
        _ => Value::String(call.arguments.clone()),
    };
    serde_json::json!({
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    })
}

fn raise_exception(message: String) -> Result<Variable, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime(now_seconds: i64, format: &str) -> Result<String, Error> {
    let failed =
        |error: jiff::Error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}"));
    let now = Timestamp::from_second(now_seconds).map_err(failed)?;
    jiff::fmt::strtime::format(format, &now.to_zoned(jiff::tz::TimeZone::UTC)).map_err(failed)
}

/// The tags `{% generation %}` mark what a model is trained on. They print nothing, but open a scope of their own.
fn without_generation_tags(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (before, tag) = (&rest[..start], &rest[start + 2..start + length]);
        let twin = match tag.trim_matches(['-', '+']).trim() {
            "generation" => tag.replace("generation", "with"),
            "endgeneration" => tag.replace("endgeneration", "endwith"),
            _ => tag.to_owned(),
        };
        plain.extend([before, "{%", &twin, "%}"]);
        rest = &rest[start + length + 2..];
    }
    plain + rest
}

impl From<Error> for TemplateError {
    fn from(error: Error) -> Self {
        let message = match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => format!("rendering took more than {STEPS_MAX} steps"),
            (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
            (kind, None) => kind.to_string(),
        };
        Self { line: error.line().unwrap_or(1), message }
    }
}

/// Takes text until it is too much.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > TEXT_BYTES_MAX {
            self.is_full = true;
            return Err(io::Error::other("the text is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(content: &str) -> ChatMessage {
        ChatMessage::of_text(Role::User, content)
    }
    fn render(source: &str) -> Result<String, TemplateError> {
        let messages = [user("hi"), ChatMessage { role: Role::Developer, ..user("rules") }];
        let input = RenderInput {
            messages: &messages,
            tools: &[],
            variables: &Map::new(),
            add_generation_prompt: true,
            now_seconds: 1_750_000_000,
        };
        ChatTemplate::new(source, Map::new())?.render(&input)
    }

    #[test]
    fn a_refusal_says_its_line_and_message() {
        let error = render("line one\n\n{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert_eq!(error, TemplateError { line: 3, message: "roles must alternate".into() });
        let error = render("{% for x in messages %}\n{{ x.content }}").unwrap_err();
        assert!(error.message.contains("syntax error"), "{error}");
        assert_eq!(render("\n{{ messages.nothing.at_all }}").unwrap_err().line, 2);
    }

    #[test]
    fn the_time_is_the_callers() {
        assert_eq!(render("{{ strftime_now('%d %b %Y %H:%M') }}").unwrap(), "15 Jun 2025 15:06");
        assert!(render("{{ strftime_now('%!') }}").unwrap_err().message.contains("strftime_now"));
    }

    #[test]
    fn endless_loops_and_endless_texts_end() {
        let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}";
        let loops = nested.to_owned() + &"{% endfor %}".repeat(3);
        assert!(render(&loops).unwrap_err().message.contains("steps"));
        let long = "{% set a = 'x' * 10000 %}{% for i in range(10000) %}{{ a }}{% endfor %}";
        assert!(render(long).unwrap_err().message.contains("longer than"), "{:?}", render(long).unwrap_err());
        assert!(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").is_err());
    }

    #[test]
    fn an_engine_that_panics_fails_one_request() {
        // Right is the empty text; the engine's version of today panics.
        match render("{{ ''[::-1] }}") {
            Ok(text) => assert_eq!(text, ""),
            Err(error) => assert!(error.message.contains("engine failed")),
        }
    }

    #[test]
    fn a_developer_is_the_system_to_templates_that_know_no_developer() {
        assert_eq!(render("{{ messages[1].role }}").unwrap(), "system");
        assert_eq!(render("{{ messages[1].role }}{# developer #}").unwrap(), "developer");
    }

    #[test]
    fn absent_fields_are_not_there() {
        let source =
            "{{ 'name' in messages[0] }} {{ messages[0].tool_calls is defined }} {{ tools is none }}";
        assert_eq!(render(source).unwrap(), "False False True");
    }
}
