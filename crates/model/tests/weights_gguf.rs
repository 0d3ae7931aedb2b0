//! Do GGUF files give the numbers, names, configuration and vocabulary that other implementations read from them?
//!
//! The fixtures and their expected values come from `fixtures/gguf/make.py`, which uses gguf-py, numpy and the
//! `safetensors` package of Python.

use std::fs;
use std::path::{Path, PathBuf};

use model::weights::{Checkpoint, Encoding, TokenizerSource, WeightsError, open};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

fn opened(name: &str) -> Checkpoint {
    open(&fixture(name)).expect("the fixture opens")
}

fn expected_values(name: &str) -> Vec<f32> {
    let bytes = fs::read(fixture(name)).expect("the fixture is there");
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four"))).collect()
}

/// gguf-py and we round the same products in the same order, so there is nothing to tolerate.
#[test]
fn every_encoding_gives_the_numbers_that_gguf_py_gives_bit_for_bit() {
    let checkpoint = opened("types.gguf");
    for encoding in [
        Encoding::F32,
        Encoding::F16,
        Encoding::Bf16,
        Encoding::Q8_0,
        Encoding::Q4_0,
        Encoding::Q4K,
        Encoding::Q6K,
    ] {
        let tensor = checkpoint.tensor(&format!("type.{encoding}")).expect("is there");
        assert_eq!(tensor.encoding(), encoding);
        assert_eq!(tensor.shape(), [3, 512], "{encoding}");
        let expected = expected_values(&format!("{encoding}.f32"));
        assert_eq!(expected.len(), 3 * 512);
        for (row, expected) in expected.chunks_exact(512).enumerate() {
            let mut found = vec![f32::NAN; 512];
            tensor.read_row(row, &mut found);
            for (column, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_eq!(found.to_bits(), expected.to_bits(), "{encoding} row {row} column {column}");
            }
        }
    }
}

#[test]
fn an_encoding_that_is_not_read_is_refused_by_name_and_only_when_asked_for() {
    let checkpoint = opened("types.gguf");
    assert!(checkpoint.has("type.Q5_K"));
    let error = checkpoint.tensor("type.Q5_K").expect_err("not read").to_string();
    for part in ["types.gguf", "\"type.Q5_K\"", "Q5_K; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K"]
    {
        assert!(error.contains(part), "{error}");
    }
}

/// Names, shapes and values; for the llama architecture also the order of the rows that RoPE rotates.
#[test]
fn a_gguf_file_and_its_hugging_face_twin_hold_the_same_tensors() {
    for name in ["llama", "llama-bias", "mistral", "qwen2", "qwen3"] {
        let (gguf, folder) = (opened(&format!("{name}.gguf")), opened(name));
        let ours: Vec<&str> = gguf.names().filter(|name| *name != "rope_freqs.weight").collect();
        assert_eq!(ours, folder.names().collect::<Vec<_>>(), "{name}");
        for tensor_name in ours {
            let (left, right) =
                (gguf.tensor(tensor_name).expect("ours"), folder.tensor(tensor_name).expect("theirs"));
            assert_eq!(left.shape(), right.shape(), "{name} {tensor_name}");
            assert_eq!(bits(&left.to_vec()), bits(&right.to_vec()), "{name} {tensor_name}");
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn the_rows_of_queries_and_keys_do_need_reordering_in_the_fixture() {
    // Guards the test above: were the fixture written without pairs, it could not fail.
    let checkpoint = opened("llama.gguf");
    let tensor = checkpoint.tensor("model.layers.0.self_attn.k_proj.weight").expect("is there");
    let bytes = fs::read(fixture("llama.gguf")).expect("is there");
    let mut rows = Vec::new();
    for row in 0..tensor.rows() {
        let mut values = vec![0.0; tensor.columns()];
        tensor.read_row(row, &mut values);
        let raw: Vec<u8> =
            values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
        rows.push(bytes.windows(raw.len()).position(|window| window == raw).expect("the row is in the file"));
    }
    // Half-split rows 0 and 4 of a head of eight lie side by side.
    assert_eq!(rows[4], rows[0] + 2 * tensor.columns());
    assert!(rows[1] > rows[4]);
}

/// Everything that Hugging Face's file says is said by ours, but for two things that GGUF does not keep.
#[test]
fn the_configuration_is_that_of_the_hugging_face_twin() {
    for name in ["llama", "llama-bias", "mistral", "qwen2", "qwen3", "qwen3moe", "mixtral"] {
        let (ours, theirs) = (opened(&format!("{name}.gguf")).config, opened(name).config);
        for (field, expected) in theirs.as_object().expect("an object") {
            // Llama 3's parameters are stored as their outcome, the tensor of divisors.
            let expected = match expected["rope_type"].as_str() {
                Some("llama3") => &json!({ "rope_type": "llama3-factors" }),
                _ => expected,
            };
            assert_eq!(&numbers_as_f64(&ours[field]), &numbers_as_f64(expected), "{name} {field}");
        }
    }
}

fn numbers_as_f64(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.iter().map(numbers_as_f64).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), numbers_as_f64(value))).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn llama_3_frequency_factors_are_a_tensor() {
    let checkpoint = opened("llama.gguf");
    let divisors = checkpoint.tensor("rope_freqs.weight").expect("is there");
    divisors.expect_shape(&[4]).expect("half a head");
    let divisors = divisors.to_vec();
    // The fastest rotation stays as it is, the slowest is stretched by the whole factor.
    assert_eq!((divisors[0], divisors[3]), (1.0, 8.0));
    assert!(!opened("qwen3.gguf").has("rope_freqs.weight"));
}

#[test]
fn the_vocabulary_and_the_template_come_with_the_file() {
    let llama = opened("llama.gguf");
    let TokenizerSource::Gguf(vocabulary) = &llama.tokenizer else { panic!("from the file itself") };
    assert_eq!((vocabulary.model.as_str(), vocabulary.pre.as_deref()), ("llama", Some("default")));
    assert_eq!(vocabulary.tokens.len(), 40);
    assert_eq!(vocabulary.tokens[..6], ["<unk>", "<s>", "</s>", "<|eot|>", "<0x0A>", "▁"]);
    assert_eq!(vocabulary.scores[..3], [0.0, -1.0, -2.0]);
    assert_eq!(vocabulary.token_types[..6], [2, 3, 3, 3, 6, 1]);
    assert_eq!(vocabulary.merges, [""; 0]);
    let ids = (vocabulary.bos, vocabulary.eos, vocabulary.eot, vocabulary.unk, vocabulary.pad);
    assert_eq!(ids, (Some(1), Some(2), Some(3), Some(0), None));
    let adds = (vocabulary.add_bos, vocabulary.add_eos, vocabulary.add_space_prefix);
    assert_eq!(adds, (Some(true), None, Some(false)));
    assert_eq!(llama.generation_config, Some(json!({ "bos_token_id": 1, "eos_token_id": [2, 3] })));

    let qwen = opened("qwen3.gguf");
    let TokenizerSource::Gguf(vocabulary) = &qwen.tokenizer else { panic!("from the file itself") };
    assert_eq!((vocabulary.model.as_str(), vocabulary.pre.as_deref()), ("gpt2", Some("qwen2")));
    assert_eq!(vocabulary.merges, ["a b", "Ġ ab"]);
    assert_eq!((vocabulary.bos, vocabulary.eos, vocabulary.add_bos), (None, Some(2), Some(false)));

    // The twin keeps the same template in a list with names.
    assert!(llama.chat_template.as_deref().is_some_and(|template| template.contains("message.role")));
    assert_eq!(llama.chat_template, opened("llama").chat_template);
}

#[test]
fn version_two_reads_like_version_three_and_others_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let mut bytes = fs::read(fixture("qwen3.gguf")).expect("is there");
    let mut open_as = |version: u32| {
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        fs::write(&path, &bytes).expect("written");
        open(&path)
    };
    assert_eq!(open_as(3).expect("opens").names().count(), open_as(2).expect("opens").names().count());
    for (version, reason) in [
        (1, "GGUF version 1 is not supported"),
        (3u32.swap_bytes(), "big-endian GGUF is not supported"),
        (77, "versions 2 and 3 are read"),
    ] {
        let error = open_as(version).expect_err("refused");
        assert!(matches!(error, WeightsError::Unsupported { .. }));
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn files_that_are_no_whole_model_of_a_known_family_say_what_they_are() {
    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }
    let (word, count) = (8u32.to_le_bytes(), 2u32.to_le_bytes());
    let says = |key: &str, value: &str| [&text(key)[..], &word, &text(value)].concat();
    let split = [&text("split.count")[..], &count, &3u16.to_le_bytes()].concat();
    let llama = says("general.architecture", "llama");
    let rows = [
        (
            vec![llama.clone(), split],
            "split into 3 GGUF files is not supported; join them with `llama-gguf-split",
        ),
        (vec![llama, says("general.type", "adapter")], "type \"adapter\""),
        (
            vec![says("general.architecture", "mamba")],
            "\"mamba\" is not supported; llama (Mistral and Mixtral included)",
        ),
        (vec![], "\"general.architecture\": expected text, found no such key"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    for (keys, part) in rows {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(0u64.to_le_bytes());
        bytes.extend((keys.len() as u64).to_le_bytes());
        bytes.extend(keys.concat());
        fs::write(&path, bytes).expect("written");
        let error = open(&path).expect_err(part).to_string();
        assert!(error.contains(part) && error.contains("model.gguf"), "{error}");
    }
}

#[test]
fn a_folder_with_one_gguf_file_is_that_model_and_with_two_it_is_a_question() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = |name: &str| fs::copy(fixture("qwen3.gguf"), folder.path().join(name)).expect("copied");
    copy("first.gguf");
    let checkpoint = open(folder.path()).expect("opens");
    assert_eq!(checkpoint.name, "first");
    assert_eq!(checkpoint.files, [folder.path().join("first.gguf")]);
    assert_eq!(checkpoint.file_bytes, fs::metadata(fixture("qwen3.gguf")).expect("is there").len());
    copy("second.gguf");
    let error = open(folder.path()).expect_err("which?").to_string();
    assert!(error.contains("exactly one .gguf") && error.contains("first.gguf, second.gguf"), "{error}");
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    let checkpoint = opened("qwen3.gguf");
    let error = checkpoint.tensor("lm_head.weight").expect_err("tied").to_string();
    assert!(error.contains("qwen3.gguf") && error.contains("\"lm_head.weight\""), "{error}");
    let norm = checkpoint.tensor("model.norm.weight").expect("is there");
    norm.expect_shape(&[32]).expect("fits");
    let error = norm.expect_shape(&[64]).expect_err("does not fit").to_string();
    for part in ["qwen3.gguf", "\"model.norm.weight\"", "expected [64], found [32]"] {
        assert!(error.contains(part), "{error}");
    }
}
