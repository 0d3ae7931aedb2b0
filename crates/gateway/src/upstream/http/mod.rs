//! How is a server that speaks a dialect asked over HTTP?
//!
//! ```text
//! WireRequest ─▶ path, keys, signature ─▶ connection pool ─▶ status ─┬─ 2xx ─▶ answer.rs: frames, events
//!                                                                    └─ other ─▶ the dialect's Fault
//! ```

mod answer;
mod auth;
mod connect;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dialect::{ErrorAnswer, FaultKind, Upstream, WireRequest};
use domain::Provider;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

pub use answer::{Failure, Piece, UpstreamAnswer};
pub use auth::{Auth, GoogleAccount, Secret};
use connect::Client;

/// A provider, and how it is reached.
pub struct HttpProvider {
    /// The operator's own name for it.
    pub name: Provider,
    /// Whose prices it asks.
    pub vendor: Provider,
    pub timeouts: Timeouts,
    pub on_cancel: OnCancel,
    dialects: Vec<Arc<dyn Upstream>>,
    base: Base,
    paths: Paths,
    auth: Auth,
    headers: HeaderMap,
    client: Client,
}

/// What a provider is made from.
pub struct HttpSettings {
    pub name: Provider,
    pub vendor: Provider,
    /// Scheme, host and, where the provider has one, the path that everything lies under.
    pub base_url: String,
    /// What it speaks, the one that is preferred first.
    pub dialects: Vec<Arc<dyn Upstream>>,
    pub paths: Paths,
    pub auth: Auth,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Certificates that are trusted besides the public ones, as PEM.
    pub extra_roots: Option<Vec<u8>>,
    pub timeouts: Timeouts,
    pub on_cancel: OnCancel,
}

/// How long each stage may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection. 5 s: further away than any data centre on earth.
    pub connect: Duration,
    /// From sending to the answer's first words. 120 s: models that think before they speak take a minute.
    pub first: Duration,
    /// Between two words of an answer. 60 s.
    pub stall: Duration,
    /// Slower streams than so many tokens in ten seconds, over a minute, are broken off; 0 lets every one go on.
    pub tokens_per_ten_seconds_min: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(5), first: seconds(120), stall: seconds(60), tokens_per_ten_seconds_min: 0 }
    }
}

/// What becomes of an answer whose client has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCancel {
    /// The connection is closed, so that the provider stops; what it will bill is estimated.
    #[default]
    Abort,
    /// It is read to its end, for so long at most, because only its end says what it costs.
    Drain(Duration),
}

/// How a dialect's paths lie below the base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paths {
    /// As the dialect says; a base URL that has a path of its own already ends in the version.
    Plain,
    /// Azure's: one folder for each deployment, and the version in the query.
    Azure { api_version: String },
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("base_url {url:?} is no URL such as https://api.example.com/v1: {why}")]
    BaseUrl { url: String, why: String },
    #[error("the header {0:?} cannot be sent")]
    Header(String),
    #[error("the certificates cannot be read: {0}")]
    Roots(String),
}

struct Base {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end.
    path: String,
}

/// Of an error's answer, more is not read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// An error's answer that is not here by then is judged by its status.
const ERROR_WAIT: Duration = Duration::from_secs(5);

impl HttpProvider {
    pub fn new(settings: HttpSettings) -> Result<Self, SettingsError> {
        let HttpSettings {
            name,
            vendor,
            base_url,
            dialects,
            paths,
            auth,
            headers,
            extra_roots,
            timeouts,
            on_cancel,
        } = settings;
        let base = Base::parse(&base_url)?;
        let client = connect::client(timeouts.connect, extra_roots.as_deref())?;
        let headers = headers.into_iter().map(|(name, value)| {
            let unsendable = || SettingsError::Header(name.clone());
            let header = HeaderName::try_from(&name).map_err(|_| unsendable())?;
            let value = HeaderValue::try_from(value).map_err(|_| unsendable())?;
            Ok((header, value))
        });
        let headers = headers.collect::<Result<HeaderMap, SettingsError>>()?;
        Ok(Self { name, vendor, timeouts, on_cancel, dialects, base, paths, auth, headers, client })
    }

    /// Returns the dialect to speak to this provider for a client that speaks `client`: the same, if it can.
    pub fn dialect(&self, client: &str) -> &Arc<dyn Upstream> {
        let same = self.dialects.iter().find(|dialect| dialect.name() == client);
        same.or(self.dialects.first()).expect("a provider speaks at least one dialect")
    }

    pub fn speaks(&self, dialect: &str) -> bool {
        self.dialects.iter().any(|known| known.name() == dialect)
    }

    /// Sends a request; returns the answer if its status is good, or what its status means.
    pub async fn send(
        &self,
        dialect: &dyn Upstream,
        wire: WireRequest,
        model: &str,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, Failure> {
        let request = self.request(dialect, wire, model, extra).await?;
        let sent = tokio::time::timeout(self.timeouts.first, self.client.request(request)).await;
        let answer = match sent {
            Err(_) => return Err(Failure::Silent { waited: self.timeouts.first }),
            Ok(Err(error)) if error.is_connect() => return Err(Failure::Unreachable(connect::cause(&error))),
            Ok(Err(error)) => return Err(Failure::Broke(connect::cause(&error))),
            Ok(Ok(answer)) => answer,
        };
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(self.failure(dialect, answer).await),
        }
    }

    /// Sends a request whose answer is wanted whole, and is at most so long.
    pub async fn whole(
        &self,
        dialect: &dyn Upstream,
        wire: WireRequest,
        model: &str,
        bytes_max: usize,
    ) -> Result<Bytes, Failure> {
        let answer = self.send(dialect, wire, model, &[]).await?;
        let body = Limited::new(answer.into_body(), bytes_max).collect();
        let waited = self.timeouts.stall;
        match tokio::time::timeout(waited, body).await {
            Err(_) => Err(Failure::Stalled { waited }),
            Ok(Err(error)) => Err(Failure::Broke(connect::cause(&*error))),
            Ok(Ok(body)) => Ok(body.to_bytes()),
        }
    }

    async fn request(
        &self,
        dialect: &dyn Upstream,
        wire: WireRequest,
        model: &str,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let unsendable = |why: String| Failure::Unsendable(why);
        let path = self.paths.place(&self.base.path, &wire.path, model, dialect.name().starts_with("openai"));
        let uri = Uri::builder().scheme(self.base.scheme.clone()).authority(self.base.authority.clone());
        let uri = uri.path_and_query(path).build().map_err(|error| unsendable(error.to_string()))?;
        let body = Bytes::from(wire.body);
        let mut request = Request::new(Full::new(body.clone()));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        // What is compressed cannot be passed on event by event.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("baseload/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &wire.headers {
            let value = HeaderValue::from_str(value).map_err(|_| unsendable(format!("the header {name}")))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        headers.extend(extra.iter().cloned().map(|(name, value)| (Some(name), value)));
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.auth.sign(&mut request, &body, &self.client).await.map_err(Failure::Credentials)?;
        Ok(request)
    }

    /// Reads what an error's answer says, as far as it comes.
    async fn failure(&self, dialect: &dyn Upstream, answer: Response<Incoming>) -> Failure {
        let (parts, mut body) = answer.into_parts();
        let mut bytes = Vec::new();
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                bytes.extend(frame.data_ref().into_iter().flatten());
                if bytes.len() > ERROR_BYTES_MAX {
                    bytes.truncate(ERROR_BYTES_MAX);
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(ERROR_WAIT, reading).await;
        let headers: Vec<(String, String)> = parts
            .headers
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let status = parts.status.as_u16();
        let mut fault = dialect.fault(&ErrorAnswer { status, headers: &headers, body: &bytes, now });
        // A proxy's page says nothing that a client can act on, and perhaps too much of the proxy.
        if fault.message.contains("<html") || fault.message.contains("<!DOCTYPE") {
            fault.message = "it sent a page for people, and no error that its API knows".to_owned();
        }
        // A status that no dialect explains is the server's.
        if parts.status.is_redirection() {
            fault.kind = FaultKind::Server;
        }
        Failure::Status { status, fault }
    }
}

impl Base {
    fn parse(url: &str) -> Result<Self, SettingsError> {
        let wrong = |why: &str| SettingsError::BaseUrl { url: shown(url), why: why.to_owned() };
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.ok_or_else(|| wrong("it lacks https://"))?;
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(wrong("only http and https are spoken"));
        }
        let authority = parts.authority.ok_or_else(|| wrong("it lacks a host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a name and password in it would be seen in logs; use `key`"));
        }
        let path =
            parts.path_and_query.map_or(String::new(), |path| path.path().trim_end_matches('/').to_owned());
        Ok(Self { scheme, authority, path })
    }
}

/// An error message shall not repeat a password.
fn shown(url: &str) -> String {
    match url.split_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

impl Paths {
    fn place(&self, base: &str, path: &str, model: &str, is_openai: bool) -> String {
        match self {
            Self::Plain => {
                let (version, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
                let ends_in_it =
                    base.rsplit('/').next().is_some_and(|last| !last.is_empty() && last == version);
                // OpenAI's clients are given a base URL that ends in whatever stands for the version.
                let stands_for_it = is_openai && version == "v1" && !base.is_empty();
                match ends_in_it || stands_for_it {
                    true => format!("{base}/{rest}"),
                    false => format!("{base}{path}"),
                }
            }
            Self::Azure { api_version } => {
                let rest = path.strip_prefix("/v1").unwrap_or(path);
                // The newer surface has one folder for all, and names the deployment in the body.
                if base.ends_with("/openai/v1") {
                    return format!("{base}{rest}");
                }
                let between = if base.ends_with("/openai") { "" } else { "/openai" };
                match rest {
                    "/responses" => format!("{base}{between}{rest}?api-version={api_version}"),
                    _ => format!("{base}{between}/deployments/{model}{rest}?api-version={api_version}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_with_a_path_ends_in_the_version_already() {
        let place = |base: &str| Paths::Plain.place(base, "/v1/chat/completions", "m", true);
        assert_eq!(place(""), "/v1/chat/completions");
        assert_eq!(place("/v1"), "/v1/chat/completions");
        assert_eq!(place("/openai/v1"), "/openai/v1/chat/completions");
        assert_eq!(place("/v1beta/openai"), "/v1beta/openai/chat/completions");
        let other = |base: &str, path: &str| Paths::Plain.place(base, path, "m", false);
        assert_eq!(other("/anthropic", "/v1/messages"), "/anthropic/v1/messages");
        assert_eq!(other("/v1beta", "/v1beta/models/g:generateContent"), "/v1beta/models/g:generateContent");
    }

    #[test]
    fn azure_has_a_folder_for_each_deployment_or_one_for_all() {
        let paths = Paths::Azure { api_version: "2024-10-21".into() };
        assert_eq!(
            paths.place("", "/v1/chat/completions", "prod-4o", true),
            "/openai/deployments/prod-4o/chat/completions?api-version=2024-10-21"
        );
        assert_eq!(
            paths.place("/openai/v1", "/v1/chat/completions", "prod-4o", true),
            "/openai/v1/chat/completions"
        );
    }

    #[test]
    fn a_base_url_is_refused_by_name_and_without_its_password() {
        let refused = |url: &str| Base::parse(url).err().unwrap().to_string();
        assert!(refused("api.example.com/v1").contains("api.example.com/v1"));
        let secret = refused("https://me:hunter2@api.example.com");
        assert!(!secret.contains("hunter2") && secret.contains("use `key`"), "{secret}");
    }
}
