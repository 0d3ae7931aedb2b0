//! How does a service account get a token for Vertex AI? It signs a statement, and Google's token endpoint takes it.
//!
//! ```text
//! assertion(key file, scope, now) ─▶ token_request ─▶ (gateway POSTs it to token_uri) ─▶ read_token ─▶ `authorization: Bearer …`
//! ```

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::json;

/// What Vertex AI asks for.
pub const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Google believes a statement for at most an hour.
const LIFETIME_SECONDS: u64 = 3_600;

/// A service account's key file, read once. Its `Debug` says nothing of the key.
pub struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    /// Where the assertion is sent.
    pub token_uri: String,
    pub project: Option<String>,
    key: RsaKeyPair,
}

/// A statement, signed. Whoever has it can get a token.
pub struct Assertion(String);

/// What opens the door for a while.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why there is no token. Nothing here repeats a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the service account's file is not the JSON key that Google's console gives: {0}")]
    File(&'static str),
    #[error(
        "the service account's private key is not an RSA key in PKCS #8 PEM, or is shorter than 2048 bits"
    )]
    Key,
    #[error("the token endpoint refused: {0}")]
    Refused(String),
    #[error("the token endpoint answered with something that is no token")]
    Answer,
}

#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
    private_key_id: Option<String>,
    private_key: Option<String>,
    token_uri: Option<String>,
    project_id: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    expires_in: Option<u64>,
    error: Option<String>,
    error_description: Option<String>,
}

impl ServiceAccount {
    pub fn read(json: &[u8]) -> Result<Self, TokenError> {
        // The parser's own words could repeat the key.
        let file: KeyFile =
            serde_json::from_slice(json).map_err(|_| TokenError::File("it is no JSON object"))?;
        if file.kind.as_deref() != Some("service_account") {
            return Err(TokenError::File("its `type` is not `service_account`"));
        }
        let email = file.client_email.ok_or(TokenError::File("`client_email` is missing"))?;
        let pem = file.private_key.ok_or(TokenError::File("`private_key` is missing"))?;
        let key =
            RsaKeyPair::from_pkcs8(&pkcs8(&pem).ok_or(TokenError::Key)?).map_err(|_| TokenError::Key)?;
        let token_uri = file.token_uri.unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned());
        Ok(Self { email, key_id: file.private_key_id, token_uri, project: file.project_id, key })
    }

    /// Returns a statement that asks for `scope`, good for an hour from `now` (seconds since 1970).
    pub fn assertion(&self, scope: &str, now: u64) -> Result<Assertion, TokenError> {
        let head = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let claims = json!({
            "iss": self.email,
            "scope": scope,
            "aud": self.token_uri,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        });
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let said = format!("{}.{}", part(head), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        // The randomness only hides the key from clocks: the signature is the same each time.
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature)
            .map_err(|_| TokenError::Key)?;
        Ok(Assertion(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

/// Returns the form that is POSTed to the account's `token_uri` as `application/x-www-form-urlencoded`.
pub fn token_request(assertion: &Assertion) -> String {
    // A JWT has only letters that need no escape.
    format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={}", assertion.0)
}

/// Reads the endpoint's answer: the token, and for how long it is good.
pub fn read_token(body: &[u8]) -> Result<(Token, Duration), TokenError> {
    let answer: TokenAnswer = serde_json::from_slice(body).map_err(|_| TokenError::Answer)?;
    if let Some(error) = answer.error {
        let description = answer.error_description.map_or_else(String::new, |words| format!(": {words}"));
        return Err(TokenError::Refused(format!("{error}{description}").chars().take(300).collect()));
    }
    match (answer.access_token, answer.expires_in) {
        (Some(token), Some(seconds)) if !token.is_empty() => Ok((Token(token), Duration::from_secs(seconds))),
        _ => Err(TokenError::Answer),
    }
}

impl Token {
    /// Returns the value of the `authorization` header.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

fn pkcs8(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount").field("email", &self.email).finish_non_exhaustive()
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion(…)")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
