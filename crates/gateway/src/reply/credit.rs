//! How much may still be delivered under the hold, and when is it time to ask for more?
//!
//! ```text
//!  delivered          held − kept            held              ceiling
//!  ────────┤─── room ───┤                     │                   │
//!          low: ask for as much again, before it runs dry         never more than the answer can have
//! ```
//! Each choice ends with a token that is produced and not seen, so one token for each is kept back until the ceiling.
//! Pure: counts in, counts out.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    held: u64,
    delivered: u64,
    ceiling: u64,
    choices: u64,
    /// How much more is asked for at once.
    step: u64,
    is_refused: bool,
}

/// Less than this is not worth a booking.
const STEP_MIN: u64 = 8;
/// A stream asks when it has less than this left, or less than a quarter of what it holds: a booking takes some
/// milliseconds, a token seldom less than one.
const LOW_MIN: u64 = 32;

impl Credit {
    pub fn new(held: u64, ceiling: u64, choices: u64) -> Self {
        Self { held, delivered: 0, ceiling, choices, step: held.max(64), is_refused: false }
    }

    pub fn room(&self) -> u64 {
        let kept = if self.held >= self.ceiling { 0 } else { self.choices };
        self.held.saturating_sub(kept).saturating_sub(self.delivered)
    }

    pub fn deliver(&mut self, tokens: u64) {
        self.delivered += tokens;
    }

    /// Returns the total to ask for, if it is time to. `next` tokens wait to be delivered: a whole answer comes as one piece, which
    /// may be more than there is room for long before the room is low.
    pub fn wish(&self, next: u64) -> Option<u64> {
        let is_low = self.room() < LOW_MIN.max(self.held / 4).max(next);
        (is_low && !self.is_refused && self.held < self.ceiling)
            .then(|| (self.held + self.step).min(self.ceiling))
    }

    pub fn granted(&mut self, held: u64) {
        self.held = self.held.max(held);
        self.step = self.held;
    }

    /// Less may fit where much did not; at last, nothing does.
    pub fn refused(&mut self) {
        self.step /= 2;
        self.is_refused = self.step < STEP_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_asks_before_it_runs_dry_and_for_as_much_again() {
        let mut credit = Credit::new(100, 1_000, 1);
        assert_eq!((credit.room(), credit.wish(0)), (99, None));
        credit.deliver(68);
        assert_eq!((credit.room(), credit.wish(0)), (31, Some(200)));
        credit.granted(200);
        assert_eq!((credit.room(), credit.wish(0)), (131, None));
        credit.deliver(130);
        credit.granted(400);
        credit.deliver(199);
        credit.granted(1_000);
        assert_eq!(credit.room(), 1_000 - 397, "at the ceiling nothing is kept back");
        credit.deliver(603);
        assert_eq!(credit.wish(0), None);
    }

    #[test]
    fn a_stream_that_is_refused_asks_for_less_until_nothing_fits() {
        let mut credit = Credit::new(64, 1_000, 1);
        credit.deliver(60);
        let mut wishes = Vec::new();
        while let Some(wish) = credit.wish(0) {
            wishes.push(wish);
            credit.refused();
        }
        assert_eq!(wishes, [128, 96, 80, 72]);
        assert_eq!(credit.room(), 3);
    }

    #[test]
    fn a_piece_that_is_larger_than_the_room_is_asked_for_although_the_room_is_not_low() {
        let mut credit = Credit::new(400, 4_096, 1);
        assert_eq!((credit.room(), credit.wish(0)), (399, None));
        assert_eq!(credit.wish(520), Some(800));
        credit.granted(800);
        assert_eq!((credit.room(), credit.wish(520)), (799, None));
    }

    #[test]
    fn an_answer_that_is_held_whole_never_asks() {
        let mut credit = Credit::new(10, 10, 2);
        assert_eq!((credit.room(), credit.wish(0)), (10, None));
        credit.deliver(10);
        assert_eq!((credit.room(), credit.wish(0)), (0, None));
    }
}
