//! How urgent does the client say that it is?

use dialect::BadRequest;
use domain::Priority;
use http::HeaderMap;

use crate::refusal::Refusal;

const HEADER: &str = "x-baseload-priority";

/// A client may step back, never push forward: `high` is the operator's to give.
pub fn read(headers: &HeaderMap) -> Result<Priority, Refusal> {
    match headers.get(HEADER).map(|value| value.as_bytes()) {
        None | Some(b"standard") => Ok(Priority::Standard),
        Some(b"batch") => Ok(Priority::Batch),
        Some(_) => {
            let message = format!("the header {HEADER} must be \"standard\" or \"batch\"");
            Err(BadRequest::new(message).at(HEADER).code("invalid_value").into())
        }
    }
}
