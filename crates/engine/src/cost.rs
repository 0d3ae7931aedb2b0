//! How long will a step take?
//!
//! `t = a + b · prompt rows + c · Σ context + d · decode rows + e · guessed rows`, where Σ context is the number of keys that all rows look at.
//! The five costs are learnt from the steps themselves by recursive least squares, and never negative.

use std::time::Duration;

/// What the duration of a step depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepSize {
    pub prefill_rows: usize,
    pub decode_rows: usize,
    /// Rows of guesses beside decode rows.
    pub guessed_rows: usize,
    /// Keys looked at, summed over all rows.
    pub context_tokens: usize,
}

impl StepSize {
    /// Adds `rows` rows of one sequence, of which `computed` tokens are computed already.
    pub fn add(&mut self, computed: usize, rows: usize) {
        if rows == 1 {
            self.decode_rows += 1;
        } else {
            self.prefill_rows += rows;
        }
        self.context_tokens += context_of(computed, rows);
    }

    /// Adds guesses behind a decode row.
    pub fn add_guesses(&mut self, computed: usize, guesses: usize) {
        self.guessed_rows += guesses;
        self.context_tokens += context_of(computed + 1, guesses);
    }

    /// Ordered by which cost explains a first measurement: rows before keys before a constant.
    fn features(&self) -> [f64; FEATURES] {
        [
            self.prefill_rows as f64,
            self.decode_rows as f64,
            self.guessed_rows as f64,
            self.context_tokens as f64,
            1.0,
        ]
    }
}

/// Row `i` of a chunk sees what was computed before, the rows ahead of it, and itself.
fn context_of(computed: usize, rows: usize) -> usize {
    rows * computed + rows * (rows + 1) / 2
}

const FEATURES: usize = 5;
const PREFILL: usize = 0;
const GUESSED: usize = 2;
const CONTEXT: usize = 3;
/// The weight that a measurement keeps when the next of its kind comes: the last 50 steps or so decide, about the time a
/// machine stays equally warm and equally shared.
const MEMORY: f64 = 0.98;
/// A step is believed to be at most so many times slower or faster than predicted: one page-in must not ruin the fit, and
/// a machine that really became slower is still learnt within a few steps.
const SURPRISE_MAX: f64 = 4.0;
/// Measurements before a surprise is limited and a prediction is trusted.
const WARM_UP: u32 = 3;
/// Sweeps of coordinate descent for each measurement; it starts from the last solution, which is close.
const SWEEPS: usize = 32;

#[derive(Clone, Debug, Default)]
pub struct CostModel {
    /// Seconds per unit of each feature.
    cost: [f64; FEATURES],
    /// Weighted sum of `xᵢ·xⱼ`. A step weighs one over its rows, so that the few long steps do not drown the many short
    /// ones; not one over its time, or a machine that became slower would hardly be believed.
    information: [[f64; FEATURES]; FEATURES],
    measurements: u32,
    prefill_measurements: u32,
    guess_measurements: u32,
    /// The most prompt rows of any step measured so far.
    largest_prefill_rows: usize,
}

impl CostModel {
    pub fn predict(&self, size: &StepSize) -> Duration {
        Duration::from_secs_f64(self.seconds(size).clamp(0.0, 1e6))
    }

    fn seconds(&self, size: &StepSize) -> f64 {
        dot(&self.cost, &size.features())
    }

    /// Whether enough prompts were measured to trust a prediction.
    pub(crate) fn knows_prefill(&self) -> bool {
        self.prefill_measurements >= WARM_UP
    }

    /// Returns how many prompt rows behind `computed` tokens take no longer than so many seconds; before anything is
    /// known, and beyond twice what was ever measured, it does not guess.
    pub(crate) fn prefill_rows_within(&self, seconds: f64, computed: usize) -> usize {
        if !self.knows_prefill() {
            return 0;
        }
        // b·n + c·(n·computed + n²/2) ≤ seconds, the larger root; written so that c = 0 needs no case of its own.
        let per_row = self.cost[PREFILL] + self.cost[CONTEXT] * computed as f64;
        let seconds = seconds.max(0.0);
        let root = per_row + (per_row * per_row + 2.0 * self.cost[CONTEXT] * seconds).sqrt();
        let rows = if root > 0.0 { 2.0 * seconds / root } else { f64::INFINITY };
        // Casting saturates, so that infinity is a limit like any other.
        (rows as usize).min(2 * self.largest_prefill_rows)
    }

    /// Returns the seconds that one guess behind so many tokens adds to a step, once that was measured.
    pub(crate) fn guess_seconds(&self, computed: usize) -> Option<f64> {
        (self.guess_measurements >= WARM_UP)
            .then(|| self.cost[GUESSED] + self.cost[CONTEXT] * computed as f64)
    }

    /// Returns the seconds that a chunk adds to a step.
    pub(crate) fn chunk_seconds(&self, computed: usize, rows: usize) -> f64 {
        self.cost[PREFILL] * rows as f64 + self.cost[CONTEXT] * context_of(computed, rows) as f64
    }

    /// Learns from a step that took so long.
    pub fn observe(&mut self, size: &StepSize, took: Duration) {
        let mut took = took.as_secs_f64();
        let features = size.features();
        let predicted = self.seconds(size);
        if self.measurements >= WARM_UP && predicted > 0.0 {
            took = took.clamp(predicted / SURPRISE_MAX, predicted * SURPRISE_MAX);
        }
        if took <= 0.0 || features[..CONTEXT].iter().all(|&rows| rows == 0.0) {
            return;
        }
        self.measurements = self.measurements.saturating_add(1);
        if size.prefill_rows > 0 {
            self.prefill_measurements = self.prefill_measurements.saturating_add(1);
            self.largest_prefill_rows = self.largest_prefill_rows.max(size.prefill_rows);
        }
        if size.guessed_rows > 0 {
            self.guess_measurements = self.guess_measurements.saturating_add(1);
        }
        self.learn(&features, took);
    }

    fn learn(&mut self, features: &[f64; FEATURES], took: f64) {
        // Only what this step tells about is forgotten: hours of decoding do not erase what a prompt row costs.
        let rows: f64 = features[..CONTEXT].iter().sum();
        let keep = features.map(|feature| if feature == 0.0 { 1.0 } else { MEMORY.sqrt() });
        let mut target = [0.0; FEATURES];
        for (i, target) in target.iter_mut().enumerate() {
            for j in 0..FEATURES {
                let old = self.information[i][j] * keep[i] * keep[j];
                let new = features[i] * features[j] / rows;
                // The old measurements are represented by the solution they led to.
                *target += old * self.cost[j];
                self.information[i][j] = old + new;
            }
            *target += features[i] * took / rows;
        }
        for _ in 0..SWEEPS {
            for (i, target) in target.iter().enumerate() {
                if self.information[i][i] > 0.0 {
                    let residual = target - dot(&self.information[i], &self.cost);
                    self.cost[i] = (self.cost[i] + residual / self.information[i][i]).max(0.0);
                }
            }
        }
    }
}

fn dot(a: &[f64; FEATURES], b: &[f64; FEATURES]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(chunks: &[(usize, usize)]) -> StepSize {
        let mut size = StepSize::default();
        chunks.iter().for_each(|&(computed, rows)| size.add(computed, rows));
        size
    }

    /// 2 ms + 0.2 ms a prompt row + 50 ns a key + 0.5 ms a decode row.
    fn truth(size: &StepSize) -> f64 {
        2e-3 + 2e-4 * size.prefill_rows as f64
            + 5e-8 * size.context_tokens as f64
            + 5e-4 * size.decode_rows as f64
    }

    fn taught(steps: usize) -> CostModel {
        let mut model = CostModel::default();
        for step in 0..steps {
            let mut size = size(&[(step * 7 % 900, 1)]);
            (0..step % 5).for_each(|other| size.add((step + other) * 31 % 2000, 1));
            if step % 3 == 0 {
                size.add(step * 64 % 4096, 32 + step * 16 % 256);
            }
            model.observe(&size, Duration::from_secs_f64(truth(&size)));
        }
        model
    }

    fn assert_near(predicted: Duration, expected: f64, tolerance: f64) {
        let predicted = predicted.as_secs_f64();
        assert!((predicted / expected - 1.0).abs() < tolerance, "{predicted} instead of {expected}");
    }

    #[test]
    fn a_linear_machine_is_learnt() {
        let model = taught(300);
        // 10 %: coordinate descent with few sweeps stops short of the exact solution where features go together.
        for chunks in [vec![(500, 1)], vec![(0, 128)], vec![(3000, 200), (100, 1), (900, 1)]] {
            let size = size(&chunks);
            assert_near(model.predict(&size), truth(&size), 0.1);
        }
    }

    #[test]
    fn decoding_for_hours_does_not_erase_what_prompts_cost() {
        let mut model = taught(300);
        for step in 0..20_000 {
            let size = size(&[(step % 1000, 1), (step % 700, 1)]);
            model.observe(&size, Duration::from_secs_f64(truth(&size)));
        }
        let prompt = size(&[(0, 256), (100, 1)]);
        assert_near(model.predict(&prompt), truth(&prompt), 0.15);
    }

    #[test]
    fn one_slow_step_is_not_believed_and_a_slower_machine_is() {
        let mut model = taught(300);
        let usual = size(&[(100, 1), (200, 1)]);
        let before = model.predict(&usual).as_secs_f64();
        model.observe(&usual, Duration::from_secs(30));
        assert!(model.predict(&usual).as_secs_f64() < 2.0 * before);
        for _ in 0..200 {
            model.observe(&usual, Duration::from_secs_f64(10.0 * truth(&usual)));
        }
        assert_near(model.predict(&usual), 10.0 * truth(&usual), 0.1);
    }

    #[test]
    fn the_chunk_that_fits_takes_the_time_given() {
        let model = taught(300);
        for (seconds, computed) in [(0.01, 0), (0.05, 1000), (0.03, 4000)] {
            let rows = model.prefill_rows_within(seconds, computed);
            let (fits, too_long) =
                (model.chunk_seconds(computed, rows), model.chunk_seconds(computed, rows + 1));
            assert!(
                fits <= seconds * 1.0001 && too_long > seconds * 0.9999,
                "{rows} rows: {fits}, {too_long}"
            );
        }
    }

    #[test]
    fn nothing_is_guessed_before_it_is_measured() {
        let mut model = CostModel::default();
        assert_eq!(model.prefill_rows_within(1.0, 0), 0);
        for _ in 0..4 {
            model.observe(&size(&[(0, 40)]), Duration::from_micros(1));
        }
        assert_eq!(model.prefill_rows_within(1.0, 0), 80, "at most twice what was seen");
    }

    #[test]
    fn costs_are_never_negative() {
        let mut model = CostModel::default();
        // Larger steps that took less time would need a negative cost.
        for step in 0..100usize {
            let size = size(&[(0, 2 + step % 50), (10, 1)]);
            let took = 0.1 / (1.0 + (step % 50) as f64);
            model.observe(&size, Duration::from_secs_f64(took));
            assert!(model.cost.iter().all(|&cost| cost >= 0.0 && cost.is_finite()), "{:?}", model.cost);
        }
    }
}
