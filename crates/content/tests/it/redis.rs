//! A real Redis or Valkey, and ones that are dead, silent or restarted.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use content::{AnswerCache, AskKey, CacheOptions, CachedAnswer, MadeBy, RedisOptions, ask_key};
use domain::{
    Answer, AnsweredChoice, Ask, Chat, ChatMessage, Finish, FinishReason, Input, Part, Role, SamplingWish,
    ServiceTier, TokenScore, Usage,
};
use serde_json::Map;

const MINUTE: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_millis(50);

fn key(text: &str) -> AskKey {
    let chat = Chat { messages: vec![ChatMessage::of_text(Role::User, text)], ..Chat::default() };
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

fn answer(text: &str) -> CachedAnswer {
    let score = TokenScore { text: "a".into(), bytes: vec![97], logprob: Some(-0.1), top: Vec::new() };
    let mut choice = AnsweredChoice::default();
    choice.parts = vec![Part::text(text)];
    choice.scores = Some(vec![score]);
    choice.finish = Some(Finish::of(FinishReason::Stop));
    CachedAnswer {
        answer: Answer { choices: vec![choice], ..Answer::default() },
        made_by: MadeBy {
            unit: "m@eu".into(),
            provider: "openai".into(),
            model: "m".into(),
            service_tier: ServiceTier::Flex,
            region: None,
            jurisdictions: vec!["eu".into()],
        },
        usage: Usage { input_uncached: 3, output: 5, ..Usage::default() },
        made_at_ms: 7,
    }
}

/// A server's cache. Memory is off, so that only Redis can know.
fn cache(port: u16) -> AnswerCache {
    let url = format!("redis://127.0.0.1:{port}/");
    let redis = RedisOptions { url, get_wait_max: WAIT, value_bytes_max: 100_000 };
    AnswerCache::new(CacheOptions { memory_bytes_max: 0, redis: Some(redis) }).unwrap()
}

async fn get(cache: &AnswerCache, question: &str, now_ms: i64) -> Option<Arc<CachedAnswer>> {
    cache.get(&key(question), now_ms, |_| true).await
}

/// Asks until it is there: connections are made, and answers written, in the background.
async fn wait_for(cache: &AnswerCache, question: &str) -> Arc<CachedAnswer> {
    let since = Instant::now();
    loop {
        if let Some(found) = get(cache, question, 1).await {
            return found;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{question} never came: {:?}", cache.counts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Puts until it is there, for the same reason.
async fn put_for_sure(cache: &AnswerCache, question: &str, value: &CachedAnswer) {
    let since = Instant::now();
    while get(cache, question, 1).await.is_none() {
        cache.put(key(question), value.clone(), MINUTE, 0);
        assert!(since.elapsed() < Duration::from_secs(20), "{question} was never kept: {:?}", cache.counts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_one_server_was_answered_another_need_not_ask() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (cache(server.port), cache(server.port));
    put_for_sure(&one, "q", &answer("a")).await;
    assert_eq!(*wait_for(&other, "q").await, answer("a"), "it comes back as it was, to the last score");
    assert!(get(&other, "q", 60_001).await.is_none(), "its time is over by the asker's clock too");
    assert!(get(&other, "another", 1).await.is_none());
    let eu = |found: &CachedAnswer| found.made_by.jurisdictions == ["us"];
    assert!(other.get(&key("q"), 1, eu).await.is_none(), "made where this asker's data may not go");
    assert_eq!(other.counts().not_admitted, 1);
}

#[tokio::test]
async fn a_hit_there_is_remembered_here() {
    let Some(server) = Server::start() else { return };
    put_for_sure(&cache(server.port), "q", &answer("a")).await;
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let redis = RedisOptions { url, get_wait_max: WAIT, value_bytes_max: 100_000 };
    let both = AnswerCache::new(CacheOptions { memory_bytes_max: 1 << 20, redis: Some(redis) }).unwrap();
    wait_for(&both, "q").await;
    drop(server);
    assert!(get(&both, "q", 2).await.is_some());
    let counts = both.counts();
    assert_eq!((counts.redis_hits, counts.memory_hits, counts.memory_entries), (1, 1, 1));
}

#[tokio::test]
async fn entries_leave_redis_by_themselves_and_large_or_strange_ones_are_no_answers() {
    let Some(server) = Server::start() else { return };
    let cache = cache(server.port);
    put_for_sure(&cache, "q", &answer("a")).await;
    cache.put(key("short"), answer("a"), Duration::from_millis(200), 0);
    wait_for(&cache, "short").await;
    cache.put(key("large"), answer(&"x".repeat(200_000)), MINUTE, 0);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(get(&cache, "short", 1).await.is_none(), "Redis itself has forgotten it");
    assert!(get(&cache, "large", 1).await.is_none());
    let mut direct = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port)).unwrap();
    let ours: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut direct).unwrap();
    assert_eq!(ours.len(), 1, "{ours:?}");
    for strange in ["", "no JSON", "{\"expires_ms\": 99, \"answer\": 3}", &"x".repeat(300_000)] {
        redis::cmd("SET").arg(&ours[0]).arg(strange).exec(&mut direct).unwrap();
        assert!(get(&cache, "q", 1).await.is_none());
    }
    assert_eq!(cache.counts().redis_failures, 0, "what cannot be read is a miss, not a failure");
}

#[tokio::test]
async fn a_dead_redis_costs_no_request_anything() {
    let port = free_port();
    let cache = cache(port);
    for _ in 0..200 {
        let since = Instant::now();
        assert!(get(&cache, "q", 1).await.is_none());
        cache.put(key("q"), answer("a"), MINUTE, 0);
        assert!(since.elapsed() < Duration::from_millis(20), "nobody waits for a connection");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let counts = cache.counts();
    assert!(counts.redis_failures >= 1 && counts.redis_failures <= 3, "{counts:?}");
    assert_eq!(counts.misses, 200);
}

#[tokio::test]
async fn a_redis_that_takes_connections_and_says_nothing_costs_no_request_anything() {
    let silent = Silent::start();
    let cache = cache(silent.port);
    let since = Instant::now();
    for _ in 0..200 {
        assert!(get(&cache, "q", 1).await.is_none());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_redis_that_stops_answering_costs_a_few_short_waits_and_is_found_again_when_it_does() {
    let Some(server) = Server::start() else { return };
    let cache = cache(server.port);
    put_for_sure(&cache, "q", &answer("a")).await;
    server.signal("STOP");
    let (since, mut slowest) = (Instant::now(), Duration::ZERO);
    for _ in 0..100 {
        let asked = Instant::now();
        assert!(get(&cache, "q", 1).await.is_none());
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < WAIT * 3, "a question waits for at most {WAIT:?} and some: {slowest:?}");
    assert!(since.elapsed() < WAIT * 12, "only the first ones wait at all: {:?}", since.elapsed());
    server.signal("CONT");
    assert_eq!(*wait_for(&cache, "q").await, answer("a"));
}

#[tokio::test]
async fn a_restarted_redis_is_found_again() {
    let Some(server) = Server::start() else { return };
    let cache = cache(server.port);
    put_for_sure(&cache, "q", &answer("a")).await;
    let port = server.port;
    drop(server);
    for _ in 0..10 {
        assert!(get(&cache, "q", 1).await.is_none());
    }
    let _server = Server::start_at(port).expect("it started before");
    put_for_sure(&cache, "q", &answer("b")).await;
    assert_eq!(*wait_for(&cache, "q").await, answer("b"));
}

#[tokio::test]
async fn a_full_redis_keeps_no_more_and_fails_nobody() {
    let Some(server) = Server::start() else { return };
    let cache = cache(server.port);
    put_for_sure(&cache, "q", &answer("a")).await;
    let mut direct = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port)).unwrap();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut direct).unwrap();
    for number in 0..10 {
        cache.put(key(&number.to_string()), answer("a"), MINUTE, 0);
        assert!(get(&cache, &number.to_string(), 1).await.is_none());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A server of our own on a port of its own; none where there is no program for it, unless `REDIS=required`.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Option<Self> {
        Self::start_at(free_port())
    }

    fn start_at(port: u16) -> Option<Self> {
        let started = ["valkey-server", "redis-server"].into_iter().find_map(|program| {
            Command::new(program)
                .args([
                    "--port",
                    &port.to_string(),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        });
        let Some(child) = started else {
            assert!(
                std::env::var("REDIS").as_deref() != Ok("required"),
                "there is no redis-server and no valkey-server"
            );
            eprintln!("skipped: there is no redis-server and no valkey-server here");
            return None;
        };
        let server = Self { child, port };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(20), "the server on port {port} does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Accepts and never answers.
struct Silent {
    port: u16,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || {
                    let mut heard = Vec::new();
                    let _ = stream.map(|mut stream| stream.read_to_end(&mut heard));
                });
            }
        });
        Self { port }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
