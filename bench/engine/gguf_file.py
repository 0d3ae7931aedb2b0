#!/usr/bin/env python3
"""How does a Hugging Face folder with bf16 weights become a GGUF file that llama.cpp and OpenVINO GenAI read?

  gguf_file.py FOLDER FILE.gguf

Every matrix stays bf16, bit for bit; llama.cpp's own `llama-quantize` makes the other precisions from that file. Covers what the
measured shapes need, Llama and Qwen3 without biases and Qwen3 with experts as transformers 5 keeps them, and refuses the rest.
"""

import json
import pathlib
import sys

import gguf
import numpy

# Hugging Face's names, and GGUF's. The first two keep the order of rows; see `turned`.
LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.experts.down_proj": "ffn_down_exps",
}
# Scores that send a row to another expert stay f32, as llama.cpp's converter keeps them.
ROUTER, GATES_AND_UPS = "mlp.gate", "mlp.experts.gate_up_proj"
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
# How llama.cpp cuts text before it looks for merges.
PRE_TOKENIZERS = {"llama": "llama-bpe", "qwen3": "qwen2", "qwen3_moe": "qwen2"}
ARCHITECTURES = {"qwen3_moe": "qwen3moe"}


def main():
    folder, file = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    config = json.loads((folder / "config.json").read_text())
    family = config["model_type"]
    if family not in PRE_TOKENIZERS:
        sys.exit(f"{folder} is a {family} model; only {', '.join(PRE_TOKENIZERS)} are converted here")
    half_done = file.with_suffix(".part")
    writer = gguf.GGUFWriter(half_done, ARCHITECTURES.get(family, family))
    describe(writer, config, folder.name)
    add_tokenizer(writer, folder, config)
    for name, bits in tensors(folder):
        add_tensor(writer, config, name, bits)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    half_done.rename(file)


def describe(writer, config, name):
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if "num_experts" in config:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


def add_tokenizer(writer, folder, config):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokens, kinds = [None] * config["vocab_size"], [gguf.TokenType.NORMAL] * config["vocab_size"]
    for text, number in tokenizer["model"]["vocab"].items():
        tokens[number] = text
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], gguf.TokenType.CONTROL
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZERS[config["model_type"]])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())


def tensors(folder):
    """Yields each tensor's name and its bf16 bits, from the mapped files."""
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if entry["dtype"] != "BF16":
                sys.exit(f"{path}: {name} is {entry['dtype']}, not BF16")
            yield name, numpy.memmap(path, numpy.uint16, "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))


def add_tensor(writer, config, name, bits):
    name = name.removesuffix(".weight")
    if name.startswith("model.layers."):
        _, _, layer, part = name.split(".", 3)
        if part == ROUTER:
            return writer.add_tensor(f"blk.{layer}.ffn_gate_inp.weight", floats(bits))
        if part == GATES_AND_UPS:
            for new, half in zip(["ffn_gate_exps", "ffn_up_exps"], numpy.split(bits, 2, axis=1)):
                add_bits(writer, f"blk.{layer}.{new}.weight", half)
            return
        new = f"blk.{layer}.{LAYER[part]}.weight"
    else:
        part, new = name, f"{WHOLE[name]}.weight"
    if bits.ndim == 1:
        # llama.cpp wants norms in f32.
        return writer.add_tensor(new, floats(bits))
    if config["model_type"] == "llama" and part == "self_attn.q_proj":
        bits = turned(bits, config["num_attention_heads"])
    if config["model_type"] == "llama" and part == "self_attn.k_proj":
        bits = turned(bits, config["num_key_value_heads"])
    add_bits(writer, new, bits)


def add_bits(writer, name, bits):
    writer.add_tensor(name, numpy.ascontiguousarray(bits).view(numpy.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)


def floats(bits):
    """Each bf16 is an f32 with zeros behind."""
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


def turned(bits, heads):
    """Rows as GGUF's Llama has them: the rotation turns neighbours there, and the two halves of a head in a Hugging Face folder."""
    rows, inputs = bits.shape
    return bits.reshape(heads, 2, rows // heads // 2, inputs).swapaxes(1, 2).reshape(rows, inputs)


if __name__ == "__main__":
    main()
