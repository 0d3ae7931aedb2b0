//! How is a request to AWS signed (Signature Version 4)?
//!
//! Our own hundred lines: AWS's crate for it brings a second runtime's worth of others, and a signature is either right or wrong,
//! which the tests ask of AWS's own signer.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Bedrock's name in a signature.
pub const SERVICE: &str = "bedrock";

/// Who signs. `Debug` says only which key it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    /// Goes with keys that are lent for a while.
    pub session_token: Option<String>,
}

/// A request as it will be sent.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    pub method: &'a str,
    /// As the `host` header has it, with the port if it is not the scheme's own.
    pub host: &'a str,
    /// Path and query, escaped as they are sent.
    pub path: &'a str,
    /// Headers that belong to the request; they are signed, too.
    pub headers: &'a [(&'static str, String)],
    pub body: &'a [u8],
}

/// Where and when.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
    /// Seconds since 1970. AWS refuses a signature that is more than five minutes off.
    pub now: u64,
}

/// Returns the headers that the request must have besides its own.
pub fn sign(
    request: &Unsigned<'_>,
    credentials: &Credentials,
    scope: &Scope<'_>,
) -> Vec<(&'static str, String)> {
    let time = timestamp(scope.now);
    let mut added = vec![("x-amz-date", time.clone())];
    added.extend(credentials.session_token.clone().map(|token| ("x-amz-security-token", token)));
    let (names, canonical) = canonical(request, &added);
    let day = &time[..8];
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{place}\n{}", hex(&Sha256::digest(canonical)));
    let secret = format!("AWS4{}", credentials.secret_key);
    let steps = [day, scope.region, scope.service, "aws4_request", &text];
    let signature = steps.iter().fold(secret.into_bytes(), |key, step| keyed(&key, step.as_bytes()));
    let key = &credentials.access_key;
    let signature = hex(&signature);
    let words =
        format!("AWS4-HMAC-SHA256 Credential={key}/{place}, SignedHeaders={names}, Signature={signature}");
    added.push(("authorization", words));
    added
}

/// Returns the names of the headers that are signed, and the request as AWS will write it down to compare.
fn canonical(request: &Unsigned<'_>, added: &[(&'static str, String)]) -> (String, String) {
    let mut headers: Vec<(String, String)> = request
        .headers
        .iter()
        .chain(added)
        .map(|(name, value)| (name.to_ascii_lowercase(), squeezed(value)))
        .collect();
    headers.push(("host".to_owned(), request.host.to_owned()));
    headers.sort();
    let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
    let body = hex(&Sha256::digest(request.body));
    let (path, query) = (escaped_again(path), sorted(query));
    let canonical = format!("{}\n{path}\n{query}\n{lines}\n{names}\n{body}", request.method);
    (names, canonical)
}

/// Returns the value with one space for many, as AWS compares it.
fn squeezed(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns an escaped path, escaped once more, as all services but S3 have it.
fn escaped_again(path: &str) -> String {
    let mut twice = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                twice.push(byte.into())
            }
            _ => twice.push_str(&format!("%{byte:02X}")),
        }
    }
    twice
}

fn sorted(query: &str) -> String {
    let mut pairs: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn keyed(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns such as `20261121T155439Z`.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Returns the Gregorian date of a day since 1970, counted in eras of 400 years that begin on 1 March.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    // March is the first month of such a year.
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day)
}

/// Returns the headers of a request with a bearer key (`AWS_BEARER_TOKEN_BEDROCK`), which needs no signature.
pub fn bearer(key: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {key}"))]
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "bedrock-runtime.us-east-1.amazonaws.com";

    fn credentials(session_token: Option<&str>) -> Credentials {
        Credentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: session_token.map(str::to_owned),
        }
    }

    fn signature(host: &str, path: &str, body: &[u8], session_token: Option<&str>) -> String {
        let headers = [("content-type", "application/json".to_owned())];
        let request = Unsigned { method: "POST", host, path, headers: &headers, body };
        let scope = Scope { region: "us-east-1", service: SERVICE, now: 1_795_276_479 };
        let signed = sign(&request, &credentials(session_token), &scope);
        assert_eq!(signed[0], ("x-amz-date", "20261121T155439Z".to_owned()));
        signed.last().unwrap().1.clone()
    }

    /// The expected signatures are those of botocore 1.44.5 for the same requests.
    #[test]
    fn a_signature_is_what_aws_s_own_signer_gives() {
        let credential = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/us-east-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date";
        assert_eq!(
            signature(
                HOST,
                "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
                br#"{"messages":[]}"#,
                None
            ),
            format!(
                "{credential}, Signature=c5e472d875d58d53ea5f10cfeed9ff77be13aa62a078855f31412c09c80179f3"
            ),
        );
        let arn = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.x/converse-stream";
        assert_eq!(
            signature(HOST, arn, b"", Some("FwoGZXIvYXdzEBYaDH")),
            format!(
                "{credential};x-amz-security-token, Signature=84d0597ec592885304eb384947fe62220842dcc85789cba738d61f861f8fe596"
            ),
        );
        assert_eq!(
            signature("127.0.0.1:41007", "/model/m/converse?b=2&a=1%20x&a=0", b"\xff\x00", None),
            format!(
                "{credential}, Signature=f9d7d24a14a00f74a4469dfc181ab67470b47eff24ea5ffd8e47b0e5150bde28"
            ),
        );
    }

    #[test]
    fn dates_are_right_in_leap_years_and_out_of_them() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_735_689_599, "20241231T235959Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", credentials(Some("TOKEN")));
        assert_eq!(shown, "Credentials { access_key: \"AKIDEXAMPLE\", .. }");
    }
}
