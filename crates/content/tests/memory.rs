//! Does the answer cache take as much memory as it says? Measured from outside, in a process of its own.

use std::time::Duration;

use content::{AnswerCache, AskKey, CacheOptions, CachedAnswer, MadeBy, ask_key};
use domain::{
    Answer, AnswerEvent, Ask, Chat, ChatMessage, Delta, Finish, FinishReason, Input, Role, SamplingWish,
    ServiceTier, Usage,
};
use serde_json::Map;

const BOUND: usize = 64 << 20;

fn key(number: usize) -> AskKey {
    let chat =
        Chat { messages: vec![ChatMessage::of_text(Role::User, number.to_string())], ..Chat::default() };
    let ask = Ask {
        model: "m".into(),
        input: Input::Chat(chat),
        max_output_tokens: None,
        sampling: SamplingWish::default(),
        stop: Vec::new(),
        logprobs: None,
        choices: 1,
        stream: false,
        stream_usage: false,
        echo: false,
        ignore_eos: false,
        user: None,
        service_tier: None,
        cache_key: None,
    };
    ask_key(&ask, &"acme".into(), &Map::new())
}

/// As it comes from a stream: piece by piece.
fn answer(words: usize) -> CachedAnswer {
    let mut answer = Answer::default();
    answer.fold(AnswerEvent::Began { id: Some("chatcmpl-123456".into()), model: Some("m-2026".into()) });
    for word in 0..words {
        answer.fold(AnswerEvent::Delta { choice: 0, delta: Delta::Text(format!("word{word} ")) });
    }
    answer.fold(AnswerEvent::Finished { choice: 0, finish: Finish::of(FinishReason::Stop) });
    CachedAnswer {
        answer,
        made_by: MadeBy {
            unit: "m@openai".into(),
            provider: "openai".into(),
            model: "m".into(),
            service_tier: ServiceTier::Standard,
            region: None,
            jurisdictions: vec!["eu".into(), "de".into()],
        },
        usage: Usage::default(),
        made_at_ms: 0,
    }
}

/// Bytes of memory that this process has.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<usize>().ok()? * 4096)
}

#[tokio::test]
async fn a_full_cache_takes_about_what_it_says_whatever_the_size_of_its_answers() {
    let Some(_) = resident() else { return eprintln!("skipped: there is no /proc here") };
    let cache = AnswerCache::new(CacheOptions { memory_bytes_max: BOUND, redis: None }).unwrap();
    let before = resident().unwrap();
    // The smallest answers have the most that is not text.
    for words in [0, 5, 100, 3_000] {
        let count = (3 * BOUND) / (500 + 9 * words);
        let answer = answer(words);
        for number in 0..count {
            cache.put(key(words * 10_000_000 + number), answer.clone(), Duration::from_secs(60), 0);
        }
        let counted = cache.counts().memory_bytes;
        let taken = resident().unwrap() - before;
        println!(
            "{words} words: {} answers, {counted} counted, {taken} taken",
            cache.counts().memory_entries
        );
        assert!(counted <= BOUND && counted > BOUND / 20 * 17, "{words} words: {counted}");
        // The rest of the process is in it, too.
        assert!(taken < BOUND + (4 << 20), "{words} words: {taken} taken, {counted} counted");
    }
}
