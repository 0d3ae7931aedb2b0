//! How does a model get from a Hugging Face hub onto the disk?
//!
//! ```text
//! cache/org--name/lock                     held while one process downloads
//!                /refs/main                the commit that a branch or tag meant when it was fetched
//!                /<commit>/complete.json   what belongs to the model, written last
//!                /<commit>/name/…          the files; `.part` until they are whole and checked
//! ```
//!
//! What is complete is used without asking the hub, so a server starts offline. A branch that has moved since is
//! fetched again when its file in `refs` is removed, or by naming the new commit.
//!
//! Files in large-file storage, which all weights are, are checked against the SHA-256 that the hub states. Small
//! text files have only a Git hash there; of them the size is checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::WeightsError;
use super::folder::shard_of_tensor;

mod cache;
mod client;
mod download;
mod id;
mod listing;

pub use id::HubId;

use cache::Place;
use client::Client;
use download::Download;
use listing::{Listing, RemoteFile, Weights};

/// Where the hub is, where models are kept, and how patient to be.
#[derive(Clone)]
pub struct HubOptions {
    /// Scheme, host and port, without a path.
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
    /// What will be there at the end.
    Planned { files: usize, bytes: u64 },
    /// This file is next.
    File { name: &'a str, bytes: u64 },
    /// So many bytes of all files are on disk. Falls when a server could not continue where a connection broke.
    Bytes { there: u64 },
    /// The file has arrived and its checksum is being computed.
    Checking { name: &'a str },
    /// The last try failed; the next begins after `pause`.
    Retrying { attempt: u32, cause: &'a str, pause: Duration },
    /// Everything is there and checked.
    Done,
}

/// Returns the folder, or the `.gguf` file, of a model, after downloading what of it is not there yet.
///
/// `id` is `org/name`, `org/name@revision` or `org/name:file.gguf`. Blocks until all is there.
pub fn fetch(
    id: &str,
    options: &HubOptions,
    progress: &mut dyn FnMut(HubProgress<'_>),
) -> Result<PathBuf, WeightsError> {
    let id = HubId::parse(id)?.or_revision(options.revision.as_deref())?;
    let place = Place::new(&options.cache, &id);
    if let Some(path) = place.complete(&id) {
        return Ok(path);
    }
    let _lock = place.lock(&mut || progress(HubProgress::Waiting))?;
    // Whoever held the lock may have brought what we want.
    if let Some(path) = place.complete(&id) {
        return Ok(path);
    }
    let client = Client::new(&id, options)?;
    let listing = client.listing(progress)?;
    let folder = place.create_folder(&listing.commit)?;
    let mut download = Download::new(&client, &listing.commit, &folder, progress);
    let files = wanted(&id, &listing, &folder, &mut download)?;
    download.all(&files)?;
    let path = place.finish(&id, &listing.commit, &files)?;
    progress(HubProgress::Done);
    Ok(path)
}

/// Returns the files to have. Where an index says which shards belong to the model, it is fetched first: some
/// repositories hold the same weights twice.
fn wanted(
    id: &HubId,
    listing: &Listing,
    folder: &Path,
    download: &mut Download<'_>,
) -> Result<Vec<RemoteFile>, WeightsError> {
    let (weights, mut files) = listing.select(id)?;
    match weights {
        Weights::File(file) => files.push(file),
        Weights::Index(index) => {
            download.one(&index)?;
            let shards: BTreeSet<String> =
                shard_of_tensor(&folder.join(&index.name))?.into_values().collect();
            for shard in shards {
                files.push(listing.file(id, &shard)?);
            }
            files.push(index);
        }
    }
    Ok(files)
}
