//! Which tools does an answer ask for, in the `<tool_call>` notation of Hermes and Qwen?

use serde_json::Value;

use crate::marks::{MARK_NEWLINES_MAX, held_start, without_newlines};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A call larger than this is none.
const CALL_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolPart {
    Text(String),
    /// `arguments` is the JSON object as the model wrote it, to the byte.
    Call {
        name: String,
        arguments: String,
    },
}

/// Finds `<tool_call>{"name": …, "arguments": {…}}</tool_call>` in a growing text.
///
/// A call comes out whole, because only a whole call is known to be one. What is malformed is given back as the text that
/// it is. White space around calls belongs to them.
#[derive(Clone, Debug, Default)]
pub struct ToolCallReader {
    place: Place,
    /// Text that is not decided yet: inside a call all of it, else a mark and the newlines before it.
    held: String,
    /// Where to look for the end of the call: what stands before was looked at already.
    looked: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    /// After `<tool_call>`; `held` begins with the mark and the newlines before it.
    Call { body: usize },
    /// After `</tool_call>`, only white space so far.
    AfterCall,
}

impl ToolCallReader {
    pub fn new() -> Self {
        Self::default()
    }
    /// Takes the next piece of text.
    pub fn push(&mut self, text: &str) -> Vec<ToolPart> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while !self.held.is_empty() && self.step(&mut parts) {}
        parts
    }
    /// Returns what was held back, when no more text comes. A call that only lacks its closing mark is one: models that
    /// stop there mean it.
    pub fn finish(&mut self) -> Vec<ToolPart> {
        let held = std::mem::take(&mut self.held);
        let call = match self.place {
            Place::Call { body } => read_call(&held[body..]),
            Place::Text | Place::AfterCall => None,
        };
        match call {
            Some(call) => vec![call],
            None if held.is_empty() => Vec::new(),
            None => vec![ToolPart::Text(held)],
        }
    }
    /// Moves over one border; returns whether there may be another.
    fn step(&mut self, parts: &mut Vec<ToolPart>) -> bool {
        match self.place {
            Place::Text => {
                let open = self.held.find(OPEN);
                let border = open.map_or_else(
                    || held_start(&self.held, OPEN),
                    |open| without_newlines(&self.held[..open], MARK_NEWLINES_MAX),
                );
                if border > 0 {
                    parts.push(ToolPart::Text(self.held.drain(..border).collect()));
                }
                if let Some(open) = open {
                    let body = open - border + OPEN.len();
                    self.place = Place::Call { body };
                    self.looked = body;
                }
                open.is_some()
            }
            Place::Call { body } => {
                let limit = self.held.floor_char_boundary(body + CALL_BYTES_MAX);
                let end = self.held[self.looked..].find(CLOSE).map(|end| self.looked + end);
                let Some(end) = end.filter(|end| *end <= limit) else {
                    if self.held.len() < limit + CLOSE.len() {
                        self.looked = self
                            .held
                            .floor_char_boundary(self.held.len().saturating_sub(CLOSE.len()))
                            .max(body);
                        return false;
                    }
                    // Too long for a call: given back, and the rest is text that may hold other calls.
                    parts.push(ToolPart::Text(self.held.drain(..limit).collect()));
                    self.place = Place::Text;
                    return true;
                };
                let after = self.held.split_off(end + CLOSE.len());
                let whole = std::mem::replace(&mut self.held, after);
                let call = read_call(&whole[body..end]);
                self.place = if call.is_some() { Place::AfterCall } else { Place::Text };
                parts.push(call.unwrap_or(ToolPart::Text(whole)));
                true
            }
            Place::AfterCall => {
                self.held.drain(..self.held.len() - self.held.trim_start().len());
                self.place = if self.held.is_empty() { Place::AfterCall } else { Place::Text };
                !self.held.is_empty()
            }
        }
    }
}

fn read_call(body: &str) -> Option<ToolPart> {
    let call: Value = serde_json::from_str(body).ok()?;
    let name = call.get("name")?.as_str().filter(|name| !name.is_empty())?.to_owned();
    match call.get("arguments") {
        Some(Value::Object(_)) => {}
        // A tool without parameters may be called with nothing.
        None => return Some(ToolPart::Call { name, arguments: "{}".to_owned() }),
        Some(_) => return None,
    }
    let arguments = field(body, "arguments")?.to_owned();
    Some(ToolPart::Call { name, arguments })
}

/// Returns the text of a field's value in a JSON object that is known to be valid. Of two fields of one name the last
/// counts, as it does for the parser.
fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    let mut at = skip_space(object, object.find('{')? + 1);
    while object[at..].starts_with('"') {
        let key_end = skip_value(object, at);
        let key: String = serde_json::from_str(&object[at..key_end]).ok()?;
        let value = skip_space(object, skip_space(object, key_end) + 1);
        let value_end = skip_value(object, value);
        if key == name {
            found = Some(&object[value..value_end]);
        }
        // Past the comma, or past the closing brace, after which no key follows.
        at = skip_space(object, skip_space(object, value_end) + 1);
    }
    found
}

fn skip_space(json: &str, at: usize) -> usize {
    let rest = json.get(at..).unwrap_or_default();
    json.len().min(at) + (rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len())
}

/// Returns where the value ends that begins at `at`.
fn skip_value(json: &str, at: usize) -> usize {
    let (mut depth, mut in_text, mut is_escaped) = (0usize, false, false);
    for (offset, byte) in json.as_bytes()[at..].iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => {
                in_text = !in_text;
                if !in_text && depth == 0 {
                    return at + offset + 1;
                }
            }
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            // A bare value ends before what closes or continues its surroundings.
            b'}' | b']' | b',' if depth == 0 => return at + offset,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + offset + 1;
                }
            }
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::tests::cut;
    use proptest::prelude::*;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Vec<ToolPart> {
        let mut reader = ToolCallReader::new();
        let mut parts: Vec<ToolPart> = pieces.into_iter().flat_map(|piece| reader.push(piece)).collect();
        parts.extend(reader.finish());
        // Texts that follow each other are one text.
        parts.into_iter().fold(Vec::new(), |mut joined: Vec<ToolPart>, part| {
            match (joined.last_mut(), part) {
                (Some(ToolPart::Text(text)), ToolPart::Text(more)) => text.push_str(&more),
                (_, part) => joined.push(part),
            }
            joined
        })
    }
    fn call(name: &str, arguments: &str) -> ToolPart {
        ToolPart::Call { name: name.into(), arguments: arguments.into() }
    }
    fn text(text: &str) -> ToolPart {
        ToolPart::Text(text.into())
    }

    #[test]
    fn calls_are_found_and_their_arguments_kept_to_the_byte() {
        let answer = "I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":  1.0, \"y\": \"}\\\"\"} }\n</tool_call>\n<tool_call>{\"arguments\": {}, \"name\": \"g\"}</tool_call>\n";
        assert_eq!(
            read([answer]),
            [text("I look."), call("f", r#"{"x":  1.0, "y": "}\""}"#), call("g", "{}")]
        );
        assert_eq!(read([r#"<tool_call>{"name": "now"}</tool_call>ok"#]), [call("now", "{}"), text("ok")]);
        assert_eq!(
            read([r#"<tool_call>{"name": "f", "arguments": {"a": [1]}}"#]),
            [call("f", r#"{"a": [1]}"#)]
        );
    }

    #[test]
    fn what_is_no_call_is_given_back_as_it_was() {
        let rows = [
            "no <tool_cal here",
            "a\n\n<tool_call>{\"name\": 5}</tool_call>\nb",
            "<tool_call>{\"name\": \"f\", \"arguments\": \"x\"}</tool_call>",
            "<tool_call>\n<function=f>\n</function>\n</tool_call>",
            "<tool_call>{\"name\": \"f\"",
            "ends with newlines\n\n",
        ];
        for row in rows {
            assert_eq!(read([row]), [text(row)]);
        }
    }

    #[test]
    fn a_call_without_end_is_given_back_before_it_fills_the_memory() {
        let mut reader = ToolCallReader::new();
        assert!(reader.push("<tool_call>").is_empty());
        let parts: Vec<ToolPart> =
            (0..=CALL_BYTES_MAX / 1000).flat_map(|_| reader.push(&"x".repeat(1000))).collect();
        assert!(matches!(parts.as_slice(), [ToolPart::Text(_), ..]));
        assert!(reader.held.len() < 2000);
    }

    #[test]
    fn how_long_a_call_may_be_does_not_depend_on_the_split() {
        for (filler_bytes, is_call) in [(CALL_BYTES_MAX - 100, true), (CALL_BYTES_MAX, false)] {
            let long =
                format!("{{\"name\": \"f\", \"arguments\": {{\"x\": \"{}\"}}}}", "x".repeat(filler_bytes));
            let answer = format!("<tool_call>{long}</tool_call><tool_call>{{\"name\": \"g\"}}</tool_call>");
            let whole = read([answer.as_str()]);
            assert!(matches!(&whole[0], ToolPart::Call { .. }) == is_call);
            assert_eq!(whole[1], call("g", "{}"));
            assert!(
                whole
                    == read(answer.as_bytes().chunks(9973).map(|piece| std::str::from_utf8(piece).unwrap()))
            );
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_parts(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "<tool_call>", "</tool_call>", r#"{"name": "f", "arguments": {"é": "<tool_call>"}}"#,
                    r#"{"name": "g", "arguments": {}}"#, "\n", " ", "a", "<", "{",
                ]),
                0..12,
            ),
            cuts in prop::collection::vec(0usize..300, 0..12),
        ) {
            let answer = pieces.concat();
            prop_assert_eq!(read(cut(&answer, &cuts)), read([answer.as_str()]));
        }

        #[test]
        fn arguments_are_found_in_any_object(
            before in "[a-z\"\\\\{}\\[\\]:,é]{0,8}",
            value in "[a-z\"\\\\{}\\[\\]:,é]{0,8}",
            number in any::<f32>().prop_filter("JSON has no infinity", |number| number.is_finite()),
        ) {
            let arguments = serde_json::json!({ "k": value, &before: [number, null, {"x": &value}] }).to_string();
            let body = format!("{{ {} : {number} , \"name\":\"f\",\"arguments\" :{arguments}  }}", serde_json::json!(before));
            prop_assert_eq!(read_call(&body), Some(call("f", &arguments)));
        }
    }
}
