//! How the tests start the real binary and speak to it over a real socket.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub const BINARY: &str = env!("CARGO_BIN_EXE_baseload");

/// Runs a command of the binary to its end.
pub fn baseload(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).env("BASELOAD_DATA", data).env_remove("OPENAI_API_KEY");
    command.output().expect("the binary can be run")
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A running server; killed when dropped.
pub struct Server {
    pub child: Child,
    pub url: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the small bundled model on a free port, and returns when it says that it listens.
    pub fn start(data: &Path, arguments: &[&str]) -> Server {
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--kv-mib", "64"])
            .args(arguments)
            .env("BASELOAD_DATA", data)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let pipes: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for pipe in pipes {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            });
        }
        let mut server = Server { child, url: String::new(), lines };
        server.url = server.wait_for(|line| {
            let start = line.find("http://127.0.0.1:")?;
            Some(line[start..].split([' ', '/']).take(3).collect::<Vec<_>>().join("/"))
        });
        server
    }

    /// Returns what `find` makes of the first line of output that it accepts.
    pub fn wait_for<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = self.lines.lock().unwrap().iter().find_map(|line| find(line)) {
                return found;
            }
            let ended = self.child.try_wait().expect("the child can be asked");
            let waited = start.elapsed();
            assert!(
                ended.is_none() && waited < Duration::from_secs(60),
                "after {waited:?}, {ended:?}:\n{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    pub fn signal(&self, signal: i32) {
        let name = format!("-{signal}");
        let status =
            Command::new("kill").args([&name, &self.child.id().to_string()]).status().expect("kill exists");
        assert!(status.success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the child ends")
    }

    pub fn chat(&self, fields: Value) -> reqwest::RequestBuilder {
        let mut body = json!({"model": "small", "messages": [{"role": "user", "content": "What is TTFT?"}], "temperature": 0});
        for (name, value) in fields.as_object().expect("fields are an object") {
            body[name] = value.clone();
        }
        client().post(format!("{}/v1/chat/completions", self.url)).json(&body)
    }

    /// Answers one completion by token ids, so that even a model without a chat template can be asked.
    pub async fn complete(&self) -> Value {
        let models: Value = serde_json::from_str(&self.get("/v1/models").await.1).unwrap();
        let body = json!({"model": models["data"][0]["id"], "prompt": [5, 6, 7], "max_tokens": 4, "temperature": 0, "ignore_eos": true});
        let request = client().post(format!("{}/v1/completions", self.url)).json(&body);
        request.send().await.unwrap().json().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = client().get(format!("{}{path}", self.url)).send().await.expect("the server answers");
        (response.status().as_u16(), response.text().await.expect("the answer is text"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
