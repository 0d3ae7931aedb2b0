//! Which bytes does each token stand for?

use domain::TokenId;

use crate::tokenizer::Pipeline;

/// How a vocabulary writes bytes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Each byte is one printable character, as GPT-2 chose them.
    ByteLevel,
    /// `▁` is a space and `<0x0A>` is a byte. At the start of a text, this many spaces were only added for the tokenizer.
    Marked { spaces_added: usize },
}

impl Spelling {
    /// Returns how many of the text's first bytes the tokenizer added.
    pub fn leading_spaces(self, text: &str) -> usize {
        match self {
            Spelling::ByteLevel => 0,
            Spelling::Marked { spaces_added } => {
                text.bytes().take(spaces_added).take_while(|byte| *byte == b' ').count()
            }
        }
    }
    fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            // A token with any other character, such as `<｜end｜>`, stands for itself.
            Spelling::ByteLevel => {
                token.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Spelling::Marked { .. } => match fallback_byte(token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
        }
    }
}

/// The bytes of all tokens, end to end.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    spelling: Spelling,
    bytes: Vec<u8>,
    /// Where each token's bytes end; they begin where the one before ends.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No token has this id.
    Hole,
    Text,
    Special,
}

impl Pieces {
    pub fn new(pipeline: &Pipeline, spelling: Spelling) -> Self {
        let ids = pipeline.get_vocab(true);
        let size = ids.values().max().map_or(0, |id| *id as usize + 1);
        let mut pieces = Self { spelling, bytes: Vec::new(), ends: Vec::new(), kinds: Vec::new() };
        for id in 0..size as TokenId {
            let token = pipeline.id_to_token(id);
            pieces.kinds.push(match &token {
                None => Kind::Hole,
                Some(token) if pipeline.get_added_vocabulary().is_special_token(token) => Kind::Special,
                Some(_) => Kind::Text,
            });
            pieces.bytes.extend(token.map_or_else(Vec::new, |token| spelling.bytes(&token)));
            pieces
                .ends
                .push(u32::try_from(pieces.bytes.len()).expect("a vocabulary has less than 4 GiB of text"));
        }
        pieces
    }
    pub fn spelling(&self) -> Spelling {
        self.spelling
    }
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    pub fn bytes(&self, token: TokenId) -> Option<&[u8]> {
        let token = token as usize;
        if *self.kinds.get(token)? == Kind::Hole {
            return None;
        }
        let start = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start as usize..self.ends[token] as usize])
    }
    pub fn is_special(&self, token: TokenId) -> bool {
        self.kinds.get(token as usize) == Some(&Kind::Special)
    }
}

/// Returns the byte that byte-level vocabularies write as `character`: printable Latin-1 is itself, and the other 68 bytes
/// are the characters from U+0100 on, in order.
fn byte_of(character: char) -> Option<u8> {
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(character) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(|byte| is_itself(*byte)),
        code @ 0x100..=0x143 => (0..=255).filter(|byte| !is_itself(*byte)).nth(code as usize - 0x100),
        _ => None,
    }
}

/// Returns the byte of a token such as `<0x0A>`.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_byte { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let characters = (0u32..0x200).filter_map(char::from_u32);
        let mut bytes: Vec<u8> = characters.filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!((byte_of('Ġ'), byte_of('Ċ'), byte_of('a')), (Some(b' '), Some(b'\n'), Some(b'a')));
    }

    #[test]
    fn only_whole_byte_tokens_are_bytes() {
        assert_eq!(fallback_byte("<0x0A>"), Some(10));
        assert_eq!(["<0x0>", "<0x0AB>", "<0x+1>", "0x0A", "<0xZZ>"].map(fallback_byte), [None; 5]);
    }
}
