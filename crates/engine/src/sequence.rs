//! What is known of one sequence, and how much of it is computed?
//!
//! ```text
//!   tokens    |#### prompt ####|## answer so far ##|
//!   computed  |###########|                              in `blocks`
//!                         |------- pending --------|     what plans catch up with
//! ```
//! There is no phase: a fresh prompt, a chunk, a prefix hit, a decode step and a resumption are all "computed catches up
//! with known". One token pending behind a computed prompt is what others call decoding.

use std::time::Duration;

use domain::{Priority, Tenant, TokenId, TokenLogprob, Work, WorkKey, WorkUsage};
use model::BlockId;

use crate::kv::{Blocks, ChainHash, DiskWait, extend_hashes};
use crate::sampler::{Draw, History, SamplingError, logprob_of};
use crate::speculate::Guesses;

#[derive(Debug)]
pub(crate) struct Sequence {
    work: Work,
    /// The prompt, then what was produced. Never longer than the context.
    tokens: Vec<TokenId>,
    computed: usize,
    /// Blocks of positions 0, 32, …, held while the sequence runs.
    blocks: Vec<BlockId>,
    /// Names of the full blocks of `tokens`, as far as they were needed.
    hashes: Vec<ChainHash>,
    /// Full blocks that were offered to the cache, or came from it.
    sealed: usize,
    /// The most of the prompt that was ever computed: what is billed if it ends early.
    prompt_computed: usize,
    /// What its first admission found in the cache; `None` before.
    cached_tokens: Option<u32>,
    output_tokens: u32,
    /// Its share of the time of the steps that it was in. Whole nanoseconds, so that no step's time is lost in rounding.
    compute: Duration,
    /// Log-probabilities of the prompt's first tokens, while they are asked for and not complete.
    prompt_logprobs: Vec<Option<TokenLogprob>>,
    /// Whether its start was told.
    announced: bool,
    pub(crate) history: History,
    pub(crate) guesses: Guesses,
    pub(crate) seed: u64,
    /// Order of admission: the newest is preempted first.
    pub(crate) admitted: u64,
    /// How often a later one of its queue was preferred.
    pub(crate) bypassed: u32,
    /// When it first waited for a prefix that another was computing.
    pub(crate) prefix_wait_since: Option<Duration>,
    /// How it stands with the disk, while it waits to be admitted.
    pub(crate) disk_wait: DiskWait,
}

impl Sequence {
    pub(crate) fn new(work: Work, hashes: Vec<ChainHash>, seed: u64) -> Self {
        let prompt_logprobs = if work.prompt_logprobs { vec![None] } else { Vec::new() };
        let history = History::of(&work.sampling, &work.prompt);
        Self {
            tokens: work.prompt.to_vec(),
            computed: 0,
            blocks: Vec::new(),
            hashes,
            sealed: 0,
            prompt_computed: 0,
            cached_tokens: None,
            output_tokens: 0,
            compute: Duration::ZERO,
            prompt_logprobs,
            announced: false,
            history,
            guesses: Guesses::default(),
            seed,
            admitted: 0,
            bypassed: 0,
            prefix_wait_since: None,
            disk_wait: DiskWait::default(),
            work,
        }
    }

    pub(crate) fn work(&self) -> &Work {
        &self.work
    }
    pub(crate) fn key(&self) -> &WorkKey {
        &self.work.key
    }
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.work.tenant
    }
    pub(crate) fn priority(&self) -> Priority {
        self.work.priority
    }
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }
    pub(crate) fn computed(&self) -> usize {
        self.computed
    }
    pub(crate) fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }
    pub(crate) fn hashes(&self) -> &[ChainHash] {
        &self.hashes
    }
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.work.prompt.len()
    }
    pub(crate) fn output_tokens(&self) -> u32 {
        self.output_tokens
    }
    pub(crate) fn has_started(&self) -> bool {
        self.cached_tokens.is_some()
    }
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }
    /// Whether somebody waits for its next token: one row away from it, and past its first.
    pub(crate) fn is_streaming(&self) -> bool {
        self.pending() == 1 && self.output_tokens > 0
    }
    pub(crate) fn wants_output(&self) -> bool {
        self.work.max_output_tokens > 0
    }
    pub(crate) fn blocks_wanted(&self, block_tokens: usize) -> usize {
        self.tokens.len().div_ceil(block_tokens)
    }

    /// Returns the names of the blocks it may take from the cache. Its last token is always computed, for there must be a row
    /// to draw from, and so is every row whose log-probability is still asked for.
    pub(crate) fn findable(&self, block_tokens: usize) -> &[ChainHash] {
        let last = self.tokens.len() - 1;
        let computed_from = match self.prompt_logprobs.len() {
            0 => last,
            collected => last.min(collected - 1),
        };
        &self.hashes[..self.hashes.len().min(computed_from / block_tokens)]
    }

    /// Returns the cached blocks that its tokens begin with.
    pub(crate) fn find_prefix(&self, blocks: &Blocks, block_tokens: usize) -> Vec<BlockId> {
        self.findable(block_tokens).iter().map_while(|name| blocks.find(name)).collect()
    }

    /// Begins to run on these blocks, of which the first `found` hold computed tokens.
    pub(crate) fn start(&mut self, blocks: Vec<BlockId>, found: usize, block_tokens: usize) {
        assert!(self.blocks.is_empty(), "a sequence is admitted while it runs");
        self.blocks = blocks;
        self.computed = found * block_tokens;
        self.sealed = found;
        self.prompt_computed = self.prompt_computed.max(self.computed.min(self.prompt_tokens()));
        self.cached_tokens.get_or_insert(self.computed as u32);
        self.prefix_wait_since = None;
        self.disk_wait = DiskWait::default();
    }

    /// Returns how many tokens may be guessed: the last that is wanted, and the last that fits, need no row of their own.
    pub(crate) fn guesses_most(&self, context_tokens: usize) -> usize {
        if !self.is_streaming() {
            return 0;
        }
        let wanted = self.work.max_output_tokens.saturating_sub(self.output_tokens + 1) as usize;
        wanted.min(context_tokens.saturating_sub(self.tokens.len() + 1))
    }

    /// Returns what the draw of the token `ahead` of the next one depends on.
    pub(crate) fn draw(&self, ahead: u32, logprobs: Option<u8>) -> Draw<'_> {
        Draw {
            sampling: &self.work.sampling,
            history: &self.history,
            seed: self.seed,
            output_index: self.output_tokens + ahead,
            logprobs,
        }
    }

    pub(crate) fn look_back(&mut self, most: usize) -> bool {
        self.guesses.look_back(&self.tokens, most)
    }

    pub(crate) fn grow(&mut self, block: BlockId) {
        self.blocks.push(block);
    }

    /// Returns its blocks, and keeps its tokens to be computed again.
    pub(crate) fn stop(&mut self) -> Vec<BlockId> {
        self.computed = 0;
        self.sealed = 0;
        self.guesses.forget();
        std::mem::take(&mut self.blocks)
    }

    /// Takes note that the next `rows` pending tokens are computed, and lets the cache know of blocks that became full.
    pub(crate) fn advance(&mut self, rows: usize, blocks: &mut Blocks, block_tokens: usize, share: bool) {
        self.computed += rows;
        assert!(self.computed <= self.tokens.len(), "more is computed than is known");
        self.prompt_computed = self.prompt_computed.max(self.computed.min(self.prompt_tokens()));
        if !share {
            return;
        }
        let full = self.computed / block_tokens;
        if full > self.hashes.len() {
            extend_hashes(&mut self.hashes, &self.work.tenant, &self.tokens, block_tokens);
        }
        for index in self.sealed..full {
            blocks.seal(self.blocks[index], self.hashes[index]);
        }
        self.sealed = self.sealed.max(full);
    }

    /// Returns what its first admission found in the cache, once.
    pub(crate) fn announce(&mut self) -> Option<u32> {
        if std::mem::replace(&mut self.announced, true) { None } else { self.cached_tokens }
    }

    /// Whether log-probabilities of its prompt are still to be collected.
    pub(crate) fn wants_prompt_logprobs(&self) -> bool {
        !self.prompt_logprobs.is_empty()
    }

    /// Returns the positions, of the next `rows`, whose scores tell about a prompt token that is still asked for.
    pub(crate) fn prompt_logprob_positions(&self, rows: usize) -> std::ops::Range<usize> {
        let Some(from) = self.prompt_logprobs.len().checked_sub(1) else { return 0..0 };
        // The scores at a position tell about the token behind it.
        let to = (self.computed + rows).min(self.prompt_tokens() - 1);
        from.max(self.computed)..to
    }

    /// Takes the scores of the next such position.
    pub(crate) fn note_prompt_logprob(&mut self, scores: &[f32]) -> Result<(), SamplingError> {
        let token = self.tokens[self.prompt_logprobs.len()];
        let alternatives = self.work.logprobs.unwrap_or(0);
        self.prompt_logprobs.push(Some(logprob_of(scores, token, alternatives)?));
        Ok(())
    }

    /// Returns the prompt's log-probabilities when they are complete, once.
    pub(crate) fn take_prompt_logprobs(&mut self) -> Option<Vec<Option<TokenLogprob>>> {
        (self.prompt_logprobs.len() == self.prompt_tokens())
            .then(|| std::mem::take(&mut self.prompt_logprobs))
    }

    /// Appends a token that it goes on from.
    pub(crate) fn push(&mut self, token: TokenId) {
        self.tokens.push(token);
        self.output_tokens += 1;
        self.history.note(token);
    }

    /// Counts a token that ended the answer and is not part of it.
    pub(crate) fn count_stop_token(&mut self) {
        self.output_tokens += 1;
    }

    /// Takes its share of a step's time.
    pub(crate) fn take_time(&mut self, share: Duration) {
        self.compute += share;
    }

    /// Returns what the machine really did for it.
    pub(crate) fn usage(&self) -> WorkUsage {
        WorkUsage {
            prompt_tokens: self.prompt_computed as u32,
            cached_tokens: self.cached_tokens.unwrap_or(0),
            output_tokens: self.output_tokens,
            compute_us: self.compute.as_micros() as u64,
        }
    }
}
