//! How do decisions get to disk and back, with no request waiting for it?
//!
//! A thread of its own writes lines of JSON. When the file is full it takes the place of the one before, so two files bound the whole.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use domain::RequestId;
use parking_lot::Mutex;

use super::DecisionRecord;

/// Lines that wait for the disk. 1,024 of usually 1 KiB; they share their memory with the log in most cases. A record has at most
/// some 60 KiB (64 candidates and 32 attempts of 400 letters), so the queue never holds more than 60 MiB.
const QUEUE_LINES: usize = 1_024;

pub struct LogFile {
    folder: PathBuf,
    queue: Mutex<Option<SyncSender<Arc<DecisionRecord>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    left_out: Arc<AtomicU64>,
}

impl LogFile {
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let lines = Lines::open(folder, bytes_max)?;
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        let left_out = Arc::new(AtomicU64::new(0));
        let counter = left_out.clone();
        let writer = std::thread::Builder::new()
            .name("decisions".into())
            .spawn(move || write_all(lines, &receiver, &counter))?;
        Ok(Self {
            folder: folder.to_owned(),
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            left_out,
        })
    }

    pub fn write(&self, record: Arc<DecisionRecord>) {
        let sent = self.queue.lock().as_ref().map(|queue| queue.try_send(record));
        if !matches!(sent, Some(Ok(()))) {
            debug_assert!(
                !matches!(sent, Some(Err(TrySendError::Disconnected(_)))),
                "the writer lives as long as the queue"
            );
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn find(&self, request: &RequestId) -> Option<DecisionRecord> {
        find(&self.folder, request)
    }

    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    pub fn close(&self) {
        drop(self.queue.lock().take());
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.close();
    }
}

fn current(folder: &Path) -> PathBuf {
    folder.join("decisions.jsonl")
}

fn previous(folder: &Path) -> PathBuf {
    folder.join("decisions.1.jsonl")
}

/// The file that is written, and how full it is.
struct Lines {
    folder: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
}

impl Lines {
    fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(current(folder))?;
        // A line that a crash has torn would spoil the next one.
        let bytes = whole_lines(&mut file)?;
        file.set_len(bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { folder: folder.to_owned(), file: BufWriter::new(file), bytes, bytes_max })
    }

    fn add(&mut self, record: &DecisionRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            self.file.flush()?;
            std::fs::rename(current(&self.folder), previous(&self.folder))?;
            *self = Self::open(&self.folder, self.bytes_max)?;
        }
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Writes until nobody can send any more. What cannot be written is counted; the next line is tried again.
fn write_all(mut lines: Lines, queue: &Receiver<Arc<DecisionRecord>>, left_out: &AtomicU64) {
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(record) = next {
            if lines.add(&record).is_err() {
                left_out.fetch_add(1, Ordering::Relaxed);
            }
            next = queue.try_recv().ok();
        }
        let _ = lines.file.flush();
    }
}

/// Returns how many bytes lie before the end of the last whole line.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    /// Longer than any line.
    const WINDOW: u64 = 128 << 10;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(WINDOW);
    file.seek(SeekFrom::Start(start))?;
    let mut window = Vec::new();
    file.take(WINDOW).read_to_end(&mut window)?;
    let end = window.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place as u64 + 1);
    Ok(start + end)
}

/// Returns the last records of both files, oldest first; of each no more than so many bytes.
pub fn tail(folder: &Path, bytes_max: u64) -> io::Result<Vec<DecisionRecord>> {
    let mut records = Vec::new();
    for path in [previous(folder), current(folder)] {
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let skipped = file.metadata()?.len().saturating_sub(bytes_max);
        file.seek(SeekFrom::Start(skipped))?;
        let mut lines = BufReader::new(file);
        if skipped > 0 {
            // The rest of a line that began before.
            lines.skip_until(b'\n')?;
        }
        records.extend(
            lines.split(b'\n').map_while(Result::ok).filter_map(|line| serde_json::from_slice(&line).ok()),
        );
    }
    Ok(records)
}

/// Returns what is known of this request in either file.
pub fn find(folder: &Path, request: &RequestId) -> Option<DecisionRecord> {
    [current(folder), previous(folder)].iter().find_map(|path| find_in(path, request))
}

/// Returns what the last line of this request says.
fn find_in(path: &Path, request: &RequestId) -> Option<DecisionRecord> {
    let named = format!("\"request\":{}", serde_json::to_string(request).ok()?);
    let lines = BufReader::with_capacity(256 << 10, File::open(path).ok()?).lines();
    let last = lines.map_while(Result::ok).filter(|line| line.contains(&named)).last()?;
    serde_json::from_str(&last).ok()
}
