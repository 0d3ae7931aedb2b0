//! How one step's work spreads over the cores.

/// A fixed set of worker threads that run numbered tasks; the caller is one of them.
pub struct Pool {
    threads: usize,
}

impl Pool {
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1) }
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `task(0) … task(tasks - 1)`, each exactly once, and returns when all have ended.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}
