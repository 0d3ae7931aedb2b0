//! Where does one server-sent event end and the next begin?
//!
//! As the HTML standard has it: lines end with LF, CRLF or CR; an empty line ends an event; `data` lines join with LF; a line
//! that begins with a colon says nothing.

/// Cuts a body into events, fed in pieces of any size.
#[derive(Debug)]
pub struct Splitter {
    /// What has come of the event that is not complete; at most `bytes_max`.
    pending: Vec<u8>,
    /// Up to where `pending` has been searched for its end.
    searched: usize,
    bytes_max: usize,
}

/// One event, as it came and as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The bytes as they came, with the empty line that ends them.
    pub raw: Vec<u8>,
    /// The `event:` field; empty where there is none.
    pub name: String,
    /// The `data:` lines, joined. An event without data says nothing.
    pub data: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("an event above {0} bytes")]
    TooLarge(usize),
    #[error("an event that is not UTF-8")]
    NotText,
}

impl Splitter {
    pub fn new(bytes_max: usize) -> Self {
        Self { pending: Vec::new(), searched: 0, bytes_max }
    }

    /// Adds bytes; returns the events that they complete, comments included (without data).
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, SseError> {
        self.pending.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut begin = 0;
        while let Some(end) = end_of_event(&self.pending, begin, self.searched.max(begin)) {
            events.push(Event::read(&self.pending[begin..end])?);
            begin = end;
        }
        self.pending.drain(..begin);
        // The last bytes may be the first half of an end.
        self.searched = self.pending.len().saturating_sub(3);
        match self.pending.len() > self.bytes_max {
            true => Err(SseError::TooLarge(self.bytes_max)),
            false => Ok(events),
        }
    }

    /// Returns what is left at the body's end, if it is an event that only lacks its empty line.
    pub fn end(&mut self) -> Result<Option<Event>, SseError> {
        let rest = std::mem::take(&mut self.pending);
        self.searched = 0;
        if rest.is_empty() { Ok(None) } else { Event::read(&rest).map(Some) }
    }
}

/// Returns where the event that begins at `begin` ends: behind its empty line.
fn end_of_event(bytes: &[u8], begin: usize, from: usize) -> Option<usize> {
    let mut place = from;
    while place < bytes.len() {
        let found = bytes[place..].iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
        let first = place + found;
        let second = first + line_end(&bytes[first..])?;
        // An empty line at the very beginning ends nothing, but is passed on with what follows.
        if second < bytes.len() && first >= begin {
            if let Some(length) = line_end(&bytes[second..]) {
                return Some(second + length);
            }
            // A CR at the end of what has come may be half of a CRLF.
            if bytes[second] == b'\r' {
                return None;
            }
        }
        place = second;
    }
    None
}

/// Returns the length of the line's end that stands here; nothing where there is none, or it may not be whole yet.
fn line_end(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\r', b'\n', ..] => Some(2),
        [b'\r'] => None,
        [b'\r' | b'\n', ..] => Some(1),
        _ => None,
    }
}

impl Event {
    fn read(raw: &[u8]) -> Result<Self, SseError> {
        let text = std::str::from_utf8(raw).map_err(|_| SseError::NotText)?;
        let (mut name, mut data): (&str, Option<String>) = ("", None);
        let text_without_mark = text.strip_prefix('\u{feff}').unwrap_or(text);
        for line in text_without_mark.split(['\r', '\n']) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => name = value,
                "data" => match &mut data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => data = Some(value.to_owned()),
                },
                _ => {}
            }
        }
        Ok(Self { raw: raw.to_vec(), name: name.to_owned(), data: data.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut splitter = Splitter::new(1 << 20);
        let mut events: Vec<Event> = pieces.iter().flat_map(|piece| splitter.feed(piece).unwrap()).collect();
        events.extend(splitter.end().unwrap());
        events.into_iter().map(|event| (event.name, event.data)).collect()
    }

    fn said(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn events_end_with_an_empty_line_however_lines_end() {
        for end in ["\n", "\r\n", "\r"] {
            let body =
                ["event: a", "data: 1", "data:2", "", ": ping", "", "data: x", "id: 7", "", ""].join(end);
            let expected = [said("a", "1\n2"), said("", ""), said("", "x")];
            assert_eq!(split(&[body.as_bytes()]), expected, "{end:?}");
        }
    }

    #[test]
    fn an_event_without_its_empty_line_is_read_at_the_end() {
        assert_eq!(split(&[b"data: a\n\ndata: b"]), [said("", "a"), said("", "b")]);
    }

    #[test]
    fn what_is_too_large_or_no_text_is_refused() {
        assert_eq!(Splitter::new(8).feed(b"data: 123456"), Err(SseError::TooLarge(8)));
        assert_eq!(Splitter::new(99).feed(b"data: \xff\n\n"), Err(SseError::NotText));
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_body_is_cut(
            lines in prop::collection::vec(prop_oneof!["data: [a-zé]{0,5}", "event: [a-z]{1,3}", ": [a-z]{0,3}", ""], 0..30),
            end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
            cuts in prop::collection::vec(0usize..400, 0..8),
        ) {
            let body = lines.join(end) + end;
            let body = body.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&pieces), split(&[body]));
            let mut splitter = Splitter::new(1 << 20);
            let mut raw: Vec<u8> = Vec::new();
            for piece in &pieces {
                splitter.feed(piece).unwrap().into_iter().for_each(|event| raw.extend(event.raw));
            }
            splitter.end().unwrap().into_iter().for_each(|event| raw.extend(event.raw));
            prop_assert_eq!(raw.as_slice(), body);
        }
    }
}
