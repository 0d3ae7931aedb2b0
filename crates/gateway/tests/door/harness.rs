//! A door that is open on a real socket, and the ways to knock at it. Tests speak to this, not to the API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use content::{AnswerCache, CacheOptions};
use control::admin_api::{AdminRoute, Desk, contents};
use domain::{ModelName, Price, Sampling};
use gateway::decisions::{DecisionBounds, Decisions};
use gateway::{Admission, App, KeysPolicy, Limits, LocalUpstream, Route, ServedModel, exchange, serve};
use ledger::{Ending, How, Journal, KeyId, NewKey, PriceChange, ReleaseReason, RequestRow, Sheet, Timestamp};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::engine::{Script, ScriptedEngine};
use crate::words;

/// Longer than anything here takes on a busy machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const MODEL: &str = "parrot";
pub const CONTEXT_TOKENS: usize = 4096;

pub struct Door {
    pub address: SocketAddr,
    pub engine: Arc<ScriptedEngine>,
    pub journal: Journal,
    pub app: Arc<App>,
    pub decisions: Arc<Decisions>,
    /// The table of contents.
    pub declared: Vec<Route>,
    /// What axum says that its router has.
    pub router: String,
    client: reqwest::Client,
    stop: Arc<Notify>,
    served: JoinHandle<std::io::Result<()>>,
    _folder: TempDir,
}

/// One whole answer.
#[derive(Debug)]
pub struct Heard {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

/// One streamed answer, to its end.
#[derive(Debug, Default)]
pub struct Events {
    pub request: String,
    pub events: Vec<Value>,
    pub comments: usize,
    pub is_done: bool,
}

impl Door {
    pub async fn open(script: Script) -> Self {
        Self::open_with(script, KeysPolicy::LoopbackOpen, |_| {}).await
    }

    pub async fn open_with(script: Script, keys: KeysPolicy, change: impl FnOnce(&mut Limits)) -> Self {
        // The first of all tests installs it; the others find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = TempDir::new().unwrap();
        let journal = Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        let (outbox, inbox) = exchange();
        let engine = ScriptedEngine::start(script, outbox);
        let model = ServedModel {
            name: MODEL.into(),
            aliases: vec!["budgie".into()],
            text: Arc::new(words::text_model(folder.path())),
            upstream: Arc::new(LocalUpstream::new(engine.clone(), inbox)),
            context_tokens: CONTEXT_TOKENS,
            sampling_defaults: Sampling::default(),
            created: 7,
        };
        let mut limits = Limits::default();
        change(&mut limits);
        let decisions = Arc::new(Decisions::in_memory(DecisionBounds::default()));
        let kept = CacheOptions { memory_bytes_max: 8 << 20, redis: None };
        let app = App::new(vec![model], journal.clone(), keys, limits).unwrap();
        let app = app.deciding_into(decisions.clone()).keeping_answers_in(AnswerCache::new(kept).unwrap());
        let desk = Desk::new(journal.clone()).telling(app.key_forgetter());
        let app = Arc::new(app.mounting(admin_routes(&desk)));
        let (declared, router) = (gateway::routes(&app), format!("{:?}", gateway::router(app.clone())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let served = tokio::spawn(serve(listener, app.clone(), async move { stopped.notified().await }));
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self {
            address,
            engine,
            journal,
            app,
            decisions,
            declared,
            router,
            client,
            stop,
            served,
            _folder: folder,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Heard {
        Heard::of(self.client.get(self.url(path)).send().await.unwrap()).await
    }

    pub async fn get_text(&self, path: &str) -> String {
        self.client.get(self.url(path)).send().await.unwrap().text().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> Heard {
        self.post_bytes(path, body.to_string()).await
    }

    pub async fn post_bytes(&self, path: &str, body: impl Into<reqwest::Body>) -> Heard {
        Heard::of(self.client.post(self.url(path)).body(body).send().await.unwrap()).await
    }

    pub async fn post_with_key(&self, key: &str, path: &str, body: Value) -> Heard {
        self.ask("POST", path, Some(key), &body.to_string()).await
    }

    pub async fn get_with_key(&self, key: &str, path: &str) -> Heard {
        self.ask("GET", path, Some(key), "").await
    }

    /// Asks in the name of a task.
    pub async fn ask_with_task(&self, key: &str, task: &str, body: Value) -> Heard {
        let request =
            self.client.post(self.url("/v1/chat/completions")).bearer_auth(key).body(body.to_string());
        Heard::of(request.header("x-baseload-task", task).send().await.unwrap()).await
    }

    pub async fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Heard {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, self.url(path)).body(body.to_owned());
        let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
        Heard::of(request.send().await.unwrap()).await
    }

    pub async fn post_with(&self, headers: &[(&str, &str)], path: &str, body: Value) -> Heard {
        let request = self.client.post(self.url(path)).body(body.to_string());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Heard::of(request.send().await.unwrap()).await
    }

    /// Asks in a chat; `more` joins or replaces fields of the request.
    pub async fn chat(&self, more: Value) -> Heard {
        self.post("/v1/chat/completions", chat(more)).await
    }

    pub async fn complete(&self, more: Value) -> Heard {
        self.post("/v1/completions", completion(more)).await
    }

    pub async fn chat_stream(&self, more: Value) -> Events {
        self.listen("/v1/chat/completions", chat(more)).await
    }

    pub async fn complete_stream(&self, more: Value) -> Events {
        self.listen("/v1/completions", completion(more)).await
    }

    pub async fn listen(&self, path: &str, mut body: Value) -> Events {
        body["stream"] = json!(true);
        let response = self.begin(path, body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        let request = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        Events::read(request, &response.text().await.unwrap())
    }

    /// Begins to ask and returns as soon as the answer begins.
    pub async fn begin(&self, path: &str, body: Value) -> reqwest::Response {
        self.client.post(self.url(path)).body(body.to_string()).send().await.unwrap()
    }

    /// Asks with a header of one's own.
    pub async fn post_with_header(&self, path: &str, (name, value): (&str, &str), body: Value) -> Heard {
        let request = self.client.post(self.url(path)).header(name, value).body(body.to_string());
        Heard::of(request.send().await.unwrap()).await
    }

    /// Begins a streamed chat, and returns when its first token has come.
    pub async fn begin_chat(&self, more: Value) -> reqwest::Response {
        let mut body = chat(more);
        body["stream"] = json!(true);
        let mut response = self.begin("/v1/chat/completions", body).await;
        assert_eq!(response.status(), 200);
        response.chunk().await.unwrap().unwrap();
        response
    }

    /// Returns a bare connection.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Returns how the request was booked, as soon as it is.
    pub async fn booked(&self, request: &str) -> Ending {
        let row = self.row_when(request, |row| row.ending.is_some()).await;
        row.ending.unwrap()
    }

    async fn row_when(&self, request: &str, wanted: impl Fn(&RequestRow) -> bool) -> RequestRow {
        let began = Instant::now();
        loop {
            let rows = self.journal.requests(&[request.into()]).await.unwrap();
            match rows.into_iter().next() {
                Some(row) if wanted(&row) => return row,
                row => assert!(began.elapsed() < PATIENCE, "request {request} stays {row:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn account_of(&self, request: &str) -> String {
        self.row_when(request, |_| true).await.held.hold.account.to_string()
    }

    pub async fn set_prices(&self, input: &str, cached: &str, output: &str) {
        let price = |text: &str| text.parse::<Price>().unwrap();
        let sheet = Sheet::per_token(price(input), price(cached), price(output));
        let change =
            PriceChange { model: ModelName::new(MODEL), sheet, valid_from: Timestamp::from_millis(0) };
        self.journal.set_prices(vec![change]).await.unwrap();
    }

    /// Makes a key of an account; returns its id and secret.
    pub async fn make_key(&self, account: &str) -> (KeyId, String) {
        self.make_key_with(account, |_| ()).await
    }

    /// Makes a key of an account with a role, scopes or an end; returns its id and secret.
    pub async fn make_key_with(&self, account: &str, change: impl FnOnce(&mut NewKey)) -> (KeyId, String) {
        let at = Timestamp::from(std::time::SystemTime::now());
        let random = rand_bytes();
        let mut new = NewKey::member(format!("{:02x?}", &random[..6]), account.into(), random, at);
        change(&mut new);
        let key = self.journal.create_key(new).await.unwrap();
        (key.record.id, key.secret.reveal().to_owned())
    }

    /// Waits until `happened`, or fails.
    pub async fn until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !happened(self) {
            assert!(began.elapsed() < PATIENCE, "never happened: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub fn begin_shutdown(&self) {
        self.stop.notify_one();
    }

    /// Shuts the door, and checks that nothing is left behind.
    pub async fn close(self) {
        self.stop.notify_one();
        tokio::time::timeout(PATIENCE, self.served).await.expect("the server stops").unwrap().unwrap();
        assert_eq!(self.journal.open_holds().await.unwrap(), vec![], "every hold has ended");
        let integrity = self.journal.check_integrity().await.unwrap();
        assert!(integrity.is_sound(), "{:?}", integrity.faults);
        self.engine.stop();
    }
}

impl Heard {
    async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self { status, headers, body }
    }

    pub fn request(&self) -> &str {
        self.headers["x-request-id"].to_str().unwrap()
    }

    /// Status, type, parameter and code of a refusal.
    pub fn refusal(&self) -> (u16, &str, Option<&str>, Option<&str>) {
        let error = &self.body["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        (self.status, error["type"].as_str().unwrap(), error["param"].as_str(), error["code"].as_str())
    }

    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap()
    }
}

impl Events {
    pub fn read(request: String, text: &str) -> Self {
        let mut events = Self { request, ..Self::default() };
        for event in text.split_terminator("\n\n") {
            assert!(!events.is_done, "something follows [DONE]: {event}");
            match event.strip_prefix("data: ") {
                Some("[DONE]") => events.is_done = true,
                Some(data) => events.events.push(serde_json::from_str(data).unwrap()),
                None if event.starts_with(':') => events.comments += 1,
                None => panic!("neither data nor comment: {event}"),
            }
        }
        events
    }

    /// Returns the text of one choice of a chat.
    pub fn chat_text(&self, choice: usize) -> String {
        self.of_choice(choice).filter_map(|choice| choice["delta"]["content"].as_str()).collect()
    }
    pub fn completion_text(&self, choice: usize) -> String {
        self.of_choice(choice).filter_map(|choice| choice["text"].as_str()).collect()
    }
    /// Returns every finish reason of one choice: one, if it ended well.
    pub fn finishes(&self, choice: usize) -> Vec<&str> {
        self.of_choice(choice).filter_map(|choice| choice["finish_reason"].as_str()).collect()
    }
    pub fn usage(&self) -> Option<&Value> {
        self.events.iter().map(|event| &event["usage"]).find(|usage| usage.is_object())
    }
    /// Returns the code of the error that ended the stream.
    pub fn error(&self) -> Option<&str> {
        self.events.iter().find_map(|event| event["error"]["code"].as_str())
    }
    fn of_choice(&self, index: usize) -> impl Iterator<Item = &Value> {
        let choices = self.events.iter().filter_map(|event| event["choices"].as_array()).flatten();
        choices.filter(move |choice| choice["index"] == index)
    }
}

/// The words for an ending: `settled complete`, `released client_left`.
pub fn words_of(ending: &Ending) -> String {
    match ending.how {
        How::Settled { end, .. } => format!("settled {}", json!(end).as_str().unwrap()),
        How::Released { reason: ReleaseReason::ClientLeft } => "released client_left".into(),
        How::Released { reason: ReleaseReason::Refused } => "released refused".into(),
        How::Released { reason: ReleaseReason::Failed } => "released failed".into(),
        How::Saved { way, .. } => format!("saved {}", json!(way).as_str().unwrap()),
        How::Lost { .. } => "lost".into(),
    }
}

/// Input tokens (uncached, cached) and output tokens that were settled.
pub fn used(ending: &Ending) -> (u64, u64, u64) {
    match ending.how {
        How::Settled { usage, .. } => (usage.input_uncached, usage.cache_read, usage.output),
        _ => (0, 0, 0),
    }
}

/// How many tokens the chat of [`chat`] becomes: `<|im_start|>` and `<|im_end|>` are one each, all else is one a byte.
pub const CHAT_TOKENS: u64 = (1 + "user\nHi".len() + 1 + "\n".len() + 1 + "assistant\n".len()) as u64;

pub fn chat(more: Value) -> Value {
    joined(json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }] }), more)
}

pub fn completion(more: Value) -> Value {
    joined(json!({ "model": MODEL, "prompt": "Hi", "max_tokens": 64 }), more)
}

fn joined(mut body: Value, more: Value) -> Value {
    let more = more.as_object().cloned().unwrap_or_default();
    body.as_object_mut().unwrap().extend(more);
    body
}

pub async fn write(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
}

/// Returns everything the server says until it closes the connection.
pub async fn read_to_close(mut socket: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is a way of closing, too.
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
    read.expect("the server closes the connection").ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The rooms behind the door, as the binary puts them there.
fn admin_routes(desk: &Desk) -> Vec<Route> {
    let route = |AdminRoute { method, path, is_open, handler }: AdminRoute| {
        Route::mounted(method, path, if is_open { Admission::Open } else { Admission::Role }, handler)
    };
    contents(desk).into_iter().map(route).collect()
}

fn rand_bytes() -> [u8; 32] {
    rand::random()
}
