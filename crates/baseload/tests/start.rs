//! What a person meets at the start: a line that works, or a refusal that says what to do.

mod support;

use serde_json::{Value, json};
use support::{Server, baseload, client, text};

fn refused(data: &std::path::Path, arguments: &[&str]) -> String {
    let output = baseload(data, arguments);
    assert!(!output.status.success(), "{arguments:?} must be refused, and printed {}", text(&output));
    text(&output)
}

#[tokio::test]
async fn the_start_prints_where_it_listens_what_it_loaded_and_a_curl_line_that_works() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    let curl = server.wait_for(|line| line.trim_start().starts_with("curl ").then(|| line.to_owned()));
    let output = server.output();
    assert!(output.contains("main") && output.contains("small"), "{output}");
    assert!(output.contains("bits per weight"), "{output}");
    let said = std::process::Command::new("sh").args(["-c", &curl]).output().expect("curl exists");
    let answer: Value =
        serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{curl} printed {}", text(&said)));
    assert!(
        answer["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
}

#[test]
fn elsewhere_than_loopback_a_key_is_needed_first() {
    let data = tempfile::tempdir().unwrap();
    let refusal = refused(data.path(), &["serve", "--listen", "0.0.0.0:0"]);
    assert!(refusal.contains("baseload keys create"), "{refusal}");
}

#[tokio::test]
async fn with_a_key_the_door_opens_for_that_key_alone_and_books_it_to_its_account() {
    let data = tempfile::tempdir().unwrap();
    let made = baseload(data.path(), &["keys", "create", "--name", "alice", "--account", "research"]);
    assert!(made.status.success(), "{}", text(&made));
    let secret = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let server = Server::start(data.path(), &[]);
    let status = async |key: Option<&str>| {
        let request = server.chat(json!({"max_tokens": 2}));
        let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(None).await, 401);
    assert_eq!(status(Some("bl-wrong")).await, 401);
    assert_eq!(status(Some(&secret)).await, 200);
    assert!(!server.output().contains(&secret), "a secret never reaches a log");
    let usage = text(&baseload(data.path(), &["usage", "--by", "account"]));
    assert!(usage.contains("research"), "{usage}");
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    assert!(refused(data.path(), &["usage"]).contains("no ledger"));
    let config = data.path().join("baseload.toml");
    let named = config.to_str().unwrap();
    std::fs::write(&config, "[engine]\nkv_mb = 5\n").unwrap();
    for command in [&["config", "check", named][..], &["serve", "--config", named]] {
        let refusal = refused(data.path(), command);
        assert!(
            refusal.contains("baseload.toml:2:1") && refusal.contains("did you mean `kv_mib`?"),
            "{refusal}"
        );
    }
    let missing = refused(data.path(), &["serve", "--model", "./no/such/folder"]);
    assert!(missing.contains("./no/such/folder"), "{missing}");
    let unknown = refused(data.path(), &["serve", "--model", "bundled:huge"]);
    assert!(unknown.contains("bundled:main"), "{unknown}");
}

#[test]
fn a_damaged_model_is_refused_by_file_and_tensor() {
    let data = tempfile::tempdir().unwrap();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo-model/small");
    let folder = data.path().join("damaged");
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(source).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file())
    {
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let weights = folder.join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() - 1000]).unwrap();
    let refusal = refused(data.path(), &["serve", "--model", folder.to_str().unwrap()]);
    assert!(refusal.contains("model.safetensors"), "{refusal}");
}

#[tokio::test]
async fn two_servers_do_not_share_a_data_folder() {
    let data = tempfile::tempdir().unwrap();
    let _first = Server::start(data.path(), &[]);
    let refusal = refused(data.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert!(refusal.contains("in use"), "{refusal}");
}

#[tokio::test]
async fn a_drain_lets_a_running_answer_finish_and_then_ends_well() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    let running =
        server.chat(json!({"stream": true, "ignore_eos": true, "max_tokens": 200})).send().await.unwrap();
    server.signal(15);
    let body = running.text().await.expect("the stream is whole");
    assert!(body.trim_end().ends_with("data: [DONE]"), "{}", &body[body.len().saturating_sub(300)..]);
    assert!(server.wait().success());
    assert!(client().get(format!("{}/health", server.url)).send().await.is_err());
}

#[test]
fn run_answers_without_a_server() {
    let data = tempfile::tempdir().unwrap();
    // Keys are for others: a command's own server asks for none.
    assert!(baseload(data.path(), &["keys", "create", "--name", "alice"]).status.success());
    let said = baseload(data.path(), &["run", "--temperature", "0", "Hello"]);
    assert!(said.status.success(), "{}", text(&said));
    assert!(String::from_utf8_lossy(&said.stdout).trim().len() > 3, "{}", text(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_a_server_and_writes_its_report() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let (report, json) = (data.path().join("report.html"), data.path().join("result.json"));
    let flags = [
        "--concurrency",
        "1,2",
        "--requests",
        "4",
        "--prompt-tokens",
        "40",
        "--output-tokens",
        "5",
        "--slo-ttft-ms",
        "60000",
    ];
    let mut arguments = vec!["bench", "--url", &server.url, "--model", "small"];
    arguments.extend(flags);
    arguments.extend(["--report", report.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    let said = tokio::task::block_in_place(|| baseload(data.path(), &arguments));
    assert!(said.status.success(), "{}", text(&said));
    assert!(text(&said).contains("goodput"), "{}", text(&said));
    let result: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    for run in result["runs"].as_array().unwrap() {
        assert_eq!((&run["failed"], &run["requests"]), (&json!(0), &json!(4)));
        assert_eq!(run["output_tokens"], 20, "exact lengths were asked for");
    }
    assert!(std::fs::read_to_string(report).unwrap().contains("<svg"));
}
