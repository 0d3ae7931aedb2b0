//! Which answers does this server remember, within a stated number of bytes?

use std::sync::Arc;

use domain::{
    Answer, AnsweredChoice, Finish, Media, MediaSource, Part, Reasoning, Scored, TokenScore, ToolCall,
};
use lru::LruCache;
use parking_lot::Mutex;

use super::CachedAnswer;
use crate::{AskKey, MadeBy};

#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    /// In the order of their use; bounded by the bytes below.
    by_key: LruCache<AskKey, Entry>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    answer: Arc<CachedAnswer>,
    expires_ms: i64,
    bytes: usize,
}

/// One answer may take this part of the memory; a larger one would drive out all others.
const PART_MAX: usize = 8;

impl Memory {
    pub fn new(bytes_max: usize) -> Self {
        let entries = Mutex::new(Entries { by_key: LruCache::unbounded(), bytes: 0 });
        Self { bytes_max, entries }
    }

    pub fn get(&self, key: &AskKey, now_ms: i64) -> Option<Arc<CachedAnswer>> {
        let mut entries = self.entries.lock();
        let Entry { answer, expires_ms, .. } = entries.by_key.get(key)?;
        if *expires_ms > now_ms {
            return Some(answer.clone());
        }
        entries.remove(key);
        None
    }

    pub fn put(&self, key: AskKey, answer: Arc<CachedAnswer>, expires_ms: i64) {
        let bytes = entry_bytes(&answer);
        if bytes > self.bytes_max / PART_MAX {
            return;
        }
        let mut entries = self.entries.lock();
        entries.remove(&key);
        while entries.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = entries.by_key.pop_lru() else { break };
            entries.bytes -= oldest.bytes;
        }
        entries.bytes += bytes;
        entries.by_key.put(key, Entry { answer, expires_ms, bytes });
    }

    /// Returns how many entries there are, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        let entries = self.entries.lock();
        (entries.by_key.len(), entries.bytes)
    }
}

impl Entries {
    fn remove(&mut self, key: &AskKey) {
        if let Some(entry) = self.by_key.pop(key) {
            self.bytes -= entry.bytes;
        }
    }
}

/// What a piece of memory of its own costs beside its bytes: the allocator's header, and on average half of its rounding.
const PIECE: usize = 16;
/// The list's node (key, entry, two neighbours) with its piece; a place in the table (a pointer to the key, one to the
/// node, a byte of its hash), which is between 7/16 and 7/8 full, so 39 bytes at most; the counts of the `Arc`.
const ENTRY: usize = size_of::<AskKey>() + size_of::<Entry>() + 16 + PIECE + 39 + 16 + PIECE;

/// Returns what keeping this answer takes in all.
pub fn entry_bytes(cached: &CachedAnswer) -> usize {
    let CachedAnswer { answer, made_by, usage: _, made_at_ms: _ } = cached;
    let Answer { id, model, choices, report: _ } = answer;
    let MadeBy { unit, provider, model: priced, service_tier: _, region, jurisdictions } = made_by;
    // Names are shared texts of a length of their own, with two counts before it.
    let name = |name: &str| name.len() + 16 + PIECE;
    let names = name(provider.as_str())
        + name(priced.as_str())
        + region.as_ref().map_or(0, |region| name(region.as_str()));
    ENTRY
        + size_of::<CachedAnswer>()
        + maybe(id)
        + maybe(model)
        + list(choices, choice)
        + string(unit)
        + names
        + list(jurisdictions, string)
}

fn choice(choice: &AnsweredChoice) -> usize {
    let finish = choice.finish.as_ref().map_or(0, |Finish { reason: _, stop }| maybe(stop));
    list(&choice.parts, part) + choice.scores.as_ref().map_or(0, |scores| list(scores, score)) + finish
}

fn part(part: &Part) -> usize {
    match part {
        Part::Text { text, cache: _ } | Part::Refusal(text) | Part::SealedReasoning(text) => string(text),
        Part::Media(Media { kind: _, source, detail, name, cache: _ }) => {
            let source = match source {
                MediaSource::Url(text) | MediaSource::File(text) => string(text),
                MediaSource::Inline { media_type, data } => string(media_type) + string(data),
            };
            source + maybe(detail) + maybe(name)
        }
        Part::Reasoning(Reasoning { text, proof, id }) => string(text) + maybe(proof) + maybe(id),
        Part::ToolCall(ToolCall { id, name, arguments, proof }) => {
            string(id) + string(name) + string(arguments) + maybe(proof)
        }
    }
}

fn score(score: &TokenScore) -> usize {
    let rival = |rival: &Scored| string(&rival.text) + bytes(&rival.bytes);
    string(&score.text) + bytes(&score.bytes) + list(&score.top, rival)
}

fn list<T>(list: &Vec<T>, inside: impl Fn(&T) -> usize) -> usize {
    let own = if list.capacity() == 0 { 0 } else { list.capacity() * size_of::<T>() + PIECE };
    own + list.iter().map(inside).sum::<usize>()
}

fn bytes(bytes: &Vec<u8>) -> usize {
    list(bytes, |_| 0)
}

/// As much as it has taken, not as much as it uses: a text that grew piece by piece may have taken twice as much.
fn string(text: &String) -> usize {
    if text.capacity() == 0 { 0 } else { text.capacity() + PIECE }
}

fn maybe(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, string)
}
