//! Is a request signed with AWS' Signature Version 4, by one who knows the secret?

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::standin::Settings;
use crate::standin::http::Request;
use crate::standin::reply::{Class, Trouble};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SKEW_SECONDS_MAX: i64 = 300;

/// `Credential=KEY/20261121/us-east-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, Signature=…`
struct Claim<'a> {
    key: &'a str,
    day: &'a str,
    region: &'a str,
    service: &'a str,
    terminator: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

pub fn check(request: &Request, settings: &Settings) -> Result<(), Trouble> {
    let forbidden = |text: &str| Trouble::new(403, Class::Forbidden, text);
    let given = request.header("authorization").ok_or_else(|| forbidden("Missing Authentication Token"))?;
    let claim = given.strip_prefix(ALGORITHM).and_then(read).ok_or_else(|| {
        forbidden("The request signature is incomplete: Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.")
    })?;
    if claim.key != settings.key {
        return Err(Trouble::new(
            403,
            Class::Unauthorized,
            "The security token included in the request is invalid.",
        ));
    }
    if (claim.region, claim.service, claim.terminator) != (&*settings.region, "bedrock", "aws4_request") {
        let text = format!(
            "The request signature is scoped wrongly: Credential should be scoped to '{}/bedrock/aws4_request'.",
            settings.region
        );
        return Err(forbidden(&text));
    }
    let date = request
        .header("x-amz-date")
        .ok_or_else(|| forbidden("The request signature has no 'X-Amz-Date'."))?;
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date)
        .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC));
    let at = at
        .map_err(|_| forbidden("The request signature's date must be in ISO-8601 'basic format'."))?
        .timestamp();
    if !date.starts_with(claim.day)
        || (jiff::Timestamp::now().as_second() - at.as_second()).abs() > SKEW_SECONDS_MAX
    {
        return Err(forbidden("The request signature expired: it is not from now."));
    }
    for needed in ["host", "x-amz-date"] {
        if !claim.signed.contains(&needed) {
            return Err(forbidden(&format!("The request signature must cover '{needed}'.")));
        }
    }
    let is_sorted = claim.signed.is_sorted();
    if !is_sorted || signature(request, &claim, date, &settings.secret).as_deref() != Some(claim.signature) {
        return Err(forbidden(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
        ));
    }
    Ok(())
}

fn read(text: &str) -> Option<Claim<'_>> {
    let part = |name: &str| {
        text.split(',')
            .filter_map(|part| part.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let scope: Vec<&str> = part("Credential")?.split('/').collect();
    let [key, day, region, service, terminator] = scope[..] else { return None };
    let signed = part("SignedHeaders")?.split(';').collect();
    Some(Claim { key, day, region, service, terminator, signed, signature: part("Signature")? })
}

/// Returns the signature that this request should have, if all that it claims to sign is there.
fn signature(request: &Request, claim: &Claim<'_>, date: &str, secret: &str) -> Option<String> {
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method, encoded(&request.path), sorted_query(&request.query));
    for name in &claim.signed {
        let value = request.header(name)?.split_whitespace().collect::<Vec<_>>().join(" ");
        canonical.push_str(&format!("{name}:{value}\n"));
    }
    let payload = hex(&Sha256::digest(&request.body));
    canonical.push_str(&format!("\n{}\n{payload}", claim.signed.join(";")));
    let scope = format!("{}/{}/{}/{}", claim.day, claim.region, claim.service, claim.terminator);
    let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let words = [claim.day, claim.region, claim.service, claim.terminator];
    let key = words.iter().fold(format!("AWS4{secret}").into_bytes(), |key, word| mac(&key, word.as_bytes()));
    Some(hex(&mac(&key, text.as_bytes())))
}

/// Everywhere but at S3, the path is encoded once more than it was sent.
fn encoded(path: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    path.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn sorted_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.contains('=') {
            true => pair.to_owned(),
            false => format!("{pair}="),
        })
        .collect();
    pairs.sort();
    pairs.join("&")
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length of key will do");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
