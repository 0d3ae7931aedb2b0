//! Who else can answer, where, and how does one prove who one is? `[[provider]]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use ledger::Provider;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

use super::kinds::ProviderKind;
use super::read::{At, Mistakes};
use super::secret::SecretSource;

/// Where an answer is computed, from the user's own desk outwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceTier {
    Edge,
    OnPremises,
    #[default]
    Cloud,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSetting {
    pub name: String,
    pub kind: ProviderKind,
    #[serde(default)]
    pub base_url: Option<String>,
    #[serde(default)]
    pub key: Option<SecretSource>,
    /// Whose prices the catalogue has; without it, `name`.
    #[serde(default)]
    pub vendor: Option<Provider>,
    #[serde(default)]
    pub tier: PlaceTier,
    /// Where it processes; none is unknown, which no residency rule admits.
    #[serde(default)]
    pub jurisdictions: Vec<String>,
    /// What may go there; without it, anything.
    #[serde(default)]
    pub data_classes: Option<Vec<String>>,
    /// Certificates to trust besides the usual ones (PEM).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub connect_timeout_ms: Option<u64>,
    #[serde(default)]
    pub first_byte_timeout_seconds: Option<u64>,
    #[serde(default)]
    pub stall_timeout_seconds: Option<u64>,
    /// Requests under way at once; without it, as many as come.
    #[serde(default)]
    pub max_concurrent: Option<usize>,
    /// Sent with every request.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderValue>,

    /// Azure.
    #[serde(default)]
    pub api_version: Option<String>,

    /// Bedrock.
    #[serde(default)]
    pub region: Option<String>,
    #[serde(default)]
    pub access_key: Option<SecretSource>,
    #[serde(default)]
    pub secret_key: Option<SecretSource>,
    #[serde(default)]
    pub session_token: Option<SecretSource>,

    /// Vertex.
    #[serde(default)]
    pub project: Option<String>,
    #[serde(default)]
    pub location: Option<String>,
    #[serde(default)]
    pub service_account: Option<SecretSource>,
    #[serde(default)]
    pub token: Option<SecretSource>,
}

/// What a header says: in plain words, or a secret from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    Plain(String),
    Secret(SecretSource),
}

/// Headers that the door writes itself, or that carry what must not stand in a file.
const HEADERS_NOT_SET: [&str; 9] = [
    "authorization",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
];

/// Letters of a name that goes into headers, metrics and the names of units.
const NAME_LETTERS_MAX: usize = 64;

impl ProviderSetting {
    /// Returns whose prices it asks.
    pub fn vendor(&self) -> Provider {
        self.vendor.clone().unwrap_or_else(|| Provider::new(self.name.as_str()))
    }

    /// Returns the address that requests go to, without a slash at its end.
    pub fn address(&self) -> Option<String> {
        let address = match (&self.base_url, self.kind.facts().base_url) {
            (Some(own), _) => own.clone(),
            // The one location whose address does not begin with its name.
            (None, Some(_))
                if self.kind == ProviderKind::Vertex && self.location.as_deref() == Some("global") =>
            {
                "https://aiplatform.googleapis.com".to_owned()
            }
            (None, usual) => usual?
                .replace("{region}", self.region.as_deref().unwrap_or_default())
                .replace("{location}", self.location.as_deref().unwrap_or_default()),
        };
        let address = address.trim_end_matches('/');
        // Servers that speak OpenAI's dialect have it below /v1, where their address does not say otherwise.
        let has_path = address.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        let is_bare = !has_path && self.kind.facts().is_openai_like;
        Some(if is_bare { format!("{address}/v1") } else { address.to_owned() })
    }

    /// Returns every secret that it needs, by the name of its setting.
    pub fn secrets(&self) -> impl Iterator<Item = (String, &SecretSource)> {
        let named = [
            ("key", &self.key),
            ("access_key", &self.access_key),
            ("secret_key", &self.secret_key),
            ("session_token", &self.session_token),
            ("service_account", &self.service_account),
            ("token", &self.token),
        ];
        let headers = self.headers.iter().filter_map(|(name, value)| match value {
            HeaderValue::Secret(source) => Some((format!("headers.{name}"), source)),
            HeaderValue::Plain(_) => None,
        });
        named
            .into_iter()
            .filter_map(|(name, source)| Some((name.to_owned(), source.as_ref()?)))
            .chain(headers)
    }

    /// Which of the settings that belong to some kinds only are there.
    fn present(&self) -> [(&'static str, bool); 9] {
        [
            ("api_version", self.api_version.is_some()),
            ("region", self.region.is_some()),
            ("access_key", self.access_key.is_some()),
            ("secret_key", self.secret_key.is_some()),
            ("session_token", self.session_token.is_some()),
            ("project", self.project.is_some()),
            ("location", self.location.is_some()),
            ("service_account", self.service_account.is_some()),
            ("token", self.token.is_some()),
        ]
    }

    pub fn check(&self, at: &At, mistakes: &mut Mistakes) {
        if let Err(why) = check_name(&self.name) {
            mistakes.add(at.key("name"), format!("a provider's name {why}"));
        }
        if self.name == Provider::LOCAL {
            mistakes.add(at.key("name"), "the name \"local\" is taken: it is our own engine");
        }
        if self.vendor.as_ref().is_some_and(Provider::is_local) {
            mistakes.add(at.key("vendor"), "the vendor \"local\" is taken: it is our own engine");
        }
        self.check_address(at, mistakes);
        self.check_kind(at, mistakes);
        check_words(&self.jurisdictions, "a jurisdiction", &at.key("jurisdictions"), mistakes);
        if let Some(classes) = &self.data_classes {
            if classes.is_empty() {
                mistakes.add(
                    at.key("data_classes"),
                    "no data class may go there; leave data_classes out to allow any",
                );
            }
            check_words(classes, "a data class", &at.key("data_classes"), mistakes);
        }
        let positive = [
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("first_byte_timeout_seconds", self.first_byte_timeout_seconds),
            ("stall_timeout_seconds", self.stall_timeout_seconds),
            ("max_concurrent", self.max_concurrent.map(|count| count as u64)),
        ];
        for (name, _) in positive.iter().filter(|(_, value)| *value == Some(0)) {
            mistakes.add(at.key(name), format!("{name} must be at least 1"));
        }
        for (name, value) in &self.headers {
            self.check_header(name, value, &at.key("headers").key(name), mistakes);
        }
        if let Some(path) = self.ca_file.as_ref().filter(|path| !path.is_file()) {
            mistakes.add(at.key("ca_file"), format!("there is no file {}", path.display()));
        }
    }

    fn check_address(&self, at: &At, mistakes: &mut Mistakes) {
        let Some(written) = &self.base_url else {
            if self.kind.facts().base_url.is_none() {
                let kind = self.kind.name();
                let what =
                    format!("provider {:?} needs a base_url: the kind {kind} has none of its own", self.name);
                mistakes.add(at.clone(), what);
            }
            return;
        };
        let wrong = match reqwest::Url::parse(written) {
            Err(error) => {
                Some(format!("base_url is no URL: {error}; write one such as \"https://api.example.com/v1\""))
            }
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                Some("base_url must begin with https:// or http://".into())
            }
            // Not repeated: it may hold a password.
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                Some("base_url must not hold a user or password; name them in `key`".into())
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                Some("base_url must end with its path: no ? and no #".into())
            }
            Ok(_) => None,
        };
        if let Some(wrong) = wrong {
            mistakes.add(at.key("base_url"), wrong);
        }
    }

    fn check_kind(&self, at: &At, mistakes: &mut Mistakes) {
        let (facts, name) = (self.kind.facts(), &self.name);
        for (setting, is_there) in self.present() {
            match facts.own_settings.iter().find(|(own, _)| *own == setting) {
                Some((_, true)) if !is_there => {
                    mistakes.add(
                        at.clone(),
                        format!("provider {name:?} needs {setting}: it is of the kind {}", facts.name),
                    );
                }
                None if is_there => {
                    mistakes
                        .add(at.key(setting), format!("{setting} means nothing for the kind {}", facts.name));
                }
                _ => (),
            }
        }
        match self.kind {
            ProviderKind::Vertex if self.service_account.is_some() == self.token.is_some() => {
                let what = format!("provider {name:?} needs service_account or token, and not both");
                mistakes.add(at.clone(), what);
            }
            ProviderKind::Vertex | ProviderKind::Bedrock if self.key.is_some() => {
                mistakes.add(at.key("key"), format!("key means nothing for the kind {}", facts.name));
            }
            ProviderKind::Vertex | ProviderKind::Bedrock => (),
            _ if facts.key_required && self.key.is_none() => {
                let what = format!(
                    "provider {name:?} needs a key: key = {{ env = \"NAME\" }} or {{ file = \"/path\" }}"
                );
                mistakes.add(at.clone(), what);
            }
            _ => (),
        }
    }

    fn check_header(&self, name: &str, value: &HeaderValue, at: &At, mistakes: &mut Mistakes) {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            mistakes.add(at.clone(), format!("{name:?} is no name of a header"));
        }
        if HEADERS_NOT_SET.contains(&name.to_ascii_lowercase().as_str()) {
            mistakes.add(
                at.clone(),
                format!("the header {name} is written by the server itself; name secrets in `key`"),
            );
        }
        if let HeaderValue::Plain(text) = value
            && !text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
        {
            mistakes
                .add(at.clone(), format!("the value of the header {name} must be one line of plain ASCII"));
        }
    }
}

/// Returns what is wrong with a name that goes into headers and metrics.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAME_LETTERS_MAX || !name.chars().all(is_plain) {
        return Err(format!("has 1 to {NAME_LETTERS_MAX} letters, digits, -, _ and .; got {name:?}"));
    }
    Ok(())
}

/// Words that are compared as they are written, so that `EU` and `eu` must not be two.
pub fn check_words(words: &[String], what: &str, at: &At, mistakes: &mut Mistakes) {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    for (nth, word) in words.iter().enumerate() {
        if word.is_empty() || !word.chars().all(is_plain) {
            mistakes.add(
                at.nth(nth),
                format!("{what} is a word in small letters, digits, - and _; got {word:?}"),
            );
        }
    }
}

impl PlaceTier {
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::OnPremises => "on_premises",
            Self::Cloud => "cloud",
        }
    }
}

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = HeaderValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or the place of a secret: { env = \"NAME\" }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderValue, E> {
                Ok(HeaderValue::Plain(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeaderValue, A::Error> {
                SecretSource::deserialize(MapAccessDeserializer::new(map)).map(HeaderValue::Secret)
            }
        }
        deserializer.deserialize_any(Value)
    }
}
