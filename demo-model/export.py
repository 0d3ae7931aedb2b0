"""How does a checkpoint become a Hugging Face folder that any engine can load?"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from chat import tokenizer_config
from model import SHAPES, hugging_face_config

HERE = Path(__file__).parent
BUILD = HERE / "build"


def write_json(path: Path, value: dict):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def export(name: str):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    weights = torch.load(BUILD / f"{name}.pt", weights_only=True)["model"]
    save_file({key: value.to(torch.bfloat16).contiguous() for key, value in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    tokenizer = Tokenizer.from_file(str(BUILD / "tokenizer.json"))
    end, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    assert tokenizer.get_vocab_size() == SHAPES[name].vocab_size
    shutil.copy(BUILD / "tokenizer.json", folder / "tokenizer.json")
    shutil.copy(HERE / "chat_template.jinja", folder / "chat_template.jinja")
    write_json(folder / "tokenizer_config.json", tokenizer_config())
    write_json(folder / "config.json", hugging_face_config(SHAPES[name], [end, pad], pad))
    # Greedy by default: so small a model only loses by sampling.
    write_json(folder / "generation_config.json", {"do_sample": False, "eos_token_id": [end, pad], "pad_token_id": pad, "max_new_tokens": 256})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    for name in parser.parse_args().names or SHAPES:
        export(name)


if __name__ == "__main__":
    main()
