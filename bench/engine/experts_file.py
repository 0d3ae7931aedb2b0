#!/usr/bin/env python3
"""Makes a folder of random weights with experts, in Qwen3-30B-A3B's form and of a size that fits a small machine.

  experts_file.py TOKENIZER_FOLDER OUT_FOLDER

64 experts of which each row passes 8, as there 8 of 128; 1.0 billion parameters, of which a token meets a third. Tokenizer and chat
template are another model's: speed does not depend on what a model says.
"""

import hashlib
import json
import pathlib
import shutil
import struct
import sys

import numpy

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 3072,
    "moe_intermediate_size": 384,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "tie_word_embeddings": True,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 40960,
    "hidden_act": "silu",
    "attention_bias": False,
}
COPIED = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]


def main():
    source, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    theirs = json.loads((source / "config.json").read_text())
    config = CONFIG | {name: theirs[name] for name in ["vocab_size", "bos_token_id", "eos_token_id"]}
    for name in COPIED:
        shutil.copy(source / name, folder / name)
    tensors = list(shapes(config))
    header, end = {}, 0
    for name, shape, _ in tensors:
        begin, end = end, end + 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    part = folder / "model.part"
    with open(part, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, spread in tensors:
            drawn(name, shape, spread).tofile(file)
    part.rename(folder / "model.safetensors")
    # The folder is complete when this is there.
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def shapes(config):
    """Names, shapes and spreads; what writes to the stream is smaller, so that it stays of one size at any depth."""
    hidden, width, experts = config["hidden_size"], config["moe_intermediate_size"], config["num_experts"]
    dim = config["head_dim"]
    queries, keys = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    small = (2 * config["num_hidden_layers"]) ** -0.5
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden), 0.02
    for layer in range(config["num_hidden_layers"]):
        place = f"model.layers.{layer}."
        yield place + "input_layernorm.weight", (hidden,), None
        yield place + "self_attn.q_proj.weight", (queries, hidden), 0.6 * hidden**-0.5
        yield place + "self_attn.k_proj.weight", (keys, hidden), 0.6 * hidden**-0.5
        yield place + "self_attn.v_proj.weight", (keys, hidden), 0.6 * hidden**-0.5
        yield place + "self_attn.o_proj.weight", (hidden, queries), small * queries**-0.5
        yield place + "self_attn.q_norm.weight", (dim,), None
        yield place + "self_attn.k_norm.weight", (dim,), None
        yield place + "post_attention_layernorm.weight", (hidden,), None
        yield place + "mlp.gate.weight", (experts, hidden), 2 * hidden**-0.5
        yield place + "mlp.experts.gate_up_proj", (experts, 2 * width, hidden), 0.6 * hidden**-0.5
        yield place + "mlp.experts.down_proj", (experts, hidden, width), small * width**-0.5
    yield "model.norm.weight", (hidden,), None


def drawn(name, shape, spread):
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    normal = numpy.random.Generator(numpy.random.SFC64(seed)).standard_normal(shape, dtype=numpy.float32)
    values = 1 + 0.1 * normal.clip(-2, 2) if spread is None else normal * numpy.float32(spread)
    bits = values.view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)


if __name__ == "__main__":
    main()
