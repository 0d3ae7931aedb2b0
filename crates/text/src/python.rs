//! How does Python print a value, and which of its methods do templates call?

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};

/// Prints `{{ value }}` as Python's Jinja does.
pub(crate) fn print(output: &mut Output<'_>, _: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    output.write_str(&text(value)).map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// Returns what Python's `str` says.
pub(crate) fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => representation(value),
    }
}

/// Returns what Python's `repr` says, but for undefined values, which print nothing.
fn representation(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq => format!("[{}]", joined(value, |item| representation(&item))),
        ValueKind::Map => {
            let entry = |key: Value| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", representation(&key), representation(&item))
            };
            format!("{{{}}}", joined(value, entry))
        }
        _ => value.to_string(),
    }
}

fn joined(values: &Value, show: impl Fn(Value) -> String) -> String {
    let shown: Vec<String> = values.try_iter().into_iter().flatten().map(show).collect();
    shown.join(", ")
}

/// The shortest digits that read back as the same number; an exponent below 1e-4 and from 1e16 on.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let size = number.abs();
    if number != 0.0 && !(1e-4..1e16).contains(&size) {
        let digits = format!("{number:e}");
        let (mantissa, exponent) = digits.split_once('e').expect("it was printed with an exponent");
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{mantissa}e{sign}{exponent:0>2}");
    }
    let digits = number.to_string();
    if digits.contains('.') { digits } else { digits + ".0" }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for character in text.chars() {
        match character {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            character if character == quote => quoted.extend(['\\', quote]),
            character if u32::from(character) < 0x20 || character == '\x7f' => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted.push(quote);
    quoted
}

/// The filter `tojson`, as Python's `json.dumps` writes: no HTML escapes, a space after `,` and `:`.
pub(crate) fn to_json(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let indent: Option<usize> = match kwargs.get::<Option<Value>>("indent")? {
        Some(indent) if !indent.is_none() => Some(usize::try_from(indent)?),
        _ => None,
    };
    let json = Json {
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        comma: match (&separators, indent) {
            (Some(separators), _) if separators.len() == 2 => separators[0].clone(),
            (_, Some(_)) => ",".to_owned(),
            _ => ", ".to_owned(),
        },
        colon: match &separators {
            Some(separators) if separators.len() == 2 => separators[1].clone(),
            _ => ": ".to_owned(),
        },
    };
    kwargs.assert_all_used()?;
    let mut text = String::new();
    json.write(&mut text, value, 0)?;
    Ok(Value::from(text))
}

struct Json {
    ascii: bool,
    sorted: bool,
    indent: Option<usize>,
    comma: String,
    colon: String,
}

impl Json {
    fn write(&self, text: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => text.push_str("null"),
            ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => text.push_str(&value.to_string()),
            ValueKind::Number => text.push_str(&match f64::try_from(value.clone())? {
                number if number.is_nan() => "NaN".to_owned(),
                number if number.is_infinite() => {
                    if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
                }
                number => float(number),
            }),
            ValueKind::String => self.write_text(text, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_all(text, ['[', ']'], &items, depth, |text, item| {
                    self.write(text, item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.write_all(text, ['{', '}'], &keys, depth, |text, key| {
                    self.write_text(text, &crate::python::text(key));
                    text.push_str(&self.colon);
                    self.write(text, &value.get_item(key)?, depth + 1)
                })?;
            }
            kind => {
                return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {kind} is no JSON")));
            }
        }
        Ok(())
    }
    fn write_all(
        &self,
        text: &mut String,
        [open, close]: [char; 2],
        items: &[Value],
        depth: usize,
        mut write: impl FnMut(&mut String, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        text.push(open);
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                text.push_str(&self.comma);
            }
            self.new_line(text, depth + 1);
            write(text, item)?;
        }
        if !items.is_empty() {
            self.new_line(text, depth);
        }
        text.push(close);
        Ok(())
    }
    fn new_line(&self, text: &mut String, depth: usize) {
        if let Some(indent) = self.indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }
    fn write_text(&self, text: &mut String, value: &str) {
        text.push('"');
        for character in value.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                character if u32::from(character) < 0x20 || (self.ascii && !character.is_ascii()) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(text, "\\u{unit:04x}");
                    }
                }
                // Python leaves it alone unless asked for ASCII, where 0x7f is ASCII.
                character => text.push(character),
            }
        }
        text.push('"');
    }
}

/// Methods that templates call and the usual compatibility set does not have.
pub(crate) fn method(
    state: &State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), name, arguments) {
        (Some(text), "removeprefix", [prefix]) => {
            Ok(text.strip_prefix(prefix.as_str().unwrap_or_default()).unwrap_or(text).into())
        }
        (Some(text), "removesuffix", [suffix]) => {
            Ok(text.strip_suffix(suffix.as_str().unwrap_or_default()).unwrap_or(text).into())
        }
        (Some(text), "partition", [separator]) => {
            let separator = separator.as_str().unwrap_or_default();
            let (before, after) = text.split_once(separator).unwrap_or((text, ""));
            let found = if before.len() < text.len() { separator } else { "" };
            Ok(Value::from([before, found, after].map(str::to_owned).to_vec()))
        }
        (Some(text), "rpartition", [separator]) => {
            let separator = separator.as_str().unwrap_or_default();
            let (before, after) = text.rsplit_once(separator).unwrap_or(("", text));
            let found = if after.len() < text.len() { separator } else { "" };
            Ok(Value::from([before, found, after].map(str::to_owned).to_vec()))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_of_python() {
        let rows = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (1e300, "1e+300"),
        ];
        for (number, expected) in rows {
            assert_eq!(float(number), expected);
        }
    }

    #[test]
    fn texts_are_quoted_as_python_quotes_them() {
        assert_eq!(quoted("it's"), r#""it's""#);
        assert_eq!(quoted(r#"it's "so""#), r#"'it\'s "so"'"#);
        assert_eq!(quoted("a\n\u{1}é"), "'a\\n\\x01é'");
    }
}
