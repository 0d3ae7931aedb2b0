//! Whether `baseload admin` does the same things on the ledger's machine and through a server.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{Server, baseload, text};

fn done(data: &Path, arguments: &[&str]) -> String {
    let output = baseload(data, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(data: &Path, arguments: &[&str]) -> String {
    let output = baseload(data, arguments);
    assert!(!output.status.success(), "{arguments:?} must be refused, and printed {}", text(&output));
    text(&output)
}

fn json_of(data: &Path, arguments: &[&str]) -> Value {
    let printed = done(data, &[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
}

/// The same commands, given a place to work at; returns what they printed, without ids and times.
fn a_day_of_an_administrator(data: &Path, place: &[&str]) -> Vec<Value> {
    let run = |arguments: &[&str]| json_of(data, &[arguments, place].concat());
    let mut shown = vec![
        run(&["admin", "accounts", "create", "acme/research/bot", "--parents", "--cost-centre", "K-17"]),
        run(&["admin", "accounts", "set", "acme/research", "--name", "Research", "--kind", "team"]),
        run(&["admin", "accounts", "list", "acme"]),
    ];
    let made = run(&[
        "admin",
        "keys",
        "create",
        "--name",
        "bot",
        "--account",
        "acme/research/bot",
        "--models",
        "small,gpt-5*",
        "--expires",
        "90d",
    ]);
    assert!(made["secret"].as_str().unwrap().starts_with("bl-"));
    let id = made["key"]["id"].as_str().unwrap();
    let rotated = run(&["keys", "rotate", id, "--overlap", "1h"]);
    assert_eq!(rotated["key"]["rotated_from"], id);
    let new_id = rotated["key"]["id"].as_str().unwrap();
    shown.push(run(&["keys", "revoke", new_id]));
    shown.push(run(&["keys", "list", "--within", "acme"]));
    shown.push(run(&["admin", "accounts", "close", "acme/research"]));
    shown.push(run(&["admin", "accounts", "list", "--closed"]));
    shown.into_iter().map(without_names_of_the_moment).collect()
}

fn without_names_of_the_moment(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| match name.as_str() {
                "id" | "created_by" | "rotated_from" | "created_at" | "expires_at" | "revoked_at"
                | "closed_at" => (name, json!(value.is_string())),
                _ => (name, without_names_of_the_moment(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(without_names_of_the_moment).collect(),
        plain => plain,
    }
}

#[tokio::test]
async fn the_same_commands_do_the_same_here_and_through_a_server() {
    let here = tempfile::tempdir().unwrap();
    done(here.path(), &["admin", "keys", "create", "--name", "me", "--role", "owner"]);
    let mut by_file = a_day_of_an_administrator(here.path(), &[]);

    let there = tempfile::tempdir().unwrap();
    let owner = done(there.path(), &["admin", "keys", "create", "--name", "me", "--role", "owner"]);
    let server = Server::start(there.path(), &["--model", "bundled:small"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let place = ["--url", &server.url, "--key", owner.trim()];
    let mut by_server = a_day_of_an_administrator(elsewhere.path(), &place);
    // Who made a key is the one difference: somebody at the machine, or the holder of a key.
    for shown in by_file.iter_mut().chain(&mut by_server) {
        for key in shown.as_array_mut().into_iter().flatten() {
            key.as_object_mut().unwrap().remove("created_by");
        }
        shown.as_object_mut().map(|fields| fields.remove("created_by"));
    }
    assert_eq!(by_file, by_server);
    assert!(!elsewhere.path().join("ledger.sqlite").exists(), "the work was done by the server");

    let no_key = refused(elsewhere.path(), &["keys", "list", "--url", &server.url]);
    assert!(no_key.contains("no API key"), "{no_key}");
    let nobody = refused(elsewhere.path(), &["keys", "list", "--url", "http://127.0.0.1:1"]);
    assert!(nobody.contains("is a server running there?"), "{nobody}");
    assert!(!server.output().contains(owner.trim()), "a secret never reaches a log");
}

#[tokio::test]
async fn what_a_file_declares_is_there_from_the_start() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("baseload.toml");
    let declared = "[[account]]\npath = \"acme/research\"\nkind = \"team\"\ncost_centre = \"K-17\"\n";
    std::fs::write(&config, declared).unwrap();
    let owner = done(data.path(), &["admin", "keys", "create", "--name", "me", "--role", "owner"]);
    let server =
        Server::start(data.path(), &["--model", "bundled:small", "--config", config.to_str().unwrap()]);
    let account = json_of(
        data.path(),
        &["admin", "accounts", "show", "acme/research", "--url", &server.url, "--key", owner.trim()],
    );
    assert_eq!((&account["kind"], &account["cost_centre"]), (&json!("team"), &json!("K-17")));
    std::fs::write(&config, "[[account]]\npath = \"acme research\"\n").unwrap();
    let wrong = refused(data.path(), &["config", "check", config.to_str().unwrap()]);
    assert!(wrong.contains("' ' is not allowed"), "{wrong}");
}

#[test]
fn the_document_is_printed_without_a_ledger() {
    let data = tempfile::tempdir().unwrap();
    let document: Value = serde_json::from_str(&done(data.path(), &["admin", "openapi"])).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/admin/v1/keys"]["post"]["operationId"] == "create_key");
}

#[test]
fn the_first_key_takes_one_command_and_says_what_it_made() {
    let data = tempfile::tempdir().unwrap();
    let made = baseload(data.path(), &["keys", "create", "--name", "ci", "--account", "acme/research"]);
    assert!(made.status.success());
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(said.contains("the account acme/research is new"), "{said}");
    assert!(said.contains("has the role member on the account acme/research"), "{said}");
    let listed = done(data.path(), &["keys", "list"]);
    assert!(listed.contains("acme/research") && listed.contains("everything"), "{listed}");
    let prices = data.path().join("prices.toml");
    std::fs::write(&prices, "[[price]]\nmodel = \"small\"\ninput = \"0.25\"\noutput = \"1\"\n").unwrap();
    assert!(done(data.path(), &["admin", "prices", "set", prices.to_str().unwrap()]).contains("250000"));
    assert!(done(data.path(), &["admin", "check"]).contains("the ledger balances"));
}
