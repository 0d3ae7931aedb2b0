//! What has a request used so far?
//!
//! The rules. *Input*: each prompt is counted once, however many choices it has, as far as it was computed or found in the
//! cache. *Output*: every token that was produced for a choice, its stop token included. Where a stop string ends a choice,
//! the token that completed the string is the last one counted: what the engine computes until it hears of the end is not
//! the client's. The same holds where a budget ends it: what was held and delivered is counted. *Machine time*: all that the
//! machine spent on any choice, for it was spent. The same numbers go to the client and to the ledger.

use domain::{Usage, WorkUsage};

/// One choice's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    prompt_tokens: u32,
    cached_tokens: u32,
    is_started: bool,
    taken_tokens: u64,
    reasoning_tokens: u64,
    /// The engine's own count, once the work has ended.
    measured: Option<WorkUsage>,
    /// It ended with a token that was taken, whatever the engine made after it.
    is_ended_here: bool,
}

impl Tally {
    pub fn new(prompt_tokens: usize) -> Self {
        Self { prompt_tokens: prompt_tokens as u32, ..Self::default() }
    }
    pub fn started(&mut self, cached_tokens: u32) {
        self.is_started = true;
        self.cached_tokens = cached_tokens;
    }
    pub fn took(&mut self, tokens: u64, reasoning_tokens: u64) {
        self.taken_tokens += tokens;
        self.reasoning_tokens += reasoning_tokens;
    }
    pub fn ended_here(&mut self) {
        self.is_ended_here = true;
    }
    pub fn measured(&mut self, usage: WorkUsage) {
        self.measured = Some(usage);
    }
    pub fn is_measured(&self) -> bool {
        self.measured.is_some()
    }

    fn output(&self) -> u64 {
        match self.measured {
            Some(measured) if !self.is_ended_here => u64::from(measured.output_tokens),
            _ => self.taken_tokens,
        }
    }

    /// Returns uncached and cached tokens of the prompt.
    fn input(&self) -> (u64, u64) {
        let (prompt, cached) = match self.measured {
            Some(measured) if !self.is_ended_here => (measured.prompt_tokens, measured.cached_tokens),
            _ if self.is_started => (self.prompt_tokens, self.cached_tokens),
            _ => (0, 0),
        };
        (u64::from(prompt.saturating_sub(cached)), u64::from(cached))
    }
}

/// Returns what all choices used together; they come in order, `choices_per_prompt` for each prompt.
pub fn total(tallies: &[Tally], choices_per_prompt: usize) -> Usage {
    let mut usage = Usage::default();
    for of_one_prompt in tallies.chunks(choices_per_prompt) {
        // The choice that got furthest computed the prompt; the others found it, or never came to it.
        let inputs = of_one_prompt.iter().map(Tally::input);
        let (uncached, cached) =
            inputs.max_by_key(|(uncached, cached)| (uncached + cached, *uncached)).unwrap_or_default();
        usage.input_uncached += uncached;
        usage.cache_read += cached;
        for tally in of_one_prompt {
            usage.output += tally.output();
            usage.reasoning += tally.reasoning_tokens.min(tally.output());
            usage.compute_us += tally.measured.map_or(0, |measured| measured.compute_us);
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(prompt_tokens: u32, cached_tokens: u32, output_tokens: u32) -> Tally {
        let mut tally = Tally::new(prompt_tokens as usize);
        tally.started(cached_tokens);
        tally.took(u64::from(output_tokens), 0);
        tally.measured(WorkUsage { prompt_tokens, cached_tokens, output_tokens, compute_us: 1_000 });
        tally
    }

    fn counts(tallies: &[Tally], choices_per_prompt: usize) -> (u64, u64, u64) {
        let usage = total(tallies, choices_per_prompt);
        (usage.input_uncached, usage.cache_read, usage.output)
    }

    #[test]
    fn a_prompt_is_counted_once_for_all_its_choices_and_by_the_one_that_computed_it() {
        assert_eq!(counts(&[ended(100, 96, 5), ended(100, 0, 7)], 2), (100, 0, 12));
        assert_eq!(counts(&[ended(100, 32, 5), ended(10, 0, 7)], 1), (78, 32, 12));
    }

    #[test]
    fn machine_time_is_counted_for_every_choice() {
        assert_eq!(total(&[ended(100, 96, 5), ended(100, 0, 7)], 2).compute_us, 2_000);
    }

    #[test]
    fn a_stop_string_ends_the_count_with_the_token_that_completed_it() {
        let mut tally = Tally::new(10);
        tally.started(4);
        tally.took(3, 0);
        tally.ended_here();
        tally.measured(WorkUsage { prompt_tokens: 10, cached_tokens: 4, output_tokens: 5, compute_us: 9 });
        assert_eq!(counts(&[tally], 1), (6, 4, 3));
        assert_eq!(total(&[tally], 1).compute_us, 9);
    }

    #[test]
    fn what_never_started_used_nothing_and_a_half_computed_prompt_its_half() {
        assert_eq!(counts(&[Tally::new(10)], 1), (0, 0, 0));
        let mut half = Tally::new(1_000);
        half.started(0);
        half.measured(WorkUsage { prompt_tokens: 512, ..WorkUsage::default() });
        assert_eq!(counts(&[half], 1), (512, 0, 0));
    }
}
