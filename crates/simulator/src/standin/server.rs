//! Which stand-in answers which path, and what is kept of it?

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::behaviour::{Behaviour, Plan, RetryForm, ServerErrorBody, Ugly, UsageQuirk};
use super::http::{Reader, Request};
use super::prompt::{Format, Prompt, Tally};
use super::record::{Record, Recorded};
use super::reply::{Body, Class, Reply, Trouble};
use super::tokens::PromptCache;
use super::{Kind, Settings, anthropic, aws, google, openai, wire};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;

#[derive(Debug)]
pub struct Shared {
    pub kind: Kind,
    pub settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    /// Requests since the behaviour was set.
    count: u64,
    record: Record,
    cache: PromptCache,
}

/// What a provider needs to know beside the request.
pub struct Context<'a> {
    pub kind: Kind,
    pub settings: &'a Settings,
    pub behaviour: &'a Behaviour,
    pub plan: &'a Plan,
    pub cache: &'a mut PromptCache,
    pub number: u64,
}

impl Context<'_> {
    /// A name that looks like the provider's and is the same in every run.
    pub fn id(&self, prefix: &str, salt: u64, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
        let mut state = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ salt.wrapping_mul(0xd1b5_4a32_d192_ed03)
            ^ 0x2545_f491;
        let letters = (0..length).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(LETTERS[(state >> 33) as usize % LETTERS.len()])
        });
        letters.fold(prefix.to_owned(), |mut id, letter| {
            id.push(letter);
            id
        })
    }

    /// Refuses what is longer than the context.
    pub fn check_length(&self, prompt: &Prompt) -> Result<u64, Trouble> {
        let tokens = prompt.pieces.iter().map(super::prompt::Piece::token_count).sum();
        match tokens > self.behaviour.context_tokens {
            true => {
                let limit = self.behaviour.context_tokens;
                let message = format!("prompt is too long: {tokens} tokens > {limit} maximum");
                Err(Trouble::new(400, Class::ContextTooLong, message))
            }
            false => Ok(tokens),
        }
    }

    /// What is reported, if it is not what was counted.
    pub fn reported(&self, tally: Tally) -> Tally {
        match self.plan.usage() {
            UsageQuirk::Zeros => Tally::default(),
            _ => tally,
        }
    }
}

impl Shared {
    pub fn new(kind: Kind, settings: Settings) -> Self {
        let behaviour = settings.behaviour.clone();
        let (record, cache) = (Record::default(), PromptCache::default());
        Self { kind, settings, state: Mutex::new(State { behaviour, count: 0, record, cache }) }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        let mut state = self.state.lock();
        (state.behaviour, state.count) = (behaviour, 0);
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.state.lock().record.all()
    }

    fn steer(&self, request: &Request) -> Reply {
        let mut state = self.state.lock();
        match (&*request.method, &*request.path) {
            ("GET", "/__requests") => Reply::json(200, &state.record.to_json()),
            ("DELETE", "/__requests") => {
                (state.record, state.cache, state.count) = (Record::default(), PromptCache::default(), 0);
                Reply::json(200, &json!({}))
            }
            ("GET", "/__behaviour") => Reply::json(200, &json!(state.behaviour)),
            ("PUT", "/__behaviour") => match serde_json::from_slice::<Behaviour>(&request.body) {
                Ok(behaviour) => {
                    (state.behaviour, state.count) = (behaviour, 0);
                    Reply::json(200, &json!(state.behaviour))
                }
                Err(error) => Reply::json(400, &json!({"error": format!("this is no behaviour: {error}")})),
            },
            _ => Reply::json(404, &json!({"error": "GET or DELETE /__requests, GET or PUT /__behaviour"})),
        }
    }
}

pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // When the stand-in goes, so do its connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _place = place;
            converse(stream, &shared).await;
        });
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut reader = Reader::default();
    while let Ok(Some(request)) = reader.next(&mut stream).await {
        let keeps_alive = request.keeps_alive();
        let sent = match request.path.starts_with("/__") {
            true => {
                let reply = shared.steer(&request);
                wire::send(&mut stream, reply, &Plan::default(), &Behaviour::default(), 0, false).await
            }
            false => play(&mut stream, &request, shared).await,
        };
        if sent.is_over || !keeps_alive {
            return;
        }
    }
}

async fn play(stream: &mut TcpStream, request: &Request, shared: &Shared) -> wire::Sent {
    let (ticket, number, plan, behaviour, reply) = {
        let mut state = shared.state.lock();
        state.count += 1;
        let (number, behaviour) = (state.count, state.behaviour.clone());
        let plan = behaviour.plan(number, &request.path);
        let ugly = plan
            .uglies
            .iter()
            .map(|ugly| json!(ugly)["kind"].as_str().unwrap_or_default().to_owned())
            .collect();
        let ticket = state.record.begin(number, request, ugly);
        let context = Context {
            kind: shared.kind,
            settings: &shared.settings,
            behaviour: &behaviour,
            plan: &plan,
            cache: &mut state.cache,
            number,
        };
        let reply = decide(request, context);
        state.record.update(ticket, |known| (known.status, known.tally) = (reply.status, reply.tally));
        (ticket, number, plan, behaviour, reply)
    };
    // The entry says that the client left also when this task is dropped with the connection.
    let accepts_gzip = request.header("accept-encoding").is_some_and(|value| value.contains("gzip"));
    let sent = wire::send(stream, reply, &plan, &behaviour, number, accepts_gzip).await;
    shared.state.lock().record.update(ticket, |known| {
        (known.events_sent, known.bytes_sent) = (sent.events, sent.bytes);
        (known.client_left, known.is_complete) = (sent.client_left, sent.is_complete);
    });
    sent
}

fn decide(request: &Request, context: Context<'_>) -> Reply {
    let kind = context.kind;
    let replaced = context.plan.find(|ugly| match ugly {
        Ugly::RateLimited { retry, seconds } => Some(rate_limited(kind, *retry, *seconds)),
        Ugly::ServerError { status, body } => Some(server_error(kind, *status, *body)),
        Ugly::Overloaded => Some(overloaded(kind)),
        _ => None,
    });
    if let Some(reply) = replaced {
        return reply;
    }
    let answered = match kind {
        Kind::OpenAi | Kind::Azure | Kind::Compatible => openai::answer(request, context),
        Kind::Anthropic => anthropic::answer(request, context),
        Kind::Gemini | Kind::Vertex => google::answer(request, context),
        Kind::Bedrock => aws::answer(request, context),
    };
    answered.unwrap_or_else(|trouble| refusal(kind, &trouble))
}

fn refusal(kind: Kind, trouble: &Trouble) -> Reply {
    match kind {
        Kind::OpenAi | Kind::Azure | Kind::Compatible => openai::refusal(kind, trouble),
        Kind::Anthropic => anthropic::refusal(trouble),
        Kind::Gemini | Kind::Vertex => google::refusal(trouble),
        Kind::Bedrock => aws::refusal(trouble),
    }
}

fn rate_limited(kind: Kind, form: RetryForm, seconds: f64) -> Reply {
    let message = match form {
        RetryForm::BodyOnly => format!("Rate limit reached. Please try again in {seconds}s."),
        _ => "Rate limit reached.".into(),
    };
    let mut reply = refusal(kind, &Trouble::new(429, Class::RateLimited, message));
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs_f64(seconds);
    match form {
        RetryForm::Seconds => reply = reply.with("retry-after", seconds.ceil().to_string()),
        RetryForm::HttpDate => {
            reply = reply.with("retry-after", at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        }
        RetryForm::Milliseconds => {
            reply = reply.with("retry-after-ms", (seconds * 1000.0).ceil().to_string())
        }
        RetryForm::ResetHeaders if kind == Kind::Anthropic => {
            let at = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            reply = reply
                .with("anthropic-ratelimit-requests-remaining", "0")
                .with("anthropic-ratelimit-requests-reset", at);
        }
        RetryForm::ResetHeaders => {
            let reset = format!("{}ms", (seconds * 1000.0).ceil());
            reply =
                reply.with("x-ratelimit-remaining-requests", "0").with("x-ratelimit-reset-requests", reset);
        }
        RetryForm::BodyOnly if matches!(kind, Kind::Gemini | Kind::Vertex) => {
            let body = google::with_retry_info(&reply, seconds);
            reply.body = Body::Whole { bytes: body.to_string().into_bytes(), tokens: 0 };
        }
        RetryForm::BodyOnly | RetryForm::None => {}
    }
    reply
}

fn server_error(kind: Kind, status: u16, body: ServerErrorBody) -> Reply {
    let mut reply = refusal(
        kind,
        &Trouble::new(status, Class::Server, "The server had an error while processing your request."),
    );
    let bytes = match body {
        ServerErrorBody::Json => return reply,
        ServerErrorBody::Html => {
            reply.headers.retain(|(name, _)| *name != "content-type");
            reply.headers.push(("content-type", "text/html".into()));
            let title = format!("{status} {}", super::http::reason(status));
            format!("<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n").into_bytes()
        }
        ServerErrorBody::Partial => match reply.body {
            Body::Whole { bytes, .. } => bytes[..bytes.len() / 2].to_vec(),
            Body::Stream(_) => Vec::new(),
        },
        ServerErrorBody::Empty => Vec::new(),
    };
    reply.body = Body::Whole { bytes, tokens: 0 };
    reply
}

fn overloaded(kind: Kind) -> Reply {
    let status = if kind == Kind::Anthropic { 529 } else { 503 };
    refusal(kind, &Trouble::new(status, Class::Overloaded, "Overloaded"))
}

/// Returns the format that a JSON Schema or a mere wish for JSON means.
pub fn format_of(schema: Option<&Value>) -> Format {
    schema.map_or(Format::Object, |schema| Format::Schema(schema.clone()))
}
