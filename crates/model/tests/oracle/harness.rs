//! How tests name fixtures, run pieces of sequences, and compare scores.

use std::fs;
use std::path::{Path, PathBuf};

use model::{Batch, BlockId, Forward, LoadOptions, Model, Numerics, Span, weights};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

pub const FAMILIES: [&str; 13] = [
    "llama2",
    "llama3",
    "llama-linear",
    "llama-dynamic",
    "llama-bias",
    "mistral",
    "qwen2",
    "qwen2-yarn",
    "qwen3",
    "qwen3-window",
    "qwen3-moe",
    "qwen3-moe-fused",
    "mixtral",
];

/// Blocks in a test's arena.
pub const BLOCKS: usize = 16;

pub fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(family)
}

/// A field of `config.json`, and what it shall be.
pub type Change<'a> = (&'a str, Value);

/// Copies a fixture and changes fields of its configuration.
pub fn altered(family: &str, changes: &[Change<'_>]) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder(family)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let path = copy.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (field, value) in changes {
        config[*field] = value.clone();
    }
    fs::write(&path, config.to_string()).unwrap();
    copy
}

/// Loads with the machine's fastest arithmetic.
pub fn load(folder: &Path) -> Model {
    load_with(folder, LoadOptions::default())
}

/// Loads with arithmetic in which a row's neighbours do not change a bit of it.
pub fn load_exact(folder: &Path) -> Model {
    load_with(folder, LoadOptions { numerics: Numerics::BatchInvariant, ..LoadOptions::default() })
}

/// Two threads on every machine, so that work is really split.
pub fn load_with(folder: &Path, options: LoadOptions) -> Model {
    let checkpoint = weights::open(folder).unwrap();
    let mut model = Model::load(&checkpoint, &LoadOptions { threads: 2, ..options }, &mut |_| {}).unwrap();
    model.reserve(BLOCKS).unwrap();
    model
}

/// What transformers computed.
pub struct Expected {
    pub tokens: Vec<u32>,
    /// `[tokens][vocabulary]`
    pub log_probabilities: Vec<f32>,
    /// The same, with keys and values rounded to bf16 as our cache rounds them.
    pub log_probabilities_bf16_cache: Vec<f32>,
    /// `[layers][rows][hidden]`, of the first rows, from the rounded cache
    pub hidden: Vec<Vec<f32>>,
}

impl Expected {
    pub fn read(family: &str) -> Self {
        let bytes = fs::read(folder(family).join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> {
            let tensor = file.tensor(name).unwrap();
            tensor.data().as_chunks().0.to_vec()
        };
        let floats = |name: &str| words(name).into_iter().map(f32::from_le_bytes).collect::<Vec<_>>();
        let layers = file.tensor("hidden").unwrap().shape()[0];
        let hidden = floats("hidden");
        Self {
            tokens: words("tokens").into_iter().map(u32::from_le_bytes).collect(),
            log_probabilities: floats("log_probabilities"),
            log_probabilities_bf16_cache: floats("log_probabilities_bf16_cache"),
            hidden: hidden.chunks_exact(hidden.len() / layers).map(<[f32]>::to_vec).collect(),
        }
    }
}

/// Rows `from..to` of a sequence whose blocks are these.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    pub tokens: &'a [u32],
    pub from: usize,
    pub to: usize,
    pub blocks: &'a [u32],
}

impl Piece<'_> {
    pub fn rows(&self) -> usize {
        self.to - self.from
    }
}

pub fn batch(pieces: &[Piece<'_>]) -> Batch {
    let mut batch = Batch::default();
    for piece in pieces {
        batch.spans.push(Span {
            first_row: batch.tokens.len() as u32,
            rows: piece.rows() as u32,
            first_position: piece.from as u32,
            blocks: piece.blocks.iter().copied().map(BlockId).collect(),
        });
        batch.tokens.extend(&piece.tokens[piece.from..piece.to]);
    }
    batch.logit_rows = (0..batch.tokens.len() as u32).collect();
    batch
}

/// Runs the pieces as one batch and returns the scores of each piece's rows.
pub fn run(model: &mut Model, pieces: &[Piece<'_>]) -> Vec<Vec<f32>> {
    let mut logits = Vec::new();
    model.run(&batch(pieces), &mut logits).unwrap();
    let vocabulary = model.shape().vocabulary;
    let mut rest = &logits[..];
    pieces
        .iter()
        .map(|piece| rest.split_off(..piece.rows() * vocabulary).expect("scores of every row").to_vec())
        .collect()
}

pub fn run_in_one_go(model: &mut Model, tokens: &[u32]) -> Vec<f32> {
    run(model, &[Piece { tokens, from: 0, to: tokens.len(), blocks: &[0, 1] }]).remove(0)
}

/// Log-softmax in double precision, so that only the model's own error is compared.
pub fn log_probabilities(logits: &[f32], vocabulary: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(vocabulary) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let total = row.iter().map(|score| (f64::from(*score) - max).exp()).sum::<f64>().ln() + max;
        all.extend(row.iter().map(|score| (f64::from(*score) - total) as f32));
    }
    all
}

/// How far scores are from the expected ones, in nats.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// The most that our best token is worse than theirs, by their scores.
    pub regret: f32,
    pub mean: f32,
    pub p99: f32,
    pub max: f32,
}

impl Gap {
    pub fn between(found: &[f32], expected: &[f32], vocabulary: usize) -> Self {
        assert_eq!(found.len(), expected.len());
        let rows = found.chunks_exact(vocabulary).zip(expected.chunks_exact(vocabulary));
        let regret = rows.map(|(found, expected)| expected[best(expected)] - expected[best(found)]);
        let mut gaps: Vec<f32> = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).collect();
        gaps.sort_by(f32::total_cmp);
        Self {
            regret: regret.fold(0.0, f32::max),
            mean: gaps.iter().sum::<f32>() / gaps.len() as f32,
            p99: gaps[gaps.len() * 99 / 100],
            max: gaps[gaps.len() - 1],
        }
    }

    /// The project's gate for every family, kernel and precision that claims to keep a model's answers.
    pub fn passes(&self) -> bool {
        self.regret <= 0.20 && self.mean <= 0.06 && self.p99 <= 0.20
    }
}

fn best(row: &[f32]) -> usize {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a vocabulary is not empty")
}
