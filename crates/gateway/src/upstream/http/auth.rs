//! How does a request say that it is ours?

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http_body_util::Full;

use super::connect::Client;

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

#[derive(Clone, Debug)]
pub enum Auth {
    /// A server of one's own that asks nobody.
    None,
    Bearer(Secret),
    /// A header of the provider's own, such as `x-api-key`.
    Header(HeaderName, Secret),
}

impl Auth {
    /// Adds what the provider asks for.
    pub async fn sign(&self, request: &mut Request<Full<Bytes>>, _: &Client) -> Result<(), String> {
        let (name, value) = match self {
            Self::None => return Ok(()),
            Self::Bearer(secret) => (AUTHORIZATION, format!("Bearer {}", secret.reveal())),
            Self::Header(name, secret) => (name.clone(), secret.reveal().to_owned()),
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| "the key has characters that no header can carry".to_owned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
        Ok(())
    }
}
