//! Text and tokens against the reference: `tests/fixtures/make.py` says how the expectations were made.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;

use text::{Detokenizer, GgufVocabulary, LoadError, Special, TextModel, Tokenizer};

const TOKENIZERS: [&str; 3] = ["byte-level-qwen2", "byte-level-llama3", "marked-llama2"];

#[derive(Deserialize)]
struct Row {
    tokenizer: String,
    text: String,
    parsed: Vec<u32>,
    as_text: Vec<u32>,
    with_bos: Vec<u32>,
    decoded: String,
    decoded_with_special: String,
}

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Gguf {
    model: String,
    pre: String,
    tokens: Vec<String>,
    scores: Vec<f32>,
    token_types: Vec<i32>,
    merges: Vec<String>,
    bos: Option<u32>,
    eos: Option<u32>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}
fn gguf(name: &str) -> GgufVocabulary {
    let Gguf { model, pre, tokens, scores, token_types, merges, bos, eos } =
        read(&format!("{name}/gguf.json"));
    let pre = Some(pre);
    GgufVocabulary { model, pre, tokens, scores, token_types, merges, bos, eos, ..GgufVocabulary::default() }
}
fn both(name: &str) -> [Tokenizer; 2] {
    [Tokenizer::from_folder(&fixture(name)).unwrap(), Tokenizer::from_gguf(gguf(name)).unwrap()]
}
/// Returns what a detokenizer says, token by token.
fn detokenized(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let mut detokenizer = Detokenizer::new(tokenizer);
    let text: String = tokens.iter().map(|token| detokenizer.push(*token)).collect();
    text + &detokenizer.finish()
}

#[test]
fn text_becomes_the_reference_tokens_and_text_again() {
    let rows: Rows = read("tokens.json");
    let mut checked = 0;
    for name in TOKENIZERS {
        for tokenizer in both(name) {
            for row in rows.rows.iter().filter(|row| row.tokenizer == name) {
                let encode = |special, add_bos| tokenizer.encode(&row.text, special, add_bos).unwrap();
                assert_eq!(encode(Special::Parsed, false), row.parsed, "{name}: {:?}", row.text);
                assert_eq!(encode(Special::AsText, false), row.as_text, "{name}: {:?}", row.text);
                assert_eq!(encode(Special::Parsed, true), row.with_bos, "{name}: {:?}", row.text);
                assert_eq!(tokenizer.decode(&row.parsed, false), row.decoded, "{name}: {:?}", row.text);
                assert_eq!(
                    tokenizer.decode(&row.parsed, true),
                    row.decoded_with_special,
                    "{name}: {:?}",
                    row.text
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 400, "the fixture was read");
}

#[test]
fn a_tokenizer_knows_its_roles() {
    for tokenizer in both("byte-level-llama3") {
        let id = |token: &str| tokenizer.token_id(token).unwrap();
        assert_eq!(tokenizer.bos(), Some(id("<|begin_of_text|>")));
        assert_eq!(tokenizer.eos(), Some(id("<|eot_id|>")));
        assert_eq!(tokenizer.stop_tokens(), [id("<|eot_id|>")]);
        assert!(tokenizer.is_special(id("<|eot_id|>")) && !tokenizer.is_special(5));
        assert_eq!(tokenizer.vocabulary_size(), 425);
        assert_eq!(tokenizer.token_bytes(425), None);
        assert_eq!(tokenizer.token_bytes(id("<|eot_id|>")), Some(&b"<|eot_id|>"[..]));
    }
    for tokenizer in both("byte-level-qwen2") {
        assert!(!tokenizer.is_special(tokenizer.token_id("<think>").unwrap()), "it is shown");
        assert_eq!(tokenizer.bos(), None);
    }
    for tokenizer in both("marked-llama2") {
        assert_eq!(tokenizer.token_bytes(tokenizer.token_id("<0xE8>").unwrap()), Some(&b"\xE8"[..]));
        assert_eq!(tokenizer.token_text(tokenizer.token_id("<0xE8>").unwrap()), "\u{FFFD}");
        assert_eq!(tokenizer.token_text(tokenizer.token_id("▁the").unwrap()), " the");
    }
}

#[test]
fn an_answer_continues_its_prompt() {
    for name in TOKENIZERS {
        let [tokenizer, _] = both(name);
        let tokens = tokenizer.encode("The quick brown fox 😀", Special::Parsed, true).unwrap();
        for border in 1..tokens.len() {
            let (prompt, answer) = tokens.split_at(border);
            let whole = detokenized(&tokenizer, prompt) + &detokenized(&tokenizer, answer);
            if !whole.contains('\u{FFFD}') {
                let whole = whole.strip_prefix(' ').unwrap_or(&whole);
                assert_eq!(whole, tokenizer.decode(&tokens, false), "{name}, cut at {border}");
            }
        }
    }
}

#[test]
fn what_ends_a_turn_by_the_template_is_a_stop_token() {
    let template = text::ChatTemplate::new("<|im_start|>x<|im_end|>", serde_json::Map::new()).unwrap();
    let vocabulary = GgufVocabulary { eos: Some(0), ..gguf("byte-level-qwen2") };
    let model = TextModel::new(Tokenizer::from_gguf(vocabulary).unwrap(), Some(template));
    assert_eq!(*model.stop_tokens(), [0, model.tokenizer().token_id("<|im_end|>").unwrap()]);
}

#[test]
fn what_cannot_be_built_is_refused_by_name() {
    let problem = |change: fn(&mut GgufVocabulary)| {
        let mut vocabulary = gguf("byte-level-qwen2");
        change(&mut vocabulary);
        Tokenizer::from_gguf(vocabulary).unwrap_err()
    };
    let unsupported = |change| match problem(change) {
        LoadError::Unsupported { what, .. } => what,
        other => panic!("{other}"),
    };
    assert!(unsupported(|vocabulary| vocabulary.model = "bert".into()).contains("\"bert\""));
    assert!(unsupported(|vocabulary| vocabulary.pre = Some("mystery".into())).contains("\"mystery\""));
    assert!(problem(|vocabulary| vocabulary.eos = Some(1 << 30)).to_string().contains("eos"));
    assert!(problem(|vocabulary| vocabulary.scores = vec![0.0]).to_string().contains("scores"));
    assert!(problem(|vocabulary| vocabulary.merges = vec!["ab".into()]).to_string().contains("\"ab\""));
    assert!(
        problem(|vocabulary| vocabulary.merges = vec!["no such".into()]).to_string().contains("vocabulary")
    );
    let marked = GgufVocabulary { scores: Vec::new(), ..gguf("marked-llama2") };
    assert!(Tokenizer::from_gguf(marked).unwrap_err().to_string().contains("scores"));
    let nowhere = Tokenizer::from_folder(Path::new("/no/such/folder")).unwrap_err();
    assert!(nowhere.to_string().contains("/no/such/folder/tokenizer.json"), "{nowhere}");
}

#[test]
fn a_text_that_the_word_rule_gives_up_on_fails_alone() {
    let [tokenizer, _] = both("byte-level-qwen2");
    // Twelve million spaces: more than the regex engine may look back over.
    let text = " ".repeat(12 << 20);
    match tokenizer.encode(&text, Special::Parsed, false) {
        Ok(tokens) => assert_eq!(tokenizer.decode(&tokens, false), text),
        Err(error) => assert!(error.to_string().contains("could not be tokenized")),
    }
    assert!(tokenizer.encode("still here", Special::Parsed, false).is_ok());
}

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "\\PC{0,6}",
        "[ \n\t]{1,4}",
        "[a-zA-Z']{1,8}",
        prop::sample::select(vec!["<|im_end|>", "</s>", "<0x41>", "▁", "😀", "e\u{301}", "日本", "<think>"])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tokens_of_any_text_are_that_text_again(text in any_text()) {
        for name in TOKENIZERS {
            let [folder, gguf] = &*TOKENIZER_PAIRS.with(|pairs| pairs[name].clone());
            let tokens = folder.encode(&text, Special::AsText, false).unwrap();
            prop_assert_eq!(&tokens, &gguf.encode(&text, Special::AsText, false).unwrap());
            let expected = match name {
                // Its normalizer composes characters.
                "byte-level-qwen2" => continue,
                // `▁` means a space in this vocabulary.
                "marked-llama2" => text.replace('▁', " "),
                _ => text.clone(),
            };
            prop_assert_eq!(folder.decode(&tokens, true), expected);
        }
    }

    #[test]
    fn any_tokens_one_by_one_give_the_text_of_the_whole(tokens in prop::collection::vec(0u32..460, 0..30)) {
        for name in TOKENIZERS {
            let [tokenizer, _] = &*TOKENIZER_PAIRS.with(|pairs| pairs[name].clone());
            let whole = tokenizer.decode(&tokens, false);
            let pieces = detokenized(tokenizer, &tokens);
            // A detokenizer continues a text, so it keeps the space that only the tokenizer added.
            prop_assert!(pieces == whole || pieces == format!(" {whole}"), "{:?} and {:?}", pieces, whole);
        }
    }
}

type Pairs = std::collections::HashMap<&'static str, std::rc::Rc<[Tokenizer; 2]>>;
thread_local! {
    static TOKENIZER_PAIRS: Pairs = TOKENIZERS.iter().map(|name| (*name, std::rc::Rc::new(both(name)))).collect();
}
