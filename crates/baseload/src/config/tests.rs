//! Is a configuration file read as it is meant, and is every mistake in it told in its place?

use super::*;

fn refusal(text: &str) -> String {
    Config::parse(Path::new("baseload.toml"), text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = Config::parse(Path::new("x"), "").unwrap();
    assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
    assert!(config.models.is_empty());
}

#[test]
fn a_misspelt_field_is_named_with_its_place_and_the_likely_one() {
    let refusal = refusal("listen = \"127.0.0.1:1\"\n[engine]\nmax_runing = 3\n");
    assert!(refusal.starts_with("baseload.toml:3:1: unknown field `max_runing`"), "{refusal}");
    assert!(refusal.ends_with("did you mean `max_running`?"), "{refusal}");
}

#[test]
fn prices_are_strings_and_exact() {
    let text = "[[model]]\npath = \"m\"\nprice = { input = \"0.0036\", output = \"2\" }";
    let config = Config::parse(Path::new("x"), text).unwrap();
    let price = config.models[0].price.clone().unwrap();
    assert_eq!(price.input.unwrap().0.pico_per_token(), 3_600);
    assert!(price.cached.is_none());
    let float = refusal("[[model]]\npath = \"m\"\nprice = { input = 0.5, output = \"2\" }");
    assert!(float.contains("a value in quotes"), "{float}");
    let fine = refusal("[[model]]\npath = \"m\"\nprice = { input = \"0.00000001\", output = \"2\" }");
    assert!(fine.contains("at most 6 decimals"), "{fine}");
    let half = refusal("[[model]]\npath = \"m\"\nprice = { input = \"1\" }");
    assert!(half.contains("needs both `input` and `output`"), "{half}");
    let hour =
        Config::parse(Path::new("x"), "[[model]]\npath = 'm'\nprice = { compute_hour = '2.69' }").unwrap();
    assert!(hour.models[0].price.clone().unwrap().sheet().unwrap().compute_hour.is_some());
}

#[test]
fn prices_and_terms_of_ones_own_are_checked_as_a_whole() {
    let text =
        "[[price]]\nmodel = 'm'\nprovider = 'openai'\ninput = '1'\noutput = '2'\ntiers = { batch = '0.5' }";
    let config = Config::parse(Path::new("x"), text).unwrap();
    assert_eq!(config.prices[0].priced_as().as_str(), "openai/m");
    assert!(refusal("[[price]]\nmodel = 'm'").contains("no price at all"));
    let steps = "volume = [{ from = '9', times = '0.9' }, { from = '8', times = '0.8' }]";
    let refusal = refusal(&format!("[[terms]]\nprovider = 'openai'\n{steps}"));
    assert!(refusal.contains("the terms of openai: the steps of `volume` must ascend"), "{refusal}");
}

#[test]
fn two_models_cannot_share_a_name() {
    let refusal = refusal("[[model]]\nname='a'\npath='x'\n[[model]]\nname='b'\naliases=['a']\npath='y'");
    assert!(refusal.contains("two models are named \"a\""), "{refusal}");
}

#[test]
fn accounts_are_paths_and_each_is_declared_once() {
    let text = "[[account]]\npath = \"acme/research\"\nkind = \"team\"\ncost_centre = \"K-17\"";
    let config = Config::parse(Path::new("x"), text).unwrap();
    assert_eq!(config.accounts[0].kind, Some(Kind::Team));
    assert!(refusal("[[account]]\npath = \"acme/\"").contains("a segment is empty"));
    let twice = refusal("[[account]]\npath = \"a\"\n[[account]]\npath = \"a\"");
    assert!(twice.contains("two [[account]] have the path \"a\""), "{twice}");
    assert!(refusal("[[account]]\npath = \"a\"\nkind = \"crew\"").contains("unknown variant `crew`"));
}

#[test]
fn zero_where_nothing_could_run_is_refused_by_name() {
    assert!(refusal("[limits]\nconnections = 0").contains("limits.connections must be at least 1"));
}

/// A file with one of everything, to be broken line by line.
const DOOR: &str = r#"
[[account]]
path = "acme/eu"

[[provider]]
name = "anthropic"
kind = "anthropic"
key = { env = "ANTHROPIC_API_KEY" }
jurisdictions = ["us"]

[[provider]]
name = "vllm"
kind = "openai_compatible"
base_url = "http://10.0.0.7:8000/v1"
tier = "on_premises"
jurisdictions = ["eu"]

[[model]]
name = "claude-sonnet-5.5"
provider = "anthropic"
classes = ["frontier"]
quality = 71

[[model]]
name = "llama"
provider = "vllm"
aliases = ["local-llama"]
quality = 60
price = { compute_hour = "2.69" }

[[route]]
name = "smart"
models = ["claude-sonnet-5.5", "local-llama"]
quality_min = 60
jurisdictions = ["eu"]

[[residency]]
name = "eu-only"
accounts = ["acme/eu"]
jurisdictions = ["eu"]
"#;

/// Returns the refusal of the file with one line replaced.
fn broken(line: &str, by: &str) -> String {
    assert_eq!(DOOR.matches(line).count(), 1, "{line:?} stands in the file once");
    refusal(&DOOR.replace(line, by))
}

#[test]
fn a_door_is_read_with_its_defaults() {
    let config = Config::parse(Path::new("x"), DOOR).unwrap();
    let titles: Vec<String> = config.units().map(|unit| unit.title()).collect();
    assert_eq!(titles, ["claude-sonnet-5.5@anthropic", "llama@vllm"]);
    assert_eq!(config.providers[0].address().unwrap(), "https://api.anthropic.com");
    assert_eq!(config.providers[0].tier, PlaceTier::Cloud);
    assert_eq!(config.providers[0].vendor().as_str(), "anthropic");
    assert_eq!((config.cache.memory_mib, config.responses.keep_days), (64, 30));
    let why = config.units().map(|unit| unit.why_not(&config.routes[0]));
    assert_eq!(why.collect::<Vec<_>>(), [Some("it processes in us, and eu is wanted".to_owned()), None]);
}

#[test]
fn every_mistake_is_told_in_its_place() {
    for (line, by, told) in [
        (
            "kind = \"anthropic\"",
            "kind = \"antropic\"",
            "7:8: unknown variant `antropic`; did you mean `anthropic`?",
        ),
        (
            "provider = \"vllm\"",
            "provider = \"vlm\"",
            "26:12: there is no [[provider]] \"vlm\"; did you mean \"vllm\"?",
        ),
        (
            "key = { env = \"ANTHROPIC_API_KEY\" }",
            "key = \"sk-ant-x\"",
            "8:7: a secret is not written into this file",
        ),
        (
            "key = { env = \"ANTHROPIC_API_KEY\" }",
            "api_key = 'sk-ant-x'",
            "8:1: unknown field `api_key`; did you mean `key`?",
        ),
        ("key = { env = \"ANTHROPIC_API_KEY\" }\n", "", "5:1: provider \"anthropic\" needs a key"),
        ("base_url = \"http://10.0.0.7:8000/v1\"\n", "", "11:1: provider \"vllm\" needs a base_url"),
        ("\"http://10.0.0.7:8000/v1\"", "\"10.0.0.7:8000/v1\"", "14:12: base_url"),
        (
            "\"http://10.0.0.7:8000/v1\"",
            "\"http://me:pw@h/v1\"",
            "14:12: base_url must not hold a user or password",
        ),
        (
            "tier = \"on_premises\"",
            "region = \"eu\"",
            "15:10: region means nothing for the kind openai_compatible",
        ),
        ("quality = 71", "quality = 101", "22:11: quality is a number from 0 to 100"),
        (
            "aliases = [\"local-llama\"]",
            "aliases = [\"claude-sonnet-5.5\"]",
            "27:12: two models are named \"claude-sonnet-5.5\"",
        ),
        (
            "\"local-llama\"]\nquality_min",
            "\"lokal-llama\"]\nquality_min",
            "33:32: there is no model \"lokal-llama\"",
        ),
        ("name = \"smart\"", "name = \"llama\"", "32:8: \"llama\" is a model already"),
        (
            "quality_min = 60",
            "quality_min = 90",
            "31:1: no unit can ever answer the route \"smart\": claude-sonnet-5.5@anthropic: quality 71 is below 90; llama@vllm",
        ),
        (
            "accounts = [\"acme/eu\"]",
            "accounts = [\"acme/ue\"]",
            "39:13: there is no [[account]] with the path \"acme/ue\"; did you mean \"acme/eu\"?",
        ),
        (
            "jurisdictions = [\"us\"]",
            "jurisdictions = [\"US\"]",
            "9:18: a jurisdiction is a word in small letters",
        ),
        (
            "price = { compute_hour = \"2.69\" }",
            "price = { input = \"2.69\" }",
            "29:9: a price for tokens needs both `input` and `output`",
        ),
        ("provider = \"anthropic\"", "provider = \"anthropic\"\nname = \"x\"", "21:1: duplicate key"),
    ] {
        let refusal = broken(line, by);
        assert!(refusal.contains(&format!("baseload.toml:{told}")), "{by:?}:\n{refusal}\nwanted: {told}");
        assert!(!refusal.contains("sk-ant-x") && !refusal.contains("pw@"), "{refusal}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let shape = refusal(
        "[[provider]]\nkind = 'open'\nkeyy = 1\nmax_concurrent = 'x'\n[engine]\nkv_mb = 1\n[[model]]\nname = 7\n",
    );
    let lines: Vec<&str> = shape.lines().collect();
    for (line, told) in lines.iter().zip([
        ":1:1: missing field `name`",
        ":2:8: unknown variant `open`",
        ":3:1: unknown field `keyy`; did you mean `key`?",
        ":4:18: invalid type",
        ":6:1: unknown field `kv_mb`; did you mean `kv_mib`?",
        ":8:8: invalid type",
    ]) {
        assert!(line.contains(told), "{shape}\nwanted: {told}");
    }
    assert_eq!(lines.len(), 6, "a wrong kind is not a missing kind:\n{shape}");
    let meaning = refusal(
        &DOOR.replace("quality = 71", "quality = 171").replace("name = \"smart\"", "name = \"llama\""),
    );
    assert_eq!(meaning.lines().count(), 2, "{meaning}");
    let syntax = refusal("a = \nb = 'x\n");
    assert_eq!(syntax.lines().count(), 2, "{syntax}");
}

#[test]
fn keys_and_values_go_to_disk_only_where_they_can_be_found_again() {
    let engine = |fields: &str| Config::parse(Path::new("x"), &format!("[engine]\n{fields}\n"));
    assert_eq!(engine("").unwrap().engine.kv_disk_mib, 0, "nobody's disk is written to unasked");
    let kept = engine("kv_disk_mib = 64\nkv_disk_path = '/var/kv'\nkv_disk_keep = true").unwrap().engine;
    assert!(kept.kv_disk_keep && kept.kv_disk_path == Some("/var/kv".into()));
    let unfindable = engine("kv_disk_mib = 64\nprefix_cache = false").unwrap_err().to_string();
    assert!(unfindable.contains(":2:") && unfindable.contains("engine.prefix_cache"), "{unfindable}");
}

#[test]
fn a_provider_brings_what_its_kind_needs_and_nothing_else() {
    let provider = |kind: &str, fields: &str| {
        let text = format!("[[provider]]\nname = 'p'\nkind = '{kind}'\n{fields}\n");
        Config::parse(Path::new("x"), &text).map(|config| config.providers[0].address().unwrap())
    };
    let keys = "access_key = { env = 'A' }\nsecret_key = { env = 'B' }\n";
    assert_eq!(
        provider("bedrock", &format!("{keys}region = 'eu-central-1'")).unwrap(),
        "https://bedrock-runtime.eu-central-1.amazonaws.com"
    );
    assert!(provider("bedrock", keys).unwrap_err().to_string().contains("needs region"));
    let google = "project = 'x'\ntoken = { env = 'T' }\n";
    assert_eq!(
        provider("vertex", &format!("{google}location = 'global'")).unwrap(),
        "https://aiplatform.googleapis.com"
    );
    let both = format!("{google}location = 'eu'\nservice_account = {{ file = '/x' }}");
    assert!(provider("vertex", &both).unwrap_err().to_string().contains("not both"));
    let header = "key = { env = 'K' }\nheaders = { authorization = 'Bearer x' }";
    assert!(provider("openai", header).unwrap_err().to_string().contains("written by the server itself"));
    assert!(
        provider("openai", "key = { env = 'K' }\nheaders = { 'x-team' = { env = 'TEAM' }, a = 'b' }").is_ok()
    );
}

#[test]
fn units_that_share_a_vendor_and_a_name_share_a_price() {
    let units = |second: &str| {
        let one = |name: &str, price: &str| {
            format!(
                "[[provider]]\nname = '{name}'\nkind = 'openai'\nvendor = 'openai'\nkey = {{ env = 'K' }}\n[[model]]\nname = 'gpt'\n\
                 provider = '{name}'\nprice = {{ input = '{price}', output = '2' }}\n"
            )
        };
        Config::parse(Path::new("x"), &(one("a", "1") + &one("b", second)))
    };
    assert!(units("1").is_ok());
    let refusal = units("3").unwrap_err().to_string();
    assert!(refusal.contains("gpt@a and gpt@b have different prices under one vendor"), "{refusal}");
}

#[test]
fn the_example_is_accepted_and_its_routes_reach_what_they_name() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/baseload.toml");
    let config = Config::read(&path).unwrap();
    let reached = |route: &str| {
        let route = config.routes.iter().find(|known| known.name.as_str() == route).unwrap();
        let can = config.units().filter(|unit| unit.is_named_by(route) && unit.why_not(route).is_none());
        can.map(|unit| unit.title()).collect::<Vec<_>>()
    };
    assert_eq!(
        reached("smart"),
        ["claude-sonnet-5.5@anthropic", "gpt-6.1-terra@openai", "gpt-6.1-terra@azure-eu"]
    );
    assert_eq!(reached("private"), ["small@local", "qwen3-32b@rack"]);
    assert_eq!(reached("draft").len(), 2);
}
