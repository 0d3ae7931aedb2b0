//! Does a model arrive from a hub whole, once, and only to the right ears, whatever the network does?
//!
//! A server of this file plays the hub, and a second one, on another port, the storage that it redirects to.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use model::weights::hub::{HubOptions, HubProgress, fetch};
use model::weights::{WeightsError, open};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_a-secret-of-the-user";

// === the outside: a hub and its storage ===

#[derive(Clone, Debug)]
struct Request {
    path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn range_begin(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

#[derive(Clone, Default)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection breaks after so many bytes of the body.
    cut_after: Option<usize>,
    /// Bytes come one by one with this pause.
    drip: Option<Duration>,
    /// Nothing comes for so long, not even a head.
    silence: Option<Duration>,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    fn header(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }
}

type Answer = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A server that hands each request, with its number among those of the same path, to a function.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen): (Arc<Answer>, _) = (Arc::new(answer), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, seen) = (answer.clone(), seen.clone());
                thread::spawn(move || serve(stream, &*answer, &seen));
            }
        });
        Server { address, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }

    /// The requests for a file, whichever way it is addressed.
    fn requests_for(&self, name: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path.ends_with(&format!("/{name}"))).collect()
    }
}

fn serve(mut stream: TcpStream, answer: &Answer, seen: &Mutex<Vec<Request>>) {
    let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).expect("a path").to_string();
    let mut headers = BTreeMap::new();
    while let Some(Ok(line)) = lines.next() {
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_string());
    }
    let request = Request { path, headers };
    let number = {
        let mut seen = seen.lock().expect("not poisoned");
        seen.push(request.clone());
        seen.iter().filter(|other| other.path == request.path).count()
    };
    // A client that leaves in the middle is part of the play.
    let _ = write_reply(&mut stream, &answer(&request, number));
}

fn write_reply(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    if let Some(silence) = reply.silence {
        thread::sleep(silence);
    }
    write!(stream, "HTTP/1.1 {} Answer\r\nconnection: close\r\n", reply.status)?;
    write!(stream, "content-length: {}\r\n", reply.body.len())?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n")?;
    let body = &reply.body[..reply.cut_after.unwrap_or(reply.body.len())];
    match reply.drip {
        None => stream.write_all(body)?,
        Some(pause) => {
            for byte in body {
                stream.write_all(&[*byte])?;
                thread::sleep(pause);
            }
        }
    }
    stream.flush()
}

/// What a repository holds. Files that end in `.safetensors` or `.gguf` are in large-file storage.
#[derive(Clone)]
struct Repository {
    files: Vec<(&'static str, Vec<u8>)>,
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Repository {
    fn file(&self, path: &str) -> Option<&(&'static str, Vec<u8>)> {
        self.files.iter().find(|(name, _)| path.ends_with(&format!("/{name}")))
    }

    fn listing(&self) -> Value {
        let siblings: Vec<Value> = self
            .files
            .iter()
            .map(|(name, bytes)| match is_large(name) {
                false => json!({ "rfilename": name, "size": bytes.len(), "blobId": "00" }),
                true => json!({ "rfilename": name, "size": bytes.len(),
                                "lfs": { "sha256": hash(bytes), "size": bytes.len(), "pointerSize": 134 } }),
            })
            .collect();
        json!({ "id": "org/tiny", "sha": COMMIT, "siblings": siblings })
    }

    /// The hub: the listing, small files itself, large ones elsewhere.
    fn hub(&self, request: &Request, storage: &str) -> Reply {
        if request.path == "/api/models/org/tiny/revision/main?blobs=true" {
            return Reply::new(200, self.listing().to_string());
        }
        if !request.path.starts_with(&format!("/org/tiny/resolve/{COMMIT}/")) {
            return Reply::new(404, "no such thing");
        }
        match self.file(&request.path) {
            Some((name, bytes)) if is_large(name) => Reply::new(302, "elsewhere")
                .header("location", format!("{storage}/blobs/{name}"))
                .header("x-linked-etag", format!("\"{}\"", hash(bytes)))
                .header("x-linked-size", bytes.len()),
            Some((_, bytes)) => Reply::new(200, bytes.clone()),
            None => Reply::new(404, "no such file"),
        }
    }

    /// The storage, which knows ranges.
    fn storage(&self, request: &Request) -> Reply {
        let Some((_, bytes)) = self.file(&request.path) else { return Reply::new(404, "") };
        match request.range_begin() {
            None => Reply::new(200, bytes.clone()),
            Some(begin) if begin >= bytes.len() => Reply::new(416, ""),
            Some(begin) => Reply::new(206, &bytes[begin..])
                .header("content-range", format!("bytes {begin}-{}/{}", bytes.len() - 1, bytes.len())),
        }
    }
}

/// A hub, its storage, and an empty cache.
struct Stage {
    hub: Server,
    storage: Server,
    options: HubOptions,
    cache: TempDir,
}

impl Stage {
    fn new(repository: &Repository) -> Stage {
        let played = repository.clone();
        Stage::with_storage(repository, move |request, _| played.storage(request))
    }

    /// A stage whose storage misbehaves.
    fn with_storage(
        repository: &Repository,
        storage: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Stage {
        let storage = Server::start(storage);
        let (played, address) = (repository.clone(), storage.address.clone());
        let hub = Server::start(move |request, _| played.hub(request, &address));
        Stage::of(hub, storage)
    }

    /// A stage whose hub misbehaves.
    fn with_hub(hub: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Stage {
        Stage::of(Server::start(hub), Server::start(|_, _| Reply::new(404, "")))
    }

    fn of(hub: Server, storage: Server) -> Stage {
        let cache = tempfile::tempdir().expect("a folder");
        let mut options = HubOptions::new(cache.path());
        options.endpoint = hub.address.clone();
        options.attempts_max = 3;
        options.pause = Duration::from_millis(5);
        options.silence_max = Duration::from_millis(1500);
        Stage { hub, storage, options, cache }
    }

    fn fetch(&self, id: &str) -> Result<PathBuf, WeightsError> {
        fetch(id, &self.options, &mut |_| {})
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join("org--tiny").join(COMMIT).join("tiny")
    }

    fn leave_part(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.folder()).expect("created");
        fs::write(self.folder().join(format!("{name}.part")), bytes).expect("written");
    }

    #[track_caller]
    fn refused(&self, id: &str, parts: &[&str]) -> WeightsError {
        let error = self.fetch(id).expect_err("refused");
        for part in parts {
            assert!(error.to_string().contains(part), "{part:?} is missing in: {error}");
        }
        error
    }
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name);
    fs::read(path).expect("the fixture is there")
}

fn tiny() -> Repository {
    Repository {
        files: vec![
            ("README.md", b"words".to_vec()),
            ("config.json", fixture("qwen3/config.json")),
            ("tokenizer.json", b"{}".to_vec()),
            ("model.safetensors", fixture("qwen3/model.safetensors")),
            ("pytorch_model.bin", b"pickle".to_vec()),
        ],
    }
}

fn weights() -> Vec<u8> {
    fixture("qwen3/model.safetensors")
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

// === what users get ===

#[test]
fn a_model_arrives_whole_with_what_it_needs_and_nothing_else() {
    let stage = Stage::new(&tiny());
    let folder = stage.fetch("org/tiny").expect("arrives");
    assert_eq!(folder, stage.folder());
    assert_eq!(names_in(&folder), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fs::read(folder.join("model.safetensors")).expect("is there"), weights());
    let checkpoint = open(&folder).expect("opens");
    assert_eq!(checkpoint.name, "tiny");
    assert!(checkpoint.has("model.embed_tokens.weight"));
}

#[test]
fn a_complete_model_is_used_without_asking_anyone() {
    let stage = Stage::new(&tiny());
    let folder = stage.fetch("org/tiny").expect("arrives");
    let before = stage.hub.requests().len();
    for id in ["org/tiny", "org/tiny@main", &format!("org/tiny@{COMMIT}")] {
        assert_eq!(stage.fetch(id).expect("is there"), folder);
    }
    assert_eq!(stage.hub.requests().len(), before);
    // Something missing is noticed, and only that is fetched.
    fs::remove_file(folder.join("tokenizer.json")).expect("deleted");
    stage.fetch("org/tiny").expect("arrives");
    assert_eq!(stage.hub.requests_for("tokenizer.json").len(), 2);
    assert_eq!(stage.storage.requests_for("model.safetensors").len(), 1);
}

#[test]
fn the_token_goes_to_the_hub_alone_and_is_written_nowhere() {
    let mut stage = Stage::new(&tiny());
    stage.options.token = Some(format!("{TOKEN}\n"));
    assert!(!format!("{:?}", stage.options).contains(TOKEN));
    stage.fetch("org/tiny").expect("arrives");
    let bearer = format!("Bearer {TOKEN}");
    let to_hub = stage.hub.requests();
    assert!(
        to_hub.len() >= 4 && to_hub.iter().all(|request| request.header("authorization") == Some(&bearer))
    );
    let to_storage = stage.storage.requests();
    assert_eq!(to_storage.len(), 1);
    assert!(to_storage.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn progress_adds_up() {
    let stage = Stage::new(&tiny());
    let (mut planned, mut last, mut names, mut done) = (0, 0, Vec::new(), false);
    fetch("org/tiny", &stage.options, &mut |event| match event {
        HubProgress::Planned { files, bytes } => {
            assert_eq!(files, 3);
            planned = bytes;
        }
        HubProgress::File { name, .. } => names.push(name.to_string()),
        HubProgress::Bytes { there } => {
            assert!(there >= last);
            last = there;
        }
        HubProgress::Done => done = true,
        HubProgress::Checking { .. } => {}
        other => panic!("{other:?}"),
    })
    .expect("arrives");
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert!(done && last == planned && planned > weights().len() as u64, "{last} of {planned}");
}

#[test]
fn an_index_says_which_shards_belong_to_the_model() {
    let index = json!({ "weight_map": { "a": "model-00001-of-00002.safetensors",
                                        "b": "model-00002-of-00002.safetensors" } });
    let repository = Repository {
        files: vec![
            ("config.json", b"{}".to_vec()),
            ("consolidated.safetensors", b"the same once more".to_vec()),
            ("model-00001-of-00002.safetensors", b"one".to_vec()),
            ("model-00002-of-00002.safetensors", b"two".to_vec()),
            ("model.safetensors.index.json", index.to_string().into_bytes()),
        ],
    };
    let stage = Stage::new(&repository);
    let folder = stage.fetch("org/tiny").expect("arrives");
    assert_eq!(
        names_in(&folder),
        [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json"
        ]
    );
    let mut without = repository;
    without.files.remove(3);
    Stage::new(&without).refused("org/tiny", &["org/tiny", "no model-00002-of-00002.safetensors"]);
}

#[test]
fn one_gguf_of_several_is_chosen_by_name() {
    let repository = Repository {
        files: vec![
            ("a.gguf", fixture("qwen3.gguf")),
            ("b.gguf", fixture("llama.gguf")),
            ("README.md", vec![]),
        ],
    };
    let stage = Stage::new(&repository);
    stage.refused("org/tiny", &["choose with org/name:file.gguf, found a.gguf, b.gguf"]);
    let path = stage.fetch("org/tiny:b.gguf").expect("arrives");
    assert_eq!(names_in(&stage.folder()), ["b.gguf"]);
    assert_eq!(open(&path).expect("opens").config["model_type"], "llama");
    let before = stage.hub.requests().len();
    assert_eq!(stage.fetch("org/tiny:b.gguf").expect("is there"), path);
    assert_eq!(stage.hub.requests().len(), before);
    let path = stage.fetch("org/tiny:a.gguf").expect("arrives beside it");
    assert_eq!(open(&path).expect("opens").config["model_type"], "qwen3");
}

#[test]
fn a_repository_with_one_gguf_needs_no_choice() {
    let stage = Stage::new(&Repository { files: vec![("a.gguf", fixture("qwen3.gguf"))] });
    let path = stage.fetch("org/tiny").expect("arrives");
    assert_eq!(path, stage.folder().join("a.gguf"));
    assert_eq!(stage.fetch("org/tiny").expect("is there"), path);
    assert_eq!(stage.storage.requests().len(), 1);
}

// === bad networks ===

#[test]
fn a_broken_connection_is_continued_where_it_broke() {
    let repository = tiny();
    let played = repository.clone();
    let stage = Stage::with_storage(&repository, move |request, number| {
        // More breaks than attempts: each brings something, so none of them counts.
        let cut_after = (number <= 5).then_some(1000);
        Reply { cut_after, ..played.storage(request) }
    });
    let folder = stage.fetch("org/tiny").expect("arrives");
    assert_eq!(fs::read(folder.join("model.safetensors")).expect("is there"), weights());
    let begins: Vec<_> =
        stage.storage.requests().iter().map(|request| request.range_begin().unwrap_or(0)).collect();
    assert_eq!(begins, [0, 1000, 2000, 3000, 4000, 5000]);
}

#[test]
fn what_an_earlier_process_left_is_continued() {
    let stage = Stage::new(&tiny());
    stage.leave_part("model.safetensors", &weights()[..5000]);
    stage.fetch("org/tiny").expect("arrives");
    let begins: Vec<_> = stage.storage.requests().iter().map(Request::range_begin).collect();
    assert_eq!(begins, [Some(5000)]);
    // All bytes but not yet the name: nothing is asked of the storage.
    let stage = Stage::new(&tiny());
    stage.leave_part("model.safetensors", &weights());
    stage.fetch("org/tiny").expect("arrives");
    assert_eq!(stage.storage.requests().len(), 0);
    // More than there can be: thrown away.
    let stage = Stage::new(&tiny());
    stage.leave_part("model.safetensors", &vec![7; weights().len() + 1]);
    stage.fetch("org/tiny").expect("arrives");
    let begins: Vec<_> = stage.storage.requests().iter().map(Request::range_begin).collect();
    assert_eq!(begins, [None]);
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let repository = tiny();
    let stage = Stage::with_storage(&repository, move |_, number| {
        let cut_after = (number == 1).then_some(3000);
        Reply { cut_after, ..Reply::new(200, weights()) }
    });
    let folder = stage.fetch("org/tiny").expect("arrives");
    assert_eq!(fs::read(folder.join("model.safetensors")).expect("is there"), weights());
    assert_eq!(stage.storage.requests()[1].range_begin(), Some(3000));
}

#[test]
fn a_server_that_answers_another_range_or_none_is_asked_from_the_beginning() {
    for odd in ["wrong range", "no such range"] {
        let repository = tiny();
        let played = repository.clone();
        let stage = Stage::with_storage(&repository, move |request, _| match request.range_begin() {
            Some(_) if odd == "wrong range" => {
                Reply::new(206, &weights()[10..]).header("content-range", "bytes 10-20/999")
            }
            Some(_) => Reply::new(416, ""),
            None => played.storage(request),
        });
        stage.leave_part("model.safetensors", &weights()[..5000]);
        let folder = stage.fetch("org/tiny").expect(odd);
        assert_eq!(fs::read(folder.join("model.safetensors")).expect("is there"), weights());
        let begins: Vec<_> = stage.storage.requests().iter().map(Request::range_begin).collect();
        assert_eq!(begins, [Some(5000), None], "{odd}");
    }
}

#[test]
fn a_server_that_always_breaks_at_the_same_place_is_given_up() {
    let stage = Stage::with_storage(&tiny(), move |_, _| Reply {
        cut_after: Some(3000),
        ..Reply::new(200, weights())
    });
    let error =
        stage.refused("org/tiny", &["downloading model.safetensors of org/tiny", "after 3 attempts", "3000"]);
    assert!(matches!(error, WeightsError::HubNetwork { attempts: 3, .. }));
    assert_eq!(stage.storage.requests().len(), 3);
}

#[test]
fn errors_of_the_server_are_waited_out_and_reported() {
    let repository = tiny();
    let played = repository.clone();
    let stage = Stage::with_hub(move |request, number| match number {
        1 => Reply::new(500, "oops"),
        2 => Reply::new(429, "slow down").header("retry-after", 0),
        _ => match played.file(&request.path) {
            Some((_, bytes)) => Reply::new(200, bytes.clone()),
            None => played.hub(request, ""),
        },
    });
    let mut retries = Vec::new();
    fetch("org/tiny", &stage.options, &mut |event| {
        if let HubProgress::Retrying { attempt, cause, .. } = event {
            retries.push((attempt, cause.to_string()));
        }
    })
    .expect("arrives");
    assert_eq!(retries.len(), 8, "two for the listing and for each of three files: {retries:?}");
    assert!(retries[0].1.contains("500") && retries[1].1.contains("429"), "{retries:?}");

    let stage = Stage::with_hub(|_, _| Reply::new(503, ""));
    stage.refused("org/tiny", &["listing the files of org/tiny", "after 3 attempts", "503", "trying again"]);
    assert_eq!(stage.hub.requests().len(), 3);
}

#[test]
fn a_hub_that_nobody_answers_for_is_named_with_the_cause() {
    let mut stage = Stage::new(&tiny());
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    stage.options.endpoint = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let error = stage.refused("org/tiny", &["listing the files of org/tiny", "after 3 attempts"]).to_string();
    assert!(error.to_lowercase().contains("refused"), "{error}");
}

#[test]
fn slowness_is_borne_and_silence_is_not() {
    let repository = Repository { files: vec![("a.gguf", b"slow but steady: ".repeat(4))] };
    // All together takes longer than silence is borne.
    let played = repository.clone();
    let mut stage = Stage::with_storage(&repository, move |request, _| Reply {
        drip: Some(Duration::from_millis(40)),
        ..played.storage(request)
    });
    stage.options.silence_max = Duration::from_millis(1500);
    stage.fetch("org/tiny").expect("arrives");
    assert_eq!(stage.storage.requests().len(), 1);

    let played = repository.clone();
    let mut stage = Stage::with_storage(&repository, move |request, number| Reply {
        silence: (number == 1).then_some(Duration::from_secs(20)),
        ..played.storage(request)
    });
    stage.options.silence_max = Duration::from_millis(1500);
    stage.fetch("org/tiny").expect("arrives with the second try");
    assert_eq!(stage.storage.requests().len(), 2);
}

#[test]
fn an_address_of_the_storage_that_has_expired_is_asked_for_again() {
    let repository = tiny();
    let played = repository.clone();
    let stage = Stage::with_storage(&repository, move |request, number| match number {
        1 => Reply::new(403, "expired"),
        _ => played.storage(request),
    });
    stage.fetch("org/tiny").expect("arrives");
    assert_eq!(stage.hub.requests_for("model.safetensors").len(), 2);
}

// === broken promises ===

#[test]
fn a_wrong_checksum_deletes_what_came_and_says_so() {
    let stage = Stage::with_storage(&tiny(), |_, _| {
        let mut bytes = weights();
        bytes[9000] ^= 1;
        Reply::new(200, bytes)
    });
    let error = stage.refused("org/tiny", &["model.safetensors of org/tiny", "deleted", &hash(&weights())]);
    assert!(matches!(error, WeightsError::HubChecksum { .. }));
    assert_eq!(names_in(&stage.folder()), ["config.json", "tokenizer.json"]);
    stage.refused("org/tiny", &["deleted"]);
}

#[test]
fn a_wrong_part_of_an_earlier_process_is_found_by_the_checksum() {
    let stage = Stage::new(&tiny());
    stage.leave_part("model.safetensors", &[7; 5000]);
    stage.refused("org/tiny", &["deleted"]);
    stage.fetch("org/tiny").expect("the second try is clean");
}

#[test]
fn the_checksum_of_the_answer_counts_where_the_listing_has_none() {
    for broken in [false, true] {
        let repository = tiny();
        let played = repository.clone();
        let storage = Server::start(move |_, _| {
            let mut bytes = weights();
            bytes[9000] ^= u8::from(broken);
            Reply::new(200, bytes)
        });
        let address = storage.address.clone();
        let hub = Server::start(move |request, _| {
            if request.path.starts_with("/api/") {
                let names: Vec<Value> =
                    played.files.iter().map(|(name, _)| json!({ "rfilename": name })).collect();
                return Reply::new(200, json!({ "sha": COMMIT, "siblings": names }).to_string());
            }
            played.hub(request, &address)
        });
        let stage = Stage::of(hub, storage);
        assert_eq!(stage.fetch("org/tiny").is_err(), broken);
    }
}

#[test]
fn more_bytes_than_promised_are_refused() {
    let stage = Stage::with_storage(&tiny(), |_, _| {
        let mut bytes = weights();
        bytes.push(0);
        Reply::new(200, bytes)
    });
    stage.refused("org/tiny", &["model.safetensors", "deleted", "found more"]);
    assert_eq!(names_in(&stage.folder()), ["config.json", "tokenizer.json"]);
}

#[test]
fn refusals_of_the_hub_say_what_to_do_and_never_show_the_token() {
    let rows: [(u16, Option<&str>, &[&str]); 4] = [
        (401, None, &["org/tiny", "401", "set HF_TOKEN", "spelling"]),
        (401, Some(TOKEN), &["org/tiny", "401", "not valid"]),
        (403, Some(TOKEN), &["org/tiny", "403", "accept its licence at http://127.0.0.1", "/org/tiny"]),
        (404, None, &["org/tiny was not found on http://127.0.0.1"]),
    ];
    for (status, token, parts) in rows {
        let mut stage = Stage::with_hub(move |_, _| Reply::new(status, ""));
        stage.options.token = token.map(str::to_string);
        let error = stage.refused("org/tiny", parts);
        assert!(!format!("{error} {error:?}").contains(TOKEN));
        assert_eq!(stage.hub.requests().len(), 1, "asking again would not help");
    }
}

#[test]
fn what_is_no_hub_is_recognised() {
    let rows =
        ["<html>welcome</html>".to_string(), json!({ "sha": "../../../etc", "siblings": [] }).to_string()];
    for body in rows {
        let stage = Stage::with_hub(move |_, _| Reply::new(200, body.clone()));
        stage.refused("org/tiny", &["org/tiny", "JSON with sha and siblings", "endpoint"]);
    }
    let stage = Stage::with_hub(|request, _| Reply::new(302, "").header("location", &request.path));
    stage.refused("org/tiny", &["redirects"]);
    let mut stage = Stage::new(&tiny());
    stage.options.endpoint = "huggingface".into();
    stage.refused("org/tiny", &["huggingface", "address"]);
    stage.refused("tiny", &["\"tiny\" is not a hub id"]);
}

#[test]
fn a_full_disk_is_named() {
    // Linux has a device that is always full.
    if !Path::new("/dev/full").exists() {
        return;
    }
    let stage = Stage::new(&tiny());
    fs::create_dir_all(stage.folder()).expect("created");
    let part = stage.folder().join("model.safetensors.part");
    std::os::unix::fs::symlink("/dev/full", &part).expect("linked");
    let error = stage.refused("org/tiny", &["no space left", "model.safetensors.part"]);
    let bytes = weights().len() as u64;
    assert!(matches!(error, WeightsError::DiskFull { bytes: named, .. } if named == bytes), "{error}");
}

// === two at once ===

#[test]
fn two_that_want_the_same_model_download_it_once() {
    let repository = tiny();
    let played = repository.clone();
    let stage = Stage::with_storage(&repository, move |request, _| {
        thread::sleep(Duration::from_millis(300));
        played.storage(request)
    });
    let (barrier, waited) = (Barrier::new(2), Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                barrier.wait();
                let path = fetch("org/tiny", &stage.options, &mut |event| {
                    if event == HubProgress::Waiting {
                        *waited.lock().expect("not poisoned") += 1;
                    }
                });
                assert_eq!(path.expect("arrives"), stage.folder());
            });
        }
    });
    assert_eq!(stage.storage.requests().len(), 1);
    assert_eq!(*waited.lock().expect("not poisoned"), 1);
}
