//! Whether ARCHITECTURE.md is true: its paths exist, and its arrows are the manifests' arrows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md exists")
}

#[test]
fn every_path_that_the_map_names_exists() {
    let text = document();
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| {
            ["crates/", "demo-model/", "bench/", "docs/", "tests/"]
                .iter()
                .any(|start| name.starts_with(start))
        })
        .collect();
    assert!(named.len() > 20, "the map names paths in backticks");
    let lost: Vec<&&str> = named.iter().filter(|name| !root().join(name).exists()).collect();
    assert!(lost.is_empty(), "ARCHITECTURE.md names what does not exist: {lost:?}");
}

#[test]
fn the_arrows_are_those_of_the_manifests() {
    let mut drawn = BTreeMap::new();
    for line in
        document().lines().filter(|line| line.contains('→') && !line.contains('`') && !line.contains("**"))
    {
        let (from, to) = line.split_once('→').expect("the line has an arrow");
        let mut to: Vec<String> = to.split_whitespace().map(str::to_owned).collect();
        to.sort();
        drawn.insert(from.trim().to_owned(), to);
    }
    let crates: Vec<String> = fs::read_dir(root().join("crates"))
        .expect("crates/ exists")
        .map(|entry| {
            entry.expect("crates/ can be listed").file_name().into_string().expect("crate names are text")
        })
        .collect();
    let mut real = BTreeMap::new();
    for name in &crates {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let manifest: toml::Table =
            toml::from_str(&fs::read_to_string(path).expect("a crate has a manifest")).expect("it is TOML");
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let mut to: Vec<String> = dependencies
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .filter(|name| crates.contains(name))
            .collect();
        to.sort();
        real.insert(name.clone(), to);
    }
    assert_eq!(drawn, real, "left: ARCHITECTURE.md, right: the manifests");
}

#[test]
fn unsafe_code_lives_in_two_rooms() {
    for entry in fs::read_dir(root().join("crates")).expect("crates/ exists") {
        let path = entry.expect("crates/ can be listed").path();
        let name = path.file_name().expect("a crate has a name").to_string_lossy().into_owned();
        let main = if name == "baseload" { "src/main.rs" } else { "src/lib.rs" };
        let text = fs::read_to_string(path.join(main)).expect("a crate has a root");
        let forbids = text.contains("#![forbid(unsafe_code)]");
        assert!(
            forbids || ["kernels", "model"].contains(&name.as_str()),
            "{name} must say #![forbid(unsafe_code)]"
        );
    }
}
