//! Does every route pass its door? The router's own routes are counted, not a list of ours.

use std::collections::BTreeSet;

use gateway::Admission;
use gateway::KeysPolicy::{KeysRequired, LoopbackOpen};
use ledger::{NewKey, Pattern, Role, Scopes};
use serde_json::json;

use crate::engine::Script;
use crate::harness::{Door, Heard, MODEL, chat, completion};

/// Method, path with its names, admission.
type Row = (String, String, Admission);

fn declared(door: &Door) -> Vec<Row> {
    let row = |route: &gateway::Route| (route.method.to_string(), route.path.to_owned(), route.admission);
    door.declared.iter().map(row).collect()
}

/// Returns the methods and paths that axum's router holds, from what it prints of itself:
/// `routes: {RouteId(1): MethodRouter(MethodRouter { get: Route, post: None, … })}`, `paths: {RouteId(1): "/v1/models"}`.
fn real(router: &str) -> BTreeSet<(String, String)> {
    let (routes, paths) = router.split_once("node: Node { paths: {").expect("the router prints its paths");
    let paths = paths.split_once("\"}").expect("the paths end").0;
    let mut real = BTreeSet::new();
    for entry in paths.split(", RouteId(") {
        let (id, path) = entry.trim_start_matches("RouteId(").split_once("): ").unwrap();
        let methods = routes.split(&format!("RouteId({id}): ")).nth(1).expect("a path has a route");
        let methods = methods.split("fallback:").next().unwrap();
        for method in ["get", "head", "delete", "options", "patch", "post", "put", "trace", "connect"] {
            let handler = methods.split_once(&format!("{method}: ")).expect("a route prints each method").1;
            if !handler.starts_with("None") {
                real.insert((method.to_uppercase(), path.trim_matches('"').to_owned()));
            }
        }
    }
    real
}

/// Returns a path with something in the place of each name.
fn filled(path: &str) -> String {
    path.replace("{*name}", "parrot").replace("{account}", "acme%2Fresearch").replace("{id}", "key-none")
}

async fn ask(door: &Door, (method, path, _): &Row, key: Option<&str>) -> Heard {
    door.ask(method, &filled(path), key, "").await
}

fn code(heard: &Heard) -> Option<&str> {
    // Anthropic's clients look for it elsewhere.
    let error = &heard.body["error"];
    error["code"].as_str().or_else(|| error["details"]["error_code"].as_str())
}

fn narrowed_to_nothing(key: &mut NewKey) {
    key.scopes = Scopes { endpoints: Some(vec![Pattern::new("/nowhere")]), ..Scopes::EVERYTHING };
}

#[tokio::test]
async fn nothing_is_reachable_that_is_not_declared() {
    let door = Door::open(Script::says("never said")).await;
    let declared: BTreeSet<_> = declared(&door).into_iter().map(|(method, path, _)| (method, path)).collect();
    assert_eq!(real(&door.router), declared, "left: the router, right: its table of contents");
    assert!(declared.len() > 20);
    for path in ["/v1", "/v1/conversations", "/v1/files", "/admin", "/admin/v1", "/debug", "/metrics/"] {
        assert_eq!(door.get(path).await.status, 404, "{path}");
        assert_eq!(door.post(path, json!({})).await.status, 404, "{path}");
    }
    door.close().await;
}

#[tokio::test]
async fn without_a_key_only_what_is_open_answers() {
    let door = Door::open_with(Script::says("never said"), KeysRequired, |_| {}).await;
    for row in declared(&door) {
        for key in [None, Some("bl-guessed")] {
            let heard = ask(&door, &row, key).await;
            match row.2 {
                Admission::Open => assert_eq!(heard.status, 200, "{row:?}"),
                _ => {
                    let expected = if key.is_none() { "missing_api_key" } else { "invalid_api_key" };
                    assert_eq!((heard.status, code(&heard)), (401, Some(expected)), "{row:?}");
                    assert_eq!(heard.headers["www-authenticate"], "Bearer");
                }
            }
        }
    }
    door.close().await;
}

#[tokio::test]
async fn on_loopback_too_what_takes_a_role_takes_a_key() {
    let door = Door::open(Script::says("never said")).await;
    let mut seen = 0;
    for row in declared(&door).iter().filter(|row| row.2 == Admission::Role) {
        assert_eq!(code(&ask(&door, row, None).await), Some("missing_api_key"), "{row:?}");
        assert_eq!(code(&ask(&door, row, Some("sk-anything")).await), Some("invalid_api_key"), "{row:?}");
        seen += 1;
    }
    assert!(seen > 10);
    door.close().await;
}

#[tokio::test]
async fn a_key_opens_no_endpoint_beyond_its_scope() {
    for policy in [KeysRequired, LoopbackOpen] {
        let door = Door::open_with(Script::says("never said"), policy, |_| {}).await;
        let (_, owner) = door
            .make_key_with("/", |key| {
                key.role = Role::Owner;
                narrowed_to_nothing(key);
            })
            .await;
        let (_, member) = door.make_key_with("acme", narrowed_to_nothing).await;
        for row in declared(&door).iter().filter(|row| row.2 != Admission::Open) {
            // The root calls no models; whoever may do all but that is only narrowed.
            let key = if row.2 == Admission::Held { &member } else { &owner };
            let heard = ask(&door, row, Some(key)).await;
            assert_eq!((heard.status, code(&heard)), (403, Some("scope_missing")), "{row:?}");
            assert!(
                heard.message().contains("/nowhere") && heard.message().contains(&row.1),
                "{}",
                heard.message()
            );
        }
        door.close().await;
    }
}

#[tokio::test]
async fn what_is_held_is_in_the_book_and_what_is_not_held_is_not() {
    let door = Door::open_with(Script::says("Polly"), KeysRequired, |_| {}).await;
    let (_, member) = door.make_key("acme").await;
    let (_, viewer) = door.make_key_with("acme", |key| key.role = Role::Viewer).await;
    let holds = async || door.journal.recent_requests(1_000).await.unwrap().len();
    let mut held = 0;
    for row in declared(&door) {
        let (before, path) = (holds().await, row.1.as_str());
        let heard = match (row.2, path) {
            (Admission::Held, "/v1/chat/completions") => {
                door.post_with_key(&member, path, chat(json!({}))).await
            }
            (Admission::Held, "/v1/completions") => {
                door.post_with_key(&member, path, completion(json!({}))).await
            }
            (Admission::Held, "/v1/messages") => {
                door.post_with_key(&member, path, chat(json!({ "max_tokens": 64 }))).await
            }
            (Admission::Held, "/v1/responses") => {
                let body = json!({ "model": MODEL, "input": "Hi", "max_output_tokens": 64 });
                door.post_with_key(&member, path, body).await
            }
            // Engines of ours give none: refused by name, and nothing is held.
            (Admission::Held, "/v1/embeddings") => {
                let heard = door.post_with_key(&member, path, json!({ "model": MODEL, "input": "Hi" })).await;
                assert_eq!((heard.status, code(&heard)), (400, Some("unsupported_parameter")));
                assert_eq!(holds().await, before);
                continue;
            }
            (Admission::Held, _) => {
                panic!("{path} is held: show here how it is asked, so that its hold is seen")
            }
            _ => ask(&door, &row, Some(&member)).await,
        };
        if row.2 == Admission::Held {
            assert_eq!(heard.status, 200, "{path}");
            assert_eq!(door.account_of(heard.request()).await, "acme");
            let refused = ask(&door, &row, Some(&viewer)).await;
            assert_eq!((refused.status, code(&refused)), (403, Some("role_missing")), "{path}");
            held += 1;
        }
        let expected = before + usize::from(row.2 == Admission::Held);
        assert_eq!(holds().await, expected, "{path}");
    }
    assert_eq!(held, 4);
    door.close().await;
}

#[tokio::test]
async fn a_key_is_for_its_models_and_sees_no_others() {
    let door = Door::open_with(Script::says("Polly"), KeysRequired, |_| {}).await;
    let only = |pattern: &'static str| {
        move |key: &mut NewKey| {
            key.scopes = Scopes { models: Some(vec![Pattern::new(pattern)]), ..Scopes::EVERYTHING };
        }
    };
    let (_, parrots) = door.make_key_with("acme", only("par*")).await;
    let (_, cats) = door.make_key_with("acme", only("cat")).await;
    let listed = async |key: &str| {
        let heard = door.get_with_key(key, "/v1/models").await;
        heard.body["data"].as_array().unwrap().len()
    };
    assert_eq!((listed(&parrots).await, listed(&cats).await), (1, 0));
    assert_eq!(door.post_with_key(&parrots, "/v1/chat/completions", chat(json!({}))).await.status, 200);
    for (path, body) in [
        ("/v1/chat/completions", chat(json!({}))),
        // An alias leads to the same model.
        ("/v1/chat/completions", chat(json!({ "model": "budgie" }))),
        ("/v1/completions", completion(json!({}))),
        ("/tokenize", json!({ "prompt": "Hi" })),
        ("/detokenize", json!({ "tokens": [1] })),
    ] {
        let heard = door.post_with_key(&cats, path, body).await;
        assert_eq!(
            heard.refusal(),
            (403, "permission_error", Some("model"), Some("scope_missing")),
            "{path}"
        );
        assert!(
            heard.message().contains("\"parrot\"") && heard.message().contains("cat"),
            "{}",
            heard.message()
        );
    }
    assert_eq!(door.get_with_key(&cats, "/v1/models/parrot").await.status, 403);
    let unknown = door.post_with_key(&cats, "/v1/chat/completions", chat(json!({ "model": "dodo" }))).await;
    assert!(
        !unknown.message().contains("parrot"),
        "what a key may not use is not told: {}",
        unknown.message()
    );
    door.close().await;
}

#[tokio::test]
async fn a_key_is_for_its_routes_regions_and_tiers() {
    let door = Door::open_with(Script::says("Polly"), KeysRequired, |_| {}).await;
    let list = |name: &str| Some(vec![Pattern::new(name)]);
    for (scopes, refused) in [
        (Scopes { routes: list("local"), ..Scopes::EVERYTHING }, None),
        (Scopes { routes: list("openai"), ..Scopes::EVERYTHING }, Some("route \"local\"")),
        (Scopes { service_tiers: list("standard"), ..Scopes::EVERYTHING }, None),
        (Scopes { service_tiers: list("batch"), ..Scopes::EVERYTHING }, Some("service tier \"standard\"")),
        (Scopes { regions: list("eu"), ..Scopes::EVERYTHING }, Some("where this model runs is not known")),
    ] {
        let (_, key) = door.make_key_with("acme", |key| key.scopes = scopes).await;
        let heard = door.post_with_key(&key, "/v1/chat/completions", chat(json!({}))).await;
        match refused {
            None => assert_eq!(heard.status, 200),
            Some(why) => {
                assert_eq!((heard.status, code(&heard)), (403, Some("scope_missing")));
                assert!(heard.message().contains(why), "{}", heard.message());
            }
        }
    }
    door.close().await;
}

#[tokio::test]
async fn a_key_that_ended_says_why_on_loopback_too() {
    let door = Door::open(Script::says("Polly")).await;
    let ask = async |key: &str| {
        let heard = door.post_with_key(key, "/v1/chat/completions", chat(json!({}))).await;
        (heard.status, code(&heard).map(str::to_owned))
    };
    let refused = |status: u16, code: &str| (status, Some(code.to_owned()));
    let soon = ledger::Timestamp::from(std::time::SystemTime::now() + std::time::Duration::from_millis(400));
    let (_, brief) = door.make_key_with("acme", |key| key.expires_at = Some(soon)).await;
    assert_eq!(ask(&brief).await, (200, None));
    tokio::time::sleep(std::time::Duration::from_millis(450)).await;
    // The lookup is reused for a second, and the end is exact all the same.
    assert_eq!(ask(&brief).await, refused(401, "expired_api_key"));
    let (id, key) = door.make_key("globex").await;
    door.journal.revoke_key(id, soon).await.unwrap();
    assert_eq!(ask(&key).await, refused(401, "revoked_api_key"));
    let (_, key) = door.make_key("initech/ops").await;
    let (kind, at) = (ledger::AccountKind::Organisation, soon);
    let new =
        ledger::NewAccount { account: "initech".into(), kind, display_name: None, cost_centre: None, at };
    door.journal.create_account(new).await.unwrap();
    door.journal.close_account("initech".into(), Some(soon)).await.unwrap();
    assert_eq!(ask(&key).await, refused(403, "account_closed"));
    door.close().await;
}
