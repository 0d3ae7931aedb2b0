//! How does a model get from a Hugging Face hub onto the disk?

use std::path::PathBuf;
use std::time::Duration;

mod id;

pub use id::HubId;

/// Where the hub is, where models are kept, and how patient to be.
#[derive(Clone)]
pub struct HubOptions {
    /// Scheme and host, without a trailing slash.
    pub endpoint: String,
    /// The folder under which every model gets its own.
    pub cache: PathBuf,
    /// A branch, tag or commit. One written in the id wins; without either it is `main`.
    pub revision: Option<String>,
    /// Sent to the endpoint alone: never to another host that it redirects to, and never written anywhere.
    pub token: Option<String>,
    /// Tries in a row that bring nothing new, before giving up.
    pub attempts_max: u32,
    /// The pause after the first failure. It doubles with each further one, up to 30 seconds.
    pub pause: Duration,
    /// How long a silent connection is waited for.
    pub silence_max: Duration,
}

impl HubOptions {
    pub fn new(cache: impl Into<PathBuf>) -> HubOptions {
        HubOptions {
            endpoint: "https://huggingface.co".to_string(),
            cache: cache.into(),
            revision: None,
            token: None,
            attempts_max: 6,
            pause: Duration::from_secs(1),
            silence_max: Duration::from_secs(30),
        }
    }
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("revision", &self.revision)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .finish_non_exhaustive()
    }
}

/// What a progress bar is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubProgress<'a> {
    /// Another process is downloading the same model; we wait for it.
    Waiting,
    /// What will be there at the end, and what of it is there already.
    Planned { files: usize, bytes: u64, bytes_there: u64 },
    /// A file begins, or continues at `bytes_there`.
    File { name: &'a str, bytes: u64, bytes_there: u64 },
    /// This many more bytes are on disk.
    Bytes(u64),
    /// The last try failed; the next begins after `pause`. Bytes that were reported as arrived and had to be thrown
    /// away (the server could not continue where it stopped) are given back in `bytes_lost`.
    Retrying { attempt: u32, cause: &'a str, pause: Duration, bytes_lost: u64 },
    /// Everything is there and checked.
    Done,
}
