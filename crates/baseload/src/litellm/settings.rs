//! What do the sections beside `model_list` say?

use serde_yaml_ng::{Mapping, Value};

use super::write::{Plan, RoutePlan};
use super::{Remarks, take, take_list, take_map, take_text, text_of};

/// Why settings are not carried over, by the end of their names. What is not here is listed with a general reason.
const REASONS: [(&str, &str); 40] = [
    (
        "routing_strategy",
        "the cheapest unit that meets a [[route]]'s wishes answers; order = \"latency\" or \"listed\" changes that",
    ),
    ("routing_strategy_args", "there is nothing to set: speed and load are measured"),
    (
        "context_window_fallbacks",
        "units whose context is too small are left out before anybody is asked; name the larger model in the [[route]]",
    ),
    ("content_policy_fallbacks", "a refusal for content is an answer; it is not asked for elsewhere"),
    ("default_fallbacks", "fallbacks are named for each model: a [[route]] with both"),
    ("allowed_fails", "breakers open by themselves, and only for faults of the unit"),
    ("allowed_fails_policy", "breakers open by themselves, and only for faults of the unit"),
    ("cooldown_time", "a unit that fails rests by itself, for as long as it has failed"),
    ("disable_cooldowns", "breakers open by themselves, and only for faults of the unit"),
    ("retry_policy", "retries depend on whose fault it was; `attempts` of a [[route]] bounds them"),
    ("enable_pre_call_checks", "context is always checked before anybody is asked"),
    ("enable_pre_call_check", "context is always checked before anybody is asked"),
    ("enable_tag_filtering", "requests are not routed by tags; make a [[route]] for each"),
    ("tag_filtering_match_any", "requests are not routed by tags; make a [[route]] for each"),
    ("redis_host", "servers share their ledger (Postgres), not a Redis: [ledger] url"),
    ("redis_port", "servers share their ledger (Postgres), not a Redis: [ledger] url"),
    ("redis_password", "servers share their ledger (Postgres), not a Redis: [ledger] url"),
    ("redis_url", "servers share their ledger (Postgres), not a Redis: [ledger] url"),
    ("timeout", "[limits] request_timeout_seconds bounds all requests"),
    ("stream_timeout", "stall_timeout_seconds of each [[provider]] bounds a stream's silence"),
    ("drop_params", "what a provider cannot say is left out and named in a warning, or refused"),
    ("modify_params", "what a provider cannot say is left out and named in a warning, or refused"),
    ("success_callback", "requests are in the ledger and the log; nothing is sent elsewhere"),
    ("failure_callback", "requests are in the ledger and the log; nothing is sent elsewhere"),
    (
        "callbacks",
        "requests are in the ledger and the log; nothing is sent elsewhere; metrics are at /metrics",
    ),
    ("service_callbacks", "metrics are at /metrics"),
    ("set_verbose", "[log] filter says how much is logged"),
    ("json_logs", "[log] format = \"json\""),
    ("turn_off_message_logging", "prompts and answers are never logged"),
    ("redact_user_api_key_info", "secrets are never logged"),
    ("max_budget", "budgets are limits: [[limit]], by account, key or task"),
    ("budget_duration", "budgets are limits: [[limit]] with a window"),
    ("database_connection_pool_limit", "there is nothing to set"),
    ("store_model_in_db", "models are in this file alone"),
    ("alerting", "thresholds of a [[limit]] alert; [alerts] webhook says where"),
    ("alerting_threshold", "thresholds of a [[limit]] alert; [alerts] webhook says where"),
    (
        "global_max_parallel_requests",
        "a [[limit]] with measure = \"concurrency\" and scope = \"/\" does that",
    ),
    (
        "max_parallel_requests",
        "max_concurrent of a [[provider]], or a [[limit]] with measure = \"concurrency\"",
    ),
    (
        "allow_requests_on_db_unavailable",
        "[ledger] when_unavailable = \"spool\" serves on; know what you choose: docs/operating.md",
    ),
    ("custom_auth", "callers prove who they are with keys"),
];

/// Carries over what is left of the file besides `model_list`.
pub fn apply(file: &mut Mapping, plan: &mut Plan, remarks: &mut Remarks) {
    let mut router = take_map(file, "router_settings");
    let mut module = take_map(file, "litellm_settings");
    let mut general = take_map(file, "general_settings");
    let retries = take(&mut router, "num_retries").or_else(|| take(&mut module, "num_retries"));
    // Of two that overlap, those of the router win there.
    let fallbacks = [take_list(&mut module, "fallbacks"), take_list(&mut router, "fallbacks")].concat();
    cache(&mut module, plan, remarks);
    routes(fallbacks, retries.and_then(|count| count.as_u64()), plan, remarks);
    aliases(take_map(&mut router, "model_group_alias"), plan, remarks);
    general_settings(&mut general, plan, remarks);
    environment(take_map(file, "environment_variables"), remarks);
    for (section, left) in
        [("router_settings", router), ("litellm_settings", module), ("general_settings", general)]
    {
        for key in left.keys().filter_map(text_of) {
            let why = REASONS.iter().find(|(known, _)| *known == key);
            let why = why.map_or("there is no such setting", |(_, why)| *why);
            remarks.left_out(&format!("{section}.{key}"), why);
        }
    }
    for section in file.keys().filter_map(text_of) {
        remarks.left_out(&section, "there is no such section");
    }
}

/// `[{"a": ["b", "c"]}]`: a becomes a route over what a was, b and c.
fn routes(fallbacks: Vec<Value>, retries: Option<u64>, plan: &mut Plan, remarks: &mut Remarks) {
    let pairs: Vec<(String, Vec<String>)> = fallbacks
        .iter()
        .filter_map(Value::as_mapping)
        .flatten()
        .filter_map(|(name, others)| {
            let others = others.as_sequence()?.iter().filter_map(text_of).collect();
            Some((text_of(name)?, others))
        })
        .collect();
    for (name, others) in pairs {
        let place = format!("fallbacks of {name}");
        if !plan.has_group(&name) {
            remarks.left_out(&place, "there is no model of this name that was carried over");
            continue;
        }
        let (known, unknown): (Vec<_>, Vec<_>) = others.into_iter().partition(|other| plan.has_group(other));
        for other in unknown {
            remarks.left_out(
                &format!("{place}: {other}"),
                "there is no model of this name that was carried over",
            );
        }
        if known.is_empty() {
            continue;
        }
        match plan.routes.iter_mut().find(|route| route.name == name) {
            Some(route) => route.fallbacks = known,
            None => plan.routes.push(RoutePlan {
                name,
                fallbacks: known,
                attempts: None,
                ttl_seconds: plan.ttl_seconds,
            }),
        }
    }
    if let Some(retries) = retries {
        let attempts = (retries + 1).min(10) as u32;
        plan.routes.iter_mut().for_each(|route| route.attempts = Some(attempts));
        if plan.routes.is_empty() {
            remarks.left_out(
                "num_retries",
                "retries are bounded by `attempts` of a [[route]], and there is none",
            );
        }
    }
}

/// `{"gpt-4": "gpt-4o"}`, or `{"gpt-4": {"model": "gpt-4o", "hidden": true}}`.
fn aliases(aliases: Mapping, plan: &mut Plan, remarks: &mut Remarks) {
    for (alias, meant) in &aliases {
        let Some(alias) = text_of(alias) else { continue };
        let meant = text_of(meant).or_else(|| text_of(meant.get("model")?));
        match meant.filter(|meant| plan.has_group(meant)) {
            Some(meant) if !plan.has_group(&alias) => plan.aliases.push((alias, meant)),
            _ => remarks.left_out(
                &format!("router_settings.model_group_alias.{alias}"),
                "what it means was not carried over, or is a model of that name",
            ),
        }
    }
}

fn cache(module: &mut Mapping, plan: &mut Plan, remarks: &mut Remarks) {
    let is_on = take(module, "cache").is_some_and(|on| on.as_bool() == Some(true));
    let mut params = take_map(module, "cache_params");
    let kind = take_text(&mut params, "type").unwrap_or_else(|| "local".into());
    plan.ttl_seconds = take(&mut params, "ttl").and_then(|ttl| ttl.as_u64()).filter(|ttl| is_on && *ttl > 0);
    let address = ["host", "port", "password", "username", "url", "ssl"].map(|key| take(&mut params, key));
    if !is_on {
        plan.ttl_seconds = None;
    } else if kind == "redis" {
        plan.redis = true;
        let whole = address[4]
            .as_ref()
            .and_then(text_of)
            .and_then(|url| url.strip_prefix("os.environ/").map(str::to_owned));
        plan.redis_variable = whole;
        let name = plan.redis_variable.as_deref().unwrap_or("BASELOAD_REDIS_URL");
        remarks.todo(format!(
            "put the Redis's address into the environment as {name}: redis://USER:PASSWORD@HOST:PORT"
        ));
    } else if kind != "local" {
        remarks.left_out(
            "litellm_settings.cache_params.type",
            &format!("{kind} is no cache of ours: there is memory, and Redis"),
        );
    }
    if is_on {
        remarks.todo(
            "answers are kept for each [[route]] that says `cache`, and within one account unless it says share = \"organisation\"; a \
             model that is asked by its own name is not cached",
        );
    }
    for key in params.keys().filter_map(text_of) {
        remarks.left_out(&format!("litellm_settings.cache_params.{key}"), "there is no such setting");
    }
}

fn general_settings(general: &mut Mapping, plan: &mut Plan, remarks: &mut Remarks) {
    if take(general, "master_key").is_some() {
        remarks.todo(
            "instead of general_settings.master_key make the first key with: baseload admin keys create --name me --role owner; then one for \
             each caller with: baseload keys create --name NAME",
        );
    }
    if take(general, "database_url").is_some() {
        remarks.todo(
            "general_settings.database_url holds LiteLLM's own tables, of which nothing is read: keys are made anew, and what was spent \
             stays there; to share our ledger among servers: [ledger] url = \"postgres://…\"",
        );
    }
    plan.body_mib = take(general, "max_request_size_mb")
        .and_then(|size| size.as_f64())
        .map(|size| size.ceil().max(1.0) as u64);
    if let Some(kept) = take_text(general, "maximum_spend_logs_retention_period") {
        match kept.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()).filter(|days| *days > 0) {
            Some(days) => plan.keep_requests_days = Some(days),
            None => remarks.left_out(
                "general_settings.maximum_spend_logs_retention_period",
                "[ledger] keep_requests_days takes whole days",
            ),
        }
    }
}

fn environment(variables: Mapping, remarks: &mut Remarks) {
    let names: Vec<String> = variables.keys().filter_map(text_of).collect();
    if !names.is_empty() {
        remarks.todo(format!(
            "environment_variables were not copied, for they may be secrets; set them where the server is started: {}",
            names.join(", ")
        ));
    }
}
