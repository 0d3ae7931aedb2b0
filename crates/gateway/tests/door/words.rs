//! The smallest text model that a door can serve: one token for each byte, and a ChatML template.

use std::path::Path;

use domain::TokenId;
use serde_json::{Map, Value, json};
use text::TextModel;

pub const IM_START: TokenId = 256;
pub const IM_END: TokenId = 257;

/// Returns the tokens of a text without special tokens: its bytes.
pub fn tokens(text: &str) -> Vec<TokenId> {
    text.bytes().map(TokenId::from).collect()
}

/// Returns the text of tokens; special ones have none.
pub fn text(tokens: &[TokenId]) -> String {
    let bytes: Vec<u8> = tokens.iter().filter_map(|token| u8::try_from(*token).ok()).collect();
    String::from_utf8(bytes).unwrap()
}

pub fn text_model(folder: &Path) -> TextModel {
    std::fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), configuration().to_string()).unwrap();
    TextModel::from_folder(folder).unwrap()
}

fn tokenizer() -> Value {
    let vocabulary: Map<String, Value> =
        (0..=255_u8).map(|byte| (letter(byte).to_string(), json!(byte))).collect();
    let special = |id: TokenId, content: &str| {
        json!({
            "id": id, "content": content, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(IM_START, "<|im_start|>"), special(IM_END, "<|im_end|>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}

fn configuration() -> Value {
    json!({
        "eos_token": "<|im_end|>",
        "chat_template": "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
            {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    })
}

/// Byte-level vocabularies write each byte as one printable letter: itself where it is printable, else the next free
/// letter above 255.
fn letter(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let unprintable_before = (0..byte).filter(|before| !is_printable(*before)).count() as u32;
    char::from_u32(256 + unprintable_before).unwrap()
}
