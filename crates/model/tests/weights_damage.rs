//! Does any damage to a file of weights end in an error or in a readable model, never in a panic or in memory
//! taken for numbers that the file merely claims?

use std::fs;
use std::path::{Path, PathBuf};

use model::weights::open;
use proptest::prelude::*;

/// The fixtures are some 40 KB. What a few test threads take for themselves stays far below this, and a claimed
/// count of 2^32 that is believed goes far beyond, even if the memory is never touched.
const ADDRESS_SPACE_GROWTH_MAX: u64 = 2 << 30;

/// Returns the most address space that this process ever had, where the system tells.
fn address_space_peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name);
    fs::read(path).expect("the fixture is there")
}

/// Opens the bytes as a model and reads whatever it offers. Returns whether it opened.
fn open_and_read(path: &Path, bytes: &[u8]) -> bool {
    // A new file each time: one that is still mapped must not change.
    let _ = fs::remove_file(path);
    fs::write(path, bytes).expect("written");
    let target: PathBuf = match path.extension() {
        Some(extension) if extension == "gguf" => path.to_path_buf(),
        _ => path.parent().expect("a folder").to_path_buf(),
    };
    let before = address_space_peak();
    let opened = open(&target);
    if let (Some(before), Some(after)) = (before, address_space_peak()) {
        assert!(after - before < ADDRESS_SPACE_GROWTH_MAX, "{} bytes for {}", after - before, bytes.len());
    }
    let Ok(checkpoint) = opened else { return false };
    for name in checkpoint.names() {
        if let Ok(tensor) = checkpoint.tensor(name) {
            let values = tensor.to_vec();
            assert_eq!(values.len(), tensor.shape().iter().product::<usize>());
            // Rows are smaller than the file; so are all together, at 8 values a byte at most.
            assert!(values.len() <= bytes.len() * 8);
        }
    }
    true
}

#[test]
fn a_gguf_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let whole = fixture("mistral.gguf");
    assert!(open_and_read(&path, &whole));
    let padding = 32;
    // The header byte by byte, the data in larger steps: there, only the length can tell.
    let cuts = (0..4000).chain((4000..whole.len() - padding).step_by(97));
    for cut in cuts {
        assert!(!open_and_read(&path, &whole[..cut]), "cut at {cut} of {}", whole.len());
    }
}

#[test]
fn a_safetensors_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("config.json"), "{}").expect("written");
    let path = folder.path().join("model.safetensors");
    let whole = fixture("mistral/model.safetensors");
    assert!(open_and_read(&path, &whole));
    for cut in (0..2000).chain((2000..whole.len()).step_by(197)) {
        assert!(!open_and_read(&path, &whole[..cut]), "cut at {cut} of {}", whole.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_never_panic(
        flips in prop::collection::vec((0usize..2500, any::<u8>()), 1..4),
        safetensors in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("config.json"), "{}").expect("written");
        let (source, name) = if safetensors {
            ("mistral/model.safetensors", "model.safetensors")
        } else {
            ("mistral.gguf", "model.gguf")
        };
        let mut bytes = fixture(source);
        for (at, value) in flips {
            bytes[at] = value;
        }
        open_and_read(&folder.path().join(name), &bytes);
    }

    /// Numbers that look like counts and sizes, at any place.
    #[test]
    fn absurd_numbers_never_panic(at in 8usize..2500, number in prop::sample::select(vec![
        u64::MAX, u64::MAX / 2, 1 << 62, 1 << 40, 1 << 32, u64::from(u32::MAX), 1 << 20, 0,
    ])) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut bytes = fixture("mistral.gguf");
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        open_and_read(&folder.path().join("model.gguf"), &bytes);
    }

    /// Any bytes at all behind a good beginning.
    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..600), counts in any::<[u8; 2]>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend_from_slice(&u64::from(counts[0]).to_le_bytes());
        bytes.extend_from_slice(&u64::from(counts[1]).to_le_bytes());
        bytes.extend_from_slice(&noise);
        open_and_read(&folder.path().join("model.gguf"), &bytes);
    }
}
