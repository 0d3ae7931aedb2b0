//! What would a provider answer? Local servers that speak the server side of public APIs, over real sockets.
//!
//! They are written from the public documentation, by hand, and know nothing of our own dialects: a misreading there shows here.
//! Requests are checked strictly and refused in the provider's own words; answers follow from the request alone:
//!
//! - `call NAME {json}` in the last user message calls that tool (each such phrase is one call); a forced tool choice calls, too;
//! - a schema is answered with a value that fits it, tool results with what they said, pictures with their size and hash;
//! - `count to N` counts, `refuse` refuses, `be filtered` is cut by a filter, and all else is said back.
//!
//! `GET /__requests` tells what came, and what the provider counted; `DELETE /__requests` forgets it, and the prompt cache;
//! `PUT /__behaviour` steers pace and the ugly menu ([`Behaviour`]).

mod anthropic;
mod aws;
mod behaviour;
mod check;
mod fast;
mod google;
mod http;
mod mind;
mod openai;
mod prompt;
mod record;
mod reply;
mod server;
mod tokens;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use aws::event_stream;
pub use behaviour::{
    Behaviour, CacheRules, ReasoningField, ResetHow, RetryForm, Rule, ServerErrorBody, ToolIndex, Ugly,
    UsageQuirk, When,
};
pub use fast::FastSettings;
pub use prompt::Tally;
pub use record::Recorded;

/// Whose server side is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Chat Completions, Responses, Embeddings.
    OpenAi,
    /// The same under `/openai/deployments/{d}/` and `/openai/v1/`, with `api-key`.
    Azure,
    /// A server that speaks Chat Completions as many do: reasoning in a field of its own, no Responses.
    Compatible,
    Anthropic,
    /// `x-goog-api-key`.
    Gemini,
    /// The same models under `/v1/projects/…`, with a bearer token; `/token` gives one to a service account.
    Vertex,
    /// Converse and ConverseStream, signed.
    Bedrock,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::OpenAi,
        Self::Azure,
        Self::Compatible,
        Self::Anthropic,
        Self::Gemini,
        Self::Vertex,
        Self::Bedrock,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Compatible => "compatible",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Vertex => "vertex",
            Self::Bedrock => "bedrock",
        }
    }
}

/// Who may ask. These are secrets of a play: they open nothing.
#[derive(Clone, Debug)]
pub struct Settings {
    /// API key, bearer token and, for Bedrock, access key id.
    pub key: String,
    /// Bedrock's secret access key.
    pub secret: String,
    pub region: String,
    /// Verifies the service account's signature; without it, only the form of the assertion is checked.
    pub service_account_public_key: Option<String>,
    pub behaviour: Behaviour,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: "standin-key".into(),
            secret: "standin-secret".into(),
            region: "us-east-1".into(),
            service_account_public_key: None,
            behaviour: Behaviour::default(),
        }
    }
}

/// A stand-in that answers until it is dropped.
#[derive(Debug)]
pub struct Standin {
    address: SocketAddr,
    shared: Arc<server::Shared>,
    task: JoinHandle<()>,
}

impl Standin {
    pub async fn start(kind: Kind, listen: SocketAddr, settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(server::Shared::new(kind, settings));
        let task = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// One that answers fixed bytes with next to no work of its own, for benchmarks.
    pub async fn start_fast(
        listen: SocketAddr,
        settings: FastSettings,
    ) -> io::Result<(SocketAddr, JoinHandle<()>)> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok((address, tokio::spawn(fast::serve(listener, settings))))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins a new play: what comes next is request number 1.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.behave(behaviour);
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests()
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.task.abort();
    }
}
