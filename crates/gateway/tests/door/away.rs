//! What happens where others answer: who is asked, what passes untouched, who steps in, and what is booked.

use std::sync::Arc;
use std::time::Duration;

use dialect::anthropic::Messages;
use dialect::openai::Manner;
use dialect::openai::chat::ChatUpstream;
use domain::{Provider, Usage, UsageEnd, UsageSource};
use fleet::{Capabilities, Capability, Jurisdiction, Order, Residency, Unit};
use gateway::{
    Auth, CacheRule, CacheShare, HttpProvider, HttpSettings, KeysPolicy, OnCancel, Paths, ResidencyRule,
    RouteRules, Secret, Supply, SupplyRoute, SupplyUnit, Timeouts, UnitKind,
};
use http::HeaderName;
use ledger::{Ending, How, RequestRow};
use serde_json::{Value, json};
use simulator::standin::{
    Behaviour, Kind, ResetHow, RetryForm, Rule, ServerErrorBody, Settings, Standin, Ugly, When,
};

use crate::engine::Script;
use crate::harness::{Door, Events, Heard};
use crate::limits::limit;

/// The door, and stand-ins behind it: `one` and `two` speak OpenAI's dialect in Germany, `three` Anthropic's in the United States.
struct Away {
    door: Door,
    one: Standin,
    two: Standin,
    three: Standin,
}

const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    first: Duration::from_secs(3),
    stall: Duration::from_millis(700),
    tokens_per_ten_seconds_min: 0,
};

impl Away {
    async fn open() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut RouteRules)) -> Self {
        Self::behind(Door::open(Script::says("never said")).await, change).await
    }

    async fn behind(door: Door, change: impl FnOnce(&mut RouteRules)) -> Self {
        let start = async |kind| {
            Standin::start(kind, "127.0.0.1:0".parse().unwrap(), Settings::default()).await.unwrap()
        };
        let (one, two, three) =
            (start(Kind::OpenAi).await, start(Kind::OpenAi).await, start(Kind::Anthropic).await);
        let mut rules = RouteRules { order: Order::Listed, ..RouteRules::default() };
        change(&mut rules);
        let rule = Residency { name: "german".into(), jurisdictions: vec![Jurisdiction::new("de")] };
        let supply = Supply {
            units: vec![
                unit("one", &one, Kind::OpenAi),
                unit("two", &two, Kind::OpenAi),
                unit("three", &three, Kind::Anthropic),
            ],
            routes: vec![SupplyRoute {
                name: "any".into(),
                models: ["m-one", "m-two", "m-three"].map(Into::into).into(),
                classes: Vec::new(),
                rules,
            }],
            residency: vec![ResidencyRule {
                rule,
                accounts: Vec::new(),
                data_classes: vec![fleet::DataClass::new("personal")],
            }],
        };
        door.app.replace_supply(supply);
        Self { door, one, two, three }
    }

    async fn ask(&self, model: &str, more: Value) -> Heard {
        self.door.post("/v1/chat/completions", chat(model, more)).await
    }

    async fn stream(&self, model: &str, more: Value) -> Events {
        let body = chat(model, more);
        self.door.listen("/v1/chat/completions", body).await
    }
}

fn chat(model: &str, more: Value) -> Value {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "count to 5" }] });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    body
}

fn unit(name: &str, standin: &Standin, kind: Kind) -> Arc<SupplyUnit> {
    let key = Secret::new("standin-key");
    let (dialect, auth): (Arc<dyn dialect::Upstream>, Auth) = match kind {
        Kind::Anthropic => (Arc::new(Messages), Auth::Header(HeaderName::from_static("x-api-key"), key)),
        _ => (Arc::new(ChatUpstream { manner: Manner::default() }), Auth::Bearer(key)),
    };
    let base = if kind == Kind::Anthropic { "" } else { "/v1" };
    let provider = HttpProvider::new(HttpSettings {
        name: Provider::new(name),
        vendor: Provider::new(name),
        base_url: format!("http://{}{base}", standin.address()),
        dialects: vec![dialect],
        paths: Paths::Plain,
        auth,
        headers: Vec::new(),
        extra_roots: None,
        timeouts: TIMEOUTS,
        on_cancel: OnCancel::Abort,
    });
    let mut facts = Unit::new(format!("m-{name}").as_str().into(), Provider::new(name));
    facts.capabilities = Capabilities::of(&[Capability::Chat, Capability::Tools]);
    facts.jurisdictions = vec![Jurisdiction::new(if kind == Kind::Anthropic { "us" } else { "de" })];
    Arc::new(SupplyUnit {
        facts,
        aliases: Vec::new(),
        region: None,
        kind: UnitKind::Remote { model: "gpt-6-luna".into(), provider: Arc::new(provider.unwrap()) },
        created: 7,
        live: Arc::default(),
    })
}

fn always(ugly: Ugly) -> Behaviour {
    Behaviour { ugly: vec![Rule { when: When::Always, path: None, ugly }], ..Behaviour::default() }
}

fn used_by(row: &RequestRow) -> Option<Usage> {
    row.ending.as_ref().and_then(Ending::usage)
}

/// Returns how usage was booked: its end, and who counted.
fn how(ending: &Ending) -> Option<(UsageEnd, UsageSource)> {
    match &ending.how {
        How::Settled { end, source, .. } => Some((*end, *source)),
        _ => None,
    }
}

fn broken() -> Behaviour {
    always(Ugly::ServerError { status: 500, body: ServerErrorBody::Html })
}

#[tokio::test]
async fn fields_that_nobody_here_knows_pass_where_both_sides_speak_alike() {
    let away = Away::open().await;
    let heard = away.ask("m-one", json!({ "metadata": { "ours": "1" }, "verbosity": "low" })).await;
    assert_eq!(heard.status, 200, "{:?}", heard.body);
    let asked = &away.one.requests()[0];
    let body = &asked.body;
    assert_eq!((&body["verbosity"], &body["metadata"]["ours"]), (&json!("low"), &json!("1")));
    assert_eq!(body["model"], "gpt-6-luna");
    assert_eq!(heard.headers["x-baseload-unit"], "m-one@one");
    away.door.close().await;
}

#[tokio::test]
async fn a_unit_that_fails_before_its_first_word_is_replaced_and_costs_nothing() {
    let away = Away::open().await;
    away.one.behave(broken());
    away.two.behave(always(Ugly::RateLimited { retry: RetryForm::Seconds, seconds: 9.0 }));
    let heard = away.ask("any", json!({ "max_tokens": 50 })).await;
    assert_eq!(heard.status, 200, "{:?}", heard.body);
    assert_eq!(heard.headers["x-baseload-unit"], "m-three@three");
    assert_eq!(heard.headers["x-baseload-attempts"], "3");
    let rows = away.door.journal.recent_requests(10).await.unwrap();
    let settled = rows.iter().filter(|row| used_by(row).is_some_and(|usage| usage.total() > 0)).count();
    assert_eq!((rows.len(), settled), (3, 1), "{rows:?}");
    let record = away.door.decisions.find(&heard.request().into()).unwrap();
    let outcomes: Vec<&str> = record.attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
    assert_eq!(outcomes, ["failed", "failed", "answered"]);
    assert_eq!(record.chosen.as_deref(), Some("m-three@three"));
    away.door.close().await;
}

/// More fail at once than any budget of retries has saved up, and some are chosen a unit that rests before they reach it.
#[tokio::test]
async fn a_crowd_whose_unit_fails_is_answered_elsewhere_to_the_last() {
    for ugly in [
        Ugly::ServerError { status: 503, body: ServerErrorBody::Html },
        Ugly::RateLimited { retry: RetryForm::Seconds, seconds: 0.5 },
    ] {
        let away = Away::with(|rules| rules.attempts = 2).await;
        away.one.behave(always(ugly));
        let crowd = (0..150).map(|_| away.ask("any", json!({})));
        let heard = futures_util::future::join_all(crowd).await;
        let refused: Vec<_> =
            heard.iter().filter(|heard| heard.status != 200).map(|heard| &heard.body).collect();
        assert!(refused.is_empty(), "{} of {}: {refused:?}", refused.len(), heard.len());
        assert!(heard.iter().all(|heard| heard.headers["x-baseload-unit"] == "m-two@two"));
        away.door.close().await;
    }
}

#[tokio::test]
async fn what_is_bound_to_a_place_goes_nowhere_else_whatever_fails() {
    let away = Away::open().await;
    away.one.behave(broken());
    away.two.behave(broken());
    let body = chat("any", json!({}));
    let heard =
        away.door.post_with_header("/v1/chat/completions", ("x-baseload-data-class", "personal"), body).await;
    assert_eq!(heard.status, 502, "{:?}", heard.body);
    assert!(away.three.requests().is_empty(), "data of this class must not leave the country");
    let record = away.door.decisions.find(&heard.request().into()).unwrap();
    let kept_out = record.candidates.iter().find(|candidate| candidate.unit == "m-three@three").unwrap();
    assert!(kept_out.reason.as_ref().unwrap().contains("german"), "{kept_out:?}");
    away.door.close().await;
}

#[tokio::test]
async fn an_answer_that_breaks_in_the_middle_never_ends_well_and_is_booked_as_far_as_it_came() {
    for ugly in [
        Ugly::Reset { at_byte: 1_500, how: ResetHow::Reset },
        Ugly::Reset { at_byte: 1_500, how: ResetHow::Close },
        Ugly::EndEarly { after_events: Some(4) },
        Ugly::DoneWithoutFinish,
        Ugly::MalformedLine { before_event: 4 },
        Ugly::Stall { before_event: 4, milliseconds: 5_000 },
        Ugly::ErrorAfter { events: 4 },
    ] {
        let away = Away::open().await;
        away.one.behave(always(ugly.clone()));
        let events = away.stream("m-one", json!({})).await;
        assert!(!events.is_done, "{ugly:?}: a broken answer ends without [DONE]");
        let last = events.events.last().unwrap();
        assert!(last["error"]["message"].is_string(), "{ugly:?}: {last}");
        let ending = away.door.booked(&events.request).await;
        assert_eq!(how(&ending), Some((UsageEnd::ErrorBilled, UsageSource::Estimated)), "{ugly:?}");
        away.door.close().await;
    }
}

#[tokio::test]
async fn the_providers_count_is_booked_and_an_end_waits_for_the_book() {
    let away = Away::open().await;
    let events = away.stream("m-one", json!({ "stream_options": { "include_usage": true } })).await;
    assert!(events.is_done);
    let told = events.usage().unwrap();
    // At once: settled durably before the end left.
    let rows = away.door.journal.requests(&[events.request.as_str().into()]).await.unwrap();
    let ending = rows[0].ending.clone().expect("settled before the end leaves");
    let usage = ending.usage().unwrap();
    assert_eq!(
        (json!(usage.input()), json!(usage.output)),
        (told["prompt_tokens"].clone(), told["completion_tokens"].clone())
    );
    assert_eq!(how(&ending), Some((UsageEnd::Complete, UsageSource::Provider)));
    away.door.close().await;
}

#[tokio::test]
async fn an_answer_that_comes_as_one_piece_may_be_longer_than_those_before_it() {
    let away = Away::open().await;
    let ask = async |model: &str, count: u32| {
        let content = format!("count to {count}");
        away.ask(model, json!({ "messages": [{ "role": "user", "content": content }] })).await
    };
    for model in ["m-one", "m-three"] {
        // Estimates learn from short answers, so the hold of the long one is too small for it.
        for _ in 0..24 {
            assert_eq!(ask(model, 5).await.status, 200);
        }
        let heard = ask(model, 300).await;
        assert_eq!(heard.status, 200, "{model}: {:?}", heard.body);
        assert_eq!(heard.body["choices"][0]["finish_reason"], "stop", "{model}");
        assert!(heard.body["usage"]["completion_tokens"].as_u64().unwrap() >= 300, "{model}");
    }
    away.door.close().await;
}

#[tokio::test]
async fn an_answer_that_a_limit_ends_says_so_whatever_the_provider_speaks() {
    let door = Door::open_with(Script::says("never said"), KeysPolicy::LoopbackOpen, |limits| {
        limits.hold_output_tokens = 64;
    });
    let away = Away::behind(door.await, |_| {}).await;
    away.door.journal.set_limit(limit("tokens", 150, "day")).await.unwrap();
    let more = json!({
        "messages": [{ "role": "user", "content": "count to 300" }],
        "stream_options": { "include_usage": true },
    });
    let events = away.stream("m-three", more).await;
    assert_eq!(events.finishes(0), ["budget_exhausted"]);
    assert!(events.is_done && events.error().is_none(), "it is an end, and it says which");
    let ending = away.door.booked(&events.request).await;
    assert_eq!(how(&ending).unwrap().0, UsageEnd::Truncated);
    away.door.close().await;
}

#[tokio::test]
async fn usage_that_nobody_asked_for_is_booked_and_not_shown() {
    let away = Away::open().await;
    let events = away.stream("m-one", json!({})).await;
    assert!(events.is_done && events.usage().is_none());
    let ending = away.door.booked(&events.request).await;
    assert_eq!(how(&ending), Some((UsageEnd::Complete, UsageSource::Provider)));
    away.door.close().await;
}

#[tokio::test]
async fn a_late_unit_gets_another_beside_it_where_the_route_wants_that() {
    let away = Away::with(|rules| rules.hedge_after = Some(Duration::from_millis(50))).await;
    away.one.behave(Behaviour { time_to_first_token_ms: 2_900, ..Behaviour::default() });
    let heard = away.ask("any", json!({ "max_completion_tokens": 50 })).await;
    assert_eq!(heard.status, 200, "{:?}", heard.body);
    assert_eq!(heard.headers["x-baseload-unit"], "m-two@two");
    assert_eq!(heard.headers["x-baseload-attempts"], "2");
    let record = away.door.decisions.find(&heard.request().into()).unwrap();
    assert!(record.attempts.iter().any(|attempt| attempt.outcome == "slower"), "{record:?}");
    away.door.close().await;
}

#[tokio::test]
async fn an_answer_is_given_again_and_booked_as_saved() {
    let rule = CacheRule { time_to_live: Duration::from_secs(60), share: CacheShare::Account };
    let away = Away::with(|rules| rules.cache = Some(rule)).await;
    let first = away.ask("any", json!({})).await;
    let again = away.ask("any", json!({})).await;
    assert_eq!(
        (&first.headers["x-baseload-cache"], &again.headers["x-baseload-cache"]),
        (&"miss".parse().unwrap(), &"hit".parse().unwrap())
    );
    let text = |heard: &Heard| heard.body["choices"][0]["message"]["content"].clone();
    assert_eq!(text(&first), text(&again));
    assert_eq!(away.one.requests().len(), 1);
    let rows = away.door.journal.recent_requests(10).await.unwrap();
    let used: u64 = rows.iter().filter_map(used_by).map(|usage| usage.total()).sum();
    assert_eq!(json!(used), first.body["usage"]["total_tokens"], "once used, once saved");
    // Streamed to another client of the same account, from what was kept.
    let streamed = away.stream("any", json!({})).await;
    assert!(streamed.is_done);
    assert_eq!(streamed.chat_text(0), first.body["choices"][0]["message"]["content"].as_str().unwrap());
    away.door.close().await;
}

#[tokio::test]
async fn requests_that_are_the_same_at_the_same_time_share_one_answer() {
    let rule = CacheRule { time_to_live: Duration::from_secs(60), share: CacheShare::Account };
    let away = Away::with(|rules| rules.cache = Some(rule)).await;
    away.one.behave(Behaviour {
        time_to_first_token_ms: 300,
        tokens_per_second: Some(40.0),
        ..Behaviour::default()
    });
    let asks = (0..5).map(|_| away.stream("any", json!({})));
    let heard = futures_util::future::join_all(asks).await;
    assert!(heard.iter().all(|events| events.is_done && events.chat_text(0) == heard[0].chat_text(0)));
    assert_eq!(away.one.requests().len(), 1, "one asked for all");
    away.door.close().await;
}

#[tokio::test]
async fn a_unit_that_asks_for_a_pause_gets_it_and_its_clients_hear_how_long() {
    let away = Away::open().await;
    away.one.behave(always(Ugly::RateLimited { retry: RetryForm::Seconds, seconds: 30.0 }));
    let first = away.ask("m-one", json!({})).await;
    assert_eq!(first.status, 429);
    let second = away.ask("m-one", json!({})).await;
    assert_eq!(second.status, 429, "{:?}", second.body);
    assert!(second.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 25);
    assert_eq!(away.one.requests().len(), 1, "it rests");
    away.door.close().await;
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_upstreams_answer_and_pays_for_what_it_heard() {
    let away = Away::open().await;
    away.one.behave(Behaviour { tokens_per_second: Some(20.0), ..Behaviour::default() });
    let mut body = chat("m-one", json!({ "stream": true }));
    body["messages"][0]["content"] = "count to 500".into();
    let mut response = away.door.begin("/v1/chat/completions", body).await;
    let request = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    for _ in 0..4 {
        response.chunk().await.unwrap().unwrap();
    }
    drop(response);
    let ending = away.door.booked(&request).await;
    assert_eq!(how(&ending), Some((UsageEnd::CancelledAborted, UsageSource::Estimated)));
    assert!((2..100).contains(&ending.usage().unwrap().output), "{ending:?}");
    away.door.close().await;
}
