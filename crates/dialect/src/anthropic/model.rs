//! What does a model take, as far as its name tells?
//!
//! Anthropic's models differ in what they accept, and the API refuses the rest. The past is closed, so the name of an older
//! model says enough; every newer one is like the newest. A name that is not Anthropic's belongs to a server that speaks its
//! dialect, and those speak the older one.

/// A model's generation; an unknown one of Anthropic's counts as newest, one of somebody else's as `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    version: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SamplingTaken {
    All,
    /// `temperature` or `top_p`, not both.
    One,
    /// Nothing but the defaults.
    None,
}

const NEWEST: (u32, u32) = (u32::MAX, 0);

impl Model {
    /// Reads `claude-sonnet-4-5-20250929`, `anthropic.claude-opus-4-1-20250805-v1:0`, `claude-3-7-sonnet@20250219`, …: the first
    /// short number is the generation and one right behind it its part; long ones are dates.
    pub fn named(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let Some(place) = name.find("claude") else {
            return Self { version: None };
        };
        let words = name[place..].split(|letter: char| !letter.is_ascii_alphanumeric());
        let numbers = words.map(|word| word.parse::<u32>().ok().filter(|_| word.len() <= 2));
        let mut numbers = numbers.skip_while(Option::is_none);
        let version = match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), minor) => (major, minor.unwrap_or(0)),
            (None, _) => NEWEST,
        };
        Self { version: Some(version) }
    }

    /// Generations from 4.7 on sample as they do and refuse all but the defaults; those from 4.1 on take one of two.
    pub fn sampling(self) -> SamplingTaken {
        match self.version {
            None => SamplingTaken::All,
            Some(version) if version < (4, 1) => SamplingTaken::All,
            Some(version) if version < (4, 7) => SamplingTaken::One,
            Some(_) => SamplingTaken::None,
        }
    }

    /// Whether it takes a budget for thinking.
    pub fn takes_budget(self) -> bool {
        self.version.is_none_or(|version| version < (4, 7))
    }

    /// Whether it decides by itself how much to think, guided by an effort.
    pub fn takes_effort(self) -> bool {
        self.version.is_some_and(|version| version >= (4, 6))
    }

    /// Whether it knows the effort `xhigh`.
    pub fn takes_xhigh(self) -> bool {
        self.version.is_some_and(|version| version >= (4, 7))
    }

    /// Returns how long an answer may be where the ask leaves that open, which this dialect cannot: what the generation can
    /// give at most. Older ones refuse a prompt that leaves too little of the context for it, so they get less; 4096 is what
    /// every server of this dialect takes.
    pub fn output_tokens(self) -> u32 {
        match self.version {
            Some(version) if version >= (4, 6) => 128_000,
            Some(version) if version >= (4, 5) => 64_000,
            Some(version) if version >= (3, 5) => 8_192,
            _ => 4_096,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_read_from_every_spelling_of_a_name() {
        let table = [
            ("claude-3-7-sonnet-20250219", Some((3, 7))),
            ("claude-3-7-sonnet@20250219", Some((3, 7))),
            ("claude-sonnet-4-20250514", Some((4, 0))),
            ("claude-opus-4-1-20250805", Some((4, 1))),
            ("us.anthropic.claude-opus-4-1-20250805-v1:0", Some((4, 1))),
            ("anthropic/claude-sonnet-4.6", Some((4, 6))),
            ("claude-haiku-4-5", Some((4, 5))),
            ("claude-fable-5", Some((5, 0))),
            ("Claude-Opus-5-5", Some((5, 5))),
            ("claude-2.1", Some((2, 1))),
            ("claude-next-preview", Some(NEWEST)),
            ("kimi-k3", None),
        ];
        for (name, version) in table {
            assert_eq!(Model::named(name).version, version, "{name}");
        }
    }
}
