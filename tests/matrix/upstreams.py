"""Who can be behind the door, what can each of them do, and how is it written in the configuration?"""

import dataclasses

CHAT = {"chat", "tools", "images", "structured", "reasoning"}
SURFACES = ["chat", "responses", "messages"]
OWN = {"chat", "tools", "reasoning"}


@dataclasses.dataclass(frozen=True)
class Upstream:
    name: str
    # The stand-in that plays it; None is an engine of ours.
    standin: str | None
    provider: str
    model: str
    # The model that thinks, where it is another one.
    thinker: str
    capabilities: frozenset
    # Repeated beginnings are found again without being marked.
    caches_by_itself: bool = False
    # Says how many of its tokens were reasoning.
    counts_reasoning: bool = True
    # Shows what it reasoned.
    shows_reasoning: bool = True


PRICE = 'price = { input = "1", cached = "0.1", cache_write_5m = "1.25", cache_write_1h = "2", output = "10" }'
# What PRICE means, in picodollars for a token.
PICO = {"input_uncached": 1_000_000, "cache_read": 100_000, "cache_write_5m": 1_250_000, "cache_write_1h": 2_000_000, "output": 10_000_000}

UPSTREAMS = [
    Upstream("openai", "openai", 'kind = "openai"\nbase_url = "{url}/v1"\nkey = {{ env = "STANDIN_KEY" }}', "gpt-standin", "gpt-5-standin",
             frozenset(CHAT), caches_by_itself=True, shows_reasoning=False),
    Upstream("azure", "azure", 'kind = "azure"\nbase_url = "{url}"\napi_version = "2025-04-01-preview"\nkey = {{ env = "STANDIN_KEY" }}',
             "gpt-standin", "gpt-5-standin", frozenset(CHAT), caches_by_itself=True, shows_reasoning=False),
    Upstream("anthropic", "anthropic", 'kind = "anthropic"\nbase_url = "{url}"\nkey = {{ env = "STANDIN_KEY" }}', "claude-standin", "claude-standin",
             frozenset(CHAT)),
    Upstream("gemini", "gemini", 'kind = "gemini"\nbase_url = "{url}/v1beta"\nkey = {{ env = "STANDIN_KEY" }}', "gemini-2.5-standin", "gemini-3-standin",
             frozenset(CHAT), caches_by_itself=True),
    Upstream("vertex", "vertex", 'kind = "vertex"\nbase_url = "{url}"\nproject = "p"\nlocation = "us-central1"\nservice_account = {{ file = "{account}" }}',
             "gemini-2.5-standin", "gemini-3-standin", frozenset(CHAT), caches_by_itself=True),
    Upstream("bedrock", "bedrock", 'kind = "bedrock"\nbase_url = "{url}"\nregion = "us-east-1"\naccess_key = {{ env = "STANDIN_KEY" }}\n'
             'secret_key = {{ env = "STANDIN_SECRET" }}', "anthropic.claude-standin-v1:0", "anthropic.claude-standin-v1:0", frozenset(CHAT),
             counts_reasoning=False),
    Upstream("compatible", "compatible", 'kind = "openai_compatible"\nbase_url = "{url}/v1"\nkey = {{ env = "STANDIN_KEY" }}', "m-standin", "m-standin",
             frozenset({"chat", "tools", "structured", "reasoning"}), caches_by_itself=True, counts_reasoning=False),
    Upstream("baseload", None, 'kind = "baseload"\nbase_url = "{other}/v1"', "small", "small", frozenset(OWN)),
    Upstream("embedded", None, "", "small", "small", frozenset(OWN)),
]


def configuration(upstreams, standins, other, account):
    """The file for the door: a model `m-NAME` for each upstream, `r-NAME` that thinks, and one whose failures are its own
    for each surface: a breaker that one has opened shall not be in the way of the next."""
    lines = []
    for up in upstreams:
        if up.name == "embedded":
            lines.append(f'[[model]]\nname = "m-embedded"\naliases = ["r-embedded", "e-chat-embedded", "e-responses-embedded", "e-messages-embedded"]\npath = "bundled:small"\n{PRICE}\n')
            continue
        url = standins.url(up.standin) if up.standin else ""
        lines.append(f'[[provider]]\nname = "{up.name}"\n' + up.provider.format(url=url, other=other, account=account) + "\n")
        able = ", ".join(f'"{name}"' for name in sorted(up.capabilities))
        for prefix, model in ("m", up.model), ("r", up.thinker), *((f"e-{surface}", up.model) for surface in SURFACES):
            lines.append(f'[[model]]\nname = "{prefix}-{up.name}"\nprovider = "{up.name}"\nid = "{model}"\ncapabilities = [{able}]\n{PRICE}\n')
    return "\n".join(lines)
