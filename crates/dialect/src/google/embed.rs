//! How is Gemini asked for embeddings, and what does it answer?

use domain::{EmbedAsk, Prompt};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Home, untellable};
use crate::{BadAnswer, Untellable};

/// Vectors in the order of the inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    pub vectors: Vec<Vec<f32>>,
    /// What was read for them; AI Studio's older models do not say.
    pub input_tokens: Option<u64>,
}

/// Returns the verb behind the model's path, and the body.
pub(super) fn said(ask: &EmbedAsk, model: &str, home: Home) -> Result<(&'static str, Vec<u8>), Untellable> {
    let texts = ask.inputs.iter().map(|input| match input {
        Prompt::Text(text) => Ok(text.as_str()),
        Prompt::Tokens(_) => Err(untellable("input", "Gemini takes texts, not tokens")),
    });
    let texts = texts.collect::<Result<Vec<_>, _>>()?;
    let mut task = Map::new();
    for (name, value) in &ask.extra {
        match name.as_str() {
            "task_type" | "title" => task.insert(name.clone(), value.clone()),
            _ => return Err(untellable(name, "Gemini knows only task_type and title beside the texts")),
        };
    }
    let (verb, body) = match home {
        Home::Studio => ("batchEmbedContents", studio(ask, model, &texts, &task)),
        Home::Vertex => ("predict", vertex(ask, &texts, &task)),
    };
    Ok((verb, serde_json::to_vec(&body).expect("a JSON value is always written")))
}

fn studio(ask: &EmbedAsk, model: &str, texts: &[&str], task: &Map<String, Value>) -> Value {
    let model = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    let requests = texts.iter().map(|text| {
        let mut request = Map::from_iter([
            ("model".to_owned(), json!(model)),
            ("content".to_owned(), json!({"parts": [{"text": text}]})),
        ]);
        request.extend(task.get("task_type").map(|kind| ("taskType".to_owned(), kind.clone())));
        request.extend(task.get("title").map(|title| ("title".to_owned(), title.clone())));
        request.extend(ask.dimensions.map(|count| ("outputDimensionality".to_owned(), json!(count))));
        Value::Object(request)
    });
    json!({"requests": requests.collect::<Vec<_>>()})
}

fn vertex(ask: &EmbedAsk, texts: &[&str], task: &Map<String, Value>) -> Value {
    let instances = texts.iter().map(|text| {
        let mut instance = Map::from_iter([("content".to_owned(), json!(text))]);
        instance.extend(task.clone());
        Value::Object(instance)
    });
    // A text that is too long is refused, not cut in silence.
    let mut parameters = Map::from_iter([("autoTruncate".to_owned(), json!(false))]);
    parameters.extend(ask.dimensions.map(|count| ("outputDimensionality".to_owned(), json!(count))));
    json!({"instances": instances.collect::<Vec<_>>(), "parameters": parameters})
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// AI Studio's.
    embeddings: Option<Vec<Embedding>>,
    /// Vertex AI's.
    predictions: Option<Vec<Prediction>>,
    usage_metadata: Option<Counts>,
}

#[derive(Deserialize)]
struct Prediction {
    embeddings: Embedding,
}

#[derive(Deserialize)]
struct Embedding {
    values: Vec<f32>,
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    token_count: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    prompt_token_count: Option<u64>,
}

/// Reads an answer of either home.
pub fn read_embeddings(body: &[u8]) -> Result<Embedded, BadAnswer> {
    let malformed = |what: &str| BadAnswer::Malformed(what.to_owned());
    let answer: Answer = serde_json::from_slice(body).map_err(|_| malformed("no embeddings"))?;
    let predicted = answer.predictions.map(|all| all.into_iter().map(|one| one.embeddings).collect());
    let embeddings: Vec<Embedding> =
        answer.embeddings.or(predicted).ok_or_else(|| malformed("no embeddings"))?;
    // Counts are whole, written as decimals.
    let counted = |one: &Embedding| Some(one.statistics.as_ref()?.token_count? as u64);
    let by_text = embeddings.iter().map(counted).sum::<Option<u64>>().filter(|_| !embeddings.is_empty());
    let input_tokens = answer.usage_metadata.and_then(|counts| counts.prompt_token_count).or(by_text);
    Ok(Embedded { vectors: embeddings.into_iter().map(|one| one.values).collect(), input_tokens })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::ModelName;

    use super::*;

    fn ask() -> EmbedAsk {
        EmbedAsk {
            model: ModelName::new("m"),
            inputs: vec![Prompt::Text("one".into()), Prompt::Text("two".into())],
            dimensions: Some(2),
            user: None,
            extra: BTreeMap::from([("task_type".to_owned(), json!("RETRIEVAL_QUERY"))]),
        }
    }

    fn body(home: Home) -> (&'static str, Value) {
        let (verb, body) = said(&ask(), "gemini-embedding-001", home).unwrap();
        (verb, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn each_home_is_asked_in_its_own_words() {
        let one = |text: &str| {
            json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]},
                "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 2})
        };
        assert_eq!(body(Home::Studio), ("batchEmbedContents", json!({"requests": [one("one"), one("two")]})));
        let one = |text: &str| json!({"content": text, "task_type": "RETRIEVAL_QUERY"});
        let parameters = json!({"autoTruncate": false, "outputDimensionality": 2});
        assert_eq!(
            body(Home::Vertex),
            ("predict", json!({"instances": [one("one"), one("two")], "parameters": parameters}))
        );
    }

    #[test]
    fn both_answers_are_read_and_what_was_not_counted_is_not_zero() {
        let studio = read_embeddings(br#"{"embeddings":[{"values":[0.5,1]},{"values":[2,3]}]}"#).unwrap();
        assert_eq!(studio, Embedded { vectors: vec![vec![0.5, 1.0], vec![2.0, 3.0]], input_tokens: None });
        let vertex = br#"{"predictions":[{"embeddings":{"values":[1],"statistics":{"token_count":4,"truncated":false}}},
            {"embeddings":{"values":[2],"statistics":{"token_count":5.0,"truncated":false}}}]}"#;
        assert_eq!(read_embeddings(vertex).unwrap().input_tokens, Some(9));
        assert!(read_embeddings(b"{}").is_err());
    }

    #[test]
    fn tokens_and_unknown_fields_are_refused_by_name() {
        let tokens = EmbedAsk { inputs: vec![Prompt::Tokens(Vec::new())], ..ask() };
        assert_eq!(said(&tokens, "m", Home::Studio).unwrap_err().what, "input");
        let odd = EmbedAsk { extra: BTreeMap::from([("input_type".to_owned(), json!("query"))]), ..ask() };
        assert_eq!(said(&odd, "m", Home::Studio).unwrap_err().what, "input_type");
    }
}
