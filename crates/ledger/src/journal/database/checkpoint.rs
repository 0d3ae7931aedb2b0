//! How does what is committed get from SQLite's log into its file, without a commit waiting for it?
//!
//! A thread of its own copies while the writer goes on. What comes meanwhile is left over, so that the log would never be empty
//! and never begin anew: once little is left, the writer copies that itself between two transactions, which is short.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};

/// Copying begins when the log has so many pages (of 4 KiB). A page that is written often is copied once.
const LOG_PAGES_MIN: u32 = 4_096;
/// From here on the writer waits for the copying, so that the log is bounded by more than the disk.
const LOG_PAGES_MAX: u32 = 16_384;
/// So many the writer copies itself.
const REST_PAGES: u32 = 512;
/// While a reader holds on to a moment of the past, nothing newer can be copied.
const HELD_UP: Duration = Duration::from_millis(100);

thread_local! {
    /// In the log after the last commit of this thread. SQLite tells it to a function that knows nothing else.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// The writer's side.
pub struct Checkpoints {
    path: PathBuf,
    /// From the first log on that was long enough.
    copier: Option<Copier>,
}

struct Copier {
    shared: Arc<Shared>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    /// Held while the thread copies.
    copying: Mutex<()>,
}

#[derive(Default)]
struct Progress {
    is_wanted: bool,
    /// Of the log's pages, from its beginning.
    copied: u32,
}

impl Checkpoints {
    /// Takes over the checkpoints of a connection to this file.
    pub fn of(connection: &Connection, path: &Path) -> Checkpoints {
        // With it SQLite makes none by itself.
        connection.wal_hook(Some(|_, pages| {
            LOG_PAGES.set(pages.unsigned_abs());
            Ok(())
        }));
        Checkpoints { path: path.to_owned(), copier: None }
    }

    /// To be called after each commit, by whoever committed. Where a checkpoint fails, what is committed is in the log all the
    /// same, and a later one copies it.
    pub fn after_commit(&mut self, connection: &Connection) {
        let pages = LOG_PAGES.get();
        if pages < LOG_PAGES_MIN {
            return;
        }
        if self.copier.is_none() {
            self.copier = Copier::start(&self.path).ok();
        }
        let Some(copier) = &self.copier else {
            let _ = checkpoint(connection);
            return;
        };
        if copier.is_asked(pages) && pages < LOG_PAGES_MAX {
            return;
        }
        let _turn = copier.shared.copying.lock();
        if checkpoint(connection).is_ok_and(|copied| copied >= pages) {
            *copier.shared.progress.lock() = Progress::default();
        }
    }
}

impl Copier {
    fn start(path: &Path) -> io::Result<Copier> {
        // One call that waits is enough: it means that there is something to do.
        let (wake, woken) = sync_channel(1);
        let shared = Arc::<Shared>::default();
        let (path, told) = (path.to_owned(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("checkpoint".into());
        let thread = thread.spawn(move || copy(&path, &woken, &told))?;
        Ok(Copier { shared, wake: Some(wake), thread: Some(thread) })
    }

    /// Returns whether there is still so much to do that it does it; then it has been told.
    fn is_asked(&self, pages: u32) -> bool {
        let mut progress = self.shared.progress.lock();
        if progress.copied > 0 && pages.saturating_sub(progress.copied) <= REST_PAGES {
            return false;
        }
        progress.is_wanted = true;
        match self.wake.as_ref().map(|wake| wake.try_send(())) {
            None | Some(Err(std::sync::mpsc::TrySendError::Disconnected(()))) => false,
            Some(Ok(()) | Err(std::sync::mpsc::TrySendError::Full(()))) => true,
        }
    }
}

/// The last connection that closes copies what is left: that shall be the writer's, which goes after this.
impl Drop for Copier {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Copies whenever it is woken, until nobody is left to wake it.
fn copy(path: &Path, woken: &Receiver<()>, shared: &Shared) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // Nobody hears of what fails here: the writer finds its calls unanswered, and copies itself.
    let Ok(connection) = Connection::open_with_flags(path, flags) else { return };
    while woken.recv().is_ok() {
        let turn = shared.copying.lock();
        // A call that was still waiting when the log was emptied means nothing any more.
        if !shared.progress.lock().is_wanted {
            continue;
        }
        let Ok(copied) = checkpoint(&connection) else { return };
        drop(turn);
        let mut progress = shared.progress.lock();
        if progress.is_wanted && progress.copied != copied {
            progress.copied = copied;
        } else {
            drop(progress);
            std::thread::sleep(HELD_UP);
        }
    }
}

/// Copies what no reader stands in the way of; returns how many of the log's pages are copied now.
fn checkpoint(connection: &Connection) -> rusqlite::Result<u32> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |row| {
        // A checkpoint that another thread is at says -1.
        row.get::<_, i64>(2).map(|copied| u32::try_from(copied).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: i64 = 4_096;

    fn file(folder: &tempfile::TempDir) -> (PathBuf, Connection, Checkpoints) {
        let path = folder.path().join("a.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
        connection.execute_batch("CREATE TABLE page (body BLOB)").unwrap();
        let checkpoints = Checkpoints::of(&connection, &path);
        (path, connection, checkpoints)
    }

    fn log_bytes(path: &Path) -> u64 {
        std::fs::metadata(path.with_extension("sqlite-wal")).map_or(0, |log| log.len())
    }

    fn write(connection: &Connection, checkpoints: &mut Checkpoints, commits: usize) {
        for _ in 0..commits {
            connection.execute("INSERT INTO page VALUES (zeroblob(?1))", [64 * PAGE]).unwrap();
            checkpoints.after_commit(connection);
        }
    }

    /// 400 MB go through a log that is never longer than what the writer lets stand.
    #[test]
    fn the_log_begins_anew_however_much_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (path, connection, mut checkpoints) = file(&folder);
        write(&connection, &mut checkpoints, 1_536);
        assert!(checkpoints.copier.is_some());
        let (log, most) = (log_bytes(&path), u64::from(LOG_PAGES_MAX + 256) * (PAGE as u64 + 24));
        assert!(log <= most, "{log} of {most} bytes");
    }

    #[test]
    fn a_reader_of_the_past_holds_the_log_up_and_the_writer_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, connection, mut checkpoints) = file(&folder);
        let reader = Connection::open(&path).unwrap();
        let count = |reader: &Connection| -> i64 {
            reader.query_row("SELECT count(*) FROM page", [], |row| row.get(0)).unwrap()
        };
        reader.execute_batch("BEGIN").unwrap();
        assert_eq!(count(&reader), 0);
        write(&connection, &mut checkpoints, 512);
        assert!(log_bytes(&path) > (512 * 64 * PAGE) as u64, "all of it is still in the log");
        assert_eq!(count(&reader), 0, "it sees its own moment");
        reader.execute_batch("COMMIT").unwrap();
        write(&connection, &mut checkpoints, 512);
        assert_eq!(count(&reader), 1_024);
        assert!(std::fs::metadata(&path).unwrap().len() > (512 * 64 * PAGE) as u64);
    }

    #[test]
    fn what_is_left_is_copied_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (path, connection, mut checkpoints) = file(&folder);
        write(&connection, &mut checkpoints, 100);
        drop(checkpoints);
        drop(connection);
        assert_eq!(log_bytes(&path), 0);
        let again = Connection::open(&path).unwrap();
        assert_eq!(again.query_row("SELECT count(*) FROM page", [], |row| row.get(0)), Ok(100));
    }
}
