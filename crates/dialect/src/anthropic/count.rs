//! How many tokens would a request have?

use crate::read::Fields;
use crate::{BadRequest, Heard, Target, Untellable, WireRequest};

/// Reads the body of `POST /v1/messages/count_tokens`: a Messages request that need not say how long its answer may be.
pub fn read_count(body: &[u8]) -> Result<Heard, BadRequest> {
    super::request::hear(Fields::parse(body)?, None)
}

/// Returns the answer to a request for a count.
pub fn count_to_json(input_tokens: u64) -> Vec<u8> {
    super::wire::json(&serde_json::json!({ "input_tokens": input_tokens }))
}

/// Returns the client's own request for a count, for an upstream that can count.
pub fn count_passed(original: &[u8], target: &Target<'_>) -> Result<WireRequest, Untellable> {
    let request = super::pass::passed(original, &Target { stream: false, ..*target })?;
    Ok(WireRequest { path: format!("{}/count_tokens", request.path), ..request })
}
