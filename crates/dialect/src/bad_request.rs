//! What is wrong with a request, in words its author can act on.

/// A request that cannot be served as written. All dialects refuse with this; each prints it in its own shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    /// Names the parameter, what was expected and what came.
    pub message: String,
    /// Where in the request, such as `messages[2].content`.
    pub param: Option<String>,
    /// A word that programs can match on, such as `invalid_type`.
    pub code: Option<String>,
}

impl BadRequest {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), param: None, code: None }
    }
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }
}
