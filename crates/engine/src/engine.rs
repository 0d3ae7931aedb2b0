//! How does the world reach the engine's thread, and the thread the world?

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{
    Receiver, RecvError, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use domain::{EnginePort, EngineStatus, StepEvent, SubmitError, Work, WorkKey};
use model::Forward;
use parking_lot::{Mutex, RwLock};

use crate::config::{EngineConfig, StartError};
use crate::events;
use crate::kv::{ChainHash, prompt_hashes};
use crate::promises::Promises;
use crate::step::{EngineCore, panic_text};

/// While everybody waits for the disk, the inbox is looked at this often at least: as long as a command may lie there.
const DISK_WAIT: Duration = Duration::from_millis(1);
/// While blocks go to disk and nothing else is to be done, the worker's answers are looked at this often: as many blocks as
/// there are buffers for go down in each pause.
const TIDY_PAUSE: Duration = Duration::from_millis(5);
/// What the end of an engine may take longer so that a next start finds more. Drains are bounded, and so is this.
const DISK_CLOSE_MAX: Duration = Duration::from_secs(5);

/// Receives one message a step, on the engine's thread: it must be quick and must not call back into `stop`.
pub type Outbox = Box<dyn FnMut(Vec<StepEvent>) + Send>;

/// Starts engines; what runs is held by its handle.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Returns the near side of a new engine, its key-value memory reserved and its thread running.
    pub fn start(
        forward: Box<dyn Forward>,
        config: EngineConfig,
        outbox: Outbox,
    ) -> Result<EngineHandle, StartError> {
        Self::start_with_draft(forward, None, config, outbox)
    }

    /// The same, with a smaller model that drafts.
    pub fn start_with_draft(
        forward: Box<dyn Forward>,
        draft: Option<Box<dyn Forward>>,
        config: EngineConfig,
        outbox: Outbox,
    ) -> Result<EngineHandle, StartError> {
        let start = Instant::now();
        let clock = Box::new(move || start.elapsed());
        // Room for everything that may wait, one cancellation for everything alive, and the stop.
        let inbox_limit = 2 * config.max_waiting + config.max_running + 1;
        let (queue_limit, prefix_cache) = (config.max_waiting, config.prefix_cache);
        let core = EngineCore::with_draft(forward, draft, config, clock)?;
        let (sender, inbox) = sync_channel(inbox_limit);
        let board = Arc::new(Board {
            gate: RwLock::new(Gate::Open),
            queued: AtomicUsize::new(0),
            status: Mutex::new(core.status()),
        });
        let shared = Shared {
            sender,
            queue_limit,
            prefix_cache,
            context_tokens: core.context_tokens(),
            block_tokens: core.block_tokens(),
            board: board.clone(),
            thread: Mutex::new(None),
        };
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || Worker { core, inbox, board, outbox, promises: Promises::default() }.run())
            .map_err(|error| StartError::Thread(error.to_string()))?;
        *shared.thread.lock() = Some(thread);
        Ok(EngineHandle(Arc::new(shared)))
    }
}

/// The near side of an engine. Clones are the same engine; when the last is dropped, the engine stops.
#[derive(Clone)]
pub struct EngineHandle(Arc<Shared>);

impl EngineHandle {
    /// Cancels what waits and runs, refuses what comes, and returns when the engine's thread has ended.
    pub fn stop(&self) {
        self.0.board.gate.write().close();
        // An error means that the thread has ended already.
        let _ = self.0.sender.send(Command::Stop);
        if let Some(thread) = self.0.thread.lock().take() {
            let _ = thread.join();
        }
    }

    /// Returns the longest sequence, prompt and answer together, that this engine can hold.
    pub fn context_tokens(&self) -> usize {
        self.0.context_tokens
    }
}

impl EnginePort for EngineHandle {
    fn submit(&self, work: Work) -> Result<(), SubmitError> {
        let shared = &self.0;
        shared.check_context(&work)?;
        shared.board.gate.read().check()?;
        shared.take_place()?;
        // Hashed here, on the caller's thread: about a microsecond a block that the step loop need not spend.
        let hashes = match shared.prefix_cache {
            true => prompt_hashes(&work.tenant, &work.prompt, shared.block_tokens),
            false => Vec::new(),
        };
        let sent = shared.send(Command::Submit(Box::new(work), hashes));
        if sent.is_err() {
            shared.board.queued.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }

    fn cancel(&self, key: &WorkKey) {
        // The inbox has room for one cancellation of everything alive. Should it be full all the same, this waits for the
        // step under way to end rather than lose the message. An error means that nothing is alive any more.
        let _ = self.0.sender.send(Command::Cancel(key.clone()));
    }

    fn status(&self) -> EngineStatus {
        self.0.board.status.lock().clone()
    }
}

struct Shared {
    sender: SyncSender<Command>,
    queue_limit: usize,
    prefix_cache: bool,
    context_tokens: usize,
    block_tokens: usize,
    board: Arc<Board>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    fn check_context(&self, work: &Work) -> Result<(), SubmitError> {
        // An answer longer than the context ends there; a prompt that leaves no room for a first token is refused.
        let first_token = usize::from(work.max_output_tokens > 0);
        if work.prompt.len() + first_token <= self.context_tokens {
            return Ok(());
        }
        Err(SubmitError::ContextOverflow {
            prompt_tokens: work.prompt.len(),
            max_output_tokens: work.max_output_tokens as usize,
            context_tokens: self.context_tokens,
        })
    }

    fn send(&self, command: Command) -> Result<(), SubmitError> {
        // Held while sending: whoever closes the gate knows that nothing arrives after.
        let gate = self.board.gate.read();
        gate.check()?;
        self.sender.try_send(command).map_err(|refusal| match refusal {
            TrySendError::Full(_) => {
                SubmitError::QueueFull { waiting: self.queue_limit, limit: self.queue_limit }
            }
            TrySendError::Disconnected(_) => SubmitError::Stopping,
        })
    }

    fn take_place(&self) -> Result<(), SubmitError> {
        let limit = self.queue_limit;
        let more = |waiting: usize| (waiting < limit).then_some(waiting + 1);
        match self.board.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(waiting) => Err(SubmitError::QueueFull { waiting, limit }),
        }
    }
}

/// What both sides see.
struct Board {
    gate: RwLock<Gate>,
    /// Works accepted that have not had their first step; at most `max_waiting`.
    queued: AtomicUsize,
    status: Mutex<EngineStatus>,
}

enum Gate {
    Open,
    Stopping,
    Dead(String),
}

impl Gate {
    fn check(&self) -> Result<(), SubmitError> {
        match self {
            Gate::Open => Ok(()),
            Gate::Stopping => Err(SubmitError::Stopping),
            Gate::Dead(reason) => Err(SubmitError::Dead(reason.clone())),
        }
    }

    fn close(&mut self) {
        if matches!(self, Gate::Open) {
            *self = Gate::Stopping;
        }
    }
}

/// All reasons for which the engine's thread wakes.
enum Command {
    Submit(Box<Work>, Vec<ChainHash>),
    Cancel(WorkKey),
    Stop,
}

/// The thread: a thin loop around the core.
struct Worker {
    core: EngineCore,
    inbox: Receiver<Command>,
    board: Arc<Board>,
    outbox: Outbox,
    promises: Promises,
}

impl Worker {
    fn run(mut self) {
        let result = catch_unwind(AssertUnwindSafe(|| self.work()));
        if let Err(panic) = result {
            self.die(&panic_text(&*panic));
        }
    }

    fn work(&mut self) {
        loop {
            if self.core.is_idle() {
                self.rest();
                match self.next_command() {
                    Ok(Command::Stop) | Err(_) => return self.leave(),
                    Ok(command) => self.obey(command),
                }
            }
            loop {
                match self.inbox.try_recv() {
                    Ok(Command::Stop) => return self.leave(),
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.leave(),
                }
            }
            self.core.step();
            self.report();
            if self.core.waits_for_disk() {
                self.core.wait_for_disk(DISK_WAIT);
            }
        }
    }

    /// Parks until there is a command, after bringing to disk what is to be brought there.
    fn next_command(&mut self) -> Result<Command, RecvError> {
        while self.core.tidy() {
            match self.inbox.recv_timeout(TIDY_PAUSE) {
                Ok(command) => return Ok(command),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
            }
        }
        *self.board.status.lock() = self.core.status();
        self.inbox.recv()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submit(work, hashes) => {
                self.promises.owe(&work);
                self.core.submit_hashed(*work, hashes);
            }
            Command::Cancel(key) => self.core.cancel(&key),
            Command::Stop => unreachable!("the loop handles the stop"),
        }
    }

    /// Checks the blocks while there is nothing better to do. A lost block is a broken invariant: the engine dies of it.
    fn rest(&mut self) {
        self.core.check_integrity();
        *self.board.status.lock() = self.core.status();
    }

    fn report(&mut self) {
        let events = self.core.take_events();
        self.board.queued.fetch_sub(self.core.take_dequeued(), Ordering::Relaxed);
        *self.board.status.lock() = self.core.status();
        if !events.is_empty() {
            self.promises.note(&events);
            (self.outbox)(events);
        }
    }

    /// The clean end: everything is cancelled, with its exact usage.
    fn leave(&mut self) {
        self.board.gate.write().close();
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Submit(..) = command {
                self.obey(command);
            }
        }
        self.core.cancel_all();
        self.report();
        self.core.close_disk(DISK_CLOSE_MAX);
    }

    /// The other end: nothing of the core can be trusted, and still every work gets its one end.
    fn die(&mut self, reason: &str) {
        events::EngineDied { reason }.emit();
        *self.board.gate.write() = Gate::Dead(reason.to_owned());
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Submit(work, _) = command {
                self.promises.owe(&work);
            }
        }
        let ends = self.promises.break_all(&format!("the engine has died: {reason}"));
        {
            let mut status = self.board.status.lock();
            status.failures += ends.len() as u64;
            status.dead = Some(reason.to_owned());
        }
        // The outbox may be what panicked; there is nobody left to tell.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.outbox)(ends)));
    }
}
