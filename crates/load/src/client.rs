//! What one request looks like from outside: when its bytes came and whether it ended well.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::stats::milliseconds;

/// An OpenAI-compatible endpoint and the model asked there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    http: reqwest::Client,
    /// Without a trailing slash, with `/v1`.
    base: String,
    key: Option<String>,
    model: String,
    timeout: Duration,
    /// Ask for exactly the stated number of tokens (`ignore_eos`, understood by vLLM, SGLang and Baseload).
    exact_length: bool,
}

/// One request's times, counted from the instant it was sent; in JSON they are milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Since the start of the run.
    #[serde(rename = "sent_ms", serialize_with = "as_ms")]
    pub sent: Duration,
    #[serde(rename = "ttft_ms", serialize_with = "as_some_ms")]
    pub first_token: Option<Duration>,
    #[serde(rename = "e2e_ms", serialize_with = "as_ms")]
    pub end_to_end: Duration,
    /// Gaps between chunks that carried text; JSON has the longest.
    #[serde(rename = "gap_max_ms", serialize_with = "as_longest_ms")]
    pub gaps: Vec<Duration>,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
    /// Why it failed; a request without this ended with a finish reason and `[DONE]`.
    pub error: Option<String>,
}

fn as_ms<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(milliseconds(*time))
}

fn as_some_ms<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(milliseconds).serialize(serializer)
}

fn as_longest_ms<S: Serializer>(gaps: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    as_some_ms(&gaps.iter().max().copied(), serializer)
}

impl Sample {
    /// Returns the mean time per token after the first.
    pub fn time_per_output_token(&self) -> Option<Duration> {
        let first = self.first_token?;
        (self.output_tokens > 1).then(|| (self.end_to_end - first) / (self.output_tokens - 1) as u32)
    }
}

impl Endpoint {
    /// Connects to `url` (with or without `/v1`) and finds the model to ask.
    pub async fn open(
        url: &str,
        key: Option<String>,
        model: Option<String>,
        timeout: Duration,
        exact_length: bool,
    ) -> anyhow::Result<Self> {
        // A process may have chosen already; either choice serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().pool_max_idle_per_host(4096).tcp_nodelay(true).build()?;
        let base = url.trim_end_matches('/');
        let base = if base.ends_with("/v1") { base.to_owned() } else { format!("{base}/v1") };
        let mut endpoint = Self { http, base, key, model: String::new(), timeout, exact_length };
        endpoint.model = match model {
            Some(model) => model,
            None => endpoint.first_model().await?,
        };
        Ok(endpoint)
    }

    pub fn model(&self) -> &str {
        &self.model
    }

    async fn first_model(&self) -> anyhow::Result<String> {
        let url = format!("{}/models", self.base);
        let reply: Value =
            self.authorize(self.http.get(&url)).send().await?.error_for_status()?.json().await?;
        match reply["data"][0]["id"].as_str() {
            Some(model) => Ok(model.to_owned()),
            None => anyhow::bail!("{url} lists no model; name one with --model"),
        }
    }

    fn authorize(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Streams one answer of at most `output_tokens` tokens and reports how it went; never fails, only says so.
    pub async fn ask(&self, prompt: &str, output_tokens: usize) -> Sample {
        let mut sample = Sample::default();
        let start = Instant::now();
        let outcome =
            tokio::time::timeout(self.timeout, self.stream(prompt, output_tokens, start, &mut sample)).await;
        sample.end_to_end = start.elapsed();
        sample.error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no end within {} s", self.timeout.as_secs_f64())),
        };
        sample
    }

    async fn stream(
        &self,
        prompt: &str,
        output_tokens: usize,
        start: Instant,
        sample: &mut Sample,
    ) -> anyhow::Result<()> {
        let mut body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        if self.exact_length {
            body["ignore_eos"] = true.into();
        }
        let url = format!("{}/chat/completions", self.base);
        let response = self.authorize(self.http.post(url)).json(&body).send().await?;
        let status = response.status();
        if !status.is_success() {
            let text: String = response.text().await.unwrap_or_default().chars().take(200).collect();
            anyhow::bail!("status {}: {text}", status.as_u16());
        }
        let mut reading = Reading { sample, start, last_text: None, finished: false, done: false };
        let mut bytes = response.bytes_stream();
        let mut pending = Vec::new();
        while let Some(chunk) = bytes.next().await {
            pending.extend_from_slice(&chunk?);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                reading.line(&line)?;
            }
        }
        anyhow::ensure!(reading.done, "the stream ended without [DONE]");
        anyhow::ensure!(reading.finished, "the stream ended without a finish reason");
        Ok(())
    }
}

/// The state of reading one event stream.
struct Reading<'a> {
    sample: &'a mut Sample,
    start: Instant,
    last_text: Option<Instant>,
    finished: bool,
    done: bool,
}

impl Reading<'_> {
    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(()) };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let event: Value = serde_json::from_slice(data)?;
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            anyhow::bail!(
                "error in the stream: {}",
                error["message"].as_str().unwrap_or("without a message")
            );
        }
        if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
            self.sample.input_tokens = usage["prompt_tokens"].as_u64().unwrap_or(0);
            self.sample.output_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
            self.sample.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        }
        let choice = &event["choices"][0];
        self.finished |= choice["finish_reason"].is_string();
        let delta = &choice["delta"];
        if ["content", "reasoning_content", "tool_calls"].iter().any(|field| carries(&delta[field])) {
            self.text_came();
        }
        Ok(())
    }

    fn text_came(&mut self) {
        let now = Instant::now();
        match self.last_text.replace(now) {
            None => self.sample.first_token = Some(now - self.start),
            Some(last) => self.sample.gaps.push(now - last),
        }
    }
}

fn carries(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}
