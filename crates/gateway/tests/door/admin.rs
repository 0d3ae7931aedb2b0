//! What can be administered through the door, by whom, and how soon does it hold?

use gateway::KeysPolicy::KeysRequired;
use ledger::{NewKey, Pattern, Role, Scopes};
use serde_json::{Value, json};

use crate::engine::Script;
use crate::harness::{Door, Heard, chat};

const ACCOUNTS: [&str; 5] = ["acme", "acme/research", "acme/research/bot", "acme/sales", "globex"];

/// A server with a few accounts and an owner of the root.
struct Firm {
    door: Door,
    owner: String,
}

impl Firm {
    async fn open() -> Self {
        let door = Door::open_with(Script::says("Polly"), KeysRequired, |_| {}).await;
        let (_, owner) = door.make_key_with("/", |key| key.role = Role::Owner).await;
        let firm = Self { door, owner };
        for account in ACCOUNTS {
            let heard = firm.post(&firm.owner, "/admin/v1/accounts", json!({ "account": account })).await;
            assert_eq!(heard.status, 201, "{:?}", heard.body);
        }
        firm
    }
    async fn key(&self, account: &str, role: Role) -> String {
        self.door.make_key_with(account, |key| key.role = role).await.1
    }
    async fn get(&self, key: &str, path: &str) -> Heard {
        self.door.get_with_key(key, path).await
    }
    async fn post(&self, key: &str, path: &str, body: Value) -> Heard {
        self.door.post_with_key(key, path, body).await
    }
    async fn chats(&self, key: &str) -> u16 {
        self.post(key, "/v1/chat/completions", chat(json!({}))).await.status
    }
    /// Everything that the admin API can show, to see that nothing has changed.
    async fn all(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for path in [
            "/admin/v1/accounts?closed=true",
            "/admin/v1/keys",
            "/admin/v1/prices",
            "/admin/v1/usage",
            "/admin/v1/tasks",
            "/admin/v1/limits",
        ] {
            let heard = self.get(&self.owner, path).await;
            assert_eq!(heard.status, 200, "{path}: {:?}", heard.body);
            all.push(heard.body);
        }
        all
    }
}

fn paths(heard: &Heard) -> Vec<&str> {
    heard.body["data"].as_array().unwrap().iter().map(|row| row["account"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_admin_sees_and_changes_nothing_outside_its_subtree() {
    let firm = Firm::open().await;
    let (stranger, _) = firm.door.make_key("acme/sales").await;
    let (boss, _) = firm.door.make_key_with("acme", |key| key.role = Role::Admin).await;
    let boss_member = firm.key("acme", Role::Member).await;
    let run = firm.door.ask_with_task(&boss_member, "run-1", chat(json!({}))).await;
    assert_eq!(run.status, 200, "{:?}", run.body);
    let limit = json!({ "scope": "acme", "measure": "requests", "amount": "1000" });
    assert_eq!(firm.post(&firm.owner, "/admin/v1/limits", limit).await.status, 201);
    let before = firm.all().await;
    for role in [Role::Viewer, Role::Admin, Role::Owner] {
        let key = firm.key("acme/research", role).await;
        let keys_before = firm.all().await;
        let mut tried = 0;
        for route in firm.door.declared.iter().filter(|route| route.path.starts_with("/admin/v1/")) {
            let aims: Vec<(String, String)> = match route.path {
                "/admin/v1/openapi.json" | "/admin/v1/whoami" => continue,
                "/admin/v1/accounts" if route.method == "POST" => ["acme/new", "initech", "acme/research2"]
                    .map(|account| (route.path.to_owned(), json!({ "account": account }).to_string()))
                    .into(),
                "/admin/v1/keys" if route.method == "POST" => ["acme", "acme/sales", "/", "nowhere"]
                    .map(|account| {
                        (
                            route.path.to_owned(),
                            json!({ "account": account, "name": "x", "role": "viewer" }).to_string(),
                        )
                    })
                    .into(),
                "/admin/v1/accounts" | "/admin/v1/keys" | "/admin/v1/usage" | "/admin/v1/limits"
                | "/admin/v1/tasks"
                    if route.method == "GET" =>
                {
                    ["acme", "acme/sales", "%2F", "globex", "nowhere"]
                        .map(|account| (format!("{}?within={account}", route.path), String::new()))
                        .into()
                }
                // Prices are read by everybody with a role: they are the same for all.
                "/admin/v1/prices" if route.method == "GET" => continue,
                "/admin/v1/prices" => {
                    vec![(
                        route.path.to_owned(),
                        json!({ "prices": [{ "model": "parrot", "input": "1", "output": "1" }] }).to_string(),
                    )]
                }
                "/admin/v1/limits" => {
                    ["acme", "acme/sales", "/", "task acme/run-1", "each end_user of globex"]
                        .map(|scope| {
                            let limit = json!({ "scope": scope, "measure": "requests", "amount": "1" });
                            (route.path.to_owned(), limit.to_string())
                        })
                        .into()
                }
                "/admin/v1/limits/end" => ["requests of acme per total", "requests of nowhere per total"]
                    .map(|name| (route.path.to_owned(), json!({ "name": name }).to_string()))
                    .into(),
                // No such task, or not one that this key may know of: the same answer.
                "/admin/v1/tasks/tree" => vec![
                    (format!("{}?task=acme%2Frun-1", route.path), String::new()),
                    (format!("{}?task=globex%2Frun-1", route.path), String::new()),
                ],
                "/admin/v1/tasks/approve" | "/admin/v1/tasks/stop" => ["acme/run-1", "globex/run-1"]
                    .map(|task| (route.path.to_owned(), json!({ "task": task }).to_string()))
                    .into(),
                "/admin/v1/integrity" => vec![(route.path.to_owned(), String::new())],
                // Mistakes in a configuration may name accounts of everybody.
                "/admin/v1/configuration" => vec![(route.path.to_owned(), String::new())],
                "/admin/v1/decisions" => vec![(format!("{}?within=globex", route.path), String::new())],
                "/admin/v1/decisions/{request}" => {
                    vec![(route.path.replace("{request}", "req-of-somebody"), String::new())]
                }
                path if path.contains("{account}") => ["acme", "acme%2Fsales", "globex", "nowhere"]
                    .map(|account| (path.replace("{account}", account), "{}".into()))
                    .into(),
                path if path.contains("{id}") && path.starts_with("/admin/v1/keys") => {
                    [&stranger.0, &boss.0].map(|id| (path.replace("{id}", id), "{}".into())).into()
                }
                path => panic!("show here how {path} could be aimed outside a subtree"),
            };
            for (path, body) in aims {
                let heard = firm.door.ask(route.method.as_str(), &path, Some(&key), &body).await;
                let code = heard.body["error"]["code"].as_str();
                assert!(
                    matches!((heard.status, code), (403, Some("role_missing")) | (404, Some("not_found"))),
                    "{role}: {} {path} → {} {:?}",
                    route.method,
                    heard.status,
                    heard.body
                );
                assert_eq!(heard.body["error"].as_object().unwrap().len(), 4, "one shape of errors");
                tried += 1;
            }
        }
        assert!(tried > 30, "{tried}");
        assert_eq!(firm.all().await, keys_before, "{role}");
        assert_eq!(
            paths(&firm.get(&key, "/admin/v1/accounts").await),
            ["acme/research", "acme/research/bot"]
        );
        let keys = firm.get(&key, "/admin/v1/keys").await;
        assert!(paths(&keys).iter().all(|account| account.starts_with("acme/research")), "{:?}", keys.body);
    }
    assert_eq!(before[0], firm.all().await[0]);
    firm.door.close().await;
}

#[tokio::test]
async fn a_path_without_a_version_leads_to_the_one_with_it() {
    let firm = Firm::open().await;
    let owner = firm.key("acme", Role::Owner).await;
    for path in ["whoami", "accounts?limit=1", "decisions/req-1"] {
        let versioned = firm.get(&owner, &format!("/admin/v1/{path}")).await;
        let bare = firm.get(&owner, &format!("/admin/{path}")).await;
        assert_eq!((bare.status, bare.body), (versioned.status, versioned.body), "{path}");
    }
    assert_eq!(firm.get(&owner, "/admin/nothing").await.body["error"]["code"], "unknown_url");
    firm.door.close().await;
}

#[tokio::test]
async fn each_role_may_what_its_table_says() {
    let firm = Firm::open().await;
    let member = firm.key("acme/research", Role::Member).await;
    let viewer = firm.key("acme/research", Role::Viewer).await;
    let admin = firm.key("acme/research", Role::Admin).await;
    let owner = firm.key("acme/research", Role::Owner).await;
    let own = "/admin/v1/accounts/acme%2Fresearch";
    let below = "/admin/v1/accounts/acme%2Fresearch%2Fbot";
    let statuses = async |method: &str, path: &str, body: Value| {
        let mut statuses = Vec::new();
        for key in [&member, &viewer, &admin, &owner] {
            statuses.push(firm.door.ask(method, path, Some(key), &body.to_string()).await.status);
        }
        statuses
    };
    assert_eq!(statuses("GET", "/admin/v1/whoami", json!({})).await, [200, 200, 200, 200]);
    assert_eq!(statuses("GET", own, json!({})).await, [403, 200, 200, 200]);
    assert_eq!(statuses("GET", "/admin/v1/usage", json!({})).await, [403, 200, 200, 200]);
    assert_eq!(statuses("GET", "/admin/v1/prices", json!({})).await, [403, 200, 200, 200]);
    assert_eq!(statuses("PATCH", below, json!({ "cost_centre": "K" })).await, [403, 403, 200, 200]);
    assert_eq!(statuses("PATCH", own, json!({ "cost_centre": "K" })).await, [403, 403, 403, 200]);
    let key = |role: &str| json!({ "account": "acme/research", "name": format!("new-{role}"), "role": role });
    assert_eq!(statuses("POST", "/admin/v1/keys", key("owner")).await, [403, 403, 403, 201]);
    assert_eq!(statuses("POST", "/admin/v1/keys", key("admin")).await, [403, 403, 201, 409]);
    let limit = |scope: &str| json!({ "scope": scope, "measure": "requests", "amount": "9" });
    assert_eq!(statuses("POST", "/admin/v1/limits", limit("acme/research/bot")).await, [403, 403, 201, 201]);
    assert_eq!(statuses("POST", "/admin/v1/limits", limit("acme/research")).await, [403, 403, 403, 201]);
    assert_eq!(
        statuses("POST", "/admin/v1/limits", limit("each end_user of acme/research")).await,
        [403, 403, 403, 201]
    );
    assert_eq!(statuses("GET", "/admin/v1/limits", json!({})).await, [403, 200, 200, 200]);
    let end = json!({ "name": "requests of acme/research per total" });
    assert_eq!(statuses("POST", "/admin/v1/limits/end", end).await, [403, 403, 403, 200]);
    assert_eq!(statuses("GET", "/admin/v1/integrity", json!({})).await, [403, 403, 403, 403]);
    assert_eq!(firm.get(&firm.owner, "/admin/v1/integrity").await.body["is_sound"], true);
    firm.door.close().await;
}

#[tokio::test]
async fn a_key_is_revoked_at_once() {
    let firm = Firm::open().await;
    let new = json!({ "account": "acme/research", "name": "bot" });
    let made = firm.post(&firm.owner, "/admin/v1/keys", new).await.body;
    let (secret, id) = (made["secret"].as_str().unwrap(), made["key"]["id"].as_str().unwrap());
    for _ in 0..20 {
        assert_eq!(firm.chats(secret).await, 200, "the lookup is remembered from here on");
    }
    let revoked = firm.post(&firm.owner, &format!("/admin/v1/keys/{id}/revoke"), json!({})).await;
    assert_eq!((revoked.status, &revoked.body["state"]), (200, &json!("revoked")));
    assert_eq!(firm.chats(secret).await, 401, "not a second later: now");
    let closed = firm.key("acme/sales", Role::Member).await;
    assert_eq!(firm.chats(&closed).await, 200);
    assert_eq!(firm.post(&firm.owner, "/admin/v1/accounts/acme/close", json!({})).await.status, 200);
    assert_eq!(firm.chats(&closed).await, 403, "closed with all below it, now");
    assert_eq!(firm.post(&firm.owner, "/admin/v1/accounts/acme/reopen", json!({})).await.status, 200);
    assert_eq!(firm.chats(&closed).await, 200);
    firm.door.close().await;
}

#[tokio::test]
async fn a_rotated_key_opens_beside_its_successor_for_the_overlap() {
    let firm = Firm::open().await;
    let new = json!({ "account": "acme/research", "name": "bot", "scopes": { "models": ["parrot"] } });
    let old = firm.post(&firm.owner, "/admin/v1/keys", new.clone()).await.body;
    let (old_secret, id) = (old["secret"].as_str().unwrap(), old["key"]["id"].as_str().unwrap());
    let twin = firm.post(&firm.owner, "/admin/v1/keys", new).await;
    assert_eq!(twin.refusal(), (409, "invalid_request_error", Some("name"), Some("key_name_taken")));
    let path = format!("/admin/v1/keys/{id}/rotate");
    let rotated = firm.post(&firm.owner, &path, json!({ "overlap_seconds": 3600 })).await;
    assert_eq!((rotated.status, &rotated.body["key"]["rotated_from"]), (201, &json!(id)));
    assert_eq!(rotated.body["key"]["scopes"], json!({ "models": ["parrot"] }));
    let secret = rotated.body["secret"].as_str().unwrap();
    assert_eq!((firm.chats(old_secret).await, firm.chats(secret).await), (200, 200));
    let again = firm.post(&firm.owner, &path, json!({})).await;
    assert_eq!((again.status, again.body["error"]["code"].as_str()), (409, Some("key_replaced")));
    let id = rotated.body["key"]["id"].as_str().unwrap();
    let path = format!("/admin/v1/keys/{id}/rotate");
    let at_once = firm.post(&firm.owner, &path, json!({ "overlap_seconds": 0 })).await;
    assert_eq!(at_once.status, 201);
    assert_eq!(firm.chats(secret).await, 401);
    assert_eq!(firm.chats(at_once.body["secret"].as_str().unwrap()).await, 200);
    firm.door.close().await;
}

#[tokio::test]
async fn nobody_gives_away_more_than_it_has() {
    let firm = Firm::open().await;
    let narrow = |key: &mut NewKey| {
        key.role = Role::Admin;
        key.scopes = Scopes { models: Some(vec![Pattern::new("par*")]), ..Scopes::EVERYTHING };
    };
    let (_, admin) = firm.door.make_key_with("acme/research", narrow).await;
    let (wide, _) = firm.door.make_key("acme/research").await;
    let key = |role: &str, scopes: Value| json!({ "account": "acme/research", "name": "n", "role": role, "scopes": scopes });
    for (body, code) in [
        (key("member", json!({})), "scope_missing"),
        (key("member", json!({ "models": ["*"] })), "scope_missing"),
        (key("owner", json!({ "models": ["parrot"] })), "role_missing"),
    ] {
        let heard = firm.post(&admin, "/admin/v1/keys", body).await;
        assert_eq!(
            (heard.status, heard.body["error"]["code"].as_str()),
            (403, Some(code)),
            "{:?}",
            heard.body
        );
    }
    let rotate = firm.post(&admin, &format!("/admin/v1/keys/{}/rotate", wide.0), json!({})).await;
    assert_eq!(rotate.status, 403, "the new secret of a wider key would be a wider key");
    let good = firm.post(&admin, "/admin/v1/keys", key("member", json!({ "models": ["parrot"] }))).await;
    assert_eq!(good.status, 201, "{:?}", good.body);
    let maker = firm.get(&admin, "/admin/v1/whoami").await;
    assert_eq!(good.body["key"]["created_by"], maker.body["key"]);
    firm.door.close().await;
}

#[tokio::test]
async fn mistakes_are_named_with_what_to_do() {
    let firm = Firm::open().await;
    let post = async |path: &str, body: Value| firm.post(&firm.owner, path, body).await;
    for (path, body, status, code, says) in [
        (
            "/admin/v1/accounts",
            json!({ "account": "acme/a b" }),
            400,
            "invalid_account",
            "' ' is not allowed",
        ),
        (
            "/admin/v1/accounts",
            json!({ "account": "initech/ops" }),
            404,
            "not_found",
            "no account initech; create it first",
        ),
        ("/admin/v1/accounts", json!({ "account": "acme" }), 409, "account_exists", "is there already"),
        (
            "/admin/v1/accounts",
            json!({ "account": "b", "cost_center": "K" }),
            400,
            "invalid_request",
            "unknown field `cost_center`",
        ),
        (
            "/admin/v1/keys",
            json!({ "account": "acme/reserch", "name": "x" }),
            404,
            "not_found",
            "acme/reserch",
        ),
        (
            "/admin/v1/keys",
            json!({ "account": "acme", "name": "x", "scopes": { "models": [] } }),
            400,
            "invalid_scope",
            "list is empty",
        ),
        (
            "/admin/v1/keys",
            json!({ "account": "acme", "name": "x", "scopes": { "models": ["a*b"] } }),
            400,
            "invalid_scope",
            "only at the end",
        ),
        (
            "/admin/v1/keys",
            json!({ "account": "acme", "name": "x", "expires_at": "tomorrow" }),
            400,
            "invalid_request",
            "2026-11-20T23:13:05Z",
        ),
        (
            "/admin/v1/keys",
            json!({ "account": "acme", "name": "x", "expires_at": "2001-01-01T00:00:00Z" }),
            400,
            "invalid_expiry",
            "in the past",
        ),
        (
            "/admin/v1/keys",
            json!({ "account": "/", "name": "x" }),
            400,
            "invalid_request",
            "nothing can be booked to the root",
        ),
        ("/admin/v1/keys/key-none/revoke", json!({}), 404, "not_found", "key-none"),
        (
            "/admin/v1/prices",
            json!({ "prices": [{ "model": "m", "inputs": "1" }] }),
            400,
            "invalid_request",
            "inputs",
        ),
    ] {
        let heard = post(path, body.clone()).await;
        assert_eq!(
            (heard.status, heard.body["error"]["code"].as_str()),
            (status, Some(code)),
            "{body} → {:?}",
            heard.body
        );
        assert!(heard.message().contains(says), "{}", heard.message());
    }
    let long = firm.get(&firm.owner, "/admin/v1/keys?limit=1001").await;
    assert_eq!(long.refusal(), (400, "invalid_request_error", Some("limit"), Some("invalid_request")));
    let unknown = firm.get(&firm.owner, "/admin/v1/keys?page=2").await;
    assert_eq!(unknown.status, 400);
    firm.door.close().await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let firm = Firm::open().await;
    let (mut seen, mut path) = (Vec::new(), "/admin/v1/accounts?limit=2".to_owned());
    loop {
        let heard = firm.get(&firm.owner, &path).await;
        seen.extend(paths(&heard).into_iter().map(str::to_owned));
        match heard.body["next_cursor"].as_str() {
            Some(cursor) => {
                path = format!("/admin/v1/accounts?limit=2&cursor={}", cursor.replace('/', "%2F"))
            }
            None => break,
        }
    }
    assert_eq!(seen, ACCOUNTS);
    firm.door.close().await;
}

#[tokio::test]
async fn usage_is_that_of_the_subtree() {
    let firm = Firm::open().await;
    firm.door.set_prices("1", "0.1", "4").await;
    let viewer = firm.key("acme/research", Role::Viewer).await;
    for account in ["acme/research", "acme/research/bot", "acme/sales"] {
        let key = firm.key(account, Role::Member).await;
        assert_eq!(firm.chats(&key).await, 200);
    }
    let by_model = firm.get(&viewer, "/admin/v1/usage?by=model").await.body;
    assert_eq!((by_model["rows"].as_array().unwrap().len(), &by_model["total"]["requests"]), (1, &json!(2)));
    assert_eq!(by_model["rows"][0]["model"], "parrot");
    let by_account = firm.get(&viewer, "/admin/v1/usage").await.body;
    let accounts: Vec<_> =
        by_account["rows"].as_array().unwrap().iter().map(|row| row["account"].clone()).collect();
    assert_eq!(accounts, ["acme/research", "acme/research/bot"]);
    assert_eq!(firm.get(&firm.owner, "/admin/v1/usage").await.body["total"]["requests"], 3);
    let nonsense = firm.get(&viewer, "/admin/v1/usage?by=colour").await;
    assert_eq!(nonsense.refusal().2, Some("by"));
    firm.door.close().await;
}

#[tokio::test]
async fn a_limit_holds_from_the_next_request_on_and_shows_how_it_stands() {
    let firm = Firm::open().await;
    let key = firm.key("acme/research/bot", Role::Member).await;
    let admin = firm.key("acme/research", Role::Admin).await;
    let limit = json!({ "name": "bot", "scope": "acme/research/bot", "measure": "requests", "amount": "2", "window": "day" });
    let set = firm.post(&admin, "/admin/v1/limits", limit).await;
    assert_eq!((set.status, &set.body["name"]), (201, &json!("bot")), "{:?}", set.body);
    assert_eq!([firm.chats(&key).await, firm.chats(&key).await, firm.chats(&key).await], [200, 200, 429]);
    let listed = firm.get(&admin, "/admin/v1/limits").await.body;
    let standing = &listed["data"][0]["standings"][0];
    assert_eq!((&standing["spent"], &standing["remaining"]), (&json!("2"), &json!("0")), "{listed}");
    assert_eq!(firm.post(&admin, "/admin/v1/limits/end", json!({ "name": "bot" })).await.status, 200);
    assert_eq!(firm.chats(&key).await, 200);
    for (field, value) in
        [("amount", "much"), ("measure", "love"), ("window", "aeon"), ("action", "shout"), ("scope", "a b")]
    {
        let mut limit = json!({ "scope": "acme/research/bot", "measure": "money", "amount": "1.50" });
        limit[field] = json!(value);
        let heard = firm.post(&firm.owner, "/admin/v1/limits", limit).await;
        assert_eq!((heard.status, heard.refusal().2), (400, Some(field)), "{:?}", heard.body);
    }
    let misspelt = json!({ "scope": "acme/reserch", "measure": "money", "amount": "1" });
    assert_eq!(firm.post(&firm.owner, "/admin/v1/limits", misspelt).await.status, 404);
    firm.door.close().await;
}

#[tokio::test]
async fn a_person_stops_a_task_and_lets_it_go_on() {
    let firm = Firm::open().await;
    let member = firm.key("acme/research", Role::Member).await;
    let admin = firm.key("acme/research", Role::Admin).await;
    let run = async || firm.door.ask_with_task(&member, "run-42/plan", chat(json!({}))).await.status;
    assert_eq!(run().await, 200);
    let listed = firm.get(&admin, "/admin/v1/tasks").await.body;
    let task = listed["data"][0]["task"].as_str().unwrap().to_owned();
    assert_eq!((task.as_str(), &listed["data"][0]["account"]), ("acme/run-42", &json!("acme/research")));
    let tree = firm.get(&admin, "/admin/v1/tasks/tree?task=acme%2Frun-42").await.body;
    assert_eq!(tree["data"].as_array().unwrap().len(), 2, "{tree}");
    assert_eq!(
        (&tree["data"][1]["task"], &tree["data"][1]["level"]),
        (&json!("acme/run-42/plan"), &json!(1))
    );
    assert_eq!(tree["data"][0]["calls"], 1, "what is inside counts");
    let viewer = firm.key("acme/research", Role::Viewer).await;
    let stop = json!({ "task": task, "reason": "it goes in circles" });
    assert_eq!(firm.post(&viewer, "/admin/v1/tasks/stop", stop.clone()).await.status, 403);
    let stopped = firm.post(&admin, "/admin/v1/tasks/stop", stop).await;
    assert_eq!(
        (stopped.status, &stopped.body["data"][0]["state"]),
        (200, &json!("stopped")),
        "{:?}",
        stopped.body
    );
    let unlimited = firm.post(&admin, "/admin/v1/tasks/approve", json!({ "task": task, "calls": 5 })).await;
    assert_eq!(unlimited.refusal().3, Some("not_found"), "more of what had no limit: {:?}", unlimited.body);
    let approved = firm.post(&admin, "/admin/v1/tasks/approve", json!({ "task": task })).await;
    assert_eq!(
        (approved.status, &approved.body["data"][0]["state"]),
        (200, &json!("approved")),
        "{:?}",
        approved.body
    );
    let wrong = firm.post(&admin, "/admin/v1/tasks/approve", json!({ "task": task, "usd": "much" })).await;
    assert_eq!(wrong.refusal().2, Some("usd"));
    firm.door.close().await;
}

#[tokio::test]
async fn prices_are_set_by_an_owner_of_the_root_and_kept_in_versions() {
    let firm = Firm::open().await;
    let set =
        json!({ "prices": [{ "model": "parrot", "input": "1", "output": "4", "effective": "2026-01-01" }] });
    let first = firm.post(&firm.owner, "/admin/v1/prices", set.clone()).await;
    assert_eq!(first.status, 201, "{:?}", first.body);
    let again = firm.post(&firm.owner, "/admin/v1/prices", set).await;
    assert_eq!(again.body["data"], json!([]), "what is in force is not recorded again");
    let listed = firm.get(&firm.owner, "/admin/v1/prices?model=parrot").await.body;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["valid_from"], "2026-01-01T00:00:00.000Z");
    assert_eq!(listed["data"][0]["sheet"]["standard"]["rates"]["input_uncached"], 1_000_000);
    firm.door.close().await;
}
