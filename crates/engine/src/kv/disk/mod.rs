//! Which blocks are kept on disk, and when is it worth bringing them back?
//!
//! ```text
//!   memory, cold end of the free list        staging                 file
//!   sealed, held by nobody ──save, copied──▶ write buffers ─worker─▶ slots, least recently used first
//!   found again, sealed    ◀─restore, copied─ read buffers ◀─worker─ found by name
//! ```
//! Blocks are written *ahead* of their reuse, while the engine has nothing better to do or for a small share of its time, so
//! that reusing one costs nothing. A sequence whose prefix goes on here waits for it as long as computing it would take at
//! most, and only if reading is the faster way. The engine's thread copies and keeps the book; it never waits for the disk.
//! Whatever goes wrong down there costs a recomputation: never an answer, never a step.

mod file;
mod slot;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

use domain::DiskStatus;
use model::{BlockId, Forward, Shape};

use super::pool::{Below, Blocks, IntegrityError};
use super::prefix::ChainHash;
use crate::cost::CostModel;
use crate::events;
use crate::step::Clock;

pub use file::{BlockFile, DiskPlace};
use slot::{Format, HEADER_BYTES, Header};
use worker::{Done, Index, Job, ReadError, Worker};

/// What an operator decides about the tier, and what its blocks depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskConfig {
    /// The file's size, never exceeded; it takes room on the disk only as blocks are written.
    pub bytes: u64,
    pub place: DiskPlace,
    /// Stands for everything that a block's bytes depend on besides its tokens. A kept file of another identity is emptied.
    pub identity: [u8; 32],
}

/// Blocks on their way, half of them down and half of them up: enough for a fast disk to be busy all the time.
const STAGING_BYTES: usize = 64 << 20;
/// For each direction. Two, or the disk would pause between blocks of any size; beyond 64, small blocks gain nothing.
const BUFFERS: std::ops::RangeInclusive<usize> = 2..=64;
/// The part of the engine's time that goes into copying blocks down while there is other work.
const SAVE_SHARE: f64 = 0.02;
/// Time for copying is not saved up beyond this: after a quiet hour, no step shall be held up by more.
const SAVE_CREDIT_MAX: f64 = 0.01;
/// What a disk is believed to read in a second before it was measured: a modest SSD.
const BYTES_PER_SECOND: f64 = 500e6;
/// The weight of the newest measurement.
const LEARNING_RATE: f64 = 0.2;
/// The longest wait for a prefix, as for one that is being computed.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A disk that failed or was late is left alone for so long: that is what one failure costs at most, in every half minute.
const REST: Duration = Duration::from_secs(30);

/// How a waiting sequence stands with the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DiskWait {
    #[default]
    NotAsked,
    /// Blocks are being read for it, until that moment.
    Until(Duration),
    /// It has what it could get.
    Over,
}

/// The book of the tier. Memory: 64 bytes a slot and an index entry (44 bytes) for each block on disk, both bounded by the
/// number of slots; the staging buffers, taken as they are first needed.
pub(crate) struct DiskTier {
    config: DiskConfig,
    format: Format,
    worker: Option<Worker>,
    /// Slots of the file; the book is the same as for blocks in memory. A slot is held while it is read or written.
    slots: Blocks,
    /// How many blocks of memory, from the cold end on, are to be on disk.
    ahead: usize,
    state: State,
    /// Blocks that are wanted back, with the slots that hold them. At most as many as there are slots.
    reads: HashMap<ChainHash, BlockId>,
    /// Those of `reads` that the worker was not asked for yet.
    wanted: VecDeque<(ChainHash, BlockId)>,
    reading: usize,
    /// Blocks on their way down, with their slots; `None` where the block was disowned on the way.
    writes: HashMap<BlockId, Option<ChainHash>>,
    /// For each direction.
    buffers_max: usize,
    spare_buffers: Vec<Vec<u8>>,
    block_seconds: f64,
    save_credit: f64,
    age: u64,
    counts: DiskStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The worker still reads what the file holds.
    Opening,
    Open,
    RestsUntil(Duration),
    Off,
}

impl DiskTier {
    /// Opens the file and starts the worker. A tier that cannot be is one that is off: said once, seen in the metrics.
    pub(crate) fn new(config: DiskConfig, shape: &Shape, memory_blocks: usize) -> Self {
        let format = Format { identity: config.identity, block_bytes: shape.block_bytes };
        let slots = format.slots_in(config.bytes);
        let mut tier = Self {
            // More than there are slots could never all be saved, and would push each other out for ever.
            ahead: memory_blocks.min(slots),
            buffers_max: (STAGING_BYTES / 2 / shape.block_bytes.max(1))
                .clamp(*BUFFERS.start(), *BUFFERS.end()),
            block_seconds: shape.block_bytes as f64 / BYTES_PER_SECOND,
            counts: DiskStatus { bytes_max: format.file_bytes(slots), ..DiskStatus::default() },
            slots: Blocks::new(slots),
            config,
            format,
            worker: None,
            state: State::Opening,
            reads: HashMap::new(),
            wanted: VecDeque::new(),
            reading: 0,
            writes: HashMap::new(),
            spare_buffers: Vec::new(),
            save_credit: 0.0,
            age: 0,
        };
        match tier.open(slots) {
            Ok(worker) => tier.worker = Some(worker),
            Err(error) => tier.turn_off(&error),
        }
        tier
    }

    fn open(&self, slots: usize) -> io::Result<Worker> {
        if slots == 0 {
            let needed = self.format.file_bytes(1);
            let text = format!("{} bytes hold no block: one needs {needed}", self.config.bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Worker::start(self.config.place.open()?, self.format, slots, self.config.place.is_kept())
    }

    pub(crate) fn status(&self, memory: &Blocks) -> DiskStatus {
        DiskStatus {
            bytes_used: self.slots.findable() as u64 * self.format.slot_bytes() as u64,
            lost: memory.lost(),
            resting: matches!(self.state, State::RestsUntil(_) | State::Off),
            ..self.counts
        }
    }

    /// Whether something is under way that will come back.
    pub(crate) fn is_busy(&self) -> bool {
        self.state != State::Off
            && (self.state == State::Opening || self.reading > 0 || !self.writes.is_empty())
    }

    /// Whether somebody waits for blocks.
    pub(crate) fn is_reading(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Waits until something has come back, but no longer than that.
    pub(crate) fn wait(&mut self, limit: Duration) {
        if let Some(worker) = &mut self.worker {
            worker.wait(limit);
        }
    }

    // === up: is it worth waiting? ===

    /// Decides whether a sequence that could start now had better wait for blocks of its prefix. `names` are the blocks it
    /// may take, the first `found` of which are in memory.
    pub(crate) fn wait_for(&mut self, wait: DiskWait, prefix: &Prefix<'_>, memory: &mut Blocks) -> DiskWait {
        let (here, behind) = prefix.names.split_at(prefix.found);
        match wait {
            DiskWait::Over => return DiskWait::Over,
            DiskWait::NotAsked => return self.ask(prefix, memory),
            DiskWait::Until(_) if !behind.first().is_some_and(|next| self.reads.contains_key(next)) => (),
            DiskWait::Until(deadline) if prefix.now < deadline => {
                touch(memory, here);
                return wait;
            }
            DiskWait::Until(_) => self.give_up(behind, prefix.now),
        }
        touch(memory, here);
        touch(&mut self.slots, prefix.names);
        DiskWait::Over
    }

    fn ask(&mut self, prefix: &Prefix<'_>, memory: &mut Blocks) -> DiskWait {
        if !self.is_open(prefix.now) {
            return DiskWait::NotAsked;
        }
        let behind = &prefix.names[prefix.found..];
        let is_somewhere = |name: &&ChainHash| memory.find(name).is_some() || self.slots.find(name).is_some();
        let known = behind.iter().take_while(is_somewhere);
        let missing: Vec<ChainHash> = known.filter(|name| memory.find(name).is_none()).copied().collect();
        // Where memory is full of running work the sequence could not start, and what was read for it would push out
        // what it needs.
        if missing.is_empty() || prefix.room.is_none_or(|room| room < self.reads.len()) {
            return DiskWait::NotAsked;
        }
        let reading = (self.reads.len() + missing.len()) as f64 * self.block_seconds;
        let computing = prefix.compute_seconds(missing.len());
        if reading >= computing {
            self.counts.not_worth += missing.len() as u64;
            return DiskWait::Over;
        }
        for name in missing {
            let slot = self.slots.find(&name).expect("what is missing in memory is in a slot");
            if !self.reads.contains_key(&name) {
                self.slots.hold(slot);
                self.reads.insert(name, slot);
                self.wanted.push_back((name, slot));
            }
        }
        touch(memory, &prefix.names[..prefix.found]);
        self.send_reads();
        // Whoever has waited as long as computing takes has lost at most as much as that.
        DiskWait::Until(prefix.now + Duration::from_secs_f64(computing.min(WAIT_MAX.as_secs_f64())))
    }

    fn give_up(&mut self, names: &[ChainHash], now: Duration) {
        self.counts.late += 1;
        events::DiskLate { blocks: names.len() }.emit();
        for (name, slot) in std::mem::take(&mut self.wanted) {
            if names.contains(&name) {
                self.reads.remove(&name);
                self.slots.release([slot].into_iter());
            } else {
                self.wanted.push_back((name, slot));
            }
        }
        self.rest(now);
    }

    fn send_reads(&mut self) {
        while self.reading < self.buffers_max
            && let Some((name, slot)) = self.wanted.pop_front()
        {
            let bytes = self.buffer();
            self.reading += 1;
            self.give(Job::Read { slot, name, bytes });
        }
    }

    // === down: ahead of need ===

    /// Saves cold blocks for a small share of the time that a step took.
    pub(crate) fn save_some(
        &mut self,
        took: Duration,
        memory: &mut Blocks,
        forward: &dyn Forward,
        clock: &Clock,
    ) {
        self.save_credit = (self.save_credit + SAVE_SHARE * took.as_secs_f64()).min(SAVE_CREDIT_MAX);
        while self.save_credit > 0.0 {
            let start = clock();
            if !self.save_one(memory, forward, start) {
                break;
            }
            self.save_credit -= clock().saturating_sub(start).as_secs_f64();
        }
    }

    /// Saves as many cold blocks as there are buffers for.
    pub(crate) fn save_all(&mut self, memory: &mut Blocks, forward: &dyn Forward, now: Duration) {
        while self.save_one(memory, forward, now) {}
    }

    fn save_one(&mut self, memory: &mut Blocks, forward: &dyn Forward, now: Duration) -> bool {
        if !self.is_open(now) || self.writes.len() >= self.buffers_max {
            return false;
        }
        let Some((block, name)) = memory.first_unsaved(self.ahead) else { return false };
        let is_on_its_way = self.writes.values().any(|under_way| *under_way == Some(name));
        if is_on_its_way || self.slots.find(&name).is_some() {
            memory.mark(block, Below::There);
            return true;
        }
        let Some((slot, pushed_out)) = self.slots.take() else { return false };
        if let Some(copy) = pushed_out.and_then(|name| memory.find(&name)) {
            memory.mark(copy, Below::Not);
        }
        let mut bytes = self.buffer();
        forward.save_block(block, &mut bytes[HEADER_BYTES..]);
        memory.mark(block, Below::There);
        self.age += 1;
        self.writes.insert(slot, Some(name));
        self.give(Job::Write { slot, header: Header { name, age: self.age }, bytes });
        true
    }

    /// Makes blocks unfindable, now and at the next start.
    pub(crate) fn forget(&mut self, names: &[ChainHash]) {
        let mut erased = Vec::new();
        for name in names {
            self.reads.remove(name);
            if let Some(slot) = self.slots.find(name) {
                self.slots.forget(slot);
                erased.push(slot);
            }
            for (slot, under_way) in &mut self.writes {
                if *under_way == Some(*name) {
                    *under_way = None;
                    erased.push(*slot);
                }
            }
        }
        if !erased.is_empty() {
            self.give(Job::Erase(erased));
        }
    }

    // === what comes back ===

    /// Takes what the worker has done: blocks that were read go into memory, where they are found.
    pub(crate) fn exchange(&mut self, memory: &mut Blocks, forward: &mut dyn Forward, now: Duration) {
        while let Some(done) = self.worker.as_mut().and_then(Worker::take) {
            match done {
                Done::Opened(Ok(index)) => self.take_index(index),
                Done::Opened(Err(error)) => self.turn_off(&error),
                Done::Read { slot, name, bytes, result, took } => {
                    self.reading -= 1;
                    self.slots.release([slot].into_iter());
                    match result {
                        Ok(()) => {
                            self.block_seconds += LEARNING_RATE * (took.as_secs_f64() - self.block_seconds);
                            if self.reads.remove(&name).is_some() {
                                self.put_back(name, &bytes[HEADER_BYTES..], memory, forward);
                            }
                        }
                        Err(error) => self.drop_damaged(slot, name, error, memory, now),
                    }
                    self.spare_buffers.push(bytes);
                }
                Done::Written { slot, name, bytes, result } => {
                    let is_wanted = self.writes.remove(&slot).flatten().is_some();
                    match result {
                        Ok(()) if is_wanted => {
                            self.slots.seal(slot, name);
                            self.counts.spilled += 1;
                        }
                        Ok(()) => (),
                        Err(error) => {
                            unmark(memory, &name);
                            self.fail(&error, now);
                        }
                    }
                    self.slots.release([slot].into_iter());
                    self.spare_buffers.push(bytes);
                }
                Done::Erased(Ok(())) => (),
                Done::Erased(Err(error)) => self.fail(&error, now),
            }
        }
        self.send_reads();
    }

    fn take_index(&mut self, Index { entries, emptied, unread }: Index) {
        self.state = State::Open;
        let blocks = entries.len();
        for (slot, header) in entries {
            self.age = self.age.max(header.age);
            self.slots.hold(slot);
            self.slots.seal(slot, header.name);
            self.slots.release([slot].into_iter());
        }
        events::DiskOpened {
            place: &self.config.place,
            bytes_max: self.counts.bytes_max,
            blocks,
            emptied,
            unread,
        }
        .emit();
    }

    fn put_back(&mut self, name: ChainHash, bytes: &[u8], memory: &mut Blocks, forward: &mut dyn Forward) {
        // Somebody may have computed it meanwhile, or taken all the room.
        if memory.find(&name).is_some() {
            return;
        }
        let Some(block) = memory.allocate() else { return };
        forward.restore_block(block, bytes);
        memory.seal(block, name);
        memory.mark(block, Below::CameBack);
        memory.release([block].into_iter());
        self.counts.restored += 1;
    }

    fn drop_damaged(
        &mut self,
        slot: BlockId,
        name: ChainHash,
        error: ReadError,
        memory: &mut Blocks,
        now: Duration,
    ) {
        self.reads.remove(&name);
        self.slots.forget(slot);
        unmark(memory, &name);
        match error {
            ReadError::Damaged => {
                self.counts.damaged += 1;
                events::DiskDamaged { slot: slot.0 }.emit();
            }
            ReadError::Io(error) => self.fail(&error, now),
        }
    }

    // === what goes wrong ===

    fn is_open(&mut self, now: Duration) -> bool {
        if let State::RestsUntil(until) = self.state
            && now >= until
        {
            self.state = State::Open;
        }
        self.state == State::Open
    }

    fn fail(&mut self, error: &io::Error, now: Duration) {
        self.counts.errors += 1;
        // A file that was removed stays removed.
        if error.kind() == io::ErrorKind::NotFound {
            return self.turn_off(error);
        }
        events::DiskFailed { place: &self.config.place, error, rest: REST }.emit();
        self.rest(now);
    }

    /// Lets the disk alone for a while. What is not under way yet will not be read.
    fn rest(&mut self, now: Duration) {
        for (name, slot) in std::mem::take(&mut self.wanted) {
            self.reads.remove(&name);
            self.slots.release([slot].into_iter());
        }
        if self.state != State::Off {
            self.state = State::RestsUntil(now + REST);
        }
    }

    fn turn_off(&mut self, error: &io::Error) {
        if self.state != State::Off {
            events::DiskOff { place: &self.config.place, error }.emit();
        }
        self.counts.errors = self.counts.errors.max(1);
        self.state = State::Off;
        self.rest(Duration::ZERO);
        // Nobody shall wait for what may never be answered.
        self.reads.clear();
    }

    /// Lets the worker end. For a file that is kept, what was handed over is written first, as far as the limit allows.
    pub(crate) fn close(&mut self, limit: Duration) {
        if let Some(mut worker) = self.worker.take() {
            worker.close(if self.config.place.is_kept() { limit } else { Duration::ZERO });
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.config.place.is_kept()
    }

    /// Asserts nothing itself: returns what does not add up in the book of slots.
    pub(crate) fn check_integrity(&self) -> Result<(), IntegrityError> {
        // A wanted read that was forgotten on its way keeps its slot until the worker has answered, so that the names alone
        // do not tell who holds what: slots under way are counted, not named.
        let held = self.slots.in_use();
        let under_way = self.reading + self.wanted.len() + self.writes.len();
        if held != under_way && self.state != State::Off {
            return Err(IntegrityError(format!("{held} slots are held and {under_way} are under way")));
        }
        if self.slots.total() * self.format.slot_bytes() > self.config.bytes as usize {
            return Err(IntegrityError("the slots exceed the file's bound".to_owned()));
        }
        Ok(())
    }

    // === small things ===

    fn buffer(&mut self) -> Vec<u8> {
        self.spare_buffers.pop().unwrap_or_else(|| vec![0; HEADER_BYTES + self.format.block_bytes])
    }

    fn give(&mut self, job: Job) {
        let is_taken = self.worker.as_ref().is_some_and(|worker| worker.give(job));
        if !is_taken {
            self.turn_off(&io::Error::other("the disk tier's thread has ended"));
        }
    }
}

impl Drop for DiskTier {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

/// What a sequence could use, and what it would cost to compute.
pub(crate) struct Prefix<'a> {
    /// All blocks it may take.
    pub(crate) names: &'a [ChainHash],
    /// How many of them are in memory, from the first on.
    pub(crate) found: usize,
    /// How many blocks memory has to spare beyond what the sequence takes; nothing if it has less than that.
    pub(crate) room: Option<usize>,
    pub(crate) cost: &'a CostModel,
    pub(crate) block_tokens: usize,
    pub(crate) now: Duration,
}

impl Prefix<'_> {
    /// Returns the seconds that so many blocks behind the found ones would take to compute; for ever, while nothing is known.
    fn compute_seconds(&self, blocks: usize) -> f64 {
        match self.cost.knows_prefill() {
            true => self.cost.chunk_seconds(self.found * self.block_tokens, blocks * self.block_tokens),
            false => f64::INFINITY,
        }
    }
}

/// Moves to the warm end what is there of these names, heads last.
fn touch(blocks: &mut Blocks, names: &[ChainHash]) {
    let found: Vec<BlockId> = names.iter().filter_map(|name| blocks.find(name)).collect();
    blocks.touch(&found);
}

fn unmark(memory: &mut Blocks, name: &ChainHash) {
    if let Some(copy) = memory.find(name) {
        memory.mark(copy, Below::Not);
    }
}
