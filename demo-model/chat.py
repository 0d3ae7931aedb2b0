"""Which exact text, and which tokens, does a list of chat messages become?

The one template in chat_template.jinja is used for training, for the evaluation and by
every engine that loads the model, so that none of them can drift apart.
"""

import json
from pathlib import Path

import jinja2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKERS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>", "<think>", "</think>"]
VOCABULARY = 4096
# The split of the Qwen family: single digits, and a space that belongs to the word after it.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _tojson(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def _compact(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _sorted(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _template(tojson):
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = tojson
    return environment.from_string((HERE / "chat_template.jinja").read_text(encoding="utf-8"))


# Engines print the JSON of tools with or without spaces and in their own key order; the model sees all of these.
TEMPLATES = {"spaced": _template(_tojson), "compact": _template(_compact), "sorted": _template(_sorted)}


def render(messages: list[dict], tools=None, answer_next: bool = False, style: str = "spaced") -> str:
    """Returns the text of a chat; calls are always spaced, because that is what the model should write."""
    calls_as_text = [_with_call_text(message) for message in messages]
    return TEMPLATES[style].render(messages=calls_as_text, tools=tools, add_generation_prompt=answer_next)


def _with_call_text(message: dict) -> dict:
    if not message.get("tool_calls"):
        return message
    calls = [{"function": {"name": call["function"]["name"], "arguments": _tojson(call["function"]["arguments"])}} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def train_tokenizer(texts) -> Tokenizer:
    """Returns a byte-level BPE whose last numbers are the special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    room = VOCABULARY - len(SPECIAL) - len(MARKERS)
    trainer = trainers.BpeTrainer(vocab_size=room, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.get_vocab_size() == room, f"the text is too small: {tokenizer.get_vocab_size()} tokens"
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    # Markers stay visible when special tokens are skipped, because parsers look for them.
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in MARKERS])
    return tokenizer


def tokenizer_config() -> dict:
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "split_special_tokens": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
        "chat_template": (HERE / "chat_template.jinja").read_text(encoding="utf-8"),
    }


def assistant_mask(ids: list[int], tokenizer: Tokenizer) -> list[bool]:
    """Returns for each token whether the assistant wrote it, its end token included."""
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    header = [start] + tokenizer.encode("assistant\n").ids
    mask, index, inside = [False] * len(ids), 0, False
    while index < len(ids):
        if ids[index:index + len(header)] == header:
            index, inside = index + len(header), True
            continue
        mask[index] = inside
        if ids[index] == end:
            inside = False
        index += 1
    return mask
