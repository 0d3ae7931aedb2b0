//! Is what comes out of a packed file what went in, and is damage noticed?

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::quantize::write_folder;
use model::weights::{self, PACKED, PackedFile};
use model::{Batch, BlockId, Forward, LoadOptions, Model, Precision, Span};
use tempfile::TempDir;

use crate::demo;

const PRECISIONS: [Precision; 5] =
    [Precision::F32, Precision::F16, Precision::Bf16, Precision::Int8, Precision::Int4];

pub fn family(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(name)
}

pub fn options(precision: Option<Precision>) -> LoadOptions {
    LoadOptions { precision, threads: 2, ..LoadOptions::default() }
}

/// The scores of twenty tokens, as bits.
pub fn scores(model: &mut Model) -> Vec<u32> {
    model.reserve(1).unwrap();
    let tokens: Vec<u32> = (1..21).collect();
    let span = Span { first_row: 0, rows: 20, first_position: 0, blocks: vec![BlockId(0)] };
    let mut logits = Vec::new();
    let logit_rows = (0..20).collect();
    model.run(&Batch { tokens, spans: vec![span], logit_rows }, &mut logits).unwrap();
    logits.into_iter().map(f32::to_bits).collect()
}

fn quantized(source: &Path, precision: Precision) -> (TempDir, Model) {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = weights::open(source).unwrap();
    write_folder(&checkpoint, folder.path()).unwrap();
    let model =
        Model::quantize(&checkpoint, &options(Some(precision)), None, folder.path(), &mut |_| {}).unwrap();
    (folder, model)
}

/// What is done to a header.
type Edit<'a> = &'a dyn Fn(&mut serde_json::Value);

#[test]
fn what_is_mapped_answers_as_what_was_packed_bit_for_bit() {
    let experts = ["mixtral", "qwen3-moe", "qwen3-moe-fused"];
    for name in ["llama2", "llama3", "llama-bias", "mistral", "qwen2", "qwen3"].into_iter().chain(experts) {
        for precision in PRECISIONS {
            let (folder, mut packed) = quantized(&family(name), precision);
            let checkpoint = weights::open(folder.path()).unwrap();
            let file = checkpoint.packed.as_ref().expect("the folder holds packed weights");
            file.verify().unwrap();
            let mut mapped = Model::load(&checkpoint, &options(None), &mut |_| {}).unwrap();
            assert_eq!(scores(&mut mapped), scores(&mut packed), "{name} {precision:?}");
            let (mapped, packed) = (mapped.report(), packed.report());
            assert_eq!(mapped.parameters, packed.parameters);
            assert_eq!(mapped.parameters, file.parameters());
            assert_eq!(mapped.resident_bytes, packed.resident_bytes);
            assert_eq!(mapped.precision, precision);
        }
    }
}

#[test]
fn a_gguf_file_becomes_a_folder_with_its_tokenizer() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/llama.gguf");
    let (folder, mut packed) = quantized(&source, Precision::Int8);
    let (original, checkpoint) = (weights::open(&source).unwrap(), weights::open(folder.path()).unwrap());
    assert_eq!(checkpoint.tokenizer, original.tokenizer);
    assert_eq!(checkpoint.chat_template, original.chat_template);
    assert_eq!(checkpoint.config, original.config);
    assert_eq!(checkpoint.generation_config, original.generation_config);
    let mut mapped = Model::load(&checkpoint, &options(None), &mut |_| {}).unwrap();
    assert_eq!(scores(&mut mapped), scores(&mut packed));
}

#[test]
fn packed_weights_cannot_be_kept_in_another_way_or_quantized_again() {
    let (folder, _) = quantized(&family("qwen3"), Precision::Int8);
    let checkpoint = weights::open(folder.path()).unwrap();
    let other =
        Model::load(&checkpoint, &options(Some(Precision::Int4)), &mut |_| {}).err().unwrap().to_string();
    assert!(other.contains("int4") && other.contains(PACKED), "{other}");
    let target = tempfile::tempdir().unwrap();
    let again =
        Model::quantize(&checkpoint, &options(Some(Precision::Int4)), None, target.path(), &mut |_| {});
    assert!(again.is_err());
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn damage_before_and_behind_the_weights_is_noticed_at_once_and_in_them_when_asked() {
    let (folder, _) = quantized(&family("qwen3"), Precision::Int4);
    let path = folder.path().join(PACKED);
    let whole = fs::read(&path).unwrap();
    let number = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap()) as usize;
    let (index, length) = (number(24), number(32));
    assert_eq!(index + length, whole.len());
    let opened = |bytes: &[u8]| {
        // A new file each time: one that is mapped must not change.
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        PackedFile::open(&path)
    };
    for at in (0..128).chain((index..whole.len()).step_by(7)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let error =
            opened(&bytes).err().unwrap_or_else(|| panic!("byte {at} is changed, and nobody notices"));
        assert!(error.to_string().contains(PACKED), "{error}");
    }
    for length in (0..300).chain((300..whole.len()).step_by(991)) {
        assert!(opened(&whole[..length]).is_err(), "{length} of {} bytes are there", whole.len());
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(opened(&longer).is_err());
    // The first matrix, the embedding.
    let mut bytes = whole.clone();
    bytes[140] ^= 1;
    let error = opened(&bytes).expect("its index is sound").verify().unwrap_err().to_string();
    assert!(error.contains("checksum") && error.contains("embed_tokens"), "{error}");
    opened(&whole).unwrap().verify().unwrap();
}

/// An index may be whole and lie: its writer may have been another program.
#[test]
fn an_index_that_points_out_of_the_file_or_names_another_layout_is_refused() {
    use sha2::{Digest, Sha256};
    let (folder, _) = quantized(&family("qwen3"), Precision::Int8);
    let path = folder.path().join(PACKED);
    let whole = fs::read(&path).unwrap();
    let start = u64::from_le_bytes(whole[24..32].try_into().unwrap()) as usize;
    let index: serde_json::Value = serde_json::from_slice(&whole[start..]).unwrap();
    let rewritten = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut index = index.clone();
        change(&mut index);
        let text = serde_json::to_vec(&index).unwrap();
        let mut bytes = whole[..start].to_vec();
        bytes.extend(&text);
        let total = bytes.len() as u64;
        bytes[16..24].copy_from_slice(&total.to_le_bytes());
        bytes[32..40].copy_from_slice(&(text.len() as u64).to_le_bytes());
        bytes[40..72].copy_from_slice(&Sha256::digest(&text));
        let hash = Sha256::digest(&bytes[..72]);
        bytes[72..104].copy_from_slice(&hash);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        PackedFile::open(&path).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(rewritten(&|_| {}), Ok(()));
    let entry = |field: &'static str, value: u64| {
        move |index: &mut serde_json::Value| index["entries"][3][field] = value.into()
    };
    let rows: [(&str, Edit<'_>); 7] = [
        ("place", &entry("offset", 1 << 40)),
        ("place", &entry("offset", 129)),
        ("place", &entry("bytes", 64)),
        ("place", &entry("outputs", u64::MAX >> 1)),
        ("place", &entry("inputs", u64::MAX >> 1)),
        ("laid the weights out", &|index| index["layout"] = "another".into()),
        ("one entry", &|index| index["entries"][1]["name"] = index["entries"][0]["name"].clone()),
    ];
    for (words, change) in rows {
        let error = rewritten(change).expect_err(words);
        assert!(error.contains(words), "{error}");
    }
}

/// A model's file that belongs to another configuration.
#[test]
fn a_packed_file_beside_another_models_configuration_is_refused_by_name() {
    let (folder, _) = quantized(&family("qwen3"), Precision::Int8);
    fs::copy(family("llama2").join("config.json"), folder.path().join("config.json")).unwrap();
    let checkpoint = weights::open(folder.path()).unwrap();
    let error = Model::load(&checkpoint, &options(None), &mut |_| {}).err().unwrap().to_string();
    assert!(error.contains(PACKED), "{error}");
}

const SHARED_FOLDER: &str = "PACKED_FOLDER_OF_THE_TEST";

/// Not a test of its own: the other process of the one below.
#[test]
#[ignore = "started by the test below"]
fn the_other_process() {
    let folder = std::env::var(SHARED_FOLDER).expect("the parent sets it");
    let checkpoint = weights::open(Path::new(&folder)).unwrap();
    let mut model = Model::load(&checkpoint, &options(None), &mut |_| {}).unwrap();
    println!(
        "scores {:x}",
        scores(&mut model).iter().fold(7_u64, |hash, bits| hash.rotate_left(5) ^ u64::from(*bits))
    );
    std::io::stdout().flush().unwrap();
    // Until the parent has looked.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[cfg(target_os = "linux")]
#[test]
fn two_processes_share_the_pages_of_one_file() {
    use std::io::{BufRead as _, BufReader};
    let (folder, _) = quantized(&demo::folder("main"), Precision::Int8);
    let checkpoint = weights::open(folder.path()).unwrap();
    let mut model = Model::load(&checkpoint, &options(None), &mut |_| {}).unwrap();
    let own = scores(&mut model).iter().fold(7_u64, |hash, bits| hash.rotate_left(5) ^ u64::from(*bits));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "file::the_other_process", "--nocapture"])
        .env(SHARED_FOLDER, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Read to the end only afterwards: a child that finds nobody listening fails.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("scores ")).expect("the child answers");
    assert!(line.ends_with(&format!("scores {own:x}")), "{line}, here {own:x}");
    let (shared, copied) = pages_of(PACKED);
    assert!(shared > 5_000 && copied == 0, "{shared} KiB shared, {copied} KiB copied");
    drop(child.stdin.take());
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
}

/// KiB of the mapping of a file of this name that other processes share, and that this one has for itself because it wrote to them.
#[cfg(target_os = "linux")]
fn pages_of(name: &str) -> (u64, u64) {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut is_ours, mut shared, mut copied) = (false, 0, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().and_then(|value| value.parse::<u64>().ok())) {
            (Some("Shared_Clean:" | "Shared_Dirty:"), Some(kib)) if is_ours => shared += kib,
            // Copies of this process's own: what it alone has touched of the file, or what is not on disk yet, is no copy.
            (Some("Anonymous:"), Some(kib)) if is_ours => copied += kib,
            (Some(first), _) if first.contains('-') && !first.ends_with(':') => {
                is_ours = line.ends_with(name)
            }
            _ => {}
        }
    }
    (shared, copied)
}
