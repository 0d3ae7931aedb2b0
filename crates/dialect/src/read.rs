//! How are the fields of a JSON request read, so that what is wrong is said by name?

use serde_json::{Map, Value};

use crate::BadRequest;

/// An object's fields. Each is taken once; what is left at the end had no effect. `null` is the same as absent.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    /// Where the object stands in the request: empty, or such as `messages[2].`.
    path: String,
    map: Map<String, Value>,
}

/// Names that [`Fields::left`] returns at most, because they travel in a header. A well-meant request has few.
const LEFT_MAX: usize = 32;

impl Fields {
    /// Reads a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let place = error.valid_up_to();
            BadRequest::new(format!(
                "The request body is not valid UTF-8: the byte at position {place} is wrong."
            ))
            .code("invalid_json")
        })?;
        // Nesting is bounded by the parser (128 levels), size by whoever read the body.
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Self { path: String::new(), map }),
            Ok(other) => Err(BadRequest::new(format!(
                "Invalid request body: expected a JSON object, but got {} instead.",
                kind(&other)
            ))
            .code("invalid_type")),
            Err(error) => {
                let message = format!("We could not parse the JSON body of your request: {error}.");
                Err(BadRequest::new(message).code("invalid_json"))
            }
        }
    }
    /// Takes `value`, which stands at `path`, as an object.
    pub fn of(path: &str, value: Value) -> Result<Self, BadRequest> {
        match value {
            Value::Object(map) => Ok(Self { path: format!("{path}."), map }),
            other => Err(wrong_type(path, "an object", &other)),
        }
    }
    /// Returns the field's place in the request.
    pub fn place(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }
    pub fn take(&mut self, name: &str) -> Option<Value> {
        // Keeps the order of what is left.
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }
    pub fn has(&self, name: &str) -> bool {
        self.peek(name).is_some()
    }
    /// Returns the field and leaves it where it is.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }
    pub fn missing(&self, name: &str) -> BadRequest {
        let place = self.place(name);
        BadRequest::new(format!("Missing required parameter: '{place}'."))
            .at(place)
            .code("missing_required_parameter")
    }
    pub fn text(&mut self, name: &str) -> Result<Option<String>, BadRequest> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.place(name), "a string", &other)),
        }
    }
    pub fn required_text(&mut self, name: &str) -> Result<String, BadRequest> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }
    /// Returns the field, or `false` if it is absent.
    pub fn flag(&mut self, name: &str) -> Result<bool, BadRequest> {
        Ok(self.optional_flag(name)?.unwrap_or(false))
    }
    pub fn optional_flag(&mut self, name: &str) -> Result<Option<bool>, BadRequest> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(&self.place(name), "a boolean", &other)),
        }
    }
    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, BadRequest> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(wrong_type(&self.place(name), "an array", &other)),
        }
    }
    pub fn object(&mut self, name: &str) -> Result<Option<Fields>, BadRequest> {
        self.take(name).map(|value| Fields::of(&self.place(name), value)).transpose()
    }
    pub fn integer(&mut self, name: &str, min: i64, max: i64) -> Result<Option<i64>, BadRequest> {
        self.take(name).map(|value| integer(&self.place(name), &value, min, max)).transpose()
    }
    pub fn decimal(&mut self, name: &str, min: f64, max: f64) -> Result<Option<f32>, BadRequest> {
        self.take(name).map(|value| decimal(&self.place(name), &value, min, max)).transpose()
    }
    /// Returns a decimal that is above zero, which `decimal` cannot say.
    pub fn positive(&mut self, name: &str, max: f64) -> Result<Option<f32>, BadRequest> {
        let place = self.place(name);
        match self.take(name) {
            None => Ok(None),
            Some(value) if value.as_f64() == Some(0.0) => Err(BadRequest::new(format!(
                "Invalid '{place}': decimal below minimum value. Expected a value > 0, but got {value} instead."
            ))
            .at(place)
            .code("decimal_below_min_value")),
            // What is too small for 32 bits must not become zero.
            Some(value) => Ok(Some(decimal(&place, &value, 0.0, max)?.max(f32::MIN_POSITIVE))),
        }
    }
    /// Refuses the fields of `table` (a name, and what to do instead) unless they ask for nothing.
    pub fn refuse(&mut self, table: &[(&str, &str)]) -> Result<(), BadRequest> {
        for (name, advice) in table {
            if self.take(name).is_some_and(|value| !asks_nothing(&value)) {
                return Err(unsupported(&self.place(name), advice));
            }
        }
        Ok(())
    }
    /// Returns the places of all fields that nobody took, in order, at most [`LEFT_MAX`].
    pub fn left(self) -> Vec<String> {
        let Self { path, map } = self;
        let set = map.into_iter().filter(|(_, value)| !value.is_null());
        set.map(|(name, _)| format!("{path}{name}")).take(LEFT_MAX).collect()
    }
    pub fn into_map(self) -> Map<String, Value> {
        self.map
    }
}

pub(crate) fn integer(place: &str, value: &Value, min: i64, max: i64) -> Result<i64, BadRequest> {
    let Value::Number(number) = value else {
        return Err(wrong_type(place, "an integer", value));
    };
    // A whole number may be written with a point, as some clients do.
    let whole = number.as_f64().filter(|decimal| decimal.fract() == 0.0);
    match (number.as_i64(), whole) {
        (Some(integer), _) if (min..=max).contains(&integer) => Ok(integer),
        (Some(integer), _) => Err(out_of_range(place, "integer", integer, min, max, integer < min)),
        // Beyond 2^53 a decimal is no exact integer; beyond 64 bits it is out of every range used here.
        (None, Some(whole)) if whole.abs() <= 9_007_199_254_740_992.0 => {
            integer(place, &Value::from(whole as i64), min, max)
        }
        (None, Some(whole)) => Err(out_of_range(place, "integer", number, min, max, whole < 0.0)),
        (None, None) => Err(wrong_type(place, "an integer", value)),
    }
}

pub(crate) fn decimal(place: &str, value: &Value, min: f64, max: f64) -> Result<f32, BadRequest> {
    let Some(decimal) = value.as_f64() else {
        return Err(wrong_type(place, "a decimal", value));
    };
    if (min..=max).contains(&decimal) {
        Ok(decimal as f32)
    } else {
        Err(out_of_range(place, "decimal", value, min, max, decimal < min))
    }
}

fn out_of_range(
    place: &str,
    kind: &str,
    got: impl std::fmt::Display,
    min: impl std::fmt::Display,
    max: impl std::fmt::Display,
    below: bool,
) -> BadRequest {
    let (side, name, sign, bound) = match below {
        true => ("below minimum", "below_min", ">=", min.to_string()),
        false => ("above maximum", "above_max", "<=", max.to_string()),
    };
    BadRequest::new(format!(
        "Invalid '{place}': {kind} {side} value. Expected a value {sign} {bound}, but got {got} instead."
    ))
    .at(place)
    .code(&format!("{kind}_{name}_value"))
}

pub(crate) fn wrong_type(place: &str, expected: &str, got: &Value) -> BadRequest {
    BadRequest::new(format!(
        "Invalid type for '{place}': expected {expected}, but got {} instead.",
        kind(got)
    ))
    .at(place)
    .code("invalid_type")
}

/// What is well formed but means nothing that exists.
pub(crate) fn wrong_value(place: &str, got: &str, supported: &str) -> BadRequest {
    BadRequest::new(format!("Invalid value: '{}'. Supported values are: {supported}.", shortened(got)))
        .at(place)
        .code("invalid_value")
}

/// What exists elsewhere but not here.
pub(crate) fn unsupported(place: &str, advice: &str) -> BadRequest {
    BadRequest::new(format!("Unsupported parameter: '{place}' is not supported by this server. {advice}"))
        .at(place)
        .code("unsupported_parameter")
}

/// Returns `text`, cut where a message would become unreadable.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 64;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
