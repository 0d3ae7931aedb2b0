//! How tests find the demo models and the text that they never saw.

use std::path::{Path, PathBuf};

use model::weights::{self, Checkpoint};

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo-model").join(name)
}

pub fn checkpoint(name: &str) -> Checkpoint {
    weights::open(&folder(name)).unwrap()
}

/// Chats that neither demo model was trained on, as tokens.
pub fn heldout() -> Vec<Vec<u32>> {
    let bytes =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/heldout/tokens.u16"))
            .unwrap();
    let words: Vec<u32> =
        bytes.as_chunks().0.iter().map(|word| u32::from(u16::from_le_bytes(*word))).collect();
    let (mut rest, mut chats) = (&words[..], Vec::new());
    while let Some((length, more)) = rest.split_first() {
        let (chat, after) = more.split_at(*length as usize);
        chats.push(chat.to_vec());
        rest = after;
    }
    chats
}
