//! Does what comes out pass our own check, and is nothing lost in silence?

use std::path::Path;

use super::*;
use crate::config::{Config, OrderSetting};

fn imported(yaml: &str) -> (Imported, Config) {
    let imported =
        import(yaml, |name| (name == "SET_BASE").then(|| "https://set.example.com/v1".to_owned())).unwrap();
    let config = Config::parse(Path::new("baseload.toml"), &imported.toml)
        .unwrap_or_else(|error| panic!("{error}\n{}", imported.toml));
    (imported, config)
}

fn titles(config: &Config) -> Vec<String> {
    config.units().map(|unit| unit.title()).collect()
}

/// Every key of the YAML, at any depth, is in the result by name, or it was carried over into a field.
fn says(imported: &Imported, words: &[&str]) {
    for word in words {
        assert!(imported.toml.contains(word), "{word:?} is not said in\n{}", imported.toml);
    }
}

const TEAM: &str = r#"
model_list:
  - model_name: gpt-5
    litellm_params:
      model: azure/gpt-5-eu
      api_base: https://team-eu.openai.azure.com/
      api_key: os.environ/AZURE_KEY_EU
      api_version: "2025-04-01-preview"
      rpm: 600
      tpm: 100000
      weight: 2
      tags: ["eu"]
    model_info:
      max_input_tokens: 272000
      base_model: azure/gpt-5
  - model_name: gpt-5
    litellm_params:
      model: openai/gpt-5
      api_key: sk-proj-verysecret
      organization: org-1
  - model_name: claude
    litellm_params:
      model: anthropic/claude-sonnet-5.5
      input_cost_per_token: 1.5e-06
      output_cost_per_token: 0.0000075
      cache_read_input_token_cost: 1.5e-07
  - model_name: everything
    litellm_params:
      model: "openai/*"
  - model_name: text-embedding-3-small
    litellm_params:
      model: text-embedding-3-small
    model_info: { mode: embedding }
  - model_name: pictures
    litellm_params: { model: dall-e-3 }
    model_info: { mode: image_generation }
router_settings:
  routing_strategy: simple-shuffle
  num_retries: 2
  fallbacks: [{"gpt-5": ["claude", "nobody"]}]
  model_group_alias: {"gpt-4": "gpt-5", "sonnet": {"model": "claude", "hidden": true}}
  redis_host: localhost
litellm_settings:
  drop_params: true
  success_callback: ["langfuse"]
  context_window_fallbacks: [{"gpt-5": ["claude"]}]
  cache: true
  cache_params: { type: redis, host: redis, port: 6379, password: hunter2, ttl: 600, namespace: x }
general_settings:
  master_key: sk-1234
  database_url: postgresql://me:hunter3@db/litellm
  alerting: ["slack"]
  maximum_spend_logs_retention_period: 30d
  max_request_size_mb: 20
environment_variables:
  LANGFUSE_SECRET_KEY: hunter4
guardrails:
  - guardrail_name: x
"#;

#[test]
fn a_teams_file_comes_over_with_its_fallbacks_aliases_and_prices() {
    let (imported, config) = imported(TEAM);
    assert_eq!(
        titles(&config),
        ["gpt-5-direct@azure", "gpt-5-direct@openai", "claude@anthropic", "text-embedding-3-small@openai-2"]
    );
    let route = &config.routes[0];
    assert_eq!((route.name.as_str(), route.order, route.attempts), ("gpt-5", OrderSetting::Listed, Some(3)));
    assert_eq!(route.models, ["gpt-5-direct".into(), "claude".into()]);
    assert_eq!(route.cache.unwrap().ttl_seconds, 600);
    assert_eq!(config.routes[1].name.as_str(), "gpt-4", "an alias of a route is another route");
    assert_eq!(config.models[2].aliases, ["sonnet".into()]);
    let price = config.models[2].price.as_ref().unwrap().sheet().unwrap();
    let million = |price: Option<domain::Price>| price.unwrap().of(1_000_000).to_string();
    assert_eq!(million(price.standard.rates.input_uncached), "1.50");
    assert_eq!(million(price.standard.rates.output), "7.50");
    assert_eq!(million(price.standard.rates.cache_read), "0.15");
    assert_eq!(config.models[0].context_tokens, Some(272_000));
    assert_eq!(config.providers[0].vendor().as_str(), "openai");
    assert_eq!((config.ledger.keep_requests_days, config.limits.body_mib), (Some(30), 20));
    assert!(config.cache.redis.is_some());
    assert!(
        imported.remarks.iter().any(|remark| remark.contains("AZURE")) == imported.toml.contains("# - AZURE")
    );
}

#[test]
fn no_secret_of_a_file_is_in_the_result() {
    let (imported, _) = imported(TEAM);
    for secret in ["verysecret", "hunter", "sk-1234"] {
        assert!(!imported.toml.contains(secret), "{secret} in\n{}", imported.toml);
    }
    says(
        &imported,
        &[
            "{ env = \"AZURE_KEY_EU\" }",
            "{ env = \"OPENAI_API_KEY\" }",
            "its key stood in the file",
            "LANGFUSE_SECRET_KEY",
        ],
    );
}

#[test]
fn what_is_not_carried_over_is_listed_with_its_reason() {
    let (imported, _) = imported(TEAM);
    says(
        &imported,
        &[
            "litellm_params.rpm: requests are not metered by deployment",
            "litellm_params.tpm",
            "litellm_params.weight",
            "litellm_params.tags",
            "model_info.base_model",
            "model_list[3] everything: a wildcard",
            "model_list[5] pictures: the mode image_generation is not served",
            "router_settings.routing_strategy",
            "router_settings.redis_host",
            "litellm_settings.drop_params",
            "litellm_settings.success_callback",
            "litellm_settings.context_window_fallbacks",
            "litellm_settings.cache_params.namespace",
            "general_settings.alerting",
            "baseload admin keys create --name me --role owner",
            "general_settings.database_url",
            "fallbacks of gpt-5: nobody",
            "guardrails: there is no such section",
        ],
    );
}

#[test]
fn servers_of_ones_own_and_hosts_of_open_models_come_over() {
    let (imported, config) = imported(
        r#"
model_list:
  - model_name: Llama 70B
    litellm_params: { model: openai/meta-llama/Llama-3.3-70B, api_base: "http://10.0.0.7:8000/v1", api_key: none, max_parallel_requests: 32 }
    model_info: { input_cost_per_token: 0, output_cost_per_token: 0 }
  - model_name: qwen
    litellm_params: { model: hosted_vllm/Qwen/Qwen3-32B, api_base: os.environ/SET_BASE }
  - model_name: qwen
    litellm_params: { model: hosted_vllm/Qwen/Qwen3-32B, api_base: os.environ/MISSING_BASE }
  - model_name: mistral-7b
    litellm_params: { model: ollama/mistral, api_base: "http://localhost:11434" }
  - model_name: fast
    litellm_params: { model: groq/llama-3.3-70b-versatile, api_key: os.environ/GROQ_API_KEY }
  - model_name: hub
    litellm_params: { model: huggingface/x/y }
  - model_name: nowhere
    litellm_params: { model: hosted_vllm/x }
"#,
    );
    assert_eq!(
        titles(&config),
        [
            "Llama-70B@custom-openai",
            "qwen@hosted-vllm",
            "qwen@hosted-vllm-2",
            "mistral-7b@ollama",
            "fast@groq"
        ]
    );
    let addresses: Vec<String> =
        config.providers.iter().map(|provider| provider.address().unwrap()).collect();
    assert_eq!(
        addresses,
        [
            "http://10.0.0.7:8000/v1",
            "https://set.example.com/v1",
            "https://missing-base.invalid/v1",
            "http://localhost:11434/v1",
            "https://api.groq.com/openai/v1"
        ]
    );
    assert_eq!((config.providers[0].key.is_none(), config.providers[0].max_concurrent), (true, Some(32)));
    says(
        &imported,
        &[
            "clients write \"Llama-70B\" now",
            "MISSING_BASE, which is not set",
            "huggingface speaks a wire format",
            "it has no api_base",
        ],
    );
}

#[test]
fn clouds_bring_their_own_kinds_of_proof() {
    let (imported, config) = imported(
        r#"
model_list:
  - model_name: claude
    litellm_params: { model: bedrock/converse/anthropic.claude-sonnet-5-5-v1:0, aws_region_name: eu-central-1, aws_role_name: x }
  - model_name: nova
    litellm_params: { model: bedrock/amazon.nova-pro-v1:0, aws_access_key_id: AKIASECRET, aws_secret_access_key: os.environ/NOVA_SECRET }
  - model_name: gemini
    litellm_params: { model: vertex_ai/gemini-3.5-flash, vertex_project: p, vertex_location: europe-west4, vertex_credentials: "{\"private_key\": \"hunter\"}" }
  - model_name: studio
    litellm_params: { model: gemini/gemini-3.5-flash, litellm_credential_name: shared }
credential_list:
  - credential_name: shared
    credential_values: { api_key: os.environ/SHARED_GEMINI }
"#,
    );
    assert_eq!(titles(&config), ["claude@bedrock", "nova@bedrock-2", "gemini@vertex-ai", "studio@gemini"]);
    assert_eq!(config.models[0].id.as_deref(), Some("anthropic.claude-sonnet-5-5-v1:0"));
    assert_eq!(config.providers[0].address().unwrap(), "https://bedrock-runtime.eu-central-1.amazonaws.com");
    assert!(!imported.toml.contains("AKIASECRET") && !imported.toml.contains("hunter"), "{}", imported.toml);
    says(
        &imported,
        &["aws_role_name", "NOVA_SECRET", "us-east-1 was written", "GOOGLE_SERVICE_ACCOUNT", "SHARED_GEMINI"],
    );
}

#[test]
fn names_that_hold_anything_stay_names() {
    let yaml = "model_list:\n  - model_name: \"a\\\"]\\n[evil]\"\n    litellm_params: { model: openai/gpt-5, api_key: os.environ/K, surprise: 1 }\n";
    let (imported, config) = imported(yaml);
    assert_eq!(config.models[0].name.as_ref().unwrap().as_str(), "a\"]-[evil]");
    says(&imported, &["litellm_params.surprise: there is no such setting"]);
}

#[test]
fn a_file_of_something_else_is_refused_or_serves_what_is_bundled() {
    assert!(import("- a\n- b\n", |_| None).unwrap_err().contains("no config.yaml"));
    assert!(import("a: [", |_| None).is_err());
    let (imported, config) = imported("general_settings: {}\n");
    assert!(config.models.is_empty() && imported.toml.contains("bundled models"));
}

#[test]
fn prices_are_shifted_exactly() {
    for (per_token, million) in [
        ("1.5e-07", Some("0.15")),
        ("0.0000025", Some("2.5")),
        ("3e-06", Some("3")),
        ("0", Some("0")),
        ("0.0", Some("0")),
        ("1e-12", Some("0.000001")),
        ("1e-13", None),
        ("2", Some("2000000")),
        ("1.25e-05", Some("12.5")),
        ("-1e-06", None),
        ("free", None),
    ] {
        assert_eq!(deployment::per_million(per_token).as_deref(), million, "{per_token}");
    }
}
