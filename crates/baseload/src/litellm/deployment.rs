//! What does one entry of `model_list` say?

use std::collections::BTreeMap;

use serde_yaml_ng::{Mapping, Value};

use super::providers::{self, Known};
use super::{Remarks, take, take_map, take_text, text_of};

/// One model at one provider, in our words.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// What clients write.
    pub name: String,
    pub id: String,
    pub provider: ProviderPlan,
    pub embeds: bool,
    pub context_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    /// Fields of `price`, in USD per million tokens.
    pub price: Vec<(&'static str, String)>,
}

/// A provider, without its name: deployments that agree in all of it share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderPlan {
    pub prefix: &'static str,
    pub kind: &'static str,
    pub vendor: &'static str,
    pub base_url: Option<String>,
    /// Fields of the provider that hold secrets, with the environment variable of each.
    pub secrets: Vec<(&'static str, String)>,
    /// Other fields, such as `region`.
    pub fields: Vec<(&'static str, String)>,
    pub headers: BTreeMap<String, HeaderPlan>,
    pub max_concurrent: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderPlan {
    Plain(String),
    Environment(String),
}

/// Keys that servers of one's own are given because a client library insists on one.
const NO_KEYS: [&str; 10] = [
    "none",
    "null",
    "empty",
    "dummy",
    "fake",
    "fake-key",
    "no-key",
    "not-needed",
    "sk-no-key-required",
    "na",
];

/// Why settings of a deployment are not carried over.
const REASONS: [(&str, &str); 18] = [
    (
        "rpm",
        "requests are not metered by deployment; a provider's 429 is heeded, and `max_concurrent` bounds what is under way",
    ),
    (
        "tpm",
        "tokens are not metered by deployment; a provider's 429 is heeded, and `max_concurrent` bounds what is under way",
    ),
    ("weight", "load goes to the cheapest that meets the route's wishes, not by weights"),
    (
        "order",
        "load goes to the cheapest that meets the route's wishes; a [[route]] with order = \"listed\" fixes an order",
    ),
    ("tags", "requests are not routed by tags; make a [[route]] for each"),
    (
        "timeout",
        "[limits] request_timeout_seconds bounds all requests; first_byte_timeout_seconds and stall_timeout_seconds a provider's",
    ),
    ("stream_timeout", "stall_timeout_seconds of the [[provider]] bounds a stream's silence"),
    ("max_retries", "retries are bounded by `attempts` of a [[route]]"),
    ("num_retries", "retries are bounded by `attempts` of a [[route]]"),
    ("temperature", "requests keep the client's own settings: nothing is added to them"),
    (
        "max_tokens",
        "requests keep the client's own settings; max_output_tokens of the [[model]] is an upper bound",
    ),
    ("seed", "requests keep the client's own settings: nothing is added to them"),
    ("max_budget", "budgets are limits: [[limit]], by account, key or task"),
    ("budget_duration", "budgets are limits: [[limit]], by account, key or task"),
    ("mock_response", "answers are not made up"),
    ("drop_params", "what a provider cannot say is left out and named in a warning, or refused"),
    ("cooldown_time", "a unit that fails rests by itself, for as long as it has failed"),
    ("azure_ad_token", "Azure is asked with a key: key = { env = \"…\" }"),
];

/// Reads one entry; `None` is one that is not carried over, and that is said.
pub fn read(
    nth: usize,
    entry: Value,
    credentials: &[Value],
    environment: &impl Fn(&str) -> Option<String>,
    remarks: &mut Remarks,
) -> Option<Deployment> {
    let Value::Mapping(mut entry) = entry else {
        remarks.left_out(&format!("model_list[{nth}]"), "it is no table of settings");
        return None;
    };
    let mut params = take_map(&mut entry, "litellm_params");
    let mut info = take_map(&mut entry, "model_info");
    let written = take_text(&mut entry, "model_name").or_else(|| take_text(&mut params.clone(), "model"));
    let title = format!("model_list[{nth}] {}", written.as_deref().unwrap_or("without a name"));
    let carried = carry(&title, written, &mut params, &mut info, credentials, environment, remarks);
    let carried = match carried {
        Err(why) => {
            remarks.left_out(&title, &why);
            return None;
        }
        Ok(carried) => carried,
    };
    for (place, left) in [("", entry), ("litellm_params.", params), ("model_info.", info)] {
        list_left(&format!("{title}: {place}"), left, remarks);
    }
    Some(carried)
}

fn list_left(place: &str, left: Mapping, remarks: &mut Remarks) {
    for key in left.keys().filter_map(text_of) {
        let why = REASONS
            .iter()
            .find(|(known, _)| *known == key)
            .map_or("there is no such setting", |(_, why)| *why);
        remarks.left_out(&format!("{place}{key}"), why);
    }
}

fn carry(
    title: &str,
    written: Option<String>,
    params: &mut Mapping,
    info: &mut Mapping,
    credentials: &[Value],
    environment: &impl Fn(&str) -> Option<String>,
    remarks: &mut Remarks,
) -> Result<Deployment, String> {
    let written = written.ok_or("it has no model_name")?;
    let model = take_text(params, "model").ok_or("it has no litellm_params.model")?;
    merge_credentials(params, credentials)?;
    let mode = take_text(info, "mode").unwrap_or_else(|| "chat".into());
    let embeds = mode == "embedding";
    if !matches!(mode.as_str(), "chat" | "completion" | "embedding" | "responses") {
        return Err(format!("the mode {mode} is not served"));
    }
    let own = take_text(params, "custom_llm_provider");
    let model = own
        .filter(|own| !model.starts_with(&format!("{own}/")))
        .map_or(model.clone(), |own| format!("{own}/{model}"));
    let address = take_text(params, "api_base").or_else(|| take_text(params, "base_url"));
    let (known, id) = providers::of(&model, address.is_some())?;
    let name = without_blanks(title, &written, remarks);
    let base_url = address_of(title, known, address, environment, remarks)?;
    let mut secrets = Vec::new();
    let mut fields = Vec::new();
    match known.kind {
        "bedrock" => aws(title, params, environment, &mut secrets, &mut fields, remarks),
        "vertex" => google(title, params, environment, &mut secrets, &mut fields, remarks),
        _ => {
            let variable = key(title, known, params, remarks);
            secrets.extend(variable.map(|variable| ("key", variable)));
        }
    }
    if known.kind == "azure" {
        let version = take_text(params, "api_version").map(|version| plain(&version, environment));
        fields.extend(version.map(|version| ("api_version", version)));
    } else if take(params, "api_version").is_some() {
        remarks
            .left_out(&format!("{title}: litellm_params.api_version"), "only Azure has versions of its API");
    }
    let headers = headers(title, params, remarks);
    let max_concurrent =
        take(params, "max_parallel_requests").and_then(|count| count.as_u64()).filter(|count| *count > 0);
    let provider = ProviderPlan {
        prefix: known.prefix,
        kind: known.kind,
        vendor: known.vendor,
        base_url,
        secrets,
        fields,
        headers,
        max_concurrent,
    };
    let tokens = |info: &mut Mapping, key: &str| {
        take(info, key).and_then(|count| count.as_u64()).filter(|count| *count > 0)
    };
    let context_tokens = tokens(info, "max_input_tokens").or_else(|| tokens(info, "max_tokens"));
    let max_output_tokens = tokens(info, "max_output_tokens").filter(|tokens| *tokens <= u64::from(u32::MAX));
    // The name that LiteLLM itself gives a deployment; ours is the model at its provider.
    take(info, "id");
    let price = price(title, params, info, remarks);
    Ok(Deployment { name, id: id.to_owned(), provider, embeds, context_tokens, max_output_tokens, price })
}

/// `litellm_credential_name` stands for the values of that name.
fn merge_credentials(params: &mut Mapping, credentials: &[Value]) -> Result<(), String> {
    let Some(named) = take_text(params, "litellm_credential_name") else { return Ok(()) };
    let found = credentials.iter().find(|one| one["credential_name"].as_str() == Some(&named));
    let values = found.and_then(|one| one["credential_values"].as_mapping());
    let values = values.ok_or_else(|| format!("there is no credential {named:?} in credential_list"))?;
    for (key, value) in values {
        params.entry(key.clone()).or_insert_with(|| value.clone());
    }
    Ok(())
}

fn without_blanks(title: &str, written: &str, remarks: &mut Remarks) -> String {
    let name: String = written.split_whitespace().collect::<Vec<_>>().join("-");
    if name != written {
        remarks.todo(format!("{title}: clients write {name:?} now, for a name has no blanks"));
    }
    name
}

/// Returns the variable of `os.environ/NAME`.
fn variable(text: &str) -> Option<&str> {
    text.strip_prefix("os.environ/").map(str::trim)
}

/// Returns the value itself, from the environment where it is kept there.
fn plain(text: &str, environment: &impl Fn(&str) -> Option<String>) -> String {
    match variable(text) {
        Some(name) => environment(name).unwrap_or_else(|| name.to_owned()),
        None => text.to_owned(),
    }
}

fn address_of(
    title: &str,
    known: &Known,
    address: Option<String>,
    environment: &impl Fn(&str) -> Option<String>,
    remarks: &mut Remarks,
) -> Result<Option<String>, String> {
    let Some(written) = address else {
        return match (known.base_url, known.kind) {
            (Some(usual), _) => Ok(Some(usual.to_owned())),
            (None, "azure" | "openai_compatible") => {
                Err(format!("it has no api_base, and {} has no address of its own", known.prefix))
            }
            (None, _) => Ok(None),
        };
    };
    let address = match variable(&written) {
        None => written,
        Some(name) => environment(name).unwrap_or_else(|| {
            remarks.todo(format!(
                "{title}: the address is in the environment variable {name}, which is not set here; write it as base_url instead of the \
                 one that ends with .invalid"
            ));
            format!("https://{}.invalid", name.to_ascii_lowercase().replace('_', "-"))
        }),
    };
    let address = address.trim_end_matches('/');
    let is_ollama = known.prefix.starts_with("ollama") && !address.ends_with("/v1");
    let address = if is_ollama { format!("{address}/v1") } else { address.to_owned() };
    // A password inside of the address is not copied, and not repeated.
    let has_user = reqwest::Url::parse(&address).is_ok_and(|url| !url.username().is_empty());
    if has_user || reqwest::Url::parse(&address).is_err() {
        return Err("its api_base is no URL that can be carried over".into());
    }
    Ok(Some(address))
}

fn key(title: &str, known: &Known, params: &mut Mapping, remarks: &mut Remarks) -> Option<String> {
    let written = take_text(params, "api_key");
    match (written.as_deref().map(str::trim), known.key) {
        (Some(text), _) if variable(text).is_some() => variable(text).map(str::to_owned),
        (Some(text), None) if NO_KEYS.contains(&text.to_ascii_lowercase().as_str()) => None,
        (Some(_), usual) => {
            let fallback = || format!("{}_API_KEY", known.prefix.to_ascii_uppercase());
            let name = usual.map_or_else(fallback, str::to_owned);
            remarks.todo(format!(
                "{title}: its key stood in the file and was not copied; put it into the environment as {name}, and make a new one if \
                 others could read the file"
            ));
            Some(name)
        }
        (None, usual) => usual.map(str::to_owned),
    }
}

fn aws(
    title: &str,
    params: &mut Mapping,
    environment: &impl Fn(&str) -> Option<String>,
    secrets: &mut Vec<(&'static str, String)>,
    fields: &mut Vec<(&'static str, String)>,
    remarks: &mut Remarks,
) {
    let region = take_text(params, "aws_region_name").map(|text| plain(&text, environment));
    let region = region.or_else(|| environment("AWS_REGION_NAME")).or_else(|| environment("AWS_REGION"));
    fields.push((
        "region",
        region.unwrap_or_else(|| {
            remarks.todo(format!(
                "{title}: its region is not said; us-east-1 was written, so look whether that is right"
            ));
            "us-east-1".into()
        }),
    ));
    for (theirs, ours, usual) in [
        ("aws_access_key_id", "access_key", Some("AWS_ACCESS_KEY_ID")),
        ("aws_secret_access_key", "secret_key", Some("AWS_SECRET_ACCESS_KEY")),
        ("aws_session_token", "session_token", None),
    ] {
        let written = take_text(params, theirs);
        let name = match written.as_deref() {
            Some(text) => Some(variable(text).map_or_else(
                || {
                    let name = theirs.to_ascii_uppercase();
                    remarks.todo(format!("{title}: {theirs} stood in the file and was not copied; put it into the environment as {name}"));
                    name
                },
                str::to_owned,
            )),
            None => usual.map(str::to_owned),
        };
        secrets.extend(name.map(|name| (ours, name)));
    }
    for role in [
        "aws_role_name",
        "aws_session_name",
        "aws_profile_name",
        "aws_web_identity_token",
        "aws_sts_endpoint",
    ] {
        if take(params, role).is_some() {
            remarks.left_out(
                &format!("{title}: litellm_params.{role}"),
                "roles and profiles are not assumed; give access_key and secret_key",
            );
        }
    }
}

fn google(
    title: &str,
    params: &mut Mapping,
    environment: &impl Fn(&str) -> Option<String>,
    secrets: &mut Vec<(&'static str, String)>,
    fields: &mut Vec<(&'static str, String)>,
    remarks: &mut Remarks,
) {
    for (theirs, ours, usual) in [
        ("vertex_project", "project", "VERTEXAI_PROJECT"),
        ("vertex_location", "location", "VERTEXAI_LOCATION"),
    ] {
        let written =
            take_text(params, theirs).map(|text| plain(&text, environment)).or_else(|| environment(usual));
        fields.push((
            ours,
            written.unwrap_or_else(|| {
                remarks
                    .todo(format!("{title}: its {ours} is not said; write it in the place of \"unknown\""));
                "unknown".into()
            }),
        ));
    }
    let written = take_text(params, "vertex_credentials");
    let name = written.as_deref().and_then(variable).map(str::to_owned);
    if name.is_none() {
        remarks.todo(format!(
            "{title}: put the service account's JSON into the environment as GOOGLE_SERVICE_ACCOUNT, or write service_account = {{ file = \
             \"…\" }}"
        ));
    }
    secrets.push(("service_account", name.unwrap_or_else(|| "GOOGLE_SERVICE_ACCOUNT".into())));
}

fn headers(title: &str, params: &mut Mapping, remarks: &mut Remarks) -> BTreeMap<String, HeaderPlan> {
    let mut headers = BTreeMap::new();
    if let Some(organisation) = take_text(params, "organization") {
        headers.insert("openai-organization".to_owned(), header(&organisation));
    }
    for (name, value) in take_map(params, "extra_headers").iter().chain(take_map(params, "headers").iter()) {
        let (Some(name), Some(value)) = (text_of(name), text_of(value)) else { continue };
        let place = format!("{title}: litellm_params.extra_headers.{name}");
        let lower = name.to_ascii_lowercase();
        let is_secret =
            ["auth", "key", "token", "secret", "password"].iter().any(|word| lower.contains(word));
        if name.contains(char::is_whitespace) {
            remarks.left_out(&place, "it is no name of a header");
        } else if matches!(
            lower.as_str(),
            "authorization" | "api-key" | "x-api-key" | "x-goog-api-key" | "host" | "content-type"
        ) {
            remarks.left_out(&place, "the server writes it itself; name the secret in `key`");
        } else if is_secret && variable(&value).is_none() {
            let variable = lower.to_ascii_uppercase().replace('-', "_");
            remarks.todo(format!("{title}: the header {name} looks like a secret and was not copied; put it into the environment as {variable}"));
            headers.insert(name, HeaderPlan::Environment(variable));
        } else {
            headers.insert(name, header(&value));
        }
    }
    headers
}

fn header(text: &str) -> HeaderPlan {
    match variable(text) {
        Some(name) => HeaderPlan::Environment(name.to_owned()),
        None => HeaderPlan::Plain(text.to_owned()),
    }
}

/// USD per token there, USD per million here.
fn price(
    title: &str,
    params: &mut Mapping,
    info: &mut Mapping,
    remarks: &mut Remarks,
) -> Vec<(&'static str, String)> {
    let mut price = Vec::new();
    for (theirs, ours) in [
        ("input_cost_per_token", "input"),
        ("cache_read_input_token_cost", "cached"),
        ("cache_creation_input_token_cost", "cache_write_5m"),
        ("output_cost_per_token", "output"),
    ] {
        let Some(value) = take(params, theirs).or_else(|| take(info, theirs)) else { continue };
        match text_of(&value).as_deref().and_then(per_million) {
            Some(million) => price.push((ours, million)),
            None => remarks.left_out(
                &format!("{title}: {theirs}"),
                "it is finer than a picodollar a token, or no number",
            ),
        }
    }
    let has = |field: &str| price.iter().any(|(name, _)| *name == field);
    if !(price.is_empty() || has("input") && has("output")) {
        remarks.left_out(&format!("{title}: its prices"), "a price needs input and output");
        price.clear();
    }
    price
}

/// Returns a decimal number times a million, exactly: `1.5e-07` is `0.15`.
pub fn per_million(text: &str) -> Option<String> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty()
        || all.len() > 40
        || !all.bytes().all(|byte| byte.is_ascii_digit())
        || exponent.abs() > 40
    {
        return None;
    }
    let point = whole.len() as i32 + exponent + 6;
    let padded = format!(
        "{}{all}{}",
        "0".repeat((1 - point).max(0) as usize),
        "0".repeat((point - all.len() as i32).max(0) as usize)
    );
    let (whole, fraction) = padded.split_at(point.max(1) as usize);
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    (fraction.len() <= 6)
        .then(|| if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
}
