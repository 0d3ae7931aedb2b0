//! Where do the bytes of the disk tier lie?

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a tier asks of its file. A trait, so that tests can bring a disk that is full, slow, broken or forgetful.
pub trait BlockFile: Send + Sync {
    /// Fills the bytes from that place on, or fails.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all the bytes to that place on, or fails.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes the file so long. What is added takes no room on the disk until it is written.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Fails where the file should have a name and has none any more: what is written there would be kept for nobody.
    fn check_name(&self) -> io::Result<()>;
}

/// Where a tier has its file.
#[derive(Clone)]
pub enum DiskPlace {
    /// A file without a name in this folder: it is gone when the process ends, however it ends.
    Nameless(PathBuf),
    /// A file that stays, and is read again at the next start.
    Kept(PathBuf),
    /// A file that somebody else brings, and that stays.
    Given(Arc<dyn BlockFile>),
}

impl DiskPlace {
    pub(super) fn is_kept(&self) -> bool {
        !matches!(self, DiskPlace::Nameless(_))
    }

    pub(super) fn open(&self) -> io::Result<Arc<dyn BlockFile>> {
        match self {
            DiskPlace::Nameless(folder) => Ok(Arc::new(RealFile::nameless(folder)?)),
            DiskPlace::Kept(path) => Ok(Arc::new(RealFile::kept(path)?)),
            DiskPlace::Given(file) => Ok(file.clone()),
        }
    }
}

impl fmt::Debug for DiskPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskPlace::Nameless(folder) => write!(f, "a nameless file in {}", folder.display()),
            DiskPlace::Kept(path) => write!(f, "{}", path.display()),
            DiskPlace::Given(_) => write!(f, "a given file"),
        }
    }
}

impl PartialEq for DiskPlace {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (DiskPlace::Nameless(a), DiskPlace::Nameless(b)) | (DiskPlace::Kept(a), DiskPlace::Kept(b)) => {
                a == b
            }
            (DiskPlace::Given(a), DiskPlace::Given(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A file of this machine, for its owner's eyes only: it holds what was computed from prompts.
struct RealFile {
    file: File,
    has_name: bool,
}

impl RealFile {
    fn nameless(folder: &Path) -> io::Result<Self> {
        make_folder(folder)?;
        // The name lives for a moment and must be nobody else's in it.
        let path = folder.join(format!(".blocks-{:016x}", RandomState::new().hash_one("nameless")));
        let file = options().create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file, has_name: false })
    }

    fn kept(path: &Path) -> io::Result<Self> {
        make_folder(path.parent().unwrap_or(Path::new(".")))?;
        let file = options().create(true).truncate(false).open(path)?;
        // An older file may have been copied here with other permissions.
        file.set_permissions(Permissions::from_mode(0o600))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, has_name: true }),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process has it open"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl BlockFile for RealFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn check_name(&self) -> io::Result<()> {
        if self.has_name && self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is gone at the end of the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let unique = RandomState::new().hash_one("folder");
            Self(std::env::temp_dir().join(format!("blocks-test-{unique:016x}")).join("kv"))
        }
        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&self.0).expect("the folder was made");
            entries.map(|entry| entry.expect("it can be listed").file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.0.parent().expect("it has one"));
        }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_nameless_file_serves_and_nobody_finds_it() {
        let folder = Folder::new();
        let file = DiskPlace::Nameless(folder.0.clone()).open().unwrap();
        file.set_len(10_000).unwrap();
        file.write_at(b"block", 9_000).unwrap();
        let mut read = [0; 5];
        file.read_at(&mut read, 9_000).unwrap();
        assert_eq!((&read, folder.names().len()), (b"block", 0));
        assert!(file.check_name().is_ok(), "it never had one to lose");
        assert_eq!(mode(&folder.0), 0o700);
    }

    #[test]
    fn a_kept_file_is_its_owners_alone_and_one_process_at_a_time() {
        let folder = Folder::new();
        let path = folder.0.join("model.blocks");
        let place = DiskPlace::Kept(path.clone());
        let file = place.open().unwrap();
        file.set_len(100).unwrap();
        file.write_at(b"block", 0).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(place.open().is_err(), "a second would write over the first");
        drop(file);
        let mut read = [0; 5];
        place.open().unwrap().read_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"block");
    }

    #[test]
    fn a_kept_file_that_was_removed_says_so() {
        let folder = Folder::new();
        let path = folder.0.join("model.blocks");
        let file = DiskPlace::Kept(path.clone()).open().unwrap();
        assert!(file.check_name().is_ok());
        std::fs::remove_file(path).unwrap();
        assert_eq!(file.check_name().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_folder_that_may_not_be_written_is_an_error() {
        assert!(DiskPlace::Nameless("/proc/blocks".into()).open().is_err());
        assert!(DiskPlace::Kept("/proc/blocks/file".into()).open().is_err());
    }
}
