//! How one step's work spreads over the cores.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::memory::Arena;
use crate::{Isa, Precision};

/// A fixed set of worker threads that run numbered tasks; the caller is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held for the length of one `run`: a second thread that calls it waits its turn.
    owner: Mutex<()>,
    /// Room for the activations of one product, kept between products; as large as the largest one so far.
    scratch: Mutex<Arena>,
    isa: Isa,
    numerics: Numerics,
}

/// How a pool is made when the defaults do not fit.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Threads that compute, the caller included. The default is the number of cores this process may use.
    pub threads: usize,
    /// The best path to take; one that this machine lacks becomes the best one it has.
    pub isa: Isa,
    pub numerics: Numerics,
}

/// What a row's result may depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numerics {
    /// Take the fastest path for the number of rows. Products of many rows with bf16 weights may round activations to bf16.
    /// Attention rounds queries and weights to bf16 where the processor multiplies pairs of them.
    #[default]
    Fast,
    /// A row gives the same bits whatever rows stand beside it, so neither AMX nor pairs of bf16 are used.
    BatchInvariant,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { threads: available_threads(), isa: Isa::detect(), numerics: Numerics::default() }
    }
}

/// Returns how many cores this process may use, as its cpuset, affinity and quota say.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

impl Pool {
    pub fn new(threads: usize) -> Self {
        Self::with(PoolOptions { threads, ..PoolOptions::default() })
    }

    pub fn with(options: PoolOptions) -> Self {
        let shared = Arc::new(Shared::new());
        let workers = (1..options.threads.max(1))
            .map(|number| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("kernels-{number}"))
                    .spawn(move || shared.work())
                    .expect("the system lets us start a worker thread")
            })
            .collect();
        let isa = options.isa.min(Isa::detect());
        let scratch = Mutex::new(Arena::zeroed(0));
        Self { shared, workers, owner: Mutex::new(()), scratch, isa, numerics: options.numerics }
    }

    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }
    pub fn isa(&self) -> Isa {
        self.isa
    }
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// The name of the code path for products of many rows with weights of this precision, such as `amx-bf16`.
    pub fn path(&self, precision: Precision) -> &'static str {
        crate::matrix::path(self.isa, self.numerics, precision)
    }

    /// Runs `task(0) … task(tasks - 1)`, each exactly once, and returns when all have ended.
    ///
    /// When a task panics, tasks that have not begun are dropped and the panic goes on in the caller; the pool stays usable.
    ///
    /// # Panics
    /// When called from inside a task: a task that waited for its own pool would wait forever.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        assert!(!IN_TASK.get(), "Pool::run was called from inside a task; split the work before running it");
        if tasks == 0 {
            return;
        }
        let turn = lock(&self.owner);
        if tasks == 1 || self.workers.is_empty() {
            let _inside = Inside::enter();
            return (0..tasks).for_each(task);
        }
        self.shared.publish(tasks, task);
        self.shared.claim_and_run();
        self.shared.await_last_task();
        let panic = lock(&self.shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Returns at least so many bytes of unspecified content, for the caller alone until the guard is dropped.
    pub(crate) fn scratch(&self, bytes: usize) -> MutexGuard<'_, Arena> {
        let mut scratch = lock(&self.scratch);
        if scratch.bytes() < bytes {
            *scratch = Arena::zeroed(bytes);
        }
        scratch
    }

    /// Splits `items` into even contiguous ranges, at least `least` long, and runs `task` on each. Gives each thread a few
    /// ranges, so that one that other programs hold up does not hold up the rest.
    pub(crate) fn run_ranges(
        &self,
        items: usize,
        least: usize,
        task: &(dyn Fn(std::ops::Range<usize>) + Sync),
    ) {
        const RANGES_PER_THREAD: usize = 4;
        let most = if self.workers.is_empty() { 1 } else { self.threads() * RANGES_PER_THREAD };
        let ranges = (items / least.max(1)).clamp(1, most);
        self.run(ranges, &|i| task(items * i / ranges..items * (i + 1) / ranges));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.ring(self.workers.len());
        for worker in self.workers.drain(..) {
            // A worker catches what its tasks throw, so it cannot end by a panic of theirs.
            let _ = worker.join();
        }
    }
}

/// What the owner and the workers see.
///
/// The owner writes `job`, then `unfinished`, then `unclaimed`. Taking one from `unclaimed` is what entitles a thread to
/// read `job`: from then until that thread counts `unfinished` down, `run` cannot return and so the job cannot change.
struct Shared {
    job: UnsafeCell<Job>,
    unclaimed: AtomicUsize,
    unfinished: AtomicUsize,
    /// Counts jobs, so that a worker sees that there is a new one.
    generation: AtomicUsize,
    sleeping_workers: AtomicUsize,
    owner_sleeps: AtomicBool,
    stop: AtomicBool,
    failed: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    door: Mutex<()>,
    work_bell: Condvar,
    done_bell: Condvar,
}

#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: `job` is written only by the owner while nothing is unclaimed or unfinished, and read only under a claim (see above);
// the task it points at is Sync. Everything else in here is Sync by itself.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is followed only under a claim.
unsafe impl Send for Shared {}

/// How long a thread looks for work before it sleeps. Steps follow each other within microseconds while a batch runs, and
/// a wake-up costs about as much as this; an idle pool must not burn a core.
const SPIN: Duration = Duration::from_micros(50);

thread_local! {
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

impl Shared {
    fn new() -> Self {
        let nothing: &'static (dyn Fn(usize) + Sync) = &|_| {};
        Self {
            job: UnsafeCell::new(Job { task: nothing, tasks: 0 }),
            unclaimed: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            sleeping_workers: AtomicUsize::new(0),
            owner_sleeps: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            panic: Mutex::new(None),
            door: Mutex::new(()),
            work_bell: Condvar::new(),
            done_bell: Condvar::new(),
        }
    }

    fn publish(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        debug_assert_eq!(self.unfinished.load(Ordering::Relaxed), 0);
        // SAFETY: only the lifetime changes. `run` returns after the last task has ended, and nobody follows the pointer later.
        let task: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(task) };
        // SAFETY: nothing is unclaimed or unfinished, so no worker reads the job; the owner's lock keeps other writers out.
        unsafe { *self.job.get() = Job { task, tasks } };
        self.failed.store(false, Ordering::Relaxed);
        self.unfinished.store(tasks, Ordering::Relaxed);
        self.unclaimed.store(tasks, Ordering::Release);
        self.ring(tasks - 1);
    }

    /// Announces a change to spinning workers, and wakes at most `wanted` sleeping ones.
    fn ring(&self, wanted: usize) {
        // A worker counts itself asleep before it looks at the generation; we change the generation before we count
        // sleepers. In the one order of SeqCst, at least one of us sees the other.
        self.generation.fetch_add(1, Ordering::SeqCst);
        let sleepers = self.sleeping_workers.load(Ordering::SeqCst).min(wanted);
        if sleepers > 0 {
            drop(lock(&self.door));
            (0..sleepers).for_each(|_| self.work_bell.notify_one());
        }
    }

    fn work(&self) {
        loop {
            let seen = self.generation.load(Ordering::SeqCst);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            self.claim_and_run();
            if !spin_until(|| self.generation.load(Ordering::Acquire) != seen) {
                self.sleep_while(seen);
            }
        }
    }

    fn sleep_while(&self, seen: usize) {
        self.sleeping_workers.fetch_add(1, Ordering::SeqCst);
        let mut door = lock(&self.door);
        while self.generation.load(Ordering::SeqCst) == seen {
            door = self.work_bell.wait(door).unwrap_or_else(PoisonError::into_inner);
        }
        drop(door);
        self.sleeping_workers.fetch_sub(1, Ordering::SeqCst);
    }

    fn claim_and_run(&self) {
        let _inside = Inside::enter();
        let claim = |unclaimed: usize| unclaimed.checked_sub(1);
        while let Ok(unclaimed) = self.unclaimed.fetch_update(Ordering::Acquire, Ordering::Relaxed, claim) {
            // SAFETY: this thread holds a claim, so the job stays as it is until `finish_one` below.
            let job = unsafe { *self.job.get() };
            if !self.failed.load(Ordering::Relaxed) {
                // SAFETY: `run`, which borrowed the task, waits for this thread's `finish_one`.
                let task = unsafe { &*job.task };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(job.tasks - unclaimed))) {
                    self.failed.store(true, Ordering::Relaxed);
                    lock(&self.panic).get_or_insert(panic);
                }
            }
            self.finish_one();
        }
    }

    fn finish_one(&self) {
        let was_last = self.unfinished.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && self.owner_sleeps.load(Ordering::SeqCst) {
            drop(lock(&self.door));
            self.done_bell.notify_one();
        }
    }

    fn await_last_task(&self) {
        let all_done = || self.unfinished.load(Ordering::SeqCst) == 0;
        if spin_until(all_done) {
            return;
        }
        self.owner_sleeps.store(true, Ordering::SeqCst);
        let mut door = lock(&self.door);
        while !all_done() {
            door = self.done_bell.wait(door).unwrap_or_else(PoisonError::into_inner);
        }
        drop(door);
        self.owner_sleeps.store(false, Ordering::SeqCst);
    }
}

/// Marks this thread as being inside a task for as long as the guard lives.
struct Inside;

impl Inside {
    fn enter() -> Self {
        IN_TASK.set(true);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        IN_TASK.set(false);
    }
}

/// Returns whether the condition came true before `SPIN` had passed.
fn spin_until(condition: impl Fn() -> bool) -> bool {
    const LOOKS_PER_CLOCK_READ: usize = 32;
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS_PER_CLOCK_READ {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

/// No data is guarded by these locks that a panic could leave half-written, so poison means nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_runs(pool: &Pool, tasks: usize) {
        let runs: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        pool.run(tasks, &|i| {
            runs[i].fetch_add(1, Ordering::Relaxed);
        });
        assert!(runs.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{tasks} tasks");
    }

    fn panics(run: impl FnOnce()) -> String {
        let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("it panics");
        payload
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap()
    }

    #[test]
    fn every_task_runs_exactly_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for tasks in [0, 1, 2, 3, 7, 100] {
                count_runs(&pool, tasks);
            }
        }
    }

    #[test]
    fn many_small_runs_in_a_row_lose_nothing() {
        let pool = Pool::new(4);
        for round in 0..20_000 {
            count_runs(&pool, 1 + round % 9);
        }
    }

    #[test]
    fn workers_that_fell_asleep_wake_up_again() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            std::thread::sleep(SPIN * 10);
            // Each task waits for the two others, so all three threads have to come.
            let here = AtomicUsize::new(0);
            pool.run(3, &|_| {
                here.fetch_add(1, Ordering::SeqCst);
                while here.load(Ordering::SeqCst) < 3 {
                    std::thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn a_panicking_task_panics_the_caller_and_leaves_the_pool_usable() {
        for threads in [1, 2, 4] {
            let pool = Pool::new(threads);
            for bad in [0, 5, 9] {
                let message = panics(|| pool.run(10, &|i| assert!(i != bad, "task {i} fails")));
                assert_eq!(message, format!("task {bad} fails"));
                count_runs(&pool, 10);
            }
        }
    }

    #[test]
    fn a_run_inside_a_task_is_refused_with_a_reason() {
        for threads in [1, 2] {
            let pool = Pool::new(threads);
            let message = panics(|| pool.run(2, &|_| pool.run(1, &|_| {})));
            assert!(message.contains("from inside a task"), "{message}");
            count_runs(&pool, 3);
        }
    }

    #[test]
    fn threads_that_share_a_pool_take_turns() {
        let pool = Pool::new(2);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..500).for_each(|round| count_runs(&pool, 1 + round % 5)));
            }
        });
    }

    #[test]
    fn ranges_cover_every_item_once_and_respect_the_least_length() {
        let pool = Pool::new(2);
        for (items, least) in [(0, 4), (1, 4), (7, 4), (8, 4), (1000, 1), (1000, 300)] {
            let seen = Mutex::new(vec![0; items]);
            pool.run_ranges(items, least, &|range| {
                assert!(range.len() >= least.min(items));
                lock(&seen)[range].iter_mut().for_each(|count| *count += 1);
            });
            assert!(lock(&seen).iter().all(|count| *count == 1), "{items} items");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_idle_pool_uses_no_processor_time() {
        let pool = Pool::new(4);
        count_runs(&pool, 8);
        std::thread::sleep(Duration::from_millis(20));
        let sleepers = || pool.shared.sleeping_workers.load(Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(10);
        while sleepers() < 3 {
            assert!(Instant::now() < deadline, "workers of an idle pool go to sleep");
            std::thread::yield_now();
        }
    }
}
