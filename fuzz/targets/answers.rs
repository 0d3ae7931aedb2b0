//! Can a provider's answer, whatever it is, do anything but be read or be called bad, and is it the same in any pieces?
//!
//! The first byte chooses the dialect and whether it streams, the second the client, the third how long the pieces are. What is read is
//! written to the client; a writer may be told anything that a reader says.

#![no_main]

use dialect::{Form, Head, Reader, Upstream, anthropic, aws, google, openai};
use domain::{Answer, AnswerEvent, UsageReport};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let [choice, client, piece, body @ ..] = data else { return };
    let (upstream, is_stream) = (upstream(choice / 2), choice % 2 == 0);
    let whole = read(upstream.reader(is_stream), body, body.len().max(1));
    let pieces = read(upstream.reader(is_stream), body, usize::from(*piece) + 1);
    assert_eq!(whole.1, pieces.1, "one ends well, one does not");
    // Of a bad answer, what came in the same piece as what is bad may be lost with it.
    if whole.1 {
        assert_eq!(fold(&whole.0), fold(&pieces.0), "pieces of {} bytes read otherwise", usize::from(*piece) + 1);
    }
    write(form(*client), &whole.0);
});

/// Returns the events, and whether the answer is good.
fn read(mut reader: Box<dyn Reader>, body: &[u8], piece: usize) -> (Vec<AnswerEvent>, bool) {
    let mut events = Vec::new();
    let is_good = body.chunks(piece).all(|piece| reader.feed(piece, &mut events).is_ok())
        && reader.end(&mut events).is_ok();
    (events, is_good)
}

fn fold(events: &[AnswerEvent]) -> Answer {
    let mut answer = Answer::default();
    events.iter().for_each(|event| answer.fold(event.clone()));
    answer
}

/// As the gateway does: what belongs to choices that were not asked for never reaches a writer, and each is finished once.
fn write(form: Arc<dyn Form>, events: &[AnswerEvent]) {
    let head = Head { id: form.answer_id("1"), created: 1, model: "m".into(), system_fingerprint: None };
    let mut report = UsageReport::default();
    let mut writer = form.writer(head.clone(), 1);
    let mut bytes = writer.open();
    let mut finish = None;
    for event in events {
        match event {
            AnswerEvent::Delta { choice: 0, delta } if finish.is_none() => {
                bytes.extend(writer.delta(0, std::slice::from_ref(delta)));
            }
            AnswerEvent::Finished { choice: 0, finish: said } => finish = Some(said.clone()),
            AnswerEvent::Used(said) => report = said.clone(),
            _ => {}
        }
    }
    if let Some(finish) = finish {
        bytes.extend(writer.finish(0, &finish));
        bytes.extend(writer.end(&report));
        let body = form.whole(&head, &fold(events), &report);
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "a whole answer is JSON");
    }
    assert!(std::str::from_utf8(&bytes).is_ok(), "a stream is text");
}

fn upstream(choice: u8) -> Box<dyn Upstream> {
    match choice % 5 {
        0 => Box::new(openai::chat::ChatUpstream { manner: openai::Manner::default() }),
        1 => Box::new(openai::responses::ResponsesUpstream { manner: openai::Manner::default() }),
        2 => Box::new(anthropic::Messages),
        3 => Box::new(google::Gemini::studio()),
        _ => Box::new(aws::Converse),
    }
}

fn form(client: u8) -> Arc<dyn Form> {
    let messages = r#""messages":[{"role":"user","content":"Hi"}],"stream":true"#;
    let heard = match client % 3 {
        0 => openai::chat::read(format!(r#"{{"model":"m",{messages},"stream_options":{{"include_usage":true}}}}"#).as_bytes()),
        1 => anthropic::read(format!(r#"{{"model":"m","max_tokens":9,{messages}}}"#).as_bytes()),
        _ => openai::responses::read(br#"{"model":"m","input":"Hi","stream":true}"#).map(|(heard, _)| heard),
    };
    heard.expect("these requests are good").form
}
