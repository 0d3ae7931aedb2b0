//! How the terminal's commands reach a running server.

use anyhow::Context;
use control::admin_api::{AdminError, Call, ErrorBody};
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

    /// Asks the admin API for what a verb says.
    pub async fn ask(&self, call: Call) -> Result<Value, AdminError> {
        let request =
            self.http.request(call.method.clone(), format!("{}{}", self.base, call.path_and_query()));
        let request = match call.body {
            Some(body) => request.json(&body),
            None => request,
        };
        let unreachable = |error: reqwest::Error| {
            AdminError::Unreachable(format!(
                "{} does not answer; is a server running there? ({error})",
                self.base
            ))
        };
        let reply = self.authorize(request).send().await.map_err(unreachable)?;
        let status = reply.status();
        let text = reply.text().await.map_err(unreachable)?;
        if !status.is_success() {
            let body = serde_json::from_str::<ErrorBody>(&text).map(|body| body.error);
            return Err(match body {
                Ok(body) => AdminError::Remote { status: status.as_u16(), body },
                Err(_) => AdminError::Unreachable(format!(
                    "{} answered {status}; it is no baseload server",
                    self.base
                )),
            });
        }
        serde_json::from_str(&text).map_err(|error| {
            AdminError::Unreachable(format!("{} answered what is no JSON: {error}", self.base))
        })
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
