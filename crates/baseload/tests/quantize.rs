//! Whether a model can be made smaller, measured and served, with the real binary.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Server, baseload, text};

#[tokio::test]
async fn a_bundled_model_is_quantized_measured_and_served() {
    let data = tempfile::tempdir().unwrap();
    let out = data.path().join("small-int4");
    let out = out.to_str().unwrap();
    let arguments =
        ["quantize", "bundled:small", "--precision", "int4", "--out", out, "--tokens", "600", "--calibrate"];
    let output = baseload(data.path(), &arguments);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for word in ["bits per weight", "nearest", "calibrated", "kept", "baseload serve --model"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let report: Value =
        serde_json::from_slice(&fs::read(Path::new(out).join("report.json")).unwrap()).unwrap();
    assert_eq!(report["precision"], "int4");
    assert_eq!(report["measured"].as_array().map(Vec::len), Some(2), "{report}");
    assert!(report["bits_per_weight"].as_f64().unwrap() < 5.5, "{report}");
    let server = Server::start(data.path(), &["--model", out]);
    let answer = server.complete().await;
    assert_eq!(answer["usage"]["completion_tokens"], 4, "{answer}");
    let chat: Value = server.chat(json!({"model": "small-int4"})).send().await.unwrap().json().await.unwrap();
    assert!(chat["choices"][0]["message"]["content"].as_str().is_some_and(|said| !said.is_empty()), "{chat}");

    // What is there is not overwritten, and what is rounded is not rounded again.
    let again = text(&baseload(data.path(), &arguments));
    assert!(again.contains("is not empty"), "{again}");
    let twice = data.path().join("twice");
    let twice = text(&baseload(
        data.path(),
        &["quantize", out, "--precision", "int8", "--out", twice.to_str().unwrap()],
    ));
    assert!(twice.contains("quantized already"), "{twice}");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = text(&baseload(elsewhere.path(), &["run", "--model", out, "--precision", "int8", "Hello"]));
    assert!(other.contains("model.packed"), "{other}");
}

#[tokio::test]
async fn a_gguf_file_becomes_a_folder_that_is_served_with_its_tokenizer() {
    let data = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/gguf/qwen3.gguf");
    let out = data.path().join("qwen3-int8");
    let out = out.to_str().unwrap();
    let arguments = ["quantize", file.to_str().unwrap(), "--precision", "int8", "--out", out, "--no-measure"];
    let output = baseload(data.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let answer = Server::start(data.path(), &["--model", out]).complete().await;
    assert_eq!(answer["usage"]["completion_tokens"], 4, "{answer}");
}

#[test]
fn what_cannot_be_quantized_is_told_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let out = data.path().join("out");
    let out = out.to_str().unwrap();
    let rows: [(&[&str], &str); 5] = [
        (&["quantize", "./nothing", "--precision", "int8", "--out", out], "no model at"),
        (&["quantize", "bundled:small", "--precision", "int3", "--out", out], "int8, int4"),
        (&["quantize", "bundled:small", "--precision", "int8"], "--out"),
        (&["quantize", "bundled:small", "--precision", "int8", "--out", out, "--tokens", "1"], "--tokens"),
        (&["quantize", "bundled:small", "--precision", "int8", "--out", out, "--text", "no.txt"], "--text"),
    ];
    for (arguments, words) in rows {
        let output = baseload(data.path(), arguments);
        assert!(!output.status.success() && text(&output).contains(words), "{words}: {}", text(&output));
    }
    assert!(!Path::new(out).exists(), "nothing is written before everything is known to be there");
}
