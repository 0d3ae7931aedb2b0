//! Can a client's body, whatever it is, do anything but be read or be refused by name?
//!
//! The first byte chooses the client's dialect. What is read is asked of every provider, whose request must be JSON.

#![no_main]

use dialect::{Read, Target, Upstream, anthropic, aws, google, openai};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let read: Read = match choice % 4 {
        0 => openai::chat::read,
        1 => openai::completion::read,
        2 => anthropic::read,
        _ => |body| openai::responses::read(body).map(|(heard, _)| heard),
    };
    // Embeddings have a request of their own kind.
    let _ = openai::embeddings::read(body);
    let Ok(heard) = read(body) else { return };
    for upstream in upstreams() {
        let target = Target { model: "m", stream: heard.ask.stream };
        if let Ok(request) = upstream.request(&heard.ask, &target) {
            assert_json(&request.body, upstream.name());
        }
        if upstream.name() == heard.form.dialect()
            && let Ok(request) = upstream.passed(body, &target)
        {
            assert_json(&request.body, upstream.name());
        }
    }
});

fn upstreams() -> [Box<dyn Upstream>; 7] {
    [
        Box::new(openai::chat::ChatUpstream { manner: openai::Manner::default() }),
        Box::new(openai::chat::ChatUpstream { manner: openai::Manner::compatible() }),
        Box::new(openai::responses::ResponsesUpstream { manner: openai::Manner::default() }),
        Box::new(anthropic::Messages),
        Box::new(google::Gemini::studio()),
        Box::new(google::Gemini::vertex("p", "l")),
        Box::new(aws::Converse),
    ]
}

fn assert_json(body: &[u8], dialect: &str) {
    let read = serde_json::from_slice::<serde_json::Value>(body);
    assert!(read.is_ok_and(|value| value.is_object()), "{dialect} asks with what is no JSON object");
}
