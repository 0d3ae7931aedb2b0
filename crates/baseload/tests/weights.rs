//! Whether models come from where people have them: a GGUF file, a sharded folder, a hub.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::Server;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[tokio::test]
async fn a_gguf_file_is_served() {
    let data = tempfile::tempdir().unwrap();
    let file = fixture("crates/model/tests/fixtures/gguf/qwen3.gguf");
    let server = Server::start(data.path(), &["--model", file.to_str().unwrap()]);
    let answer = server.complete().await;
    assert_eq!(answer["usage"]["completion_tokens"], 4, "{answer}");
}

#[tokio::test]
async fn a_hub_id_is_downloaded_once_and_then_needs_no_hub() {
    let data = tempfile::tempdir().unwrap();
    let hub = play_hub(fixture("demo-model/small"));
    let serve = |endpoint: &str| {
        let config = data.path().join("baseload.toml");
        fs::write(&config, format!("[hub]\nendpoint = {endpoint:?}\n")).unwrap();
        Server::start(data.path(), &["--model", "our/tiny", "--config", config.to_str().unwrap()])
    };
    let first = serve(&hub).complete().await;
    assert_eq!(first["usage"]["completion_tokens"], 4, "{first}");
    // Nothing listens on the discard port: the second start must not ask.
    let again = serve("http://127.0.0.1:9").complete().await;
    assert_eq!(again["choices"][0]["text"], first["choices"][0]["text"]);
}

/// Serves a folder as a hub does: a listing of the repository, then its files by commit.
fn play_hub(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(stream, &folder));
        }
    });
    url
}

fn answer(mut stream: TcpStream, folder: &Path) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {}
    let body = if path.starts_with("/api/models/our/tiny") {
        let files = fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file());
        let siblings: Vec<Value> = files
            .map(|entry| json!({"rfilename": entry.file_name().to_string_lossy(), "size": entry.metadata().unwrap().len()}))
            .collect();
        json!({"id": "our/tiny", "sha": "0123456789abcdef0123456789abcdef01234567", "siblings": siblings})
            .to_string()
            .into_bytes()
    } else {
        let name = path.rsplit('/').next().unwrap_or_default();
        fs::read(folder.join(name)).unwrap_or_default()
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body);
}
