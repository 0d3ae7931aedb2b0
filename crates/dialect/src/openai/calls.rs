//! Which call does a piece of `tool_calls` belong to?
//!
//! OpenAI numbers the calls and sends id and name with the first piece. Others leave out the number, give every call the number
//! 0, repeat id and name with every piece, send no id, or write the arguments as an object.

use serde::Deserialize;
use serde_json::Value;

use domain::Delta;

use super::body::malformed;
use crate::BadAnswer;

#[derive(Deserialize)]
pub(super) struct CallPiece {
    index: Option<u32>,
    id: Option<String>,
    function: Option<FunctionPiece>,
    /// Where Google's servers prove that the call is their own.
    extra_content: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct FunctionPiece {
    name: Option<String>,
    arguments: Option<Value>,
}

/// The calls of one choice so far.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// At most [`CALLS_MAX`].
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    index: Option<u32>,
    id: String,
}

/// Nobody asks for more tools in one answer.
const CALLS_MAX: usize = 1024;

impl CallPiece {
    /// The deprecated `function_call`: one call, without an id.
    pub fn of_function(function: FunctionPiece) -> Self {
        Self { index: Some(u32::MAX), id: None, function: Some(function), extra_content: None }
    }
}

impl Calls {
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Adds what a piece says. `made_up` begins the id of a call that was given none.
    pub fn hear(
        &mut self,
        piece: CallPiece,
        is_whole: bool,
        made_up: &str,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), BadAnswer> {
        let CallPiece { index, id, function, extra_content } = piece;
        let id = id.filter(|id| !id.is_empty());
        let (name, arguments) = function.map_or((None, None), |function| (function.name, function.arguments));
        let name = name.filter(|name| !name.is_empty());
        let place = if is_whole { None } else { self.find(index, id.as_deref(), name.is_some()) };
        let place = match (place, name) {
            (Some(place), _) => place,
            (None, Some(name)) => {
                let place = self.known.len();
                if place >= CALLS_MAX {
                    return Err(malformed(format!("more than {CALLS_MAX} tool calls")));
                }
                let id = id.unwrap_or_else(|| format!("{made_up}_{place}"));
                let signature = extra_content.as_ref().map(|extra| &extra["google"]["thought_signature"]);
                let proof = signature.and_then(Value::as_str).map(str::to_owned);
                self.known.push(Known { index, id: id.clone() });
                deltas.push(Delta::ToolCall { index: place as u32, id, name, proof });
                place
            }
            // Some servers end a call with a piece that has nothing in it.
            (None, None) if arguments.as_ref().is_none_or(|arguments| arguments == "") => return Ok(()),
            (None, None) => return Err(malformed("a tool call without a name")),
        };
        let json = match arguments {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::String(json)) => json,
            Some(other) => other.to_string(),
        };
        if !json.is_empty() {
            deltas.push(Delta::Arguments { index: place as u32, json });
        }
        Ok(())
    }

    fn find(&self, index: Option<u32>, id: Option<&str>, has_name: bool) -> Option<usize> {
        let by_id = id.and_then(|id| self.known.iter().position(|known| known.id == id));
        let by_index =
            index.and_then(|index| self.known.iter().rposition(|known| known.index == Some(index)));
        match (by_id, by_index) {
            (Some(place), _) => Some(place),
            // The number is known, but under another id: another call, whose server does not count.
            (None, Some(_)) if id.is_some() && has_name => None,
            (None, Some(place)) => Some(place),
            // Without number and id, it goes on with the last one, unless it names another.
            (None, None) if index.is_none() && id.is_none() && !has_name => self.known.len().checked_sub(1),
            (None, None) => None,
        }
    }
}
