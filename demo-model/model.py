"""How does a Qwen3 decoder turn tokens into logits, in as little PyTorch as possible?

The names of the parameters are those of Hugging Face's `Qwen3ForCausalLM`, so a state dict
of this file is a checkpoint of that one. Training uses this twin because it is small
enough to read and skips everything that only matters for generation.
"""

import json
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The sizes of one model. Every width is a multiple of 128, so that any engine's
    quantization groups and vector lanes fit without tails (small: of 64)."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int = 64
    vocab_size: int = 4096
    max_position_embeddings: int = 4096
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6


SHAPES = {
    "main": Shape(384, 768, 6, 6, 2),
    "small": Shape(128, 384, 4, 2, 1),
}


def hugging_face_config(shape: Shape, end_ids: list[int], pad_id: int) -> dict:
    """Returns config.json in the form with `rope_theta` at the top level, which every engine reads."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **asdict(shape),
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "rope_scaling": None,
        "sliding_window": None,
        "use_sliding_window": False,
        "max_window_layers": shape.num_hidden_layers,
        "tie_word_embeddings": True,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": end_ids[0],
        "pad_token_id": pad_id,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.57.1",
    }


def shape_of(config_path) -> Shape:
    """Returns the shape written in a config.json."""
    config = json.loads(open(config_path, encoding="utf-8").read())
    return Shape(**{name: config[name] for name in Shape.__dataclass_fields__})


def rotary_tables(shape: Shape, length: int, device=None):
    """Returns cosines and sines [length, head_dim] in the half-split layout of Qwen and Llama."""
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32, device=device) / shape.head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), shape.rope_theta ** -half)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(states, cosines, sines):
    left, right = states.chunk(2, dim=-1)
    return states * cosines + torch.cat((-right, left), dim=-1) * sines


class RmsNorm(nn.Module):
    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, states):
        # The weight is cast so that reduced precision stays reduced: training is bound by memory traffic.
        return functional.rms_norm(states, states.shape[-1:], self.weight.to(states.dtype), self.epsilon)


class Attention(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        query_width = shape.num_attention_heads * shape.head_dim
        key_width = shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, query_width, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, key_width, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, key_width, bias=False)
        self.o_proj = nn.Linear(query_width, shape.hidden_size, bias=False)
        self.q_norm = RmsNorm(shape.head_dim, shape.rms_norm_eps)
        self.k_norm = RmsNorm(shape.head_dim, shape.rms_norm_eps)

    def forward(self, states, cosines, sines, mask, cache):
        batch, length, _ = states.shape
        heads = lambda projected: projected.view(batch, length, -1, self.shape.head_dim)
        query = rotate(self.q_norm(heads(self.q_proj(states))).transpose(1, 2), cosines, sines)
        key = rotate(self.k_norm(heads(self.k_proj(states))).transpose(1, 2), cosines, sines)
        value = heads(self.v_proj(states)).transpose(1, 2)
        if cache is not None:
            key, value = cache.append(self, key, value)
        if mask is not None:
            mixed = self.attend(query, key, value, mask)
        else:
            group = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=length > 1)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


    def attend(self, query, key, value, mask):
        """Returns attention under an additive mask, written out: PyTorch's fused backward pass on CPUs took
        five times as long as these plain products at the lengths we train on."""
        batch, heads, length, width = query.shape
        groups = key.shape[1]
        query = query.reshape(batch, groups, heads // groups * length, width) * width ** -0.5
        scores = torch.matmul(query, key.transpose(2, 3)).view(batch, groups, -1, length, length) + mask
        weights = torch.softmax(scores, dim=-1, dtype=scores.dtype).view(batch, groups, -1, length)
        return torch.matmul(weights, value).view(batch, heads, length, width)


class Mlp(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, states):
        return self.down_proj(functional.silu(self.gate_proj(states)) * self.up_proj(states))


class Layer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, states, cosines, sines, mask, cache):
        states = states + self.self_attn(self.input_layernorm(states), cosines, sines, mask, cache)
        return states + self.mlp(self.post_attention_layernorm(states))


class Body(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)


class KeyValueCache:
    """Keys and values of one equal-length batch, for greedy decoding in the evaluation."""

    def __init__(self):
        self.entries = {}

    @property
    def length(self) -> int:
        return next((key.shape[2] for key, _ in self.entries.values()), 0)

    def append(self, attention, key, value):
        if attention in self.entries:
            old_key, old_value = self.entries[attention]
            key, value = torch.cat((old_key, key), dim=2), torch.cat((old_value, value), dim=2)
        self.entries[attention] = (key, value)
        return key, value


class Qwen3(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        cosines, sines = rotary_tables(shape, shape.max_position_embeddings)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        self.apply(self._initialise)

    def _initialise(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    def hidden(self, tokens, mask=None, cache: KeyValueCache | None = None):
        """Returns the normed last hidden states [batch, length, hidden]."""
        start = cache.length if cache is not None else 0
        states = self.model.embed_tokens(tokens)
        if torch.is_autocast_enabled(tokens.device.type):
            states = states.to(torch.get_autocast_dtype(tokens.device.type))
        positions = slice(start, start + tokens.shape[1])
        cosines, sines = self.cosines[positions].to(states.dtype), self.sines[positions].to(states.dtype)
        for layer in self.model.layers:
            states = layer(states, cosines, sines, mask, cache)
        return self.model.norm(states)

    def logits(self, hidden):
        """Returns logits: the output matrix is the embedding (tied)."""
        return functional.linear(hidden, self.model.embed_tokens.weight)

    def forward(self, tokens, mask=None, cache: KeyValueCache | None = None):
        return self.logits(self.hidden(tokens, mask, cache))


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
