//! How the terminal's commands reach a running server.

use anyhow::Context;
use serde_json::Value;

/// A server that speaks the OpenAI API, and the key to show it.
pub struct Remote {
    http: reqwest::Client,
    /// Without a trailing slash, without `/v1`.
    base: String,
    key: Option<String>,
}

impl Remote {
    pub fn new(url: &str, key: Option<String>) -> Self {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Self { http: reqwest::Client::new(), base, key }
    }

    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.authorize(self.http.post(format!("{}{path}", self.base)))
    }

    /// Returns what the server lists at `/v1/models`.
    pub async fn models(&self) -> anyhow::Result<Vec<Value>> {
        let reply = self.authorize(self.http.get(format!("{}/v1/models", self.base))).send().await;
        let reply =
            reply.with_context(|| format!("{} does not answer; is a server running there?", self.base))?;
        let mut list: Value = reply.error_for_status()?.json().await?;
        Ok(list["data"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    fn authorize(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}
