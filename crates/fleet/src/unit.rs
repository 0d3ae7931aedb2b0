//! What can answer, as far as it never changes while requests run?

use std::fmt;
use std::str::FromStr;

use domain::{ModelName, Provider, ServiceTier, name};
use serde::{Deserialize, Serialize};

name! {
    /// One model at one provider, such as `claude-sonnet-5.5@anthropic`; several engines of one provider add `#2`.
    UnitId
}
name! {
    /// Under whose law data is processed, as the operator writes it: `eu`, `de`, `us`. Names are compared, not understood.
    Jurisdiction
}
name! {
    /// How sensitive data is, as the operator writes it: `public`, `personal`.
    DataClass
}
name! {
    /// A group of models that stand in for each other, as the operator writes it: `frontier`.
    ModelClass
}

impl UnitId {
    pub fn of(model: &ModelName, provider: &Provider) -> Self {
        Self::new(format!("{model}@{provider}"))
    }
}

/// One model at one provider, or in one engine: the facts of its configuration.
#[derive(Clone, Debug)]
pub struct Unit {
    pub id: UnitId,
    /// The name that clients write.
    pub model: ModelName,
    pub provider: Provider,
    pub tier: Tier,
    /// Everywhere that it may process what it is sent. Empty is unknown, which no residency rule admits.
    pub jurisdictions: Vec<Jurisdiction>,
    /// What may be sent there; `None` is anything.
    pub data_classes: Option<Vec<DataClass>>,
    pub classes: Vec<ModelClass>,
    pub capabilities: Capabilities,
    /// Prompt and answer together.
    pub context_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    /// From 0 to 100, by the operator's own measure.
    pub quality: Option<u8>,
    /// Empty means the standard tier alone.
    pub service_tiers: Vec<ServiceTier>,
    pub concurrency_max: Option<u32>,
    pub caching: Caching,
}

impl Unit {
    /// Returns a unit in the cloud that can chat, of which nothing else is known: a base to fill in from.
    pub fn new(model: ModelName, provider: Provider) -> Self {
        Self {
            id: UnitId::of(&model, &provider),
            model,
            provider,
            tier: Tier::Cloud,
            jurisdictions: Vec::new(),
            data_classes: None,
            classes: Vec::new(),
            capabilities: Capabilities::of(&[Capability::Chat]),
            context_tokens: None,
            max_output_tokens: None,
            quality: None,
            service_tiers: Vec::new(),
            concurrency_max: None,
            caching: Caching::default(),
        }
    }
}

/// Who owns the machines, in the order in which capacity is usually preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    Edge,
    OnPremises,
    Cloud,
}

impl Tier {
    pub const ALL: [Tier; 3] = [Self::Edge, Self::OnPremises, Self::Cloud];

    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::OnPremises => "on_premises",
            Self::Cloud => "cloud",
        }
    }
}

/// How a unit bills a prompt whose beginning it has seen lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caching {
    /// Always at the full price.
    #[default]
    Nothing,
    /// What is read from the cache costs less; what is written there costs as plain input.
    Free,
    /// What is read costs less; what is written, up to the prompt's last mark, costs the price of writing.
    Charged,
}

/// One thing that a request may need and a unit may offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Capability {
    Chat,
    Completions,
    Embeddings,
    Tools,
    Images,
    Documents,
    Audio,
    /// Answers that follow a JSON schema.
    Structured,
    Reasoning,
    Logprobs,
    /// Several answers to one prompt.
    Choices,
    /// Tools and fields of one dialect that no other can express.
    NativeOpenai,
    NativeAnthropic,
    NativeGemini,
    NativeBedrock,
}

impl Capability {
    pub const ALL: [Capability; 15] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Tools,
        Self::Images,
        Self::Documents,
        Self::Audio,
        Self::Structured,
        Self::Reasoning,
        Self::Logprobs,
        Self::Choices,
        Self::NativeOpenai,
        Self::NativeAnthropic,
        Self::NativeGemini,
        Self::NativeBedrock,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Tools => "tools",
            Self::Images => "images",
            Self::Documents => "documents",
            Self::Audio => "audio",
            Self::Structured => "structured",
            Self::Reasoning => "reasoning",
            Self::Logprobs => "logprobs",
            Self::Choices => "choices",
            Self::NativeOpenai => "native:openai",
            Self::NativeAnthropic => "native:anthropic",
            Self::NativeGemini => "native:gemini",
            Self::NativeBedrock => "native:bedrock",
        }
    }
}

/// A set of capabilities, written as the list of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Vec<Capability>", from = "Vec<Capability>")]
pub struct Capabilities(u32);

impl Capabilities {
    pub const NONE: Capabilities = Capabilities(0);

    pub fn of(capabilities: &[Capability]) -> Self {
        capabilities.iter().fold(Self::NONE, |set, &capability| set.with(capability))
    }
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u32)
    }
    pub fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u32 != 0
    }
    /// Returns what is in this set and not in the other.
    #[must_use]
    pub fn without(self, other: Capabilities) -> Self {
        Self(self.0 & !other.0)
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |&capability| self.has(capability))
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Capability::name).collect();
        f.write_str(&names.join(", "))
    }
}

/// A name that is none of those that exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is no {what}: it is one of {known}")]
pub struct UnknownName {
    what: &'static str,
    got: String,
    known: String,
}

impl UnknownName {
    fn new<'a>(what: &'static str, got: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<_> = known.collect();
        Self { what, got: got.chars().take(64).collect(), known: known.join(", ") }
    }
}

impl FromStr for Capability {
    type Err = UnknownName;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|capability| capability.name() == name);
        found.ok_or_else(|| UnknownName::new("capability", name, Self::ALL.into_iter().map(Self::name)))
    }
}
impl FromStr for Tier {
    type Err = UnknownName;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|tier| tier.name() == name);
        found.ok_or_else(|| UnknownName::new("tier", name, Self::ALL.into_iter().map(Self::name)))
    }
}
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
impl From<Capability> for String {
    fn from(capability: Capability) -> String {
        capability.name().to_owned()
    }
}
impl TryFrom<String> for Capability {
    type Error = UnknownName;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}
impl From<Capabilities> for Vec<Capability> {
    fn from(set: Capabilities) -> Self {
        set.iter().collect()
    }
}
impl From<Vec<Capability>> for Capabilities {
    fn from(list: Vec<Capability>) -> Self {
        Self::of(&list)
    }
}
