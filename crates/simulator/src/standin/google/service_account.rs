//! Which service account may have a token? One whose assertion is well-formed, and signed if its key is known.

use base64::Engine as _;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::standin::Settings;
use crate::standin::http::{Request, percent_decoded};
use crate::standin::reply::Reply;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const SECONDS_MAX: i64 = 3600;

pub fn token(request: &Request, settings: &Settings) -> Reply {
    match check(request, settings) {
        Ok(()) => Reply::json(
            200,
            &json!({"access_token": settings.key, "expires_in": 3599, "token_type": "Bearer"}),
        ),
        Err((error, text)) => Reply::json(400, &json!({"error": error, "error_description": text})),
    }
}

fn check(request: &Request, settings: &Settings) -> Result<(), (&'static str, String)> {
    let body = String::from_utf8_lossy(&request.body).replace('+', "%20");
    let field = |name: &str| {
        let pair = body.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
        pair.map(|(_, value)| percent_decoded(value)).unwrap_or_default()
    };
    if field("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return Err(("unsupported_grant_type", "Invalid grant_type".into()));
    }
    let assertion = field("assertion");
    let grant = |text: &str| ("invalid_grant", text.to_owned());
    let parts: Vec<&str> = assertion.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        return Err(grant("Invalid JWT: it has not three parts."));
    };
    let read = |part: &str| -> Option<Value> {
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (Some(header), Some(claims)) = (read(header), read(claims)) else {
        return Err(grant("Invalid JWT: no JSON."));
    };
    if header["alg"] != "RS256" || signature.is_empty() {
        return Err(grant("Invalid JWT: it must be signed with RS256."));
    }
    if !claims["iss"].as_str().is_some_and(|iss| iss.contains('@')) {
        return Err(grant("Invalid issuer: Not a valid email."));
    }
    if !claims["aud"].as_str().is_some_and(|aud| aud.ends_with("/token")) {
        return Err(grant("Invalid JWT: the audience must be the token's address."));
    }
    if !claims["scope"].as_str().is_some_and(|scope| scope.split(' ').any(|word| word == SCOPE)) {
        return Err(("invalid_scope", "Invalid OAuth scope or ID token audience provided.".into()));
    }
    let (issued, expires) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    let now = jiff::Timestamp::now().as_second();
    if expires <= now || expires - issued > SECONDS_MAX || issued > now + 60 {
        return Err(grant(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
        ));
    }
    let Some(pem) = &settings.service_account_public_key else { return Ok(()) };
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_aud = false;
    let key = DecodingKey::from_rsa_pem(pem.as_bytes())
        .map_err(|error| grant(&format!("the stand-in's own key: {error}")))?;
    jsonwebtoken::decode::<Value>(&assertion, &key, &validation)
        .map_err(|_| grant("Invalid JWT Signature."))?;
    Ok(())
}
