//! `POST /v1/embeddings`: how are embeddings asked for, and how do they come?
//!
//! Vectors are numbers or, in fewer bytes, base64 of little-endian 32-bit floats. Whatever the upstream sends, the client gets what
//! it asked for; where both are the same, the digits stay as they came.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use domain::{EmbedAsk, ModelName, Usage};

use super::body::{WHOLE_BYTES_MAX, malformed, parse};
use super::completion::{prompt, take_prompts};
use super::generation::{take_max_tokens, take_model};
use super::usage::UsageHeard;
use super::wire::Manner;
use crate::read::{Fields, wrong_value};
use crate::{BadAnswer, BadRequest, Labels, Target};

/// A client's request, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedHeard {
    pub ask: EmbedAsk,
    pub encoding: Encoding,
    pub labels: Labels,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Float,
    Base64,
}

/// An upstream's answer.
#[derive(Debug)]
pub struct Embeddings {
    /// The upstream's own name of the model.
    pub model: Option<String>,
    /// In the order of the inputs.
    vectors: Vec<Vector>,
    /// Nothing where the upstream reports nothing.
    pub usage: Option<Usage>,
}

#[derive(Debug)]
enum Vector {
    /// A list of numbers, as it came.
    Numbers(Box<RawValue>),
    Base64(String),
}

/// Reads a request. Fields that are not known here go on to the upstream: servers differ in what they add.
pub fn read(body: &[u8]) -> Result<EmbedHeard, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let model = take_model(&mut fields)?.ok_or_else(|| fields.missing("model"))?;
    let inputs = take_prompts(&mut fields, "input")?;
    let encoding = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => return Err(wrong_value("encoding_format", other, "'float' and 'base64'")),
    };
    let dimensions = take_max_tokens(&mut fields, "dimensions", 1)?;
    let user = fields.text("user")?;
    let labels = Labels::take(&mut fields);
    let extra = fields.into_map().into_iter().filter(|(_, value)| !value.is_null()).collect();
    Ok(EmbedHeard { ask: EmbedAsk { model, inputs, dimensions, user, extra }, encoding, labels })
}

/// Returns the request for an upstream. OpenAI is asked for the form with fewer bytes, which not every server knows.
pub(super) fn asked(ask: &EmbedAsk, target: &Target<'_>, manner: &Manner) -> Vec<u8> {
    let mut body = Map::from_iter([("model".to_owned(), json!(target.model))]);
    body.insert("input".to_owned(), prompt(&ask.inputs));
    body.extend(ask.dimensions.map(|dimensions| ("dimensions".to_owned(), json!(dimensions))));
    body.extend(ask.user.as_ref().map(|user| ("user".to_owned(), json!(user))));
    if !manner.is_compatible {
        body.insert("encoding_format".to_owned(), json!("base64"));
    }
    body.extend(ask.extra.iter().map(|(name, value)| (name.clone(), value.clone())));
    super::stream::json(&body)
}

#[derive(Deserialize)]
struct AnswerWire {
    data: Vec<VectorWire>,
    model: Option<String>,
    usage: Option<UsageHeard>,
}

#[derive(Deserialize)]
struct VectorWire {
    index: Option<usize>,
    embedding: Box<RawValue>,
}

impl Embeddings {
    /// The largest answer that need be kept.
    pub const BYTES_MAX: usize = WHOLE_BYTES_MAX;

    /// Returns the vectors of an upstream that speaks another dialect, in the order of the inputs.
    pub fn of(vectors: &[Vec<f32>], usage: Option<Usage>) -> Self {
        let numbers = |vector: &Vec<f32>| {
            let text = serde_json::to_string(vector).expect("numbers are plain data");
            Vector::Numbers(RawValue::from_string(text).expect("what was written as JSON is JSON"))
        };
        Self { model: None, vectors: vectors.iter().map(numbers).collect(), usage }
    }

    /// Reads an upstream's answer to `inputs` inputs.
    pub fn read(body: &[u8], inputs: usize) -> Result<Self, BadAnswer> {
        let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8"))?;
        let AnswerWire { data, model, usage } = parse(text)?;
        if data.len() != inputs {
            return Err(malformed(format!("{} vectors for {inputs} inputs", data.len())));
        }
        let mut vectors: Vec<Option<Vector>> = data.iter().map(|_| None).collect();
        for (place, wire) in data.into_iter().enumerate() {
            let slot = vectors.get_mut(wire.index.unwrap_or(place));
            let slot = slot.filter(|slot| slot.is_none());
            *slot.ok_or_else(|| malformed("a vector of no input"))? = Some(Vector::read(wire.embedding)?);
        }
        let usage = usage.and_then(|usage| usage.of_embeddings());
        Ok(Self { model, vectors: vectors.into_iter().flatten().collect(), usage })
    }

    /// Returns the answer for the client.
    pub fn to_json(
        &self,
        model: &ModelName,
        encoding: Encoding,
        usage: &Usage,
    ) -> Result<Vec<u8>, BadAnswer> {
        #[derive(Serialize)]
        struct List<'a> {
            object: &'static str,
            data: Vec<Item<'a>>,
            model: &'a str,
            usage: Value,
        }
        #[derive(Serialize)]
        struct Item<'a> {
            object: &'static str,
            index: usize,
            embedding: Written<'a>,
        }
        let vectors: Vec<Written<'_>> =
            self.vectors.iter().map(|vector| vector.written(encoding)).collect::<Result<_, _>>()?;
        let item = |(index, embedding)| Item { object: "embedding", index, embedding };
        let data = vectors.into_iter().enumerate().map(item).collect();
        let usage = json!({"prompt_tokens": usage.input(), "total_tokens": usage.total()});
        Ok(super::stream::json(&List { object: "list", data, model: model.as_str(), usage }))
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    AsItCame(&'a RawValue),
    Numbers(Vec<f32>),
    Text(std::borrow::Cow<'a, str>),
}

impl Vector {
    fn read(raw: Box<RawValue>) -> Result<Self, BadAnswer> {
        match raw.get().as_bytes().first() {
            Some(b'[') => Ok(Self::Numbers(raw)),
            Some(b'"') => Ok(Self::Base64(serde_json::from_str(raw.get()).map_err(malformed)?)),
            _ => Err(malformed("a vector that is neither a list nor base64")),
        }
    }

    fn written(&self, encoding: Encoding) -> Result<Written<'_>, BadAnswer> {
        Ok(match (self, encoding) {
            (Self::Numbers(raw), Encoding::Float) => Written::AsItCame(raw),
            (Self::Base64(text), Encoding::Base64) => Written::Text(text.into()),
            (Self::Numbers(raw), Encoding::Base64) => {
                let numbers: Vec<f32> = serde_json::from_str(raw.get()).map_err(malformed)?;
                let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
                Written::Text(STANDARD.encode(bytes).into())
            }
            (Self::Base64(text), Encoding::Float) => {
                let bytes = STANDARD.decode(text).map_err(malformed)?;
                if bytes.len() % 4 != 0 {
                    return Err(malformed("a vector of broken numbers"));
                }
                let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                let numbers: Vec<f32> = bytes.chunks_exact(4).map(number).collect();
                if numbers.iter().any(|number| !number.is_finite()) {
                    return Err(malformed("a vector of what are no numbers"));
                }
                Written::Numbers(numbers)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use domain::Prompt;
    use proptest::prelude::*;

    use super::*;

    fn heard(body: Value) -> Result<EmbedHeard, BadRequest> {
        read(body.to_string().as_bytes())
    }

    fn answer(vectors: &[Value]) -> Vec<u8> {
        let item = |(index, vector): (usize, &Value)| json!({"object": "embedding", "index": index, "embedding": vector});
        let data: Vec<Value> = vectors.iter().enumerate().map(item).rev().collect();
        json!({"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 3, "total_tokens": 3}})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn the_four_shapes_of_an_input_are_read_and_what_is_not_known_goes_on() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        for (input, expected) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![Prompt::Tokens(vec![1, 2])]),
            (json!([[1], [2, 3]]), vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]),
        ] {
            let heard = heard(json!({
                "model": "m", "input": input, "dimensions": 8, "encoding_format": "base64", "input_type": "query",
                "user": "u", "session_id": "s",
            }))
            .unwrap();
            assert_eq!(heard.ask.inputs, expected);
            assert_eq!((heard.encoding, heard.ask.dimensions), (Encoding::Base64, Some(8)));
            assert_eq!(heard.labels.get("session_id"), Some("s"));
            assert_eq!(heard.ask.extra.keys().collect::<Vec<_>>(), ["input_type"]);
            let written = asked(&heard.ask, &Target { model: "m", stream: false }, &Manner::compatible());
            assert_eq!(read(&written).unwrap().ask, heard.ask, "what is asked reads back as itself");
        }
    }

    #[test]
    fn each_wrong_parameter_is_named() {
        for (fields, param) in [
            (json!({"model": "m"}), "input"),
            (json!({"input": "a"}), "model"),
            (json!({"model": "m", "input": []}), "input"),
            (json!({"model": "m", "input": ["a", 1]}), "input[1]"),
            (json!({"model": "m", "input": "a", "encoding_format": "hex"}), "encoding_format"),
            (json!({"model": "m", "input": "a", "dimensions": 0}), "dimensions"),
        ] {
            let error = heard(fields.clone()).unwrap_err();
            let names_it = error.param.as_deref() == Some(param) || error.message.contains(param);
            assert!(names_it, "{fields}: {error}");
        }
    }

    #[test]
    fn vectors_come_in_the_order_of_their_inputs_with_their_digits() {
        let embeddings = Embeddings::read(&answer(&[json!([0.10, 1e-3]), json!([2, 3])]), 2).unwrap();
        let usage = embeddings.usage.unwrap();
        assert_eq!(usage, Usage { input_uncached: 3, ..Usage::default() });
        let written = embeddings.to_json(&"public".into(), Encoding::Float, &usage).unwrap();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            concat!(
                r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,0.001]},"#,
                r#"{"object":"embedding","index":1,"embedding":[2,3]}],"model":"public","#,
                r#""usage":{"prompt_tokens":3,"total_tokens":3}}"#
            )
        );
    }

    #[test]
    fn an_answer_that_does_not_fit_its_inputs_is_none() {
        let refused = |body: &[u8], inputs| Embeddings::read(body, inputs).unwrap_err();
        assert!(matches!(refused(&answer(&[json!([1])]), 2), BadAnswer::Malformed(_)));
        assert!(matches!(refused(&answer(&[json!({"a": 1})]), 1), BadAnswer::Malformed(_)));
        let twice = br#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[2]}]}"#;
        assert!(matches!(refused(twice, 2), BadAnswer::Malformed(_)));
        assert!(matches!(refused(br#"{"error":{"message":"no"}}"#, 1), BadAnswer::Fault(_)));
        let silent = br#"{"data":[{"embedding":[1]}]}"#;
        assert_eq!(Embeddings::read(silent, 1).unwrap().usage, None, "not reported is not zero");
    }

    proptest! {
        #[test]
        fn numbers_and_base64_are_the_same_vector(numbers in prop::collection::vec(-10f32..10.0, 0..20)) {
            let usage = Usage::default();
            let of = |body: &[u8], encoding| {
                Embeddings::read(body, 1).unwrap().to_json(&"m".into(), encoding, &usage).unwrap()
            };
            let packed = of(&answer(&[json!(numbers)]), Encoding::Base64);
            let unpacked: Value = serde_json::from_slice(&of(&packed, Encoding::Float)).unwrap();
            let again: Vec<f32> = serde_json::from_value(unpacked["data"][0]["embedding"].clone()).unwrap();
            prop_assert_eq!(again, numbers);
        }
    }
}
