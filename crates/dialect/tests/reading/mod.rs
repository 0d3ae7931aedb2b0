//! How do the tests feed a reader: at once, cut at a place, or in pieces?

use dialect::{BadAnswer, Reader, Upstream};
use domain::{Answer, AnswerEvent};

/// Returns the events of a body that comes in these pieces, and how it ended.
pub fn read(
    upstream: &dyn Upstream,
    is_stream: bool,
    pieces: &[&[u8]],
) -> (Vec<AnswerEvent>, Result<(), BadAnswer>) {
    let mut reader: Box<dyn Reader> = upstream.reader(is_stream);
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(bad) = reader.feed(piece, &mut events) {
            return (events, Err(bad));
        }
    }
    let end = reader.end(&mut events);
    (events, end)
}

/// Returns the events of a good body.
pub fn events(upstream: &dyn Upstream, is_stream: bool, body: &[u8]) -> Vec<AnswerEvent> {
    let (events, end) = read(upstream, is_stream, &[body]);
    end.expect("a good answer");
    events
}

pub fn folded(events: Vec<AnswerEvent>) -> Answer {
    let mut answer = Answer::default();
    events.into_iter().for_each(|event| answer.fold(event));
    answer
}

/// Returns the body in pieces that end at these places.
pub fn cut<'a>(body: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place % (body.len() + 1)).collect();
    places.extend([0, body.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect()
}
