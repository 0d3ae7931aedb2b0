//! Which files of `demo-model/` go into the binary: the models that answer on a machine with nothing else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Bundled models by their folder's name, the default first.
const MODELS: [&str; 2] = ["main", "small"];

/// What a model needs to be served; the rest of its folder is for people.
const FILES: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
];

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let source = manifest
        .join("../../demo-model")
        .canonicalize()
        .expect("the folder demo-model/ is part of the project");
    let mut text = String::from("pub static BUNDLED: &[BundledModel] = &[\n");
    for model in MODELS {
        let _ = writeln!(text, "BundledModel {{ name: {model:?}, files: &[");
        for file in FILES {
            include(&mut text, &source.join(model).join(file), file);
        }
        text.push_str("] },\n");
    }
    text.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("bundled_models.rs");
    fs::write(out, text).expect("the build folder can be written");
}

fn include(text: &mut String, path: &Path, file: &str) {
    println!("cargo::rerun-if-changed={}", path.display());
    assert!(path.is_file(), "{} is missing; `make demo-model` rebuilds the bundled models", path.display());
    let _ = writeln!(text, "({file:?}, include_bytes!({:?})),", path.display().to_string());
}
