//! How does a request say that it is ours?

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dialect::aws::sign::{self, Credentials, SERVICE, Scope, Unsigned};
use dialect::google::token::{self, ServiceAccount};
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full, Limited};
use tokio::sync::Mutex;

use super::connect::{self, Client};

/// A key, a token or a password. It can be used and not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Self(secret.into())
    }
    /// Returns it, for whoever puts it where it belongs.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

pub enum Auth {
    /// A server of one's own that asks nobody.
    None,
    Bearer(Secret),
    /// A header of the provider's own, such as `x-api-key`.
    Header(HeaderName, Secret),
    /// AWS's signature over each request.
    Aws { credentials: Credentials, region: String },
    /// A token that a service account asks for, and that lasts an hour.
    Google(Box<GoogleAccount>),
}

pub struct GoogleAccount {
    account: ServiceAccount,
    token: Mutex<Option<(token::Token, Instant)>>,
}

/// What Vertex lets a service account do.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// A token is asked for anew so long before it ends: a request that waits may still use it.
const TOKEN_MARGIN: Duration = Duration::from_secs(120);
const TOKEN_WAIT: Duration = Duration::from_secs(10);
const TOKEN_BYTES_MAX: usize = 64 << 10;

impl Auth {
    /// Adds what the provider asks for. The request must be as it will be sent.
    pub async fn sign(&self, request: &mut Request<Full<Bytes>>, body: &[u8], client: &Client) -> Result<(), String> {
        let (name, value) = match self {
            Self::None => return Ok(()),
            Self::Bearer(secret) => (AUTHORIZATION, format!("Bearer {}", secret.reveal())),
            Self::Header(name, secret) => (name.clone(), secret.reveal().to_owned()),
            Self::Aws { credentials, region } => return sign_for_aws(request, body, credentials, region),
            Self::Google(account) => (AUTHORIZATION, account.header(client).await?),
        };
        insert(request, name, value)
    }
}

fn insert(request: &mut Request<Full<Bytes>>, name: HeaderName, value: String) -> Result<(), String> {
    let mut value =
        HeaderValue::try_from(value).map_err(|_| "the key has characters that no header can carry".to_owned())?;
    value.set_sensitive(true);
    request.headers_mut().insert(name, value);
    Ok(())
}

fn sign_for_aws(
    request: &mut Request<Full<Bytes>>,
    body: &[u8],
    credentials: &Credentials,
    region: &str,
) -> Result<(), String> {
    let host = request.uri().authority().map_or(String::new(), ToString::to_string);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let headers = [("content-type", "application/json".to_owned())];
    let unsigned = Unsigned { method: "POST", host: &host, path: &path, headers: &headers, body };
    let scope = Scope { region, service: SERVICE, now: unix_seconds() };
    for (name, value) in sign::sign(&unsigned, credentials, &scope) {
        insert(request, HeaderName::from_static(name), value)?;
    }
    Ok(())
}

impl GoogleAccount {
    pub fn new(account: ServiceAccount) -> Self {
        Self { account, token: Mutex::default() }
    }

    /// Returns the header, with a token that is still good. Whoever comes while one is asked for waits for it.
    async fn header(&self, client: &Client) -> Result<String, String> {
        let mut known = self.token.lock().await;
        if let Some((token, good_until)) = &*known
            && Instant::now() + TOKEN_MARGIN < *good_until
        {
            return Ok(token.header());
        }
        let asked = tokio::time::timeout(TOKEN_WAIT, self.ask(client));
        let (token, lifetime) = asked.await.map_err(|_| "the token endpoint does not answer".to_owned())??;
        let header = token.header();
        *known = Some((token, Instant::now() + lifetime));
        Ok(header)
    }

    async fn ask(&self, client: &Client) -> Result<(token::Token, Duration), String> {
        let assertion = self.account.assertion(GOOGLE_SCOPE, unix_seconds()).map_err(|error| error.to_string())?;
        let request = Request::post(&self.account.token_uri)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(token::token_request(&assertion))))
            .map_err(|error| format!("the token_uri of the service account is no URL: {error}"))?;
        let answer = client.request(request).await;
        let answer = answer.map_err(|error| format!("the token endpoint cannot be reached: {}", connect::cause(&error)))?;
        let body = Limited::new(answer.into_body(), TOKEN_BYTES_MAX).collect().await;
        let body = body.map_err(|_| "the token endpoint broke off its answer".to_owned())?.to_bytes();
        token::read_token(&body).map_err(|error| error.to_string())
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
