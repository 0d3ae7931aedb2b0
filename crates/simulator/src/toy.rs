//! What would a model answer whose next token depends on every token before it, exactly as its key-value blocks hold them?
//!
//! Each position of a block remembers its token and its place. Scores are a hash of everything read back from the blocks
//! named by the span. A block that was mixed up, reused too early, found by the wrong name or never written gives another
//! answer than the oracle, which sees only the tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::TokenId;
use model::{Batch, BlockId, Forward, ForwardError, Shape, Span};

use crate::random::scramble;

/// Time that passes only when the toy computes. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
    pub fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

/// How time passes while the toy computes.
#[derive(Clone, Debug)]
pub enum Pace {
    Virtual(VirtualClock),
    /// The thread sleeps.
    Real,
}

/// What a step takes, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub step_ns: u64,
    pub prefill_row_ns: u64,
    pub decode_row_ns: u64,
    /// For every key that a row looks at.
    pub key_ns: u64,
}

impl Cost {
    /// About a model of half a billion weights on a few cores.
    pub const SMALL_MODEL: Cost =
        Cost { step_ns: 8_000_000, prefill_row_ns: 250_000, decode_row_ns: 400_000, key_ns: 60 };

    fn of(&self, batch: &Batch) -> Duration {
        let mut ns = self.step_ns;
        for span in &batch.spans {
            let (rows, before) = (u64::from(span.rows), u64::from(span.first_position));
            ns += rows * if rows == 1 { self.decode_row_ns } else { self.prefill_row_ns };
            ns += self.key_ns * (rows * before + rows * (rows + 1) / 2);
        }
        Duration::from_nanos(ns)
    }
}

/// What goes wrong, and for which token.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub token: TokenId,
    pub kind: FaultKind,
    /// How often the pass goes wrong before it goes right.
    pub times: u32,
}

impl Fault {
    fn spoils(&self, token: TokenId) -> bool {
        self.kind == FaultKind::NotANumber && self.token == token
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The pass fails if it is to compute the token.
    Error,
    /// The pass panics if it is to compute the token.
    Panic,
    /// Scores are not numbers where the token has been seen, always.
    NotANumber,
}

#[derive(Clone, Debug)]
pub struct ToySettings {
    pub vocabulary: usize,
    pub context_tokens: usize,
    pub block_tokens: usize,
    pub cost: Cost,
    pub pace: Pace,
    pub faults: Vec<Fault>,
    /// It likes to say what it saw so many places before: answers that mostly repeat themselves.
    pub echo: Option<usize>,
    /// Another toy has other noise, and the same echo.
    pub salt: u64,
    /// Rows computed in all, for whoever wants to watch.
    pub rows_computed: Arc<AtomicU64>,
}

impl Default for ToySettings {
    fn default() -> Self {
        Self {
            vocabulary: 61,
            context_tokens: 8192,
            block_tokens: 32,
            cost: Cost::SMALL_MODEL,
            pace: Pace::Virtual(VirtualClock::default()),
            faults: Vec::new(),
            echo: None,
            salt: 0,
            rows_computed: Arc::default(),
        }
    }
}

pub struct Toy {
    shape: Shape,
    settings: ToySettings,
    /// `[blocks][block_tokens]`.
    cells: Vec<Option<Cell>>,
}

/// What one position of a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    token: TokenId,
    position: usize,
}

/// A cell that went away: whether there was one, its token, its position.
const CELL_BYTES: usize = 24;

impl Toy {
    pub fn new(settings: ToySettings) -> Self {
        let shape = Shape {
            vocabulary: settings.vocabulary,
            context_tokens: settings.context_tokens,
            block_tokens: settings.block_tokens,
            block_bytes: settings.block_tokens * CELL_BYTES,
        };
        Self { shape, settings, cells: Vec::new() }
    }

    fn cell(&mut self, span: &Span, position: usize) -> &mut Option<Cell> {
        let block_tokens = self.shape.block_tokens;
        let block = span.blocks[position / block_tokens].0 as usize;
        &mut self.cells[block * block_tokens + position % block_tokens]
    }

    fn block_cells(&self, block: BlockId) -> std::ops::Range<usize> {
        let start = block.0 as usize * self.shape.block_tokens;
        start..start + self.shape.block_tokens
    }

    fn fail_if_told(&mut self, batch: &Batch) -> Result<(), ForwardError> {
        for fault in &mut self.settings.faults {
            if fault.kind == FaultKind::NotANumber || fault.times == 0 || !batch.tokens.contains(&fault.token)
            {
                continue;
            }
            fault.times -= 1;
            match fault.kind {
                FaultKind::Panic => panic!("the toy was told to panic over token {}", fault.token),
                _ => return Err(ForwardError::Device(format!("told to fail over token {}", fault.token))),
            }
        }
        Ok(())
    }

    /// Scores of the row at that position, from what the blocks hold up to it.
    fn score(&mut self, span: &Span, position: usize, logits: &mut Vec<f32>) {
        let mut state = START ^ self.settings.salt;
        let mut spoilt = false;
        for place in 0..=position {
            // A cell of another place, or none, spoils everything after it.
            state = match *self.cell(span, place) {
                Some(cell) if cell.position == place => {
                    spoilt |= self.settings.faults.iter().any(|fault| fault.spoils(cell.token));
                    see(state, cell.token)
                }
                _ => scramble(state ^ 0xBAD),
            };
        }
        if spoilt {
            logits.extend(std::iter::repeat_n(f32::NAN, self.shape.vocabulary));
        } else {
            let first = logits.len();
            logits.extend(scores(state, self.shape.vocabulary));
            let place = self.settings.echo.and_then(|echo| (position + 1).checked_sub(echo));
            if let Some(cell) = place.and_then(|place| *self.cell(span, place)) {
                logits[first + cell.token as usize] += ECHO;
            }
        }
    }
}

impl Forward for Toy {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn reserve(&mut self, blocks: usize) -> Result<(), ForwardError> {
        self.cells = vec![None; blocks * self.shape.block_tokens];
        Ok(())
    }

    fn run(&mut self, batch: &Batch, logits: &mut Vec<f32>) -> Result<(), ForwardError> {
        check_layout(batch, self.shape.block_tokens);
        let took = self.settings.cost.of(batch);
        match &self.settings.pace {
            Pace::Virtual(clock) => clock.pass(took),
            Pace::Real => std::thread::sleep(took),
        }
        self.settings.rows_computed.fetch_add(batch.tokens.len() as u64, Ordering::Relaxed);
        self.fail_if_told(batch)?;
        logits.clear();
        // Everything is written before anything is read, as on a device that computes all rows at once.
        for span in &batch.spans {
            for row in 0..span.rows as usize {
                let position = span.first_position as usize + row;
                let token = batch.tokens[span.first_row as usize + row];
                *self.cell(span, position) = Some(Cell { token, position });
            }
        }
        let mut wanted = batch.logit_rows.iter().peekable();
        for span in &batch.spans {
            while let Some(row) = wanted.next_if(|&&row| row < span.first_row + span.rows) {
                let position = span.first_position + (row - span.first_row);
                self.score(span, position as usize, logits);
            }
        }
        Ok(())
    }

    fn save_block(&self, block: BlockId, to: &mut [u8]) {
        assert_eq!(to.len(), self.shape.block_bytes, "a whole block is saved");
        for (cell, to) in self.cells[self.block_cells(block)].iter().zip(to.as_chunks_mut::<CELL_BYTES>().0) {
            let words = cell.map_or([0; 3], |cell| [1, u64::from(cell.token), cell.position as u64]);
            to.as_chunks_mut().0.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes());
        }
    }

    fn restore_block(&mut self, block: BlockId, from: &[u8]) {
        assert_eq!(from.len(), self.shape.block_bytes, "a whole block is restored");
        let cells = self.block_cells(block);
        for (cell, from) in self.cells[cells].iter_mut().zip(from.as_chunks::<CELL_BYTES>().0) {
            let word = |i: usize| u64::from_le_bytes(from.as_chunks().0[i]);
            *cell = (word(0) == 1).then(|| Cell { token: word(1) as TokenId, position: word(2) as usize });
        }
    }
}

/// What a real device would compute wrongly without a word.
fn check_layout(batch: &Batch, block_tokens: usize) {
    let mut rows = 0;
    for span in &batch.spans {
        assert!(span.rows > 0, "a span without rows");
        assert_eq!(span.first_row, rows, "spans are laid end to end");
        rows += span.rows;
        let positions = (span.first_position + span.rows) as usize;
        assert_eq!(span.blocks.len(), positions.div_ceil(block_tokens), "blocks up to the last row's");
    }
    assert_eq!(rows as usize, batch.tokens.len(), "one token a row");
    assert!(batch.logit_rows.windows(2).all(|pair| pair[0] < pair[1]), "rows whose scores are wanted ascend");
    assert!(batch.logit_rows.last().is_none_or(|&row| row < rows), "a row beyond the last");
}

/// Of scores up to 8: the echo is nearly always the likeliest, and often drawn.
const ECHO: f32 = 7.0;
const START: u64 = 0x70_0F;

fn see(state: u64, token: TokenId) -> u64 {
    scramble(state.rotate_left(7) ^ u64::from(token).wrapping_add(1))
}

fn scores(state: u64, vocabulary: usize) -> impl Iterator<Item = f32> {
    // 0‥8 in steps of 2⁻²¹: spread enough for sampling to differ from greedy.
    (0..vocabulary as u64)
        .map(move |token| (scramble(state ^ (token << 32)) >> 40) as f32 / (1u64 << 21) as f32)
}

/// Returns the scores that the toy should give after these tokens.
pub fn scores_after(tokens: &[TokenId], vocabulary: usize) -> Vec<f32> {
    scores(tokens.iter().fold(START, |state, &token| see(state, token)), vocabulary).collect()
}

/// Returns the greedy answer that the toy should give, stop token excluded.
pub fn greedy_answer(
    prompt: &[TokenId],
    max_tokens: usize,
    stop: &[TokenId],
    vocabulary: usize,
) -> Vec<TokenId> {
    let mut tokens = prompt.to_vec();
    for _ in 0..max_tokens {
        let scores = scores_after(&tokens, vocabulary);
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let next =
            scores.iter().position(|&score| score == highest).expect("the highest is among them") as TokenId;
        if stop.contains(&next) {
            break;
        }
        tokens.push(next);
    }
    tokens.split_off(prompt.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_went_away_and_came_back_elsewhere_reads_the_same() {
        let mut toy = Toy::new(ToySettings::default());
        toy.reserve(2).unwrap();
        let span = |first_position, rows, block| Span {
            first_row: 0,
            rows,
            first_position,
            blocks: vec![BlockId(block)],
        };
        let batch = |tokens: &[TokenId], span| Batch {
            tokens: tokens.to_vec(),
            spans: vec![span],
            logit_rows: vec![tokens.len() as u32 - 1],
        };
        let mut logits = Vec::new();
        toy.run(&batch(&[7, 8, 9], span(0, 3, 0)), &mut logits).unwrap();
        let mut bytes = vec![0xaa; toy.shape().block_bytes];
        toy.save_block(BlockId(0), &mut bytes);
        toy.restore_block(BlockId(1), &bytes);
        toy.run(&batch(&[10], span(3, 1, 1)), &mut logits).unwrap();
        assert_eq!(logits, scores_after(&[7, 8, 9, 10], 61));
    }
}
