//! What can be seen of the door from outside?

use std::collections::HashMap;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::engine::Script;
use crate::harness::{Door, PATIENCE};

/// Reads the OpenMetrics text format strictly; returns each family's type and all samples.
fn parse(text: &str) -> (HashMap<&str, &str>, Vec<(&str, f64)>) {
    let (mut types, mut samples) = (HashMap::new(), Vec::new());
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let mut family = "";
    for line in body.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            family = described.split_once(' ').expect("a name and a text").0;
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').expect("a name and a type");
            assert_eq!(name, family, "help and type belong together");
            assert!(types.insert(name, kind).is_none(), "{name} is described twice");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} stands under {family}"));
            let allowed: &[&str] = match types[family] {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "gauge" => &[""],
                kind => panic!("{kind}"),
            };
            assert!(allowed.contains(&suffix), "{name} is no sample of a {}", types[family]);
            check_labels(series);
            samples.push((series, value.parse().expect("a value is a number")));
        }
    }
    (types, samples)
}

fn check_labels(series: &str) {
    let Some((_, labels)) = series.split_once('{') else { return };
    let labels = labels.strip_suffix('}').expect("labels are closed");
    for label in labels.split("\",") {
        let (name, value) = label.split_once("=\"").expect("a label has a value in quotes");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        assert!(!value.trim_end_matches('"').contains('"'), "{value}");
    }
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_know() {
    let door = Door::open(Script::says("Polly")).await;
    door.chat(json!({})).await;
    door.chat_stream(json!({ "max_tokens": 2 })).await;
    door.chat(json!({ "model": "dodo" })).await;
    let heard = door.get("/metrics").await;
    assert!(heard.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = door.get_text("/metrics").await;
    let (types, samples) = parse(&text);
    for (name, kind) in [
        ("vllm:num_requests_running", "gauge"),
        ("vllm:num_requests_waiting", "gauge"),
        ("vllm:kv_cache_usage_perc", "gauge"),
        ("vllm:prefix_cache_queries", "counter"),
        ("vllm:prefix_cache_hits", "counter"),
        ("vllm:prompt_tokens", "counter"),
        ("vllm:generation_tokens", "counter"),
        ("vllm:request_success", "counter"),
        ("vllm:num_preemptions", "counter"),
        ("vllm:time_to_first_token_seconds", "histogram"),
        ("vllm:inter_token_latency_seconds", "histogram"),
        ("vllm:e2e_request_latency_seconds", "histogram"),
        ("vllm:request_queue_time_seconds", "histogram"),
        ("vllm:request_prompt_tokens", "histogram"),
        ("vllm:request_generation_tokens", "histogram"),
        ("baseload_http_requests", "counter"),
        ("baseload_ledger_seconds", "histogram"),
        ("process_resident_memory_bytes", "gauge"),
    ] {
        assert_eq!(types.get(name), Some(&kind), "{name}");
    }
    let value = |series: &str| {
        samples.iter().find(|(name, _)| *name == series).unwrap_or_else(|| panic!("{series}")).1
    };
    assert_eq!(value("vllm:request_success_total{model_name=\"parrot\",finished_reason=\"stop\"}"), 1.0);
    assert_eq!(value("vllm:request_success_total{model_name=\"parrot\",finished_reason=\"length\"}"), 1.0);
    assert_eq!(value("vllm:time_to_first_token_seconds_count{model_name=\"parrot\"}"), 2.0);
    assert_eq!(value("vllm:kv_cache_usage_perc{model_name=\"parrot\"}"), 0.25);
    assert_eq!(value("baseload_refusals_total{reason=\"model_not_found\"}"), 1.0);
    assert_eq!(value("baseload_http_requests_total{route=\"/v1/chat/completions\",status=\"404\"}"), 1.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    door.close().await;
}

#[tokio::test]
async fn strangers_cannot_make_the_metrics_grow() {
    let door = Door::open(Script::says("Polly")).await;
    door.get("/first").await;
    let before = door.get_text("/metrics").await.lines().count();
    for path in 0..50 {
        door.get(&format!("/made-up/{path}")).await;
        door.chat(json!({ "model": format!("made-up-{path}") })).await;
    }
    let after = door.get_text("/metrics").await.lines().count();
    // Three new series: the chat route's 404, the scrape's own 200, and the refusal's reason.
    assert!(after <= before + 3, "{before} lines became {after}");
    door.close().await;
}

#[tokio::test]
async fn every_response_has_a_request_id_of_our_own() {
    let door = Door::open(Script::says("Polly")).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/", "/health", "/ready", "/metrics", "/v1/models", "/nowhere"] {
        let response = client.get(door.url(path)).header("x-request-id", "theirs").send().await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap();
        assert!(id.starts_with("req-") && id.len() == 36, "{path}: {id}");
    }
    door.close().await;
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let door = Door::open(Script::says("Polly")).await;
    let mut socket = door.connect().await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // Method GET and scheme http by number; path and authority as literals that are not indexed.
    let fields = [&[0x82, 0x86, 0x04, 7][..], b"/health", &[0x01, 1], b"x"].concat();
    let head = [0, 0, fields.len() as u8, 1, 0x5, 0, 0, 0, 1];
    let asked = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &head, &fields].concat();
    socket.write_all(&asked).await.unwrap();
    let status = tokio::time::timeout(PATIENCE, async {
        loop {
            let mut frame = [0; 9];
            socket.read_exact(&mut frame).await.unwrap();
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
            let mut payload = vec![0; length];
            socket.read_exact(&mut payload).await.unwrap();
            if frame[3] == 1 {
                break payload[0];
            }
        }
    });
    assert_eq!(status.await.unwrap(), 0x88, "the table's entry for status 200");
    drop(socket);
    door.close().await;
}
