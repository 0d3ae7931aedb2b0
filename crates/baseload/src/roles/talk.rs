//! `baseload run` and `baseload chat`: a conversation in the terminal, through the same door as every client.
//!
//! Without `--url` a server for this process alone is started on a free loopback port, so that there is one way a question is
//! answered and metered, not two.

use std::io::{self, Read as _, Write as _};

use anyhow::Context;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::cli::{ChatArgs, Partner, RunArgs};
use crate::remote::Remote;
use crate::roles::serve::LocalServer;

pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let prompt = match args.prompt.as_str() {
        "-" => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("reading the prompt from standard input")?;
            text
        }
        text => text.to_owned(),
    };
    anyhow::ensure!(!prompt.trim().is_empty(), "the prompt is empty; write a question after `baseload run`");
    let talk = Talk::open(args.partner).await?;
    let mut messages = talk.opening();
    messages.push(json!({"role": "user", "content": prompt}));
    let outcome = talk.answer(&messages).await;
    talk.close().await;
    outcome.map(|_| ())
}

pub async fn chat(args: ChatArgs) -> anyhow::Result<()> {
    let talk = Talk::open(args.partner).await?;
    println!("Talking with {}. /reset forgets, /quit leaves.", talk.model);
    let mut messages = talk.opening();
    let (ask, mut asked) = tokio::sync::mpsc::channel::<String>(1);
    let (answered, mut next) = tokio::sync::mpsc::channel::<()>(1);
    // Line editing blocks, so it has a thread of its own; it reads the next line only after the answer is out.
    let editor = std::thread::spawn(move || -> anyhow::Result<()> {
        let mut editor = rustyline::DefaultEditor::new()?;
        while let Ok(line) = editor.readline("> ") {
            let _ = editor.add_history_entry(&line);
            if ask.blocking_send(line).is_err() || next.blocking_recv().is_none() {
                break;
            }
        }
        Ok(())
    });
    while let Some(line) = asked.recv().await {
        match line.trim() {
            "/quit" | "/exit" => break,
            "/reset" => messages = talk.opening(),
            "" => {}
            text => {
                messages.push(json!({"role": "user", "content": text}));
                match talk.answer(&messages).await {
                    Ok(answer) => messages.push(json!({"role": "assistant", "content": answer})),
                    Err(error) => {
                        messages.pop();
                        eprintln!("{error:#}");
                    }
                }
            }
        }
        if answered.send(()).await.is_err() {
            break;
        }
    }
    drop((asked, answered));
    talk.close().await;
    editor.join().expect("the line editor does not panic")
}

/// A conversation's other side.
struct Talk {
    remote: Remote,
    model: String,
    system: Option<String>,
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    server: Option<LocalServer>,
}

impl Talk {
    async fn open(partner: Partner) -> anyhow::Result<Self> {
        let (server, remote, model) = match partner.url {
            Some(url) => {
                let key = std::env::var("OPENAI_API_KEY").ok();
                (None, Remote::new(&url, key), partner.loading.model.first().cloned())
            }
            None => {
                let server = LocalServer::start(&partner.place, &partner.loading).await?;
                let remote = Remote::new(&server.url(), None);
                (Some(server), remote, None)
            }
        };
        let model = match model {
            Some(model) => model,
            None => first_model(&remote).await?,
        };
        Ok(Self {
            remote,
            model,
            system: partner.system,
            max_tokens: partner.max_tokens,
            temperature: partner.temperature,
            server,
        })
    }

    async fn close(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
    }

    fn opening(&self) -> Vec<Value> {
        self.system.iter().map(|text| json!({"role": "system", "content": text})).collect()
    }

    /// Streams one answer to standard output and returns it.
    async fn answer(&self, messages: &[Value]) -> anyhow::Result<String> {
        let mut body = json!({"model": self.model, "messages": messages, "stream": true});
        if let Some(tokens) = self.max_tokens {
            body["max_tokens"] = tokens.into();
        }
        if let Some(temperature) = self.temperature {
            body["temperature"] = temperature.into();
        }
        let response = self.remote.post("/v1/chat/completions").json(&body).send().await?;
        if !response.status().is_success() {
            let status = response.status();
            let error: Value = response.json().await.unwrap_or_default();
            anyhow::bail!("{}", error["error"]["message"].as_str().unwrap_or(status.as_str()));
        }
        let (mut answer, mut pending, mut done) = (String::new(), Vec::new(), false);
        let mut bytes = response.bytes_stream();
        while let Some(chunk) = bytes.next().await {
            pending.extend_from_slice(&chunk?);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data: ") else { continue };
                if data.trim_ascii() == b"[DONE]" {
                    done = true;
                    continue;
                }
                let event: Value = serde_json::from_slice(data)?;
                if let Some(message) = event["error"]["message"].as_str() {
                    println!();
                    anyhow::bail!("the answer broke off: {message}");
                }
                let text = event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
                print!("{text}");
                io::stdout().flush()?;
                answer.push_str(text);
            }
        }
        println!();
        anyhow::ensure!(done, "the answer broke off: the server closed the stream before its end");
        Ok(answer)
    }
}

async fn first_model(remote: &Remote) -> anyhow::Result<String> {
    let models = remote.models().await?;
    let first = models.first().and_then(|model| model["id"].as_str());
    first.map(str::to_owned).context("the server lists no model; name one with --model")
}
