//! Which stand-ins run here? Starts them, prints their ports as one line of JSON, and ends with its standard input.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use simulator::standin::{Behaviour, FastSettings, Kind, Settings, Standin};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLE: &str = r#"Example:
  standins --openai 0 --anthropic 0 --bedrock 41010 < /dev/zero &
  {"openai":41873,"anthropic":39021,"bedrock":41010}

  curl -H 'authorization: Bearer standin-key' -H 'content-type: application/json' localhost:41873/v1/chat/completions \
    -d '{"model": "gpt-standin", "messages": [{"role": "user", "content": "count to 5"}]}'
  curl localhost:41873/__requests
  curl -X PUT localhost:41873/__behaviour -d '{"tokens_per_second": 50, "ugly": [
    {"when": {"fraction": 0.1}, "do": {"kind": "rate_limited", "retry": "seconds", "seconds": 2}},
    {"when": {"nth": [3]}, "do": {"kind": "reset", "at_byte": 700}}]}'

Ends when its standard input does, or at SIGTERM."#;

/// Servers that play model providers, on loopback.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLE)]
struct Arguments {
    /// Port of a stand-in for OpenAI (Chat Completions, Responses, Embeddings); 0 takes a free one.
    #[arg(long)]
    openai: Option<u16>,
    /// Azure OpenAI: the same under `/openai/deployments/{d}/` and `/openai/v1/`.
    #[arg(long)]
    azure: Option<u16>,
    /// A server that calls itself compatible.
    #[arg(long)]
    compatible: Option<u16>,
    #[arg(long)]
    anthropic: Option<u16>,
    /// Gemini in AI Studio.
    #[arg(long)]
    gemini: Option<u16>,
    /// Gemini on Vertex, and `/token` for service accounts.
    #[arg(long)]
    vertex: Option<u16>,
    #[arg(long)]
    bedrock: Option<u16>,
    /// Fixed bytes and next to no work, for benchmarks: `…/chat/completions` and `…/messages`, whole and streamed.
    #[arg(long)]
    fast: Option<u16>,
    /// All of them but the fast one, on free ports.
    #[arg(long)]
    all: bool,
    /// API key, bearer token and access key id that they accept.
    #[arg(long, default_value = "standin-key")]
    key: String,
    /// Bedrock's secret access key.
    #[arg(long, default_value = "standin-secret")]
    secret: String,
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Public key (PEM) that verifies Vertex' service account.
    #[arg(long)]
    service_account_key: Option<PathBuf>,
    /// How they behave at first: JSON, as `PUT /__behaviour` takes it.
    #[arg(long)]
    behaviour: Option<String>,
    /// Milliseconds before the fast one's answers.
    #[arg(long, default_value_t = 0.0)]
    fast_delay_ms: f64,
    /// Milliseconds between the chunks of the fast one's streams; 0 sends all at once.
    #[arg(long, default_value_t = 0.0)]
    fast_chunk_ms: f64,
    /// Tokens of the fast one's answers.
    #[arg(long, default_value_t = 16)]
    fast_tokens: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = settings(&arguments)?;
    let mut ports = BTreeMap::new();
    let mut running = Vec::new();
    for kind in Kind::ALL {
        let Some(port) = port(&arguments, kind) else { continue };
        let standin = Standin::start(kind, loopback(port), settings.clone())
            .await
            .with_context(|| format!("cannot listen on port {port} for {}", kind.name()))?;
        ports.insert(kind.name(), standin.address().port());
        running.push(standin);
    }
    if let Some(port) = arguments.fast {
        let milliseconds = |value: f64| Duration::from_secs_f64(value.max(0.0) / 1000.0);
        let fast = FastSettings {
            delay: milliseconds(arguments.fast_delay_ms),
            between_chunks: milliseconds(arguments.fast_chunk_ms),
            tokens: arguments.fast_tokens,
        };
        let started = Standin::start_fast(loopback(port), fast).await;
        let (address, _) =
            started.with_context(|| format!("cannot listen on port {port} for the fast one"))?;
        ports.insert("fast", address.port());
    }
    anyhow::ensure!(!ports.is_empty(), "name at least one stand-in, such as --openai 0, or --all");
    println!("{}", serde_json::to_string(&ports)?);
    until_told_to_end().await
}

fn settings(arguments: &Arguments) -> anyhow::Result<Settings> {
    let behaviour: Behaviour = match &arguments.behaviour {
        Some(text) => serde_json::from_str(text).context("--behaviour is no behaviour")?,
        None => Behaviour::default(),
    };
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(Settings {
        key: arguments.key.clone(),
        secret: arguments.secret.clone(),
        region: arguments.region.clone(),
        service_account_public_key: arguments.service_account_key.as_ref().map(read).transpose()?,
        behaviour,
    })
}

fn port(arguments: &Arguments, kind: Kind) -> Option<u16> {
    let given = match kind {
        Kind::OpenAi => arguments.openai,
        Kind::Azure => arguments.azure,
        Kind::Compatible => arguments.compatible,
        Kind::Anthropic => arguments.anthropic,
        Kind::Gemini => arguments.gemini,
        Kind::Vertex => arguments.vertex,
        Kind::Bedrock => arguments.bedrock,
    };
    given.or(arguments.all.then_some(0))
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn until_told_to_end() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut input = tokio::io::stdin();
    let mut bytes = [0; 256];
    loop {
        tokio::select! {
            _ = terminated.recv() => return Ok(()),
            read = input.read(&mut bytes) => if read.unwrap_or(0) == 0 { std::process::exit(0) },
        }
    }
}
