//! Who waits for the disk, so that the engine need not?
//!
//! One thread takes jobs in the order they come, except that reads go before writes: somebody waits for them. Every buffer
//! that goes in comes out again.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use model::BlockId;

use super::ChainHash;
use super::file::BlockFile;
use super::slot::{Format, Found, HEADER_BYTES, Header, PAGE_BYTES};

/// The longest that headers are read at a start. A disk that needs longer has the rest of its slots taken for empty.
const SCAN_MAX: Duration = Duration::from_secs(5);

pub(super) enum Job {
    Read {
        slot: BlockId,
        name: ChainHash,
        bytes: Vec<u8>,
    },
    /// The block lies behind the room for its header.
    Write {
        slot: BlockId,
        header: Header,
        bytes: Vec<u8>,
    },
    /// Makes what the slots hold unreadable, for this start and the next.
    Erase(Vec<BlockId>),
}

pub(super) enum Done {
    Opened(io::Result<Index>),
    Read { slot: BlockId, name: ChainHash, bytes: Vec<u8>, result: Result<(), ReadError>, took: Duration },
    Written { slot: BlockId, name: ChainHash, bytes: Vec<u8>, result: io::Result<()> },
    Erased(io::Result<()>),
}

pub(super) enum ReadError {
    Io(io::Error),
    /// The checksum is not what the slot says, or it is the slot of another block.
    Damaged,
}

/// What a file held at the start, oldest first.
#[derive(Default)]
pub(super) struct Index {
    pub(super) entries: Vec<(BlockId, Header)>,
    /// Whether the file held blocks of another model, and was emptied.
    pub(super) emptied: bool,
    /// Slots whose headers there was no time to read.
    pub(super) unread: usize,
}

/// The near side of the thread. The channels have no limit of their own: jobs are bounded by the buffers that they carry,
/// and by one erasure a failed sequence.
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    arrived: VecDeque<Done>,
}

impl Worker {
    pub(super) fn start(
        file: Arc<dyn BlockFile>,
        format: Format,
        slots: usize,
        is_kept: bool,
    ) -> io::Result<Self> {
        let (jobs, inbox) = channel();
        let (outbox, done) = channel();
        let desk = Desk { file, format, outbox };
        std::thread::Builder::new().name("kv-disk".to_owned()).spawn(move || {
            let opened = desk.open(slots, is_kept);
            let is_sound = opened.is_ok();
            if desk.outbox.send(Done::Opened(opened)).is_ok() && is_sound {
                desk.work(inbox);
            }
        })?;
        Ok(Self { jobs: Some(jobs), done, arrived: VecDeque::new() })
    }

    /// Hands over a job. A thread that has ended takes none; nothing of it will come back.
    pub(super) fn give(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// Returns what is done, if anything is.
    pub(super) fn take(&mut self) -> Option<Done> {
        self.arrived.pop_front().or_else(|| self.done.try_recv().ok())
    }

    /// Waits until something is done, but no longer than that.
    pub(super) fn wait(&mut self, limit: Duration) {
        match self.done.recv_timeout(limit) {
            Ok(done) => self.arrived.push_back(done),
            Err(RecvTimeoutError::Timeout) => (),
            // It has ended: nothing will come, and whoever asks again at once would spin.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(limit),
        }
    }

    /// Lets the thread finish what it has and end; gives up waiting for it after the limit, for a disk may hang.
    pub(super) fn close(&mut self, limit: Duration) {
        self.jobs = None;
        let end = Instant::now() + limit;
        while self.done.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
    }
}

/// The far side.
struct Desk {
    file: Arc<dyn BlockFile>,
    format: Format,
    outbox: Sender<Done>,
}

impl Desk {
    fn work(&self, inbox: Receiver<Job>) {
        let mut jobs: VecDeque<Job> = VecDeque::new();
        loop {
            if jobs.is_empty() {
                let Ok(job) = inbox.recv() else { return };
                jobs.push_back(job);
            }
            jobs.extend(inbox.try_iter());
            let first_read = jobs.iter().position(|job| matches!(job, Job::Read { .. }));
            let job = jobs.remove(first_read.unwrap_or(0)).expect("there is a job");
            // Nobody may listen any more: what was handed over is still written, for the next start.
            let _ = self.outbox.send(self.perform(job));
        }
    }

    fn perform(&self, job: Job) -> Done {
        match job {
            Job::Read { slot, name, mut bytes } => {
                let start = Instant::now();
                let result = self.read(slot, name, &mut bytes);
                Done::Read { slot, name, bytes, result, took: start.elapsed() }
            }
            Job::Write { slot, header, mut bytes } => {
                self.format.seal(header, &mut bytes);
                let write = || {
                    self.file.check_name()?;
                    self.file.write_at(&bytes, self.format.place_of(slot.0))
                };
                let result = write();
                Done::Written { slot, name: header.name, bytes, result }
            }
            Job::Erase(slots) => {
                let erase =
                    |slot: BlockId| self.file.write_at(&[0; HEADER_BYTES], self.format.place_of(slot.0));
                Done::Erased(slots.into_iter().try_for_each(erase))
            }
        }
    }

    fn read(&self, slot: BlockId, name: ChainHash, bytes: &mut [u8]) -> Result<(), ReadError> {
        self.file.read_at(bytes, self.format.place_of(slot.0)).map_err(ReadError::Io)?;
        if self.format.is_whole(name, bytes) { Ok(()) } else { Err(ReadError::Damaged) }
    }

    // === the start ===

    /// Gives the file its size and returns what of it can be used.
    fn open(&self, slots: usize, is_kept: bool) -> io::Result<Index> {
        let bytes = self.format.file_bytes(slots);
        if !is_kept {
            self.file.set_len(bytes)?;
            return Ok(Index::default());
        }
        self.file.set_len(bytes)?;
        let mut head = [0; HEADER_BYTES];
        self.file.read_at(&mut head, 0)?;
        let of_file = self.format.read(&head);
        if let Found::Ours(_) = of_file {
            return self.scan(slots);
        }
        // Emptied by cutting, so that the disk has its room back.
        self.file.set_len(0)?;
        self.file.set_len(bytes)?;
        let mut page = [0; PAGE_BYTES];
        self.format.seal(Header { name: ChainHash::of_bytes([0; 32]), age: 0 }, &mut page[..HEADER_BYTES]);
        self.file.write_at(&page, 0)?;
        Ok(Index { emptied: of_file == Found::Foreign, ..Index::default() })
    }

    /// Reads headers only: whether a block is whole is seen when it is needed.
    fn scan(&self, slots: usize) -> io::Result<Index> {
        let start = Instant::now();
        let mut index = Index::default();
        let mut head = [0; HEADER_BYTES];
        for slot in 0..slots as u32 {
            if start.elapsed() > SCAN_MAX {
                index.unread = slots - slot as usize;
                break;
            }
            self.file.read_at(&mut head, self.format.place_of(slot))?;
            if let Found::Ours(header) = self.format.read(&head) {
                index.entries.push((BlockId(slot), header));
            }
        }
        index.entries.sort_by_key(|(_, header)| header.age);
        Ok(index)
    }
}
