//! Which of our kinds is a provider that LiteLLM knows by a prefix? `groq/llama-3.3-70b` is asked of Groq.
//!
//! Prefixes, addresses and the names of environment variables are those of LiteLLM's public documentation.

/// What a prefix stands for.
pub struct Known {
    pub prefix: &'static str,
    pub kind: &'static str,
    /// Whose prices the catalogue has.
    pub vendor: &'static str,
    /// Where it is, when `api_base` does not say.
    pub base_url: Option<&'static str>,
    /// The environment variable that LiteLLM takes the key from, when `api_key` does not say.
    pub key: Option<&'static str>,
}

const fn row(
    prefix: &'static str,
    kind: &'static str,
    vendor: &'static str,
    base_url: Option<&'static str>,
    key: Option<&'static str>,
) -> Known {
    Known { prefix, kind, vendor, base_url, key }
}

const SAME: &str = "openai_compatible";

pub const KNOWN: [Known; 32] = [
    row("openai", "openai", "openai", None, Some("OPENAI_API_KEY")),
    row("azure", "azure", "openai", None, Some("AZURE_API_KEY")),
    row("azure_ai", SAME, "azure_ai", None, Some("AZURE_AI_API_KEY")),
    row("anthropic", "anthropic", "anthropic", None, Some("ANTHROPIC_API_KEY")),
    row("gemini", "gemini", "google", None, Some("GEMINI_API_KEY")),
    row("vertex_ai", "vertex", "google", None, None),
    row("vertex_ai_beta", "vertex", "google", None, None),
    row("bedrock", "bedrock", "bedrock", None, None),
    row("bedrock_converse", "bedrock", "bedrock", None, None),
    row("groq", SAME, "groq", Some("https://api.groq.com/openai/v1"), Some("GROQ_API_KEY")),
    row("together_ai", SAME, "together", Some("https://api.together.xyz/v1"), Some("TOGETHERAI_API_KEY")),
    row("mistral", SAME, "mistral", Some("https://api.mistral.ai/v1"), Some("MISTRAL_API_KEY")),
    row("codestral", SAME, "mistral", Some("https://codestral.mistral.ai/v1"), Some("CODESTRAL_API_KEY")),
    row("deepseek", SAME, "deepseek", Some("https://api.deepseek.com/v1"), Some("DEEPSEEK_API_KEY")),
    row("xai", SAME, "xai", Some("https://api.x.ai/v1"), Some("XAI_API_KEY")),
    row("openrouter", SAME, "openrouter", Some("https://openrouter.ai/api/v1"), Some("OPENROUTER_API_KEY")),
    row(
        "fireworks_ai",
        SAME,
        "fireworks",
        Some("https://api.fireworks.ai/inference/v1"),
        Some("FIREWORKS_AI_API_KEY"),
    ),
    row("perplexity", SAME, "perplexity", Some("https://api.perplexity.ai"), Some("PERPLEXITYAI_API_KEY")),
    row("cerebras", SAME, "cerebras", Some("https://api.cerebras.ai/v1"), Some("CEREBRAS_API_KEY")),
    row("moonshot", SAME, "moonshot", Some("https://api.moonshot.ai/v1"), Some("MOONSHOT_API_KEY")),
    row(
        "nvidia_nim",
        SAME,
        "nvidia_nim",
        Some("https://integrate.api.nvidia.com/v1"),
        Some("NVIDIA_NIM_API_KEY"),
    ),
    row(
        "deepinfra",
        SAME,
        "deepinfra",
        Some("https://api.deepinfra.com/v1/openai"),
        Some("DEEPINFRA_API_KEY"),
    ),
    row("sambanova", SAME, "sambanova", Some("https://api.sambanova.ai/v1"), Some("SAMBANOVA_API_KEY")),
    row("hosted_vllm", SAME, "hosted_vllm", None, None),
    row("vllm", SAME, "vllm", None, None),
    row("ollama", SAME, "ollama", Some("http://localhost:11434/v1"), None),
    row("ollama_chat", SAME, "ollama", Some("http://localhost:11434/v1"), None),
    row("lm_studio", SAME, "lm_studio", None, None),
    row("llamafile", SAME, "llamafile", None, None),
    row("xinference", SAME, "xinference", None, None),
    row("litellm_proxy", SAME, "litellm_proxy", None, None),
    row("custom_openai", SAME, "custom_openai", None, None),
];

/// Providers that are in LiteLLM and speak no wire format of ours.
const FOREIGN: [&str; 16] = [
    "ai21",
    "aiohttp_openai",
    "cloudflare",
    "cohere",
    "cohere_chat",
    "databricks",
    "huggingface",
    "nlp_cloud",
    "petals",
    "predibase",
    "replicate",
    "sagemaker",
    "sagemaker_chat",
    "triton",
    "voyage",
    "watsonx",
];

/// Returns who is meant and the provider's own name of the model, or why it cannot be said.
pub fn of(model: &str, has_address: bool) -> Result<(&'static Known, &str), String> {
    if model.contains('*') {
        return Err("a wildcard stands for models that nobody has named; name each as a [[model]]".into());
    }
    if let Some((prefix, rest)) = model.split_once('/') {
        if let Some(known) = KNOWN.iter().find(|known| known.prefix == prefix) {
            // `openai/` with an address of its own is how LiteLLM calls any compatible server.
            let is_other_server = known.prefix == "openai" && has_address;
            let known = if is_other_server { by_prefix("custom_openai") } else { known };
            let rest = rest.strip_prefix("converse/").filter(|_| known.kind == "bedrock").unwrap_or(rest);
            return Ok((known, rest));
        }
        if FOREIGN.contains(&prefix) {
            return Err(format!("{prefix} speaks a wire format that Baseload does not"));
        }
    }
    if has_address {
        return Ok((by_prefix("custom_openai"), model));
    }
    let begins = |words: &[&str]| words.iter().any(|word| model.starts_with(word));
    if begins(&["gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-"]) {
        return Ok((by_prefix("openai"), model));
    }
    if begins(&["claude"]) {
        return Ok((by_prefix("anthropic"), model));
    }
    Err("its provider cannot be told from its name; write it as a [[model]] with its provider".into())
}

fn by_prefix(prefix: &str) -> &'static Known {
    KNOWN.iter().find(|known| known.prefix == prefix).expect("the prefix stands in the table")
}
