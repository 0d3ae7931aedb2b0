//! How do decisions get to disk and back, with no request waiting for it?
//!
//! A thread of its own writes lines of JSON, those of a moment together. When the file is full it takes the place of the one
//! before, so two files bound the whole.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use domain::RequestId;
use parking_lot::{Condvar, Mutex};

use super::{DecisionRecord, Line};

/// Lines that wait for the disk. 1,024 of usually 600 bytes; they share their memory with the log in most cases. A line has at most
/// some 60 KiB (64 candidates and 32 attempts of 400 letters), so the queue never holds more than 60 MiB.
const QUEUE_LINES: usize = 1_024;
/// Lines are written together when so many wait, or the first has waited so long: waking a thread costs more than a line.
const BATCH_LINES: usize = QUEUE_LINES / 2;
const BATCH_WAIT: Duration = Duration::from_millis(50);

pub struct LogFile {
    folder: PathBuf,
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    stirred: Condvar,
    left_out: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<Line>,
    is_closed: bool,
}

impl LogFile {
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let lines = Lines::open(folder, bytes_max)?;
        let queue = Arc::new(Queue::default());
        let shared = queue.clone();
        let thread = std::thread::Builder::new().name("decisions".into());
        let writer = thread.spawn(move || write_all(lines, &shared))?;
        Ok(Self { folder: folder.to_owned(), queue, writer: Mutex::new(Some(writer)) })
    }

    pub fn write(&self, line: Line) {
        let mut waiting = self.queue.waiting.lock();
        if waiting.is_closed || waiting.lines.len() == QUEUE_LINES {
            self.queue.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.lines.push(line);
        let is_worth_waking = matches!(waiting.lines.len(), 1 | BATCH_LINES);
        drop(waiting);
        if is_worth_waking {
            self.queue.stirred.notify_one();
        }
    }

    pub fn find(&self, request: &RequestId) -> Option<DecisionRecord> {
        find(&self.folder, request)
    }

    pub fn left_out(&self) -> u64 {
        self.queue.left_out.load(Ordering::Relaxed)
    }

    pub fn close(&self) {
        self.queue.waiting.lock().is_closed = true;
        self.queue.stirred.notify_one();
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

    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            self.file.flush()?;
            std::fs::rename(current(&self.folder), previous(&self.folder))?;
            *self = Self::open(&self.folder, self.bytes_max)?;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

impl Queue {
    /// Returns what waits, when it is time to write it; nothing when nothing will come any more.
    fn take(&self) -> Option<Vec<Line>> {
        let mut waiting = self.waiting.lock();
        while waiting.lines.is_empty() {
            if waiting.is_closed {
                return None;
            }
            self.stirred.wait(&mut waiting);
        }
        let is_early = |waiting: &mut Waiting| !waiting.is_closed && waiting.lines.len() < BATCH_LINES;
        self.stirred.wait_while_for(&mut waiting, is_early, BATCH_WAIT);
        Some(std::mem::take(&mut waiting.lines))
    }
}

/// Writes until the queue is closed and empty. What cannot be written is counted; the next line is tried again.
fn write_all(mut file: Lines, queue: &Queue) {
    while let Some(lines) = queue.take() {
        for line in lines {
            if file.add(&line).is_err() {
                queue.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        let _ = file.file.flush();
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
