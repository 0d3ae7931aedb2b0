//! What does a client hear when it is not served? The only file that knows HTTP status codes.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use dialect::{BadRequest, FaultKind, Trouble, TroubleKind, anthropic, openai};
use domain::{Account, ModelName, SubmitError};
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use ledger::{Amount, Measure, ScopeKind, Shortage, Standing, TaskPath, TaskState, Timestamp};

use crate::standing;
use crate::who::Lack;

/// Every reason for which a request gets no answer, or a begun answer no good end.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("there is nothing at {path}; see /v1/models for what is served")]
    NoSuchPath { path: String },
    #[error("{path} does not take {method}")]
    NoSuchMethod { method: Method, path: String },
    #[error("{0}")]
    BadRequest(#[from] BadRequest),
    #[error("the body has more than {limit_bytes} bytes; this server takes no larger one")]
    BodyTooLarge { limit_bytes: usize },
    #[error("the body was not complete within {} s", .limit.as_secs_f32())]
    BodyTooSlow { limit: Duration },
    #[error("the body ended before its announced length, or its encoding is broken")]
    BodyBroken,
    #[error("all memory for request bodies is in use; try again")]
    BodiesFull { retry_after: Duration },
    #[error("no API key; send it as `Authorization: Bearer <key>`")]
    KeyMissing,
    #[error("this API key is unknown")]
    KeyUnknown,
    #[error("this API key was revoked; ask for another")]
    KeyRevoked,
    #[error("this API key expired at {at}; rotate keys before they end, or ask for another")]
    KeyExpired { at: Timestamp },
    #[error("the account {account} is closed")]
    AccountClosed { account: Account },
    #[error("{}", not_allowed(*lack, name, allowed))]
    NotAllowed { lack: Lack, name: String, allowed: Vec<String> },
    #[error("the task {task} belongs to another account of this organisation; choose another name for yours")]
    TaskNotYours { task: TaskPath },
    #[error("{}", task_ended(task, *state, why))]
    TaskEnded { task: TaskPath, state: TaskState, why: String },
    #[error("{}", limit_reached(shortage, *now))]
    LimitReached { shortage: Box<Shortage>, now: Timestamp },
    #[error(
        "the model {model} has no price, so nobody can say what it takes of the limit {limit:?}; ask an admin for a price, or \
         choose another model"
    )]
    Unpriced { model: ModelName, limit: String },
    #[error("Response with id '{id}' not found.")]
    ResponseUnknown { id: String },
    #[error("the store of responses is not available; try again, or send `store: false`")]
    ContentUnavailable { retry_after: Duration },
    /// What the operator allows leaves nobody.
    #[error("nobody may answer a request for {model}: {why}")]
    NobodyMay { model: ModelName, why: String },
    #[error("nobody can answer a request for {model} now: {why}; try again")]
    NobodyCan { model: ModelName, why: String, retry_after: Duration, is_rate: bool },
    /// The last upstream that was tried, in its own words.
    #[error("{unit} could not answer: {why}")]
    UpstreamFailed { unit: String, why: String, fault: Option<FaultKind>, retry_after: Option<Duration> },
    #[error("the upstream broke off in the middle of its answer: {why}")]
    UpstreamBroke { why: String },
    #[error("a limit has no room for the rest of this answer")]
    BudgetEnded,
    /// In the middle of an answer that cannot be ended well.
    #[error("the hold of this request was ended by somebody else, or the ledger does not answer; try again")]
    HoldLost { retry_after: Duration },
    #[error("the model {asked:?} does not exist; this server has {}", list(known))]
    ModelUnknown { asked: ModelName, known: Vec<ModelName> },
    #[error(
        "this model's context holds {context_tokens} tokens; the request asks for {} ({prompt_tokens} of prompt{})",
        prompt_tokens + max_output_tokens.unwrap_or(1) as usize,
        answer(*max_output_tokens)
    )]
    ContextOverflow { prompt_tokens: usize, max_output_tokens: Option<u32>, context_tokens: usize },
    #[error("the text has {bytes} bytes; this server tokenizes at most {limit_bytes} for one request")]
    PromptTooLarge { bytes: usize, limit_bytes: usize },
    #[error(
        "the request asks for {works} sequences (prompts times choices); at most {limit} may be asked for at once"
    )]
    TooManyWorks { works: usize, limit: usize },
    #[error("{limit} requests are under way, as many as there may be; try again")]
    RequestsFull { limit: usize, retry_after: Duration },
    #[error("the queue is full: {waiting} requests wait, {limit} may; try again")]
    QueueFull { waiting: usize, limit: usize, retry_after: Duration },
    #[error("the server is shutting down; try again, another one may answer")]
    Draining { retry_after: Duration },
    #[error("the engine of model {model} is not running: {why}")]
    EngineDown { model: ModelName, why: String },
    /// The engine gave this one request up.
    #[error("the engine could not go on with this request: {why}")]
    WorkFailed { why: String },
    #[error("the ledger is unavailable, and nothing is answered unmetered; try again")]
    LedgerUnavailable { retry_after: Duration },
    /// The ledger took the hold and not the settlement.
    #[error("the answer could not be booked, so it is not finished; try again")]
    NotBooked { retry_after: Duration },
    #[error("the answer took longer than {} s, the longest that this server lets one take", .limit.as_secs_f32())]
    TooLong { limit: Duration },
    /// The client did not take what was sent; it hears this only if it reads on after all.
    #[error("the client did not read for {} s", .limit.as_secs_f32())]
    SlowReader { limit: Duration },
    #[error("something broke inside the server; it is logged under this request's id")]
    Internal,
}

impl Refusal {
    /// Returns what the engine's own refusal means here.
    pub fn of_engine(error: SubmitError, model: &ModelName, retry_after: Duration) -> Self {
        match error {
            SubmitError::QueueFull { waiting, limit } => Self::QueueFull { waiting, limit, retry_after },
            SubmitError::ContextOverflow { prompt_tokens, max_output_tokens, context_tokens } => {
                let max_output_tokens = u32::try_from(max_output_tokens).ok();
                Self::ContextOverflow { prompt_tokens, max_output_tokens, context_tokens }
            }
            SubmitError::Stopping => Self::Draining { retry_after },
            SubmitError::Dead(why) => Self::EngineDown { model: model.clone(), why },
        }
    }

    /// A word for metrics, logs and the error's `code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchPath { .. } => "unknown_url",
            Self::NoSuchMethod { .. } => "method_not_supported",
            Self::BadRequest(_) => "invalid_request",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTooSlow { .. } => "body_timeout",
            Self::BodyBroken => "body_incomplete",
            Self::BodiesFull { .. } => "bodies_full",
            Self::KeyMissing => "missing_api_key",
            Self::KeyUnknown => "invalid_api_key",
            Self::KeyRevoked => "revoked_api_key",
            Self::KeyExpired { .. } => "expired_api_key",
            Self::AccountClosed { .. } => "account_closed",
            Self::NotAllowed { lack: Lack::Role, .. } => "role_missing",
            Self::NotAllowed { lack: Lack::Scope(_), .. } => "scope_missing",
            Self::TaskNotYours { .. } => "task_not_yours",
            Self::TaskEnded { state: TaskState::Stopped, .. } => "task_stopped",
            Self::TaskEnded { .. } => "task_handed_back",
            Self::LimitReached { shortage, .. } if shortage.limit.measure == Measure::Money => {
                "budget_exceeded"
            }
            Self::LimitReached { .. } => "rate_limit_exceeded",
            Self::Unpriced { .. } => "unpriced_model",
            Self::ResponseUnknown { .. } => "response_not_found",
            Self::ContentUnavailable { .. } => "content_unavailable",
            Self::NobodyMay { .. } => "no_unit_allowed",
            Self::NobodyCan { .. } => "no_unit_available",
            Self::UpstreamFailed { fault, .. } => upstream_code(*fault),
            Self::UpstreamBroke { .. } => "upstream_broke",
            Self::BudgetEnded => "budget_exhausted",
            Self::HoldLost { .. } => "hold_lost",
            Self::ModelUnknown { .. } => "model_not_found",
            Self::ContextOverflow { .. } => "context_length_exceeded",
            Self::PromptTooLarge { .. } => "prompt_too_large",
            Self::TooManyWorks { .. } => "too_many_sequences",
            Self::RequestsFull { .. } => "requests_full",
            Self::QueueFull { .. } => "queue_full",
            Self::Draining { .. } => "draining",
            Self::EngineDown { .. } => "engine_down",
            Self::WorkFailed { .. } => "engine_failed_request",
            Self::LedgerUnavailable { .. } => "ledger_unavailable",
            Self::NotBooked { .. } => "not_booked",
            Self::TooLong { .. } => "request_timeout",
            Self::SlowReader { .. } => "slow_reader",
            Self::Internal => "internal_error",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath { .. } | Self::ModelUnknown { .. } | Self::ResponseUnknown { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::NoSuchMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadRequest(_)
            | Self::BodyBroken
            | Self::ContextOverflow { .. }
            | Self::PromptTooLarge { .. }
            | Self::Unpriced { .. }
            | Self::TooManyWorks { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow { .. } | Self::SlowReader { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::KeyMissing | Self::KeyUnknown | Self::KeyRevoked | Self::KeyExpired { .. } => {
                StatusCode::UNAUTHORIZED
            }
            // Not 429, which clients try again by themselves: only a person lets a task go on.
            Self::AccountClosed { .. }
            | Self::NotAllowed { .. }
            | Self::TaskNotYours { .. }
            | Self::NobodyMay { .. }
            | Self::TaskEnded { .. } => StatusCode::FORBIDDEN,
            // Upstreams that asked for a pause are the one thing that clients wait for by themselves.
            Self::NobodyCan { is_rate: true, .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::UpstreamFailed { fault, .. } => upstream_status(*fault),
            Self::UpstreamBroke { .. } => StatusCode::BAD_GATEWAY,
            Self::BudgetEnded => StatusCode::TOO_MANY_REQUESTS,
            Self::RequestsFull { .. } | Self::QueueFull { .. } | Self::LimitReached { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::BodiesFull { .. }
            | Self::Draining { .. }
            | Self::EngineDown { .. }
            | Self::NobodyCan { .. }
            | Self::ContentUnavailable { .. }
            | Self::LedgerUnavailable { .. }
            | Self::HoldLost { .. }
            | Self::NotBooked { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLong { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::WorkFailed { .. } | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn kind(&self) -> TroubleKind {
        match self.status() {
            StatusCode::PAYLOAD_TOO_LARGE => TroubleKind::RequestTooLarge,
            StatusCode::UNAUTHORIZED => TroubleKind::AuthenticationError,
            StatusCode::FORBIDDEN => TroubleKind::PermissionError,
            StatusCode::TOO_MANY_REQUESTS => TroubleKind::RateLimitError,
            StatusCode::SERVICE_UNAVAILABLE => TroubleKind::ServiceUnavailableError,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => TroubleKind::TimeoutError,
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY => TroubleKind::ServerError,
            StatusCode::NOT_FOUND => TroubleKind::NotFoundError,
            _ => TroubleKind::InvalidRequestError,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BodiesFull { retry_after }
            | Self::RequestsFull { retry_after, .. }
            | Self::QueueFull { retry_after, .. }
            | Self::Draining { retry_after }
            | Self::LedgerUnavailable { retry_after }
            | Self::HoldLost { retry_after }
            | Self::NobodyCan { retry_after, .. }
            | Self::ContentUnavailable { retry_after }
            | Self::NotBooked { retry_after } => Some(*retry_after),
            Self::UpstreamFailed { retry_after, .. } => *retry_after,
            Self::LimitReached { shortage, now } => {
                let wait = shortage.resets_at?.millis().saturating_sub(now.millis()).max(1);
                Some(Duration::from_millis(wait.unsigned_abs()))
            }
            _ => None,
        }
    }

    /// Whether the rest of the request may still be on its way, so that the connection cannot be used again.
    fn leaves_body_unread(&self) -> bool {
        matches!(
            self,
            Self::BodyTooLarge { .. } | Self::BodyTooSlow { .. } | Self::BodyBroken | Self::BodiesFull { .. }
        )
    }

    /// Returns what the client reads: the body of a refusal, or the last event of a stream that ends badly.
    pub fn trouble(&self) -> Trouble {
        if let Self::BadRequest(bad) = self {
            return Trouble::from(bad.clone());
        }
        let body = Trouble::new(self.kind(), self.to_string()).code(self.code());
        match self {
            Self::ModelUnknown { .. } | Self::NotAllowed { lack: Lack::Scope(ScopeKind::Model), .. } => {
                body.param("model")
            }
            _ => body,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(openai::error_to_json(&self.trouble())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after() {
            // Whole seconds, rounded up: a client that comes back too early is refused again.
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1_000) as u64));
        }
        if let Self::LimitReached { shortage, now } = &self {
            headers.extend(
                standing::headers(&[shortage_standing(shortage)], *now)
                    .into_iter()
                    .map(|(name, value)| (Some(name), value)),
            );
            // OpenAI's clients repeat a 429 by themselves unless they are told that it is no use.
            let is_soon = self.retry_after().is_some_and(|wait| wait <= WORTH_REPEATING);
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(if is_soon { "true" } else { "false" }));
        }
        if self.kind() == TroubleKind::AuthenticationError {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.leaves_body_unread() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // For the line that this request leaves in the log.
        response.extensions_mut().insert(Reason(self.code()));
        response.extensions_mut().insert(self.trouble());
        response
    }
}

/// Returns the response with its trouble, if it has one, in Anthropic's shape.
pub fn in_anthropics_words(mut response: Response) -> Response {
    if let Some(trouble) = response.extensions_mut().remove::<Trouble>() {
        *response.body_mut() = Body::from(anthropic::error_to_json(&trouble));
    }
    response
}

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// A client that waits longer than this is better told at once.
const WORTH_REPEATING: Duration = Duration::from_secs(60);

/// Says which limit, what is left, what would have been needed, and when there is room again.
fn limit_reached(shortage: &Shortage, now: Timestamp) -> String {
    let Shortage { limit, subject, needed, remaining, resets_at } = shortage;
    let of = if subject.is_empty() { String::new() } else { format!(" ({subject:?})") };
    let (needed, remaining) = (limit.measure.show(*needed), limit.measure.show(*remaining));
    let then = match resets_at {
        Some(at) => format!("there is new room in {}", standing::wait(now, *at)),
        None => "it does not refill by itself; requests under way may free a part, or an admin can raise it"
            .to_owned(),
    };
    format!("the limit {:?}{of} has {remaining} left, and this request needs {needed}; {then}", limit.name)
}

fn shortage_standing(shortage: &Shortage) -> Standing {
    let Shortage { limit, subject, needed: _, remaining, resets_at } = shortage.clone();
    let (spent, held) = (Amount(0), Amount(0));
    Standing { limit, subject, window_start: Timestamp::default(), resets_at, spent, held, remaining }
}

/// Returns the word for what an upstream said; OpenAI's own where it has one.
fn upstream_code(fault: Option<FaultKind>) -> &'static str {
    match fault {
        Some(FaultKind::BadRequest) => "upstream_refused_request",
        Some(FaultKind::ContextOverflow) => "context_length_exceeded",
        Some(FaultKind::ContentFiltered) => "content_filter",
        Some(FaultKind::RateLimited) => "upstream_rate_limited",
        Some(FaultKind::QuotaExhausted) => "upstream_quota_exhausted",
        Some(FaultKind::Credentials) => "upstream_credentials",
        Some(FaultKind::UnknownModel) => "upstream_model_unknown",
        Some(FaultKind::Timeout) => "upstream_timeout",
        Some(FaultKind::Overloaded | FaultKind::Server) | None => "upstream_failed",
    }
}

/// Our own credentials and model names are ours to mend: to the client they are a gateway that does not work.
fn upstream_status(fault: Option<FaultKind>) -> StatusCode {
    match fault {
        Some(FaultKind::BadRequest | FaultKind::ContextOverflow | FaultKind::ContentFiltered) => {
            StatusCode::BAD_REQUEST
        }
        Some(FaultKind::RateLimited) => StatusCode::TOO_MANY_REQUESTS,
        Some(FaultKind::Overloaded) => StatusCode::SERVICE_UNAVAILABLE,
        Some(FaultKind::Timeout) => StatusCode::GATEWAY_TIMEOUT,
        Some(
            FaultKind::QuotaExhausted | FaultKind::Credentials | FaultKind::UnknownModel | FaultKind::Server,
        )
        | None => StatusCode::BAD_GATEWAY,
    }
}

/// Travels with a refusal's response to the access log and the metrics.
#[derive(Clone, Copy)]
pub struct Reason(pub &'static str);

fn list(models: &[ModelName]) -> String {
    first_of(models.iter().map(ModelName::as_str))
}

fn first_of<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    /// An error is read by people: the first few names help, a hundred do not.
    const TOLD: usize = 20;
    let more = names.len().saturating_sub(TOLD);
    let told: Vec<&str> = names.take(TOLD).collect();
    match (told.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => told.join(", "),
        (false, more) => format!("{} and {more} more", told.join(", ")),
    }
}

/// Says what is missing, what there is instead, and who can help.
fn not_allowed(lack: Lack, name: &str, allowed: &[String]) -> String {
    let allowed = first_of(allowed.iter().map(String::as_str));
    let what = match lack {
        Lack::Role => {
            return format!(
                "this key is {name}'s, and calls no models; use one with the role {allowed}, of an account that can be billed"
            );
        }
        Lack::Scope(ScopeKind::Model) => "model",
        Lack::Scope(ScopeKind::Endpoint) => "endpoint",
        Lack::Scope(ScopeKind::Route) => "route",
        Lack::Scope(ScopeKind::Region) if name.is_empty() => {
            return format!(
                "this key is only for the regions {allowed}, and where this model runs is not known; ask its admin"
            );
        }
        Lack::Scope(ScopeKind::Region) => "region",
        Lack::Scope(ScopeKind::ServiceTier) => "service tier",
    };
    format!("this key is not for the {what} {name:?}; it is for {allowed}; ask its admin for a wider one")
}

/// Is read by agents: says that it is over, why, and what a person can do.
fn task_ended(task: &TaskPath, state: TaskState, why: &str) -> String {
    let over = match state {
        TaskState::Stopped => "is stopped",
        _ => "has had its last turn",
    };
    let why = if why.is_empty() { String::new() } else { format!(", because {why}") };
    format!("the task {task} {over}{why}; a person can let it go on with `baseload tasks approve {task}`")
}

fn answer(max_output_tokens: Option<u32>) -> String {
    match max_output_tokens {
        Some(tokens) => format!(", {tokens} of answer"),
        None => ", at least 1 of answer".to_owned(),
    }
}
