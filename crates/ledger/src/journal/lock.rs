//! Who may write this ledger: one server at a time, by a lock that ends with its process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::LedgerError;

/// Held as long as this lives. The operating system gives it up when the process dies, however it dies; so whoever holds
/// it knows that every hold which was open before belongs to nobody.
#[derive(Debug)]
pub struct ServerLock {
    _file: File,
}

/// Takes the lock of the ledger at `path`, or names who has it.
pub fn take(path: &Path) -> Result<ServerLock, LedgerError> {
    let lock_path = lock_path(path);
    let open_error = |error: std::io::Error| LedgerError::Open {
        ledger: lock_path.display().to_string(),
        why: error.to_string(),
        advice: "make the data folder writable for this user, or choose another one",
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(open_error)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(LedgerError::InUse { ledger: path.display().to_string(), holder: holder(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(open_error(error)),
    }
    // The process id only informs; that the lock is held is what the operating system says.
    file.set_len(0).and_then(|()| file.rewind()).map_err(open_error)?;
    write!(file, "process {}", std::process::id()).map_err(open_error)?;
    Ok(ServerLock { _file: file })
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => text,
        _ => "another process".to_owned(),
    }
}
