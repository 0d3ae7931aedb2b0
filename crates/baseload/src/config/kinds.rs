//! What goes without saying about each kind of provider? One row a kind; a new one is a row here and a dialect.

use serde::Deserialize;

/// Which wire format a provider speaks, and how one proves who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    Openai,
    Azure,
    Anthropic,
    Gemini,
    Vertex,
    Bedrock,
    OpenaiCompatible,
    Baseload,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    Chat,
    Completions,
    Tools,
    Images,
    Documents,
    Audio,
    Structured,
    Reasoning,
    Logprobs,
    /// Several answers to one prompt.
    Choices,
    Embeddings,
}

/// How a request proves who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthForm {
    /// `authorization: Bearer …`
    Bearer,
    /// A header of this name.
    Header(&'static str),
    /// AWS signature version 4.
    Signed,
    /// A Google access token, given or fetched for a service account.
    Google,
}

/// One row.
pub struct KindFacts {
    pub kind: ProviderKind,
    pub name: &'static str,
    /// `{region}` and `{location}` stand for the settings of these names; `None` must be given.
    pub base_url: Option<&'static str>,
    pub auth: AuthForm,
    /// Whether an address without a path means the one that ends in `/v1`.
    pub is_openai_like: bool,
    /// Whether one can do without proof: servers of one's own often need none.
    pub key_required: bool,
    pub capabilities: &'static [Capability],
    /// The settings that mean something for this kind alone, and whether each must be there.
    pub own_settings: &'static [(&'static str, bool)],
}

use Capability::{
    Audio, Chat, Choices, Completions, Documents, Embeddings, Images, Logprobs, Reasoning, Structured, Tools,
};

/// Every capability that the kind's wire format can carry. A model of it may have fewer: say so in its `capabilities`.
pub const KINDS: [KindFacts; 8] = [
    KindFacts {
        kind: ProviderKind::Openai,
        name: "openai",
        base_url: Some("https://api.openai.com/v1"),
        auth: AuthForm::Bearer,
        is_openai_like: true,
        key_required: true,
        capabilities: &[
            Chat, Tools, Images, Documents, Audio, Structured, Reasoning, Logprobs, Choices, Embeddings,
        ],
        own_settings: &[],
    },
    KindFacts {
        kind: ProviderKind::Azure,
        name: "azure",
        base_url: None,
        auth: AuthForm::Header("api-key"),
        is_openai_like: false,
        key_required: true,
        capabilities: &[
            Chat, Tools, Images, Documents, Audio, Structured, Reasoning, Logprobs, Choices, Embeddings,
        ],
        own_settings: &[("api_version", false)],
    },
    KindFacts {
        kind: ProviderKind::Anthropic,
        name: "anthropic",
        base_url: Some("https://api.anthropic.com"),
        auth: AuthForm::Header("x-api-key"),
        is_openai_like: false,
        key_required: true,
        capabilities: &[Chat, Tools, Images, Documents, Structured, Reasoning],
        own_settings: &[],
    },
    KindFacts {
        kind: ProviderKind::Gemini,
        name: "gemini",
        base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
        auth: AuthForm::Header("x-goog-api-key"),
        is_openai_like: false,
        key_required: true,
        capabilities: &[
            Chat, Tools, Images, Documents, Audio, Structured, Reasoning, Logprobs, Choices, Embeddings,
        ],
        own_settings: &[],
    },
    KindFacts {
        kind: ProviderKind::Vertex,
        name: "vertex",
        base_url: Some("https://{location}-aiplatform.googleapis.com"),
        auth: AuthForm::Google,
        is_openai_like: false,
        key_required: true,
        capabilities: &[
            Chat, Tools, Images, Documents, Audio, Structured, Reasoning, Logprobs, Choices, Embeddings,
        ],
        own_settings: &[("project", true), ("location", true), ("service_account", false), ("token", false)],
    },
    KindFacts {
        kind: ProviderKind::Bedrock,
        name: "bedrock",
        base_url: Some("https://bedrock-runtime.{region}.amazonaws.com"),
        auth: AuthForm::Signed,
        is_openai_like: false,
        key_required: true,
        capabilities: &[Chat, Tools, Images, Documents, Structured, Reasoning],
        own_settings: &[
            ("region", true),
            ("access_key", true),
            ("secret_key", true),
            ("session_token", false),
        ],
    },
    KindFacts {
        kind: ProviderKind::OpenaiCompatible,
        name: "openai_compatible",
        base_url: None,
        auth: AuthForm::Bearer,
        is_openai_like: true,
        key_required: false,
        capabilities: &[Chat, Completions, Tools, Structured, Reasoning, Logprobs, Choices, Embeddings],
        own_settings: &[],
    },
    KindFacts {
        kind: ProviderKind::Baseload,
        name: "baseload",
        base_url: None,
        auth: AuthForm::Bearer,
        is_openai_like: true,
        key_required: false,
        capabilities: &[Chat, Completions, Tools, Reasoning, Logprobs, Choices],
        own_settings: &[],
    },
];

/// What the embedded engine can do.
pub const EMBEDDED_CAPABILITIES: &[Capability] = &[Chat, Completions, Tools, Reasoning, Logprobs, Choices];

impl ProviderKind {
    pub fn facts(self) -> &'static KindFacts {
        KINDS.iter().find(|facts| facts.kind == self).expect("every kind has a row")
    }

    pub fn name(self) -> &'static str {
        self.facts().name
    }
}

impl Capability {
    pub fn name(self) -> &'static str {
        match self {
            Chat => "chat",
            Completions => "completions",
            Tools => "tools",
            Images => "images",
            Documents => "documents",
            Audio => "audio",
            Structured => "structured",
            Reasoning => "reasoning",
            Logprobs => "logprobs",
            Choices => "choices",
            Embeddings => "embeddings",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_called_in_files_what_its_row_says() {
        #[derive(Deserialize)]
        struct Named {
            kind: ProviderKind,
        }
        for facts in &KINDS {
            let named: Named = toml::from_str(&format!("kind = {:?}", facts.name)).unwrap();
            assert_eq!(named.kind, facts.kind);
            assert_eq!(named.kind.name(), facts.name);
        }
    }
}
