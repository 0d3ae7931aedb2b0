use domain::{Account, AnsweredChoice, Finish, FinishReason, Part, Region, ServiceTier, TokenScore};
use serde_json::Map;

use super::*;
use crate::key::tests::ask;

const MINUTE: Duration = Duration::from_secs(60);
const NOW: i64 = 1_800_000_000_000;

fn key(text: &str) -> AskKey {
    crate::ask_key(&ask(text), &Account::from("acme"), &Map::new())
}

pub fn answer(text: &str, jurisdictions: &[&str]) -> CachedAnswer {
    let mut choice = AnsweredChoice::default();
    (choice.parts, choice.finish) = (vec![Part::text(text)], Some(Finish::of(FinishReason::Stop)));
    CachedAnswer {
        answer: Answer { choices: vec![choice], ..Answer::default() },
        made_by: MadeBy {
            unit: "m@eu".into(),
            provider: "openai".into(),
            model: "m".into(),
            service_tier: ServiceTier::Standard,
            region: Some(Region::from("eu")),
            jurisdictions: jurisdictions.iter().map(|&jurisdiction| jurisdiction.to_owned()).collect(),
        },
        usage: Usage { input_uncached: 3, output: 5, ..Usage::default() },
        made_at_ms: 0,
    }
}

fn memory(bytes: usize) -> AnswerCache {
    AnswerCache::new(CacheOptions { memory_bytes_max: bytes, redis: None }).unwrap()
}

async fn text(cache: &AnswerCache, question: &str, now_ms: i64) -> Option<String> {
    let found = cache.get(&key(question), now_ms, |_| true).await?;
    Some(found.answer.choices[0].text())
}

#[tokio::test]
async fn an_answer_is_found_until_its_time_is_over() {
    let cache = memory(1 << 20);
    cache.put(key("q"), answer("a", &["eu"]), MINUTE, 1_000);
    assert_eq!(text(&cache, "q", 60_999).await.as_deref(), Some("a"));
    assert_eq!(text(&cache, "other", 2_000).await, None);
    assert_eq!(text(&cache, "q", 61_000).await, None);
    let counts = cache.counts();
    assert_eq!((counts.memory_hits, counts.misses, counts.memory_entries, counts.memory_bytes), (1, 2, 0, 0));
}

#[tokio::test]
async fn an_answer_that_was_made_where_the_asker_may_not_go_is_none() {
    let cache = memory(1 << 20);
    cache.put(key("q"), answer("a", &["us"]), MINUTE, 0);
    let eu =
        |found: &CachedAnswer| found.made_by.jurisdictions.iter().any(|jurisdiction| jurisdiction == "eu");
    assert!(cache.get(&key("q"), 1, eu).await.is_none());
    assert!(cache.get(&key("q"), 1, |_| true).await.is_some(), "for others it is still there");
    cache.put(key("q"), answer("b", &["eu"]), MINUTE, 2);
    assert!(cache.get(&key("q"), 3, eu).await.is_some(), "the last answer takes the place");
    let counts = cache.counts();
    assert_eq!((counts.memory_hits, counts.misses, counts.not_admitted), (2, 0, 1));
}

#[tokio::test]
async fn memory_stays_within_its_bytes_and_forgets_what_was_not_asked_for_longest() {
    let probe = memory(1 << 20);
    probe.put(key("0"), answer("a", &["eu"]), MINUTE, NOW);
    let one = probe.counts().memory_bytes;
    let cache = memory(20 * (one + 4));
    for number in 0..20 {
        cache.put(key(&number.to_string()), answer("a", &["eu"]), MINUTE, NOW);
    }
    assert_eq!(cache.counts().memory_bytes, 20 * one);
    assert!(text(&cache, "0", NOW).await.is_some());
    cache.put(key("20"), answer("b", &["eu"]), MINUTE, NOW);
    assert_eq!((cache.counts().memory_bytes, cache.counts().memory_entries), (20 * one, 20));
    assert!(text(&cache, "1", NOW).await.is_none(), "it was asked for longest ago");
    assert!(text(&cache, "0", NOW).await.is_some());
    // The same question again takes no second place.
    cache.put(key("20"), answer("c", &["eu"]), MINUTE, NOW);
    assert_eq!(cache.counts().memory_bytes, 20 * one);
    // A longer answer drives out as many as it needs, and one that would drive out all others is not kept.
    cache.put(key("long"), answer(&"x".repeat(1_200), &["eu"]), MINUTE, NOW);
    assert_eq!((text(&cache, "long", NOW).await.unwrap().len(), cache.counts().memory_entries), (1_200, 19));
    cache.put(key("too long"), answer(&"x".repeat(5_000), &["eu"]), MINUTE, NOW);
    assert!(text(&cache, "too long", NOW).await.is_none());
    assert_eq!(cache.counts().memory_entries, 19);
}

#[tokio::test]
async fn without_memory_and_without_time_nothing_is_kept() {
    let none = memory(0);
    none.put(key("q"), answer("a", &[]), MINUTE, 0);
    assert_eq!(text(&none, "q", 1).await, None);
    let cache = memory(1 << 20);
    cache.put(key("q"), answer("a", &[]), Duration::ZERO, 0);
    assert_eq!(cache.counts().memory_entries, 0);
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_is_not_kept() {
    let cache = memory(1 << 20);
    let mut cached = answer("a", &[]);
    let impossible =
        TokenScore { text: "a".into(), bytes: vec![97], logprob: Some(f32::NEG_INFINITY), top: Vec::new() };
    cached.answer.choices[0].scores = Some(vec![impossible]);
    cache.put(key("q"), cached.clone(), MINUTE, 0);
    // JSON has no word for it and would say that there is none.
    let kept = cache.get(&key("q"), 1, |_| true).await;
    assert!(kept.is_none_or(|kept| kept.answer.choices[0].scores != cached.answer.choices[0].scores));
}

#[tokio::test]
async fn addresses_that_are_none_are_refused_and_passwords_are_never_told() {
    let options = |url: &str| RedisOptions {
        url: url.into(),
        get_wait_max: Duration::from_millis(20),
        value_bytes_max: 1 << 20,
    };
    let error =
        AnswerCache::new(CacheOptions { memory_bytes_max: 0, redis: Some(options("http://:hush@x")) });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("redis://") && !error.contains("hush"), "{error}");
    let cache = AnswerCache::new(CacheOptions {
        memory_bytes_max: 0,
        redis: Some(options("redis://:hush@127.0.0.1:1/")),
    });
    for told in [format!("{:?}", options("redis://:hush@x")), format!("{:?}", cache.unwrap())] {
        assert!(!told.contains("hush"), "{told}");
    }
}
