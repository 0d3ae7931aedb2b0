//! What becomes of a configuration: checked without a server, imported, and replaced under one that runs.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Server, baseload, client, text};

const FILE: &str = r#"
[[provider]]
name = "rack"
kind = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"

[[model]]
path = "bundled:small"

[[model]]
name = "qwen"
provider = "rack"
price = { input = "0.05", output = "0.20" }
"#;

fn write(data: &Path, file: &str) -> String {
    let path = data.join("baseload.toml");
    std::fs::write(&path, file).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_check_shows_units_routes_and_why_not_the_others() {
    let data = tempfile::tempdir().unwrap();
    let route = "[[route]]\nname = 'near'\nmodels = ['qwen', 'small']\ntiers = ['on_premises']\n";
    let file = write(data.path(), &format!("{FILE}{route}"));
    let output = baseload(data.path(), &["config", "check", &file]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for told in [
        "qwen",
        "rack",
        "0.05",
        "yes  small@local",
        "no   qwen@rack: it is cloud, and on_premises is wanted",
        "unpriced: small@local",
    ] {
        assert!(said.contains(told), "{told:?} is not in\n{said}");
    }
    let output = baseload(data.path(), &["config", "check", "--unpriced", &file]);
    assert!(
        !output.status.success() && text(&output).contains("without a price: small@local"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_missing_secret_is_told_by_provider_and_place() {
    let data = tempfile::tempdir().unwrap();
    let file = write(
        data.path(),
        "[[provider]]\nname = 'p'\nkind = 'openai'\nkey = { env = 'BASELOAD_TEST_NOT_SET' }\n[[model]]\nname = 'm'\nprovider = 'p'\n",
    );
    assert!(
        baseload(data.path(), &["config", "check", &file]).status.success(),
        "a file can be checked elsewhere"
    );
    let output = baseload(data.path(), &["config", "check", "--secrets", &file]);
    let told = "provider p: key: the environment variable BASELOAD_TEST_NOT_SET is not set";
    assert!(!output.status.success() && text(&output).contains(told), "{}", text(&output));
    let output = baseload(data.path(), &["serve", "--listen", "127.0.0.1:0", "--config", &file]);
    let said = text(&output);
    assert!(
        !output.status.success()
            && said.contains("the key of the provider p cannot be had")
            && said.contains("NOT_SET"),
        "{said}"
    );
}

#[test]
fn what_is_imported_passes_the_check() {
    let data = tempfile::tempdir().unwrap();
    let yaml = data.path().join("config.yaml");
    std::fs::write(
        &yaml,
        "model_list:\n  - model_name: gpt\n    litellm_params: { model: openai/gpt-6.1-terra, api_key: sk-verysecret, rpm: 5 }\n",
    )
    .unwrap();
    let output = baseload(data.path(), &["config", "import-litellm", yaml.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let made = String::from_utf8(output.stdout).unwrap();
    assert!(made.contains("litellm_params.rpm") && !made.contains("verysecret"), "{made}");
    let file = write(data.path(), &made);
    let checked = baseload(data.path(), &["config", "check", "--unpriced", &file]);
    assert!(
        checked.status.success() && text(&checked).contains("catalogue openai/gpt-6.1-terra"),
        "{}",
        text(&checked)
    );
}

/// Asks until the configuration is as it should be; a file is looked at every two seconds.
async fn until(server: &Server, key: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let request = client().get(format!("{}/admin/v1/configuration", server.url)).bearer_auth(key);
        let told: Value = request.send().await.unwrap().json().await.unwrap();
        if is_so(&told) {
            return told;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{told:#}\n{}", server.output());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_running_server_takes_a_right_file_over_and_keeps_what_it_has_when_the_file_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let file = write(data.path(), FILE);
    let made = baseload(data.path(), &["keys", "create", "--name", "me", "--role", "owner"]);
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let server = Server::start(data.path(), &["--config", &file]);
    let begun = until(&server, &key, |told| told["generation"] == 0).await;
    assert_eq!(begun["refused"], Value::Null, "{begun:#}");

    write(data.path(), &FILE.replace("provider = \"rack\"", "provider = \"rak\""));
    server.signal(1);
    let told = until(&server, &key, |told| told["refused"] != Value::Null).await;
    let mistake = told["refused"]["mistakes"][0].as_str().unwrap();
    assert!(
        mistake.contains("baseload.toml:12:12: there is no [[provider]] \"rak\"; did you mean \"rack\"?"),
        "{mistake}"
    );
    assert_eq!(told["generation"], 0);
    assert!(server.output().contains("stays in force"), "{}", server.output());
    let scrape = async || {
        client()
            .get(format!("{}/metrics", server.url))
            .bearer_auth(&key)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    assert!(scrape().await.contains("\nbaseload_configuration_refused 1\n"));

    let next =
        FILE.replace("0.05", "0.07") + "[[model]]\nname = 'new'\nprovider = 'rack'\n[engine]\nkv_mib = 128\n";
    write(data.path(), &next);
    let told = until(&server, &key, |told| told["generation"] == 1).await;
    assert_eq!(told["refused"], Value::Null);
    assert!(scrape().await.contains("\nbaseload_configuration_refused 0\n"));
    assert_eq!(told["waits_for_restart"], serde_json::json!(["engine"]));
    assert_eq!(told["unpriced"], serde_json::json!(["new@rack"]));
    let prices = text(&baseload(data.path(), &["prices", "list"]));
    assert!(prices.contains("rack/qwen") && prices.contains("0.07"), "{prices}");
    let shown = baseload(data.path(), &["admin", "configuration", "--url", &server.url, "--key", &key]);
    assert!(text(&shown).contains("waits for a restart: engine"), "{}", text(&shown));
}
