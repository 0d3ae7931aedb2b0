//! What does a disk do that is full, slow, broken, or forgets?

use std::io;
use std::sync::Arc;
use std::time::Duration;

use engine::BlockFile;
use parking_lot::{Condvar, Mutex};

/// A file in memory that fails as told. Clones are the same file: it survives the engine that wrote it.
#[derive(Clone, Default)]
pub struct FakeDisk(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// The furthest byte that was ever written or sized.
    longest: u64,
    writes: u64,
    troubles: Troubles,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Troubles {
    /// Writes fail: no space left.
    pub is_full: bool,
    /// Writes fail: read-only.
    pub is_read_only: bool,
    /// Reads fail.
    pub is_broken: bool,
    /// The file has lost its name.
    pub is_removed: bool,
    /// Every read takes so long.
    pub read_takes: Duration,
    /// Reads do not come back while this holds.
    pub hangs: bool,
}

impl FakeDisk {
    pub fn trouble(&self, troubles: Troubles) {
        self.0.state.lock().troubles = troubles;
        self.0.freed.notify_all();
    }

    /// Returns how long the file ever was.
    pub fn longest(&self) -> u64 {
        self.0.state.lock().longest
    }

    /// Returns how often something was written.
    pub fn writes(&self) -> u64 {
        self.0.state.lock().writes
    }

    /// Flips one bit in each page of 4,096 bytes behind the first, at that byte of the page.
    pub fn rot(&self, at: usize) {
        for page in self.0.state.lock().bytes.chunks_exact_mut(4096).skip(1) {
            page[at] ^= 0x10;
        }
    }
}

impl BlockFile for FakeDisk {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let mut state = self.0.state.lock();
        while state.troubles.hangs {
            self.0.freed.wait(&mut state);
        }
        std::thread::sleep(state.troubles.read_takes);
        if state.troubles.is_broken {
            return Err(io::Error::other("told to fail"));
        }
        let at = at as usize;
        let Some(from) = state.bytes.get(at..at + bytes.len()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        bytes.copy_from_slice(from);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if state.troubles.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if state.troubles.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let end = at + bytes.len() as u64;
        state.longest = state.longest.max(end);
        state.writes += 1;
        if state.bytes.len() < end as usize {
            state.bytes.resize(end as usize, 0);
        }
        state.bytes[at as usize..end as usize].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.0.state.lock();
        state.longest = state.longest.max(bytes);
        state.bytes.resize(bytes as usize, 0);
        Ok(())
    }

    fn check_name(&self) -> io::Result<()> {
        match self.0.state.lock().troubles.is_removed {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Ok(()),
        }
    }
}
