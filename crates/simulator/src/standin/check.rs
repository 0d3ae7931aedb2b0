//! Does a request have the documented shape? Shapes are data; a problem says where it is.

use base64::Engine as _;
use serde_json::Value;

pub enum Shape {
    Any,
    Text,
    /// Text with something in it.
    Filled,
    Base64,
    Flag,
    Number(f64, f64),
    Whole(i64, i64),
    Word(&'static [&'static str]),
    List(&'static Shape),
    /// An object with keys of its own.
    Map(&'static Shape),
    Object(&'static [Field]),
    /// Which fields there are depends on the text in this one.
    Tagged(&'static str, &'static [(&'static str, &'static [Field])]),
    /// An object with exactly one of these fields.
    Union(&'static [Field]),
    Either(&'static [Shape]),
    Same(&'static Shape),
}

pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub needed: bool,
}

/// `fields!["model" ! Text, "n" ? Whole(1, 128)]`: `!` is needed, `?` may be missing or null.
macro_rules! fields {
    ($($name:literal $mark:tt $shape:expr),* $(,)?) => {
        &[$($crate::standin::check::Field { name: $name, shape: $shape, needed: $crate::standin::check::needed!($mark) }),*]
    };
}
macro_rules! needed {
    (!) => {
        true
    };
    (?) => {
        false
    };
}
pub(crate) use {fields, needed};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Place(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub path: Vec<Step>,
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    Unknown,
    Missing,
    Wrong {
        expected: String,
        found: &'static str,
    },
    Range {
        low: f64,
        high: f64,
        found: f64,
    },
    NotAmong {
        words: Vec<&'static str>,
        found: String,
    },
    /// A rule that no shape can say.
    Rule(String),
}

impl Problem {
    pub fn rule(path: impl IntoIterator<Item = Step>, text: impl Into<String>) -> Self {
        Self { path: path.into_iter().collect(), fault: Fault::Rule(text.into()) }
    }

    /// `messages[0].content`
    pub fn bracketed(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) => text.extend([".", key]),
                Step::Place(place) => text.push_str(&format!("[{place}]")),
            }
        }
        text
    }

    /// `messages.0.content`
    pub fn dotted(&self) -> String {
        let word = |step: &Step| match step {
            Step::Key(key) => key.clone(),
            Step::Place(place) => place.to_string(),
        };
        self.path.iter().map(word).collect::<Vec<_>>().join(".")
    }
}

/// Reads base64 in both of its alphabets, as protocol buffers' JSON does.
pub fn decoded(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text.replace('-', "+").replace('_', "/")).ok()
}

pub fn key(name: &str) -> Step {
    Step::Key(name.to_owned())
}

pub fn check(value: &Value, shape: &Shape) -> Result<(), Problem> {
    check_at(value, shape, &mut Vec::new())
}

fn check_at(value: &Value, shape: &Shape, path: &mut Vec<Step>) -> Result<(), Problem> {
    let wrong = |expected: &str, path: &[Step]| {
        let fault = Fault::Wrong { expected: expected.to_owned(), found: type_of(value) };
        Err(Problem { path: path.to_vec(), fault })
    };
    match shape {
        Shape::Any => Ok(()),
        Shape::Same(shape) => check_at(value, shape, path),
        Shape::Text if value.is_string() => Ok(()),
        Shape::Text => wrong("string", path),
        Shape::Filled => match value.as_str() {
            Some("") => Err(Problem::rule(path.clone(), "must not be empty")),
            Some(_) => Ok(()),
            None => wrong("string", path),
        },
        Shape::Base64 => match value.as_str() {
            Some(text) if decoded(text).is_some_and(|bytes| !bytes.is_empty()) => Ok(()),
            Some(_) => Err(Problem::rule(path.clone(), "is not valid base64")),
            None => wrong("string", path),
        },
        Shape::Flag if value.is_boolean() => Ok(()),
        Shape::Flag => wrong("boolean", path),
        Shape::Number(low, high) => match value.as_f64() {
            Some(number) => in_range(number, *low, *high, path),
            None => wrong("number", path),
        },
        Shape::Whole(low, high) => match value.as_i64() {
            Some(number) => in_range(number as f64, *low as f64, *high as f64, path),
            None => wrong("integer", path),
        },
        Shape::Word(words) => match value.as_str() {
            Some(word) if words.contains(&word) => Ok(()),
            Some(word) => Err(Problem {
                path: path.clone(),
                fault: Fault::NotAmong { words: words.to_vec(), found: word.into() },
            }),
            None => wrong("string", path),
        },
        Shape::List(item) => match value.as_array() {
            Some(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(place, value)| at(Step::Place(place), value, item, path)),
            None => wrong("array", path),
        },
        Shape::Map(item) => match value.as_object() {
            Some(map) => map.iter().try_for_each(|(name, value)| at(key(name), value, item, path)),
            None => wrong("object", path),
        },
        Shape::Object(fields) => check_fields(value, fields, None, path),
        Shape::Tagged(tag, variants) => {
            let Some(map) = value.as_object() else { return wrong("object", path) };
            let inner = |fault| Problem { path: path.iter().cloned().chain([key(tag)]).collect(), fault };
            let Some(word) = map.get(*tag) else { return Err(inner(Fault::Missing)) };
            match variants.iter().find(|(name, _)| word == name) {
                Some((_, fields)) => check_fields(value, fields, Some(tag), path),
                None => {
                    let words = variants.iter().map(|(name, _)| *name).collect();
                    let found = word.as_str().map_or_else(|| word.to_string(), str::to_owned);
                    Err(inner(Fault::NotAmong { words, found }))
                }
            }
        }
        Shape::Union(fields) => {
            check_fields(value, fields, None, path)?;
            match value.as_object().map_or(0, serde_json::Map::len) {
                1 => Ok(()),
                count => {
                    Err(Problem::rule(path.clone(), format!("must have exactly one member, not {count}")))
                }
            }
        }
        Shape::Either(shapes) => {
            let mut deepest: Option<Problem> = None;
            for shape in *shapes {
                match check_at(value, shape, path) {
                    Ok(()) => return Ok(()),
                    Err(problem)
                        if deepest.as_ref().is_none_or(|known| problem.path.len() > known.path.len()) =>
                    {
                        deepest = Some(problem);
                    }
                    Err(_) => {}
                }
            }
            deepest.map_or(Ok(()), Err)
        }
    }
}

fn check_fields(
    value: &Value,
    fields: &[Field],
    tag: Option<&str>,
    path: &mut Vec<Step>,
) -> Result<(), Problem> {
    let Some(map) = value.as_object() else {
        let fault = Fault::Wrong { expected: "object".into(), found: type_of(value) };
        return Err(Problem { path: path.clone(), fault });
    };
    for (name, value) in map {
        let field = fields.iter().find(|field| field.name == name);
        match field {
            None if tag == Some(name) => {}
            None => {
                let path = path.iter().cloned().chain([key(name)]).collect();
                return Err(Problem { path, fault: Fault::Unknown });
            }
            Some(field) if value.is_null() && !field.needed => {}
            Some(field) => at(key(name), value, &field.shape, path)?,
        }
    }
    match fields.iter().find(|field| field.needed && !map.contains_key(field.name)) {
        Some(field) => Err(Problem {
            path: path.iter().cloned().chain([key(field.name)]).collect(),
            fault: Fault::Missing,
        }),
        None => Ok(()),
    }
}

fn at(step: Step, value: &Value, shape: &Shape, path: &mut Vec<Step>) -> Result<(), Problem> {
    path.push(step);
    let result = check_at(value, shape, path);
    path.pop();
    result
}

fn in_range(found: f64, low: f64, high: f64, path: &[Step]) -> Result<(), Problem> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(Problem { path: path.to_vec(), fault: Fault::Range { low, high, found } })
}

pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "decimal",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
