//! Embeddings: where does a text lie? At a place that its hash decides, so that equal texts lie together.

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::standin::check::{Problem, Shape, check, fields, key};
use crate::standin::prompt::Tally;
use crate::standin::reply::{Reply, Trouble};
use crate::standin::server::Context;
use crate::standin::tokens::tokens;

use Shape::{Either, Filled, List, Object, Text, Whole, Word};

const DIMENSIONS: u64 = 16;
const DIMENSIONS_MAX: i64 = 3072;
const INPUTS_MAX: usize = 2048;

static REQUEST: Shape = Object(fields![
    "model" ! Text,
    "input" ! Either(&[Filled, List(&Filled), List(&Whole(0, i64::MAX)), List(&List(&Whole(0, i64::MAX)))]),
    "dimensions" ? Whole(1, DIMENSIONS_MAX),
    "encoding_format" ? Word(&["float", "base64"]),
    "user" ? Text,
]);

pub fn answer(body: &Value, context: &Context<'_>) -> Result<Reply, Trouble> {
    check(body, &REQUEST)?;
    let inputs: Vec<&Value> = match &body["input"] {
        Value::Array(items) if items.first().is_none_or(|item| !item.is_number()) => items.iter().collect(),
        input => vec![input],
    };
    if inputs.is_empty() || inputs.len() > INPUTS_MAX {
        return Err(Problem::rule(
            [key("input")],
            "'$.input' is invalid: between 1 and 2048 inputs are allowed.",
        )
        .into());
    }
    let dimensions = body["dimensions"].as_u64().unwrap_or(DIMENSIONS);
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(input, dimensions);
        let embedding = match body["encoding_format"].as_str() {
            Some("base64") => {
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                json!(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            _ => json!(vector),
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<Value> = data.collect();
    let count = |input: &&Value| match input {
        Value::String(text) => tokens(text).len(),
        input => input.as_array().map_or(0, Vec::len),
    };
    let tally = Tally { input_uncached: inputs.iter().map(count).sum::<usize>() as u64, ..Tally::default() };
    let tokens = context.reported(tally).input_uncached;
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(Reply::json(200, &json!({"object": "list", "data": data, "model": body["model"], "usage": usage}))
        .counted(tally))
}

/// Returns a vector of length 1.
fn vector(input: &Value, dimensions: u64) -> Vec<f32> {
    let coordinate = |place: u64| {
        let hash = Sha256::new().chain_update(input.to_string()).chain_update(place.to_le_bytes()).finalize();
        f32::from(i16::from_le_bytes([hash[0], hash[1]])) / 32_768.0
    };
    let raw: Vec<f32> = (0..dimensions).map(coordinate).collect();
    let length = raw.iter().map(|number| number * number).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.iter().map(|number| number / length).collect()
}
