//! What is a thing that an administrator can do, however it is asked for?
//!
//! Each verb is one struct: what it needs to know. It is performed at a [`Desk`], which checks that whoever asks may, or sent
//! to a server that performs it. So the command line and the HTTP surface do the same things, by the same code.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::desk::{Actor, Desk};
use super::error::AdminError;

pub trait Verb: Send + Sized {
    type Reply: Serialize + DeserializeOwned + Send;

    /// Returns how it is asked for over HTTP.
    fn call(&self) -> Call;

    /// Checks that the actor may, and does it.
    fn perform(
        self,
        desk: &Desk,
        actor: &Actor,
    ) -> impl Future<Output = Result<Self::Reply, AdminError>> + Send;
}

/// A request to the admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: http::Method,
    /// Below the server's address, with names percent-encoded.
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: http::Method::GET, path: path.into(), query: Vec::new(), body: None }
    }

    pub fn post(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self { method: http::Method::POST, body: Some(json(body)), ..Self::get(path) }
    }

    pub fn patch(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self { method: http::Method::PATCH, ..Self::post(path, body) }
    }

    /// A verb that is named by its path alone.
    pub fn order(path: impl Into<String>) -> Self {
        Self { method: http::Method::POST, ..Self::get(path) }
    }

    /// Returns what follows the server's address.
    pub fn path_and_query(&self) -> String {
        let query: Vec<String> =
            self.query.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.path, query.join("&"))
    }

    pub fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }
}

/// Returns a name as one segment of a path: an account's slashes must not become the path's.
pub fn segment(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode =
        |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

fn json(body: &impl Serialize) -> Value {
    serde_json::to_value(body).expect("a verb is plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("acme/research/a+b@x"), "acme%2Fresearch%2Fa%2Bb%40x");
        assert_eq!(segment("key-1f.0_c"), "key-1f.0_c");
        let call = Call::get("/admin/v1/keys").with("within", Some("a/b&c")).with("limit", None::<u8>);
        assert_eq!(call.path_and_query(), "/admin/v1/keys?within=a%2Fb%26c");
        assert_eq!(Call::get("/x").path_and_query(), "/x");
    }
}
