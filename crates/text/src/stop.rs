//! Where does an answer end because it says one of the client's stop strings?

/// What may be shown after a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Text that cannot be part of a stop string any more.
    pub text: String,
    /// Which stop string ended the answer; its text is not part of `text`.
    pub stop: Option<usize>,
}

/// Watches a growing text for stop strings, across all borders between its pieces.
///
/// The stop string that is complete first wins; of several complete at the same character, the one that began first. So
/// the answer does not depend on how the text was cut. At most the longest stop string, less one character, is held back.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// The end of the text so far that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl StopMatcher {
    /// Empty stop strings stop nothing.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.to_vec();
        Self { stops, held: String::new(), stopped: false }
    }
    /// Takes the next piece of text. After a stop nothing more comes out.
    pub fn push(&mut self, text: &str) -> Matched {
        if self.stopped {
            return Matched::default();
        }
        let mut text = std::mem::take(&mut self.held) + text;
        if let Some((start, stop)) = self.first_match(&text) {
            self.stopped = true;
            text.truncate(start);
            return Matched { text, stop: Some(stop) };
        }
        self.held = text.split_off(self.possible_start(&text));
        Matched { text, stop: None }
    }
    /// Returns what was held back, when no more text comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
    pub fn stopped(&self) -> bool {
        self.stopped
    }
    /// Returns where the winning stop string starts, and which it is.
    fn first_match(&self, text: &str) -> Option<(usize, usize)> {
        let nonempty = self.stops.iter().enumerate().filter(|(_, stop)| !stop.is_empty());
        nonempty
            .filter_map(|(place, stop)| {
                text.find(stop.as_str()).map(|start| (start + stop.len(), start, place))
            })
            .min()
            .map(|(_, start, place)| (start, place))
    }
    /// Returns where the longest end of `text` begins that is the beginning of some stop string.
    fn possible_start(&self, text: &str) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let near_end = text.char_indices().rev().take_while(|(at, _)| text.len() - at < longest);
        near_end
            .filter(|(at, _)| self.stops.iter().any(|stop| stop.starts_with(&text[*at..])))
            .last()
            .map_or(text.len(), |(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(&stops.iter().map(|stop| stop.to_string()).collect::<Vec<_>>())
    }
    /// Feeds the pieces and returns all text that came out, and which stop string ended it.
    fn run<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, Option<usize>) {
        let mut matcher = matcher(stops);
        let (mut text, mut stop) = (String::new(), None);
        for piece in pieces {
            let matched = matcher.push(piece);
            text += &matched.text;
            stop = stop.or(matched.stop);
        }
        text += &matcher.finish();
        (text, stop)
    }

    #[test]
    fn a_stop_string_ends_the_text_before_it() {
        assert_eq!(run(&["\n\n"], ["one\n", "\ntwo"]), ("one".to_owned(), Some(0)));
        assert_eq!(run(&["END"], ["an EN", "TRY"]), ("an ENTRY".to_owned(), None));
        assert_eq!(run(&["END"], ["at the E", "N"]), ("at the EN".to_owned(), None));
        assert_eq!(run(&["é!"], ["caf", "é", "!"]), ("caf".to_owned(), Some(0)));
        assert_eq!(run(&["aab"], ["a", "a", "a", "b"]), ("a".to_owned(), Some(0)));
        assert_eq!(run(&[""], ["text"]), ("text".to_owned(), None));
    }

    #[test]
    fn the_stop_string_that_is_complete_first_wins() {
        assert_eq!(run(&["abcd", "bc"], ["xabcd"]), ("xa".to_owned(), Some(1)));
        assert_eq!(run(&["bc", "abc"], ["xabcd"]), ("x".to_owned(), Some(1)));
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let mut matcher = matcher(&["STOP"]);
        assert_eq!(matcher.push("go ST").text, "go ");
        assert_eq!(matcher.push("ART").text, "START");
        assert_eq!(matcher.push("!").text, "!");
    }

    proptest! {
        #[test]
        fn any_split_of_a_text_gives_the_same_answer(
            text in "[abé\u{1F600}]{0,40}",
            stops in prop::collection::vec("[abé\u{1F600}]{1,4}", 0..4),
            cuts in prop::collection::vec(0usize..160, 0..8),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stops, crate::answer::tests::cut(&text, &cuts)), run(&stops, [text.as_str()]));
        }

        #[test]
        fn a_matcher_shows_what_a_search_of_the_whole_text_shows(
            text in "[ab]{0,30}",
            stops in prop::collection::vec("[ab]{1,4}", 1..4),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let ends = (0..=text.len()).find(|end| stops.iter().any(|stop| text[..*end].ends_with(stop)));
            let expected = ends.map_or(text.clone(), |end| {
                let longest = stops.iter().filter(|stop| text[..end].ends_with(**stop)).map(|stop| stop.len()).max();
                text[..end - longest.unwrap()].to_owned()
            });
            prop_assert_eq!(run(&stops, [text.as_str()]).0, expected);
        }
    }
}
