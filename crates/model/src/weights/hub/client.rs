//! What does the hub answer to one request, and is it worth asking again?

use std::io::Read;
use std::thread::sleep;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

use super::id::HubId;
use super::listing::{Listing, is_commit};
use super::{HubOptions, HubProgress};
use crate::weights::WeightsError;

/// The longest listings, of repositories with thousands of files, are a few megabytes.
const LISTING_BYTES_MAX: u64 = 32 << 20;
const REDIRECTS_MAX: usize = 6;
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Why a request brought nothing.
pub(super) enum Trouble {
    /// May go away by itself.
    Passing {
        cause: String,
        wait: Option<Duration>,
    },
    /// The server cannot give the rest of the file that was asked for.
    NoSuchRange,
    Lasting(WeightsError),
}

impl From<WeightsError> for Trouble {
    fn from(error: WeightsError) -> Trouble {
        Trouble::Lasting(error)
    }
}

/// The beginning of a file's content.
pub(super) struct Content {
    /// Where in the file the body begins; not always where it was asked for.
    pub(super) begins_at: u64,
    pub(super) bytes: Option<u64>,
    /// Stated on the way by the hub, for files in large-file storage.
    pub(super) sha256: Option<String>,
    pub(super) body: Body,
}

pub(super) struct Client {
    agent: Agent,
    pub(super) id: HubId,
    endpoint: String,
    origin: Origin,
    token: Option<String>,
    pub(super) attempts_max: u32,
    pause: Duration,
}

#[derive(Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Client {
    pub(super) fn new(id: &HubId, options: &HubOptions) -> Result<Client, WeightsError> {
        let endpoint = options.endpoint.trim_end_matches('/').to_string();
        let origin = endpoint.parse::<Uri>().ok().and_then(|uri| Origin::of(&uri)).ok_or_else(|| {
            WeightsError::HubAnswer {
                what: format!("the hub endpoint {endpoint:?}"),
                expected: "an address like https://huggingface.co",
                found: "none".into(),
            }
        })?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // We follow redirects ourselves: the token must not, and the first answer carries the checksum.
            .max_redirects(0)
            .timeout_resolve(Some(options.silence_max))
            .timeout_connect(Some(options.silence_max))
            .timeout_recv_response(Some(options.silence_max))
            .timeout_per_read(Some(options.silence_max))
            .accept_encoding("identity")
            .user_agent(concat!("baseload/", env!("CARGO_PKG_VERSION")));
        if origin.is_loopback() {
            config = config.proxy(None);
        }
        Ok(Client {
            agent: config.build().into(),
            id: id.clone(),
            endpoint,
            origin,
            token: options
                .token
                .as_deref()
                .map(str::trim)
                .filter(|token| !token.is_empty())
                .map(str::to_string),
            attempts_max: options.attempts_max.max(1),
            pause: options.pause,
        })
    }

    /// Returns the files of the revision, asking again where that may help.
    pub(super) fn listing(&self, progress: &mut dyn FnMut(HubProgress<'_>)) -> Result<Listing, WeightsError> {
        let mut failures = 0;
        loop {
            match self.try_listing() {
                Ok(listing) => return Ok(listing),
                Err(trouble) => {
                    failures += 1;
                    self.wait_or_give_up(
                        &format!("listing the files of {}", self.id),
                        trouble,
                        failures,
                        progress,
                    )?;
                }
            }
        }
    }

    /// Returns a file's content from `begin` on.
    pub(super) fn content(&self, commit: &str, name: &str, begin: u64) -> Result<Content, Trouble> {
        let url = format!("{}/{}/resolve/{commit}/{}", self.endpoint, self.id.repository(), escaped(name));
        let (answer, sha256) = self.get(&url, (begin > 0).then_some(begin))?;
        let headers = answer.headers();
        let length = number(headers, "content-length");
        let (begins_at, bytes) = match answer.status().as_u16() {
            206 => content_range(headers).unwrap_or((u64::MAX, None)),
            _ => (0, length),
        };
        if begins_at != 0 && begins_at != begin {
            return Err(Trouble::NoSuchRange);
        }
        Ok(Content { begins_at, bytes, sha256, body: answer.into_body() })
    }

    /// Sleeps before the next try, or turns the trouble into the error to end with.
    pub(super) fn wait_or_give_up(
        &self,
        what: &str,
        trouble: Trouble,
        failures: u32,
        progress: &mut dyn FnMut(HubProgress<'_>),
    ) -> Result<(), WeightsError> {
        let (cause, wait) = match trouble {
            Trouble::Lasting(error) => return Err(error),
            Trouble::Passing { cause, wait } => (cause, wait),
            Trouble::NoSuchRange => ("the server could not continue the file".to_string(), None),
        };
        if failures >= self.attempts_max {
            return Err(WeightsError::HubNetwork { what: what.to_string(), attempts: failures, cause });
        }
        let doubled = self.pause.saturating_mul(1 << (failures - 1).min(16));
        let pause = wait.unwrap_or(doubled).min(PAUSE_MAX);
        progress(HubProgress::Retrying { attempt: failures, cause: &cause, pause });
        sleep(pause);
        Ok(())
    }

    fn try_listing(&self) -> Result<Listing, Trouble> {
        let (repository, revision) = (self.id.repository(), self.id.revision_part());
        let url = format!("{}/api/models/{repository}/revision/{revision}?blobs=true", self.endpoint);
        let (answer, _) = self.get(&url, None)?;
        let mut bytes = Vec::new();
        answer
            .into_body()
            .into_reader()
            .take(LISTING_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| Trouble::Passing { cause: error.to_string(), wait: None })?;
        let wrong = |found: String| {
            let what = format!("the list of files of {}", self.id);
            Trouble::Lasting(WeightsError::HubAnswer { what, expected: "JSON with sha and siblings", found })
        };
        let listing: Listing = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        // The commit becomes a folder's name, so it had better be one.
        if is_commit(&listing.commit) { Ok(listing) } else { Err(wrong(format!("sha {:?}", listing.commit))) }
    }

    /// Returns the answer behind all redirects, and the checksum that was stated on the way.
    fn get(&self, url: &str, begin: Option<u64>) -> Result<(Response<Body>, Option<String>), Trouble> {
        let mut url = url.to_string();
        let mut sha256 = None;
        for _ in 0..=REDIRECTS_MAX {
            let uri: Uri = url.parse().map_err(|_| self.odd_answer("an address", url.clone()))?;
            let here =
                Origin::of(&uri).ok_or_else(|| self.odd_answer("an address with a host", url.clone()))?;
            let mut request = self.agent.get(&uri);
            if let Some(token) = self.token.as_ref().filter(|_| here == self.origin) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if let Some(begin) = begin {
                request = request.header("range", format!("bytes={begin}-"));
            }
            let answer =
                request.call().map_err(|error| Trouble::Passing { cause: error.to_string(), wait: None })?;
            if here == self.origin {
                sha256 = sha256.or_else(|| linked_sha256(answer.headers()));
            }
            if !answer.status().is_redirection() {
                self.check_status(&answer, here == self.origin)?;
                return Ok((answer, sha256));
            }
            url = self.redirect(&here, answer.headers())?;
        }
        Err(self.odd_answer("an answer", format!("more than {REDIRECTS_MAX} redirects")))
    }

    fn redirect(&self, here: &Origin, headers: &HeaderMap) -> Result<String, Trouble> {
        let location = text(headers, "location").unwrap_or_default();
        let target = match location.strip_prefix('/') {
            Some(rest) if rest.starts_with('/') => format!("{}:{location}", here.scheme),
            Some(_) => format!("{}://{}:{}{location}", here.scheme, here.host, here.port),
            None => location.to_string(),
        };
        if here.scheme == "https" && !target.starts_with("https://") {
            // Addresses of downloads are signed, that is secret; only the host may be shown.
            return Err(self.odd_answer("a redirect to https", "one to an unprotected address".into()));
        }
        Ok(target)
    }

    fn check_status(&self, answer: &Response<Body>, by_the_hub: bool) -> Result<(), Trouble> {
        let status = answer.status().as_u16();
        let id = self.id.to_string();
        let denied = |advice| Err(WeightsError::HubDenied { id: id.clone(), status, advice }.into());
        match status {
            200 | 206 => Ok(()),
            416 => Err(Trouble::NoSuchRange),
            // Addresses that the hub redirects to are valid for a while only; the hub gives a new one.
            400..=404 if !by_the_hub => {
                Err(Trouble::Passing { cause: format!("the storage behind the hub answered {status}"), wait: None })
            }
            401 if self.token.is_some() => denied(
                "the token is not valid for it; check HF_TOKEN, and the spelling: models that do not exist get \
                 this answer, too"
                    .to_string(),
            ),
            401 => denied(
                "if it is private or gated, set HF_TOKEN to a token that may read it; otherwise check the \
                 spelling: models that do not exist get this answer, too"
                    .to_string(),
            ),
            403 => denied(format!(
                "accept its licence at {}/{} and set HF_TOKEN to a token of the same account",
                self.endpoint,
                self.id.repository()
            )),
            404 => Err(WeightsError::HubNotFound { id, endpoint: self.endpoint.clone() }.into()),
            408 | 429 | 500..=599 => Err(Trouble::Passing {
                cause: format!("the server answered {}", answer.status()),
                wait: number(answer.headers(), "retry-after").map(Duration::from_secs),
            }),
            _ => Err(self.odd_answer("status 200", answer.status().to_string())),
        }
    }

    fn odd_answer(&self, expected: &'static str, found: String) -> Trouble {
        WeightsError::HubAnswer { what: format!("the request for {}", self.id), expected, found }.into()
    }
}

impl Origin {
    fn of(uri: &Uri) -> Option<Origin> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let default = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let host = uri.host()?.to_ascii_lowercase();
        Some(Origin { scheme, host, port: uri.port_u16().unwrap_or(default) })
    }

    fn is_loopback(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    }
}

/// The names are plain words and slashes, but for characters that people put into file names.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                escaped.push(byte.into())
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// `bytes 100-199/200`: where the body begins, and the size of the whole.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text(headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let (begin, _) = range.split_once('-')?;
    Some((begin.parse().ok()?, whole.parse().ok()))
}

/// Of large files the entity tag is the SHA-256; of others it is something shorter.
fn linked_sha256(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, "x-linked-etag")?.trim_start_matches("W/").trim_matches('"');
    (tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| tag.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirected(from: &str, location: &str) -> Result<String, String> {
        let id = HubId::parse("a/b").expect("an id");
        let client = Client::new(&id, &HubOptions::new("cache")).expect("a client");
        let here = Origin::of(&from.parse().expect("an address")).expect("an origin");
        let mut headers = HeaderMap::new();
        headers.insert("location", location.parse().expect("a value"));
        client.redirect(&here, &headers).map_err(|trouble| match trouble {
            Trouble::Lasting(error) => error.to_string(),
            _ => "passing".to_string(),
        })
    }

    #[test]
    fn a_redirect_leads_elsewhere_but_never_out_of_encryption() {
        let hub = "https://hub.example/a/b/resolve/c/f";
        let rows = [
            (hub, "https://cdn.example/x?y", "https://cdn.example/x?y"),
            (hub, "/api/cache/f", "https://hub.example:443/api/cache/f"),
            (hub, "//cdn.example/x", "https://cdn.example/x"),
            ("http://127.0.0.1:81/f", "http://127.0.0.1:82/f", "http://127.0.0.1:82/f"),
            ("http://127.0.0.1:81/f", "/g", "http://127.0.0.1:81/g"),
        ];
        for (from, location, expected) in rows {
            assert_eq!(redirected(from, location).as_deref(), Ok(expected));
        }
        let error = redirected(hub, "http://cdn.example/x?signature=secret").expect_err("refused");
        assert!(error.contains("a redirect to https") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn the_token_belongs_to_scheme_host_and_port_together() {
        let origin = |text: &str| Origin::of(&text.parse().expect("an address"));
        assert!(origin("https://Hub.example/x") == origin("https://hub.example:443"));
        for other in ["http://hub.example", "https://hub.example:444", "https://hub.example.evil.example"] {
            assert!(origin("https://hub.example") != origin(other), "{other}");
        }
        assert!(origin("ftp://hub.example").is_none());
    }

    #[test]
    fn the_hubs_headers_are_read_with_care() {
        let headers = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            headers
        };
        let range = |value| content_range(&headers("content-range", value));
        assert_eq!(range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(range("bytes 100-199/*"), Some((100, None)));
        assert_eq!(range("bytes */200"), None);
        assert_eq!(range("100-199/200"), None);
        let hash = "AB".repeat(32);
        let tag = |value: &str| linked_sha256(&headers("x-linked-etag", value));
        assert_eq!(tag(&format!("\"{hash}\"")), Some(hash.to_lowercase()));
        assert_eq!(tag("\"0123456789012345678901234567890123456789\""), None, "a Git hash is no SHA-256");
        assert_eq!(escaped("folder/a b+ä.gguf"), "folder/a%20b%2B%C3%A4.gguf");
    }
}
