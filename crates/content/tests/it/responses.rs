//! Stored responses: the same of SQLite, of memory, and of Postgres.

use std::time::Duration;

use content::{
    ChainError, Direction, InputPage, KeepOptions, PageQuery, ResponseId, ResponseStore, StoreError,
    StoredResponse,
};
use domain::{ChatMessage, Role};
use serde_json::{Value, json};

use crate::postgres;

const HOUR_MS: i64 = 3_600_000;

fn id(name: impl std::fmt::Display) -> ResponseId {
    ResponseId(format!("resp_{name}"))
}

/// One turn: the user says its number, and the model repeats it.
fn turn(number: i64, previous: Option<i64>) -> StoredResponse {
    let said = format!("turn {number}");
    StoredResponse {
        id: id(number),
        tenant: "acme".into(),
        created_ms: number,
        expires_ms: number + HOUR_MS,
        model: "m".into(),
        previous: previous.map(id),
        input: vec![
            json!({"id": format!("msg_{number}"), "type": "message", "role": "user", "content": said}),
        ],
        messages: vec![ChatMessage::of_text(Role::User, &said), ChatMessage::of_text(Role::Assistant, &said)],
        response: json!({
            "id": format!("resp_{number}"), "output": [{"type": "message", "text": said}],
            "metadata": {"topic": "turns, and \u{0} and \u{1f600}"},
        }),
    }
}

fn options() -> KeepOptions {
    KeepOptions { keep: Duration::from_secs(3_600), ..KeepOptions::default() }
}

/// Runs a scenario over each kind of store, each new and empty.
async fn over_all<F: Future<Output = ()>>(options: KeepOptions, scenario: impl Fn(ResponseStore) -> F) {
    scenario(ResponseStore::in_memory(options.clone()).await.unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("data/content.sqlite").display());
    scenario(ResponseStore::open(&url, options.clone()).await.unwrap()).await;
    if let Some(server) = postgres::server() {
        scenario(ResponseStore::open(&server.database().await, options).await.unwrap()).await;
    }
}

fn said(messages: &[ChatMessage]) -> Vec<String> {
    messages.iter().map(|message| format!("{} {}", message.role.as_str(), message.text())).collect()
}

#[tokio::test]
async fn a_response_comes_back_as_it_was_kept_to_its_tenant_and_to_nobody_else() {
    over_all(options(), async |store| {
        store.put(turn(1, None)).await.unwrap();
        let kept = store.get(&"acme".into(), &id(1), 2).await.unwrap().unwrap();
        assert_eq!(kept, turn(1, None));
        assert_eq!(kept.output(), [json!({"type": "message", "text": "turn 1"})]);
        assert!(kept.metadata().unwrap()["topic"].as_str().unwrap().contains('\u{0}'));
        for stranger in ["other", "acme/research", "ACME", ""] {
            let stranger = stranger.into();
            assert_eq!(store.get(&stranger, &id(1), 2).await.unwrap(), None);
            assert!(!store.delete(&stranger, &id(1)).await.unwrap());
            let chain = store.chain(&stranger, &id(1), 2).await;
            assert_eq!(chain, Err(ChainError::NotFound(id(1))));
            let query = PageQuery { after: None, limit: 20, direction: Direction::default() };
            assert_eq!(store.input_items(&stranger, &id(1), &query, 2).await.unwrap(), None);
        }
        // The same id of another tenant is another response.
        store.put(StoredResponse { tenant: "other".into(), ..turn(1, None) }).await.unwrap();
        assert!(store.delete(&"acme".into(), &id(1)).await.unwrap());
        assert!(!store.delete(&"acme".into(), &id(1)).await.unwrap());
        assert!(store.get(&"other".into(), &id(1), 2).await.unwrap().is_some());
        for strange in ["resp_\0", "", "'; DROP TABLE response; --", "%"] {
            assert_eq!(store.get(&"other".into(), &ResponseId(strange.into()), 2).await.unwrap(), None);
        }
    })
    .await;
}

#[tokio::test]
async fn a_response_that_is_kept_again_replaces_the_first() {
    over_all(options(), async |store| {
        store
            .put(StoredResponse { response: json!({"status": "in_progress"}), ..turn(1, None) })
            .await
            .unwrap();
        store.put(turn(1, None)).await.unwrap();
        assert_eq!(store.get(&"acme".into(), &id(1), 2).await.unwrap(), Some(turn(1, None)));
        store.clean_up(3).await.unwrap();
        let alone = store.bytes();
        store.put(turn(2, None)).await.unwrap();
        store.clean_up(4).await.unwrap();
        assert_eq!(store.bytes(), 2 * alone, "what was replaced takes nothing");
    })
    .await;
}

#[tokio::test]
async fn a_conversation_is_what_was_said_from_its_first_turn_on() {
    over_all(options(), async |store| {
        for number in 1..=5 {
            store.put(turn(number, (number > 1).then_some(number - 1))).await.unwrap();
        }
        // A branch: what was said after its fork is not its own.
        store.put(turn(30, Some(2))).await.unwrap();
        let chain = store.chain(&"acme".into(), &id(30), 50).await.unwrap();
        assert_eq!(chain.turns, [id(1), id(2), id(30)]);
        let expect =
            [1, 2, 30].map(|turn| [format!("user turn {turn}"), format!("assistant turn {turn}")]).concat();
        assert_eq!(said(&chain.messages), expect);
        assert_eq!(store.chain(&"acme".into(), &id(9), 50).await, Err(ChainError::NotFound(id(9))));
        // Without one of its turns it can be continued from none after it.
        store.delete(&"acme".into(), &id(2)).await.unwrap();
        assert_eq!(store.chain(&"acme".into(), &id(5), 50).await, Err(ChainError::NotFound(id(2))));
        assert_eq!(store.chain(&"acme".into(), &id(1), 50).await.unwrap().turns, [id(1)]);
    })
    .await;
}

#[tokio::test]
async fn a_conversation_that_continues_another_tenants_turn_is_not_found() {
    over_all(options(), async |store| {
        store.put(StoredResponse { tenant: "other".into(), ..turn(1, None) }).await.unwrap();
        store.put(turn(2, Some(1))).await.unwrap();
        assert_eq!(store.chain(&"acme".into(), &id(2), 5).await, Err(ChainError::NotFound(id(1))));
    })
    .await;
}

#[tokio::test]
async fn conversations_are_bounded_in_turns_and_bytes_also_those_that_end_in_themselves() {
    let bounds = KeepOptions { chain_turns_max: 4, chain_bytes_max: 2_000, ..options() };
    over_all(bounds, async |store| {
        for number in 1..=5 {
            store.put(turn(number, (number > 1).then_some(number - 1))).await.unwrap();
        }
        assert_eq!(store.chain(&"acme".into(), &id(4), 9).await.unwrap().turns.len(), 4);
        assert_eq!(store.chain(&"acme".into(), &id(5), 9).await, Err(ChainError::TooLong { max: 4 }));
        let long = vec![ChatMessage::of_text(Role::User, "x".repeat(1_500))];
        store.put(StoredResponse { messages: long, ..turn(6, Some(1)) }).await.unwrap();
        store.put(turn(7, Some(6))).await.unwrap();
        assert_eq!(store.chain(&"acme".into(), &id(7), 9).await, Err(ChainError::TooLarge { max: 2_000 }));
        store.put(turn(8, Some(8))).await.unwrap();
        assert_eq!(store.chain(&"acme".into(), &id(8), 9).await, Err(ChainError::TooLong { max: 4 }));
    })
    .await;
}

#[tokio::test]
async fn input_items_are_listed_in_pages_in_either_direction() {
    let items: Vec<Value> =
        (0..7).map(|number| json!({"id": format!("item_{number}"), "type": "message"})).collect();
    over_all(options(), async |store| {
        store.put(StoredResponse { input: items.clone(), ..turn(1, None) }).await.unwrap();
        let list = async |after: Option<&str>, limit, direction| {
            let query = PageQuery { after: after.map(str::to_owned), limit, direction };
            let InputPage { items, has_more } =
                store.input_items(&"acme".into(), &id(1), &query, 2).await.unwrap().unwrap();
            let names: String =
                items.iter().map(|item| item["id"].as_str().unwrap().replace("item_", "")).collect();
            (names, has_more)
        };
        use Direction::{NewestFirst, OldestFirst};
        assert_eq!(list(None, 3, OldestFirst).await, ("012".into(), true));
        assert_eq!(list(Some("item_2"), 3, OldestFirst).await, ("345".into(), true));
        assert_eq!(list(Some("item_5"), 3, OldestFirst).await, ("6".into(), false));
        assert_eq!(list(None, 3, NewestFirst).await, ("654".into(), true));
        assert_eq!(list(Some("item_4"), 100, NewestFirst).await, ("3210".into(), false));
        assert_eq!(list(Some("item_9"), 100, NewestFirst).await, (String::new(), false));
        assert_eq!(
            list(None, 0, OldestFirst).await,
            ("0".into(), true),
            "a page is never empty while there are items"
        );
    })
    .await;
}

#[tokio::test]
async fn whatever_is_over_is_not_seen_and_is_deleted_bit_by_bit() {
    over_all(options(), async |store| {
        for number in 1..=600 {
            store.put(turn(number, None)).await.unwrap();
        }
        assert_eq!(store.expires_ms(5), 5 + HOUR_MS);
        let now = 550 + HOUR_MS;
        assert_eq!(store.get(&"acme".into(), &id(550), now).await.unwrap(), None, "before anybody cleans up");
        assert!(store.get(&"acme".into(), &id(551), now).await.unwrap().is_some());
        let mut expired = Vec::new();
        while let Some(count) = Some(store.clean_up(now).await.unwrap().expired).filter(|count| *count > 0) {
            expired.push(count);
        }
        assert_eq!((expired.iter().sum::<u64>(), expired.len()), (550, 3), "{expired:?}");
        assert!(store.get(&"acme".into(), &id(551), now).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_shorter_time_counts_for_what_was_kept_before() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("content.sqlite").display());
    let store = ResponseStore::open(&url, options()).await.unwrap();
    store.put(turn(1, None)).await.unwrap();
    store.close().await;
    let shorter = KeepOptions { keep: Duration::from_secs(60), ..options() };
    let store = ResponseStore::open(&url, shorter).await.unwrap();
    assert_eq!(store.clean_up(60_000).await.unwrap().expired, 0);
    assert_eq!(store.clean_up(60_001).await.unwrap().expired, 1);
}

#[tokio::test]
async fn all_together_stay_within_their_bytes_and_the_oldest_go() {
    let bytes_max = 200_000;
    over_all(KeepOptions { bytes_max, ..options() }, async |store| {
        let text = vec![ChatMessage::of_text(Role::User, "x".repeat(1_000))];
        for number in 1..=500 {
            store.put(StoredResponse { messages: text.clone(), ..turn(number, None) }).await.unwrap();
            assert!(store.bytes() <= bytes_max, "{number}: {}", store.bytes());
        }
        assert!(store.bytes() > bytes_max / 10 * 9, "no more go than must: {}", store.bytes());
        assert_eq!(store.clean_up(501).await.unwrap().crowded_out, 0);
        let mut there = Vec::new();
        for number in 1..=500 {
            there.push(store.get(&"acme".into(), &id(number), 501).await.unwrap().is_some());
        }
        let oldest = there.iter().position(|there| *there).unwrap();
        assert!(there[oldest..].iter().all(|there| *there) && oldest > 300, "the oldest is {oldest}");
        let large = StoredResponse { input: vec![json!("x".repeat(40_000_000))], ..turn(501, None) };
        let error = store.put(large).await.unwrap_err();
        assert!(
            matches!(error, StoreError::TooLarge { .. }) && error.to_string().contains("store: false"),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart_for_this_user_only_and_what_was_deleted_is_not_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content.sqlite");
    let url = format!("sqlite:{}", path.display());
    let store = ResponseStore::open(&url, options()).await.unwrap();
    let secret = vec![ChatMessage::of_text(Role::User, "the launch code is 0000")];
    store.put(StoredResponse { messages: secret, ..turn(1, None) }).await.unwrap();
    store.put(turn(2, None)).await.unwrap();
    store.close().await;
    let holds_secret = || String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains("launch code");
    assert!(holds_secret());

    let store = ResponseStore::open(&url, options()).await.unwrap();
    assert!(store.bytes() > 0);
    assert_eq!(store.get(&"acme".into(), &id(2), 3).await.unwrap(), Some(turn(2, None)));
    assert!(store.delete(&"acme".into(), &id(1)).await.unwrap());
    store.close().await;
    assert!(!holds_secret());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn the_file_shrinks_when_what_was_in_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content.sqlite");
    let store = ResponseStore::open(&format!("sqlite:{}", path.display()), options()).await.unwrap();
    let text = vec![ChatMessage::of_text(Role::User, "x".repeat(20_000))];
    for number in 1..=200 {
        store.put(StoredResponse { messages: text.clone(), ..turn(number, None) }).await.unwrap();
    }
    let now = 1_000 + HOUR_MS;
    while store.clean_up(now).await.unwrap().expired > 0 {}
    store.close().await;
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert!(bytes < 500_000, "4 MB were in it, and it still takes {bytes}");
}

#[tokio::test]
async fn two_servers_on_one_postgres_see_each_others_responses() {
    let Some(server) = postgres::server() else { return };
    let url = server.database().await;
    let (one, other) =
        tokio::join!(ResponseStore::open(&url, options()), ResponseStore::open(&url, options()));
    let (one, other) = (one.unwrap(), other.unwrap());
    one.put(turn(1, None)).await.unwrap();
    other.put(turn(2, Some(1))).await.unwrap();
    assert_eq!(one.chain(&"acme".into(), &id(2), 3).await.unwrap().turns, [id(1), id(2)]);
    let text = vec![ChatMessage::of_text(Role::User, "x".repeat(1_000))];
    let tight = KeepOptions { bytes_max: 100_000, ..options() };
    let (one, other) =
        tokio::join!(ResponseStore::open(&url, tight.clone()), ResponseStore::open(&url, tight.clone()));
    let fill = async |store: ResponseStore, from: i64| {
        for number in from..from + 150 {
            store.put(StoredResponse { messages: text.clone(), ..turn(number, None) }).await.unwrap();
        }
        store
    };
    let (one, _) = tokio::join!(fill(one.unwrap(), 1_000), fill(other.unwrap(), 2_000));
    one.clean_up(3_000).await.unwrap();
    assert!(one.bytes() <= 100_000 && one.bytes() > 80_000, "{}", one.bytes());
}

#[tokio::test]
async fn places_that_cannot_be_are_named_with_what_to_do_and_never_with_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter");
    std::fs::write(&letter, "quite long enough to be looked at as a header ".repeat(20)).unwrap();
    for (url, words) in [
        (format!("sqlite:{}", letter.display()), "letter"),
        (format!("sqlite:{}/below", letter.display()), "data folder"),
        ("postgres://user:hush@127.0.0.1:1/content".into(), "Postgres"),
        ("mysql://user:hush@localhost".into(), "neither"),
    ] {
        let error = ResponseStore::open(&url, options()).await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("hush"), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_store_that_is_locked_fails_in_time_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content.sqlite");
    let quick = KeepOptions { call_wait_max: Duration::from_millis(200), ..options() };
    let store = ResponseStore::open(&format!("sqlite:{}", path.display()), quick).await.unwrap();
    store.put(turn(1, None)).await.unwrap();
    let locker = sqlx::SqlitePool::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let lock = locker.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    let since = std::time::Instant::now();
    let error = store.put(turn(2, None)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { doing: "keeping a response", .. }), "{error}");
    assert!(since.elapsed() < Duration::from_secs(2));
    assert!(store.get(&"acme".into(), &id(1), 2).await.unwrap().is_some(), "readers wait for no writer");
    drop(lock);
    locker.close().await;
    store.put(turn(2, None)).await.unwrap();
}
