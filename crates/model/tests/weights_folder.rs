//! Does a Hugging Face folder open as one checkpoint, and does a broken one say what is broken?

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use model::weights::{Checkpoint, Encoding, TokenizerSource, WeightsError, open};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tempfile::TempDir;

/// A folder with a `config.json` and what is added to it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        folder.text("config.json", r#"{"model_type": "llama", "hidden_size": 4}"#)
    }

    fn text(self, name: &str, text: &str) -> Folder {
        self.bytes(name, text.as_bytes())
    }

    fn bytes(self, name: &str, bytes: &[u8]) -> Folder {
        fs::write(self.0.path().join(name), bytes).expect("written");
        self
    }

    fn tensors(self, name: &str, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Folder {
        let bytes = written_by_the_reference(tensors);
        self.bytes(name, &bytes)
    }

    fn open(&self) -> Result<Checkpoint, WeightsError> {
        open(self.0.path())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let error = self.open().map(|_| ()).expect_err("refused").to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
    }
}

fn written_by_the_reference(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views: HashMap<String, TensorView<'_>> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.to_vec(), bytes).expect("bytes fit");
            (name.to_string(), view)
        })
        .collect();
    safetensors::serialize(&views, None).expect("serializes")
}

/// A file with this header, exactly, and so many bytes of data.
fn raw(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(std::iter::repeat_n(0, data_bytes));
    bytes
}

fn as_bytes<const N: usize>(values: &[f32], encode: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| encode(*value)).collect()
}

#[test]
fn three_encodings_are_read_as_f32() {
    let values = [0.0, 1.0, -2.5, 0.15625, 1024.0, -0.0];
    let folder = Folder::new().tensors(
        "model.safetensors",
        &[
            ("single", Dtype::F32, &[2, 3], as_bytes(&values, f32::to_le_bytes)),
            ("half", Dtype::F16, &[2, 3], as_bytes(&values, |value| f16::from_f32(value).to_le_bytes())),
            ("brain", Dtype::BF16, &[2, 3], as_bytes(&values, |value| bf16::from_f32(value).to_le_bytes())),
        ],
    );
    let checkpoint = folder.open().expect("opens");
    let encodings = [("single", Encoding::F32), ("half", Encoding::F16), ("brain", Encoding::Bf16)];
    for (name, encoding) in encodings {
        let tensor = checkpoint.tensor(name).expect("is there");
        assert_eq!((tensor.encoding(), tensor.shape()), (encoding, &[2, 3][..]));
        assert_eq!((tensor.rows(), tensor.columns()), (2, 3));
        assert_eq!(tensor.to_vec(), values, "{name}");
        let mut row = [9.0; 3];
        tensor.read_row(1, &mut row);
        assert_eq!(row, values[3..], "{name}");
    }
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["brain", "half", "single"]);
    assert_eq!(checkpoint.config["hidden_size"], 4);
    assert_eq!(checkpoint.name, folder.path().file_name().expect("a name").to_string_lossy());
    assert_eq!(checkpoint.tokenizer, TokenizerSource::Folder(folder.path().to_path_buf()));
}

#[test]
fn rows_of_bf16_are_seen_in_place_when_the_file_aligns_them() {
    let values = [1.0, -2.0, 3.0, -4.0];
    let bytes = as_bytes(&values, |value| bf16::from_f32(value).to_le_bytes());
    let bits: Vec<u16> = values.iter().map(|value| bf16::from_f32(*value).to_bits()).collect();
    for padding in ["", " "] {
        let header = format!(r#"{{"t":{{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}}}{padding}"#);
        let mut file = raw(&header, 0);
        let aligned = file.len().is_multiple_of(2);
        file.extend_from_slice(&bytes);
        let checkpoint = Folder::new().bytes("model.safetensors", &file);
        let checkpoint = checkpoint.open().expect("opens");
        let tensor = checkpoint.tensor("t").expect("is there");
        assert_eq!(tensor.bf16_row(1), aligned.then_some(&bits[2..]), "{padding:?}");
        assert_eq!(tensor.to_vec(), values, "a row can be read wherever it lies");
    }
}

#[test]
fn vectors_and_scalars_are_one_row() {
    let folder = Folder::new().tensors(
        "model.safetensors",
        &[
            ("vector", Dtype::F32, &[3], as_bytes(&[1.0, 2.0, 3.0], f32::to_le_bytes)),
            ("scalar", Dtype::F32, &[], as_bytes(&[7.0], f32::to_le_bytes)),
            ("nothing", Dtype::F32, &[0, 4], Vec::new()),
        ],
    );
    let checkpoint = folder.open().expect("opens");
    let vector = checkpoint.tensor("vector").expect("is there");
    assert_eq!((vector.rows(), vector.columns(), vector.to_vec()), (1, 3, vec![1.0, 2.0, 3.0]));
    assert_eq!(checkpoint.tensor("scalar").expect("is there").to_vec(), [7.0]);
    assert_eq!(checkpoint.tensor("nothing").expect("is there").to_vec(), [0.0; 0]);
}

fn sharded() -> Folder {
    let value = |value: f32| as_bytes(&[value], f32::to_le_bytes);
    Folder::new()
        .tensors("one.safetensors", &[("a", Dtype::F32, &[1], value(1.0))])
        .tensors(
            "two.safetensors",
            &[
                ("b", Dtype::F32, &[1], value(2.0)),
                // Left over from another conversion; the index does not send anyone here for it.
                ("a", Dtype::F32, &[1], value(9.0)),
            ],
        )
        .tensors("unrelated.safetensors", &[("c", Dtype::F32, &[1], value(3.0))])
}

#[test]
fn the_index_decides_which_shard_holds_a_tensor() {
    let folder = sharded().text(
        "model.safetensors.index.json",
        r#"{"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#,
    );
    let checkpoint = folder.open().expect("opens");
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(checkpoint.tensor("a").expect("is there").to_vec(), [1.0]);
    assert_eq!(checkpoint.tensor("b").expect("is there").to_vec(), [2.0]);
    assert!(checkpoint.tensor("b").expect("is there").file().ends_with("two.safetensors"));
    let names: Vec<_> = checkpoint.files.iter().filter_map(|file| file.file_name()).collect();
    assert_eq!(names, ["one.safetensors", "two.safetensors"]);
    let bytes: u64 = checkpoint.files.iter().map(|file| fs::metadata(file).expect("is there").len()).sum();
    assert_eq!(checkpoint.file_bytes, bytes);
}

#[test]
fn an_index_that_is_wrong_is_named_with_the_tensor() {
    let rows: [(&str, &[&str]); 5] = [
        (r#"{"weight_map": {"z": "one.safetensors"}}"#, &["one.safetensors", "\"z\"", "index.json says"]),
        (
            r#"{"weight_map": {"a": "three.safetensors"}}"#,
            &["index.json", "three.safetensors", "no such file"],
        ),
        (r#"{"weight_map": {"a": "../one.safetensors"}}"#, &["index.json", "\"a\"", "same folder"]),
        (r#"{"weight_map": 7}"#, &["index.json", "weight_map"]),
        (r#"{"weight_map": {"#, &["index.json", "JSON"]),
    ];
    for (index, parts) in rows {
        sharded().text("model.safetensors.index.json", index).refused(parts);
    }
    sharded().refused(&["model.safetensors.index.json", "one.safetensors, two.safetensors"]);
}

#[test]
fn a_damaged_file_names_file_tensor_expected_and_found() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let f32_2 = |offsets: &str| entry("\"F32\"", "[2]", offsets);
    let overlap = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                      "x":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    let mut long_header = raw(&f32_2("[0,8]"), 8);
    long_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let rows: [(Vec<u8>, &[&str]); 13] = [
        (Vec::new(), &["header", "at least 8 bytes", "0 bytes"]),
        (vec![1, 2, 3], &["header", "3 bytes"]),
        (long_header, &["header", "18446744073709551615 bytes"]),
        (raw(&f32_2("[0,8]"), 8)[..20].to_vec(), &["header", "at most 12 bytes"]),
        (raw("{\"w\":", 0), &["header", "JSON"]),
        (raw("[1]", 0), &["header", "a JSON object"]),
        (raw(&f32_2("[0,8]"), 7), &["\"w\"", "7 bytes of data", "0..8"]),
        (raw(&f32_2("[8,0]"), 8), &["\"w\"", "8..0"]),
        (raw(&f32_2("[0,4]"), 8), &["\"w\"", "8 bytes for [2] of F32", "4 bytes"]),
        (raw(&f32_2("[0]"), 8), &["\"w\"", "[begin, end]", "[0]"]),
        (raw(&entry("\"F32\"", "[-2]", "[0,8]"), 8), &["shape of tensor \"w\"", "[-2]"]),
        (raw(&entry("\"F32\"", "[4294967296,4294967296,2]", "[0,8]"), 8), &["\"w\"", "8 bytes"]),
        (raw(&entry("7", "[2]", "[0,8]"), 8), &["dtype of tensor \"w\"", "7"]),
    ];
    for (file, parts) in rows {
        let folder = Folder::new().bytes("model.safetensors", &file);
        folder.refused(parts);
        folder.refused(&["model.safetensors is damaged", "copy or download the file again"]);
    }
    Folder::new().bytes("model.safetensors", &raw(overlap, 12)).refused(&["\"x\"", "after 8", "found 4"]);
}

#[test]
fn an_unsupported_dtype_is_refused_only_when_that_tensor_is_asked_for() {
    let folder = Folder::new().tensors(
        "model.safetensors",
        &[
            ("good", Dtype::F32, &[1], as_bytes(&[1.0], f32::to_le_bytes)),
            ("eight", Dtype::F8_E4M3, &[4], vec![0; 4]),
            ("counts", Dtype::I64, &[1], vec![0; 8]),
        ],
    );
    let checkpoint = folder.open().expect("opens");
    assert_eq!(checkpoint.tensor("good").expect("is there").to_vec(), [1.0]);
    for (name, dtype) in [("eight", "F8_E4M3"), ("counts", "I64")] {
        let error = checkpoint.tensor(name).expect_err("not read").to_string();
        for part in ["model.safetensors", name, dtype, "supported are"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn templates_are_found_where_models_keep_them() {
    let weights = written_by_the_reference(&[("w", Dtype::F32, &[1], vec![0; 4])]);
    let folder = || Folder::new().bytes("model.safetensors", &weights);
    let template = |folder: Folder| folder.open().expect("opens").chat_template;
    let listed = json!({ "chat_template": [
        { "name": "rag", "template": "R" }, { "name": "default", "template": "D" }
    ] });
    let nameless = json!({ "chat_template": [{ "name": "rag", "template": "R" }] });
    assert_eq!(template(folder()), None);
    assert_eq!(
        template(folder().text("tokenizer_config.json", r#"{"chat_template": "T"}"#)).as_deref(),
        Some("T")
    );
    assert_eq!(template(folder().text("tokenizer_config.json", &listed.to_string())).as_deref(), Some("D"));
    assert_eq!(template(folder().text("tokenizer_config.json", &nameless.to_string())), None);
    let both = folder()
        .text("tokenizer_config.json", r#"{"chat_template": "T"}"#)
        .text("chat_template.jinja", "a file of its own wins");
    assert_eq!(template(both).as_deref(), Some("a file of its own wins"));
    folder().text("tokenizer_config.json", "{").refused(&["tokenizer_config.json", "JSON"]);
}

#[test]
fn the_generation_configuration_is_optional() {
    let weights = written_by_the_reference(&[("w", Dtype::F32, &[1], vec![0; 4])]);
    let folder = Folder::new().bytes("model.safetensors", &weights);
    assert_eq!(folder.open().expect("opens").generation_config, None);
    let folder = folder.text("generation_config.json", r#"{"eos_token_id": [1, 2]}"#);
    assert_eq!(folder.open().expect("opens").generation_config, Some(json!({ "eos_token_id": [1, 2] })));
}

#[test]
fn what_is_no_model_says_what_was_expected_and_what_is_there() {
    let empty = tempfile::tempdir().expect("a folder");
    let error = open(empty.path()).expect_err("empty").to_string();
    assert!(error.contains("config.json with *.safetensors, or one .gguf file, found nothing"), "{error}");
    let error = open(&empty.path().join("absent")).expect_err("absent").to_string();
    assert!(error.contains("cannot open") && error.contains("absent"), "{error}");
    Folder::new().text("pytorch_model.bin", "pickle").refused(&["*.safetensors", "pytorch_model.bin"]);
    let file = Folder::new().text("notes.txt", "no weights here");
    let error = open(&file.path().join("notes.txt")).expect_err("text").to_string();
    assert!(error.contains("notes.txt") && error.contains("\"GGUF\""), "{error}");
}
