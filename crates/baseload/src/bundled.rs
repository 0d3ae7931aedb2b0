//! Where the models that ship inside the binary become files that can be memory-mapped.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};

/// A model folder inside the binary.
pub struct BundledModel {
    pub name: &'static str,
    pub files: &'static [(&'static str, &'static [u8])],
}

include!(concat!(env!("OUT_DIR"), "/bundled_models.rs"));

impl BundledModel {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, content)| content.len() as u64).sum()
    }

    /// Writes the files below `data`, unless they are there already, and returns their folder. The folder's name carries a
    /// hash of the content, so that a newer binary never reads an older binary's files.
    pub fn unpack(&self, data: &Path) -> anyhow::Result<PathBuf> {
        let folder =
            data.join("bundled").join(format!("{}-{}", self.name, self.fingerprint())).join(self.name);
        for (file, content) in self.files {
            let path = folder.join(file);
            let present = fs::metadata(&path).is_ok_and(|found| found.len() == content.len() as u64);
            if !present {
                write_whole(&path, content)
                    .with_context(|| format!("unpacking the bundled model to {}", path.display()))?;
            }
        }
        Ok(folder)
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (file, content) in self.files {
            hash.update(file);
            hash.update(content.len().to_le_bytes());
            hash.update(content);
        }
        hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Writes beside the target and renames, so that a crash leaves no half file under the final name.
fn write_whole(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().expect("the path has a folder");
    fs::create_dir_all(folder)?;
    let part = path.with_extension(format!("part{}", std::process::id()));
    let mut file = fs::File::create(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_twice_writes_once_and_repairs_a_damaged_file() {
        let data = tempfile::tempdir().unwrap();
        let model = BundledModel { name: "tiny", files: &[("config.json", b"{}"), ("weights", b"1234")] };
        let folder = model.unpack(data.path()).unwrap();
        assert_eq!(folder.file_name().unwrap(), "tiny");
        fs::write(folder.join("weights"), b"12").unwrap();
        assert_eq!(model.unpack(data.path()).unwrap(), folder);
        assert_eq!(fs::read(folder.join("weights")).unwrap(), b"1234");
    }

    #[test]
    fn the_default_model_ships_with_all_it_needs() {
        assert_eq!(BUNDLED[0].name, "main");
        for model in BUNDLED {
            assert_eq!(model.files.len(), 6, "{}", model.name);
        }
    }
}
