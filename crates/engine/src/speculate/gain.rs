//! How many guesses are worth their rows?
//!
//! The j-th guess is of use if all before it were right: with probability `pʲ` it is one more token. It costs a row. A batch
//! earns tokens at some pace without it; the row is worth it where it earns faster than that. So guesses stop by themselves
//! where the machine is busy computing, and where they are mostly wrong.

use super::{GUESSES_MAX, Source};

/// A row must earn so much more than the batch does anyway: estimates are noisy, and what is lost is certain.
const MARGIN: f64 = 1.15;
/// How much one outcome counts in a sequence's rate: the last ten or so decide, about a line of text.
const OUTCOME: f64 = 0.1;
/// And in the rate of all sequences, from which new ones start.
const EXPERIENCE: f64 = 0.01;
/// Steps between two trials of a guess that is not worth it. A row of a sequence takes no longer than its whole step, so that
/// one trial in 64 costs at most 1.6 %; each that fails doubles the wait.
const PAUSE_MIN: u32 = 64;
const PAUSE_MAX: u32 = 1024;

/// How often guesses of one source are right, given that all before them were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    right: f64,
    /// Steps since the last guess, and how many to wait for a trial.
    idle: u32,
    pause: u32,
}

impl Rate {
    fn of(right: f64) -> Self {
        Self { right, idle: 0, pause: PAUSE_MIN }
    }

    /// Takes note of a guess that was judged.
    fn note(&mut self, is_right: bool) {
        self.right += OUTCOME * (f64::from(u8::from(is_right)) - self.right);
        self.pause = if is_right { PAUSE_MIN } else { (2 * self.pause).min(PAUSE_MAX) };
    }
}

/// Tokens that a step earns, and its seconds, with everything planned so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) tokens: f64,
    pub(crate) seconds: f64,
    /// Seconds that guesses may still take.
    pub(crate) left: f64,
}

/// What all sequences of an engine have experienced.
#[derive(Debug)]
pub(crate) struct Gain {
    right: [f64; Source::COUNT],
}

impl Default for Gain {
    fn default() -> Self {
        // Even odds for what is not known; what long ends promise is known well.
        Self { right: [0.5, 0.7, 0.5] }
    }
}

impl Gain {
    /// Returns how many guesses to make, of at most `most` that each take so many seconds; `None` is a row that was never
    /// measured, of which a few are tried.
    pub(crate) fn choose(
        &self,
        rate: &mut Option<Rate>,
        source: Source,
        most: usize,
        row_seconds: Option<f64>,
        pace: &mut Pace,
    ) -> usize {
        let rate = rate.get_or_insert_with(|| Rate::of(self.right[source as usize]));
        let most = most.min(GUESSES_MAX);
        let Some(row_seconds) = row_seconds else { return most.min(4) };
        let (mut chance, mut count) = (rate.right, 0);
        while count < most
            && row_seconds <= pace.left
            && chance * pace.seconds > MARGIN * pace.tokens * row_seconds
        {
            pace.tokens += chance;
            pace.seconds += row_seconds;
            pace.left -= row_seconds;
            chance *= rate.right;
            count += 1;
        }
        if count > 0 {
            rate.idle = 0;
            return count;
        }
        rate.idle += 1;
        if rate.idle < rate.pause || most == 0 || row_seconds > pace.left {
            return 0;
        }
        rate.idle = 0;
        1
    }

    /// Takes note that the first `right` of `guessed` were right; of those after the first wrong one nothing is known.
    pub(crate) fn note(&mut self, rate: &mut Option<Rate>, source: Source, guessed: usize, right: usize) {
        let judged = (right + 1).min(guessed);
        for nth in 0..judged {
            let is_right = nth < right;
            if let Some(rate) = rate {
                rate.note(is_right);
            }
            let all = &mut self.right[source as usize];
            *all += EXPERIENCE * (f64::from(u8::from(is_right)) - *all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace { tokens: 1.0, seconds: 0.010, left: 1.0 }
    }

    fn chosen(right: f64, row_seconds: f64) -> usize {
        let mut rate = Some(Rate::of(right));
        Gain::default().choose(&mut rate, Source::Long, 100, Some(row_seconds), &mut pace())
    }

    #[test]
    fn cheap_rows_and_good_guesses_are_worth_more() {
        assert_eq!(chosen(0.95, 0.0001), GUESSES_MAX);
        assert_eq!(chosen(0.95, 0.0099), 0, "a row that costs a step");
        assert_eq!(chosen(0.05, 0.001), 0, "hardly ever right");
        assert!(chosen(0.5, 0.001) < chosen(0.9, 0.001));
    }

    #[test]
    fn a_busy_batch_leaves_guesses_out() {
        let (mut rate, gain) = (Some(Rate::of(0.6)), Gain::default());
        let mut busy = Pace { tokens: 32.0, seconds: 0.032, left: 1.0 };
        assert_eq!(gain.choose(&mut rate, Source::Short, 8, Some(0.001), &mut busy), 0);
    }

    #[test]
    fn guesses_do_not_lengthen_a_step_beyond_its_target() {
        let (mut rate, gain) = (Some(Rate::of(0.99)), Gain::default());
        let mut short = Pace { left: 0.0025, ..pace() };
        assert_eq!(gain.choose(&mut rate, Source::Long, 12, Some(0.001), &mut short), 2);
    }

    #[test]
    fn what_is_not_worth_it_is_tried_again_ever_more_rarely() {
        let (mut rate, mut gain) = (Some(Rate::of(0.01)), Gain::default());
        let mut tried = Vec::new();
        for step in 0..10_000u32 {
            if gain.choose(&mut rate, Source::Short, 8, Some(0.002), &mut pace()) > 0 {
                gain.note(&mut rate, Source::Short, 1, 0);
                tried.push(step);
            }
        }
        assert_eq!(tried[0], PAUSE_MIN - 1);
        assert!(tried.len() < 14, "{tried:?}");
        // Every one of them as dear as a step: still under 3 %.
        assert!(tried.windows(2).all(|pair| pair[1] - pair[0] >= PAUSE_MIN));
    }

    #[test]
    fn only_judged_guesses_count() {
        let (mut rate, mut gain) = (Some(Rate::of(0.5)), Gain::default());
        gain.note(&mut rate, Source::Short, 8, 0);
        assert!((rate.unwrap().right - 0.45).abs() < 1e-9, "one wrong, seven unknown");
        gain.note(&mut rate, Source::Short, 2, 2);
        assert!(rate.unwrap().right > 0.5);
    }
}
