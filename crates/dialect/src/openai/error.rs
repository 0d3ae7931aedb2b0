//! How is a refusal or a failure written?

use serde::Serialize;

use crate::{Trouble, TroubleKind};

/// `{"error": {…}}`, the one shape of everything that went wrong.
#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: TroubleKind,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

/// Returns the body of an error's answer, and the data of an error's event.
pub fn to_json(trouble: &Trouble) -> Vec<u8> {
    let Trouble { kind, message, param, code } = trouble;
    // OpenAI knows no type of its own for what is too large.
    let kind = if *kind == TroubleKind::RequestTooLarge { TroubleKind::InvalidRequestError } else { *kind };
    let error = Error { message, kind, param: param.as_deref(), code: code.as_deref() };
    super::stream::json(&Body { error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_all_four_fields_even_when_empty() {
        let trouble = Trouble::new(TroubleKind::RateLimitError, "too many").code("queue_full");
        assert_eq!(
            String::from_utf8(to_json(&trouble)).unwrap(),
            r#"{"error":{"message":"too many","type":"rate_limit_error","param":null,"code":"queue_full"}}"#
        );
    }
}
