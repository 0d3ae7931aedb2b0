"""How does build/train.jsonl become a tokenizer and arrays of tokens?"""

import argparse
import json
from pathlib import Path

import numpy
from tokenizers import Tokenizer
from tqdm import tqdm

from chat import assistant_mask, render, train_tokenizer

BUILD = Path(__file__).parent / "build"


def rendered(lines):
    for line in lines:
        row = json.loads(line)
        yield render(row["messages"], row.get("tools"), style=row.get("tool_style", "spaced"))


def tokenizer_for(train: Path) -> Tokenizer:
    path = BUILD / "tokenizer.json"
    if not path.exists():
        with train.open(encoding="utf-8") as lines:
            train_tokenizer(text for _, text in zip(range(20_000), rendered(lines))).save(str(path))
    return Tokenizer.from_file(str(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, default=BUILD / "train.jsonl")
    options = parser.parse_args()
    tokenizer = tokenizer_for(options.train)
    tokens, wanted, starts = [], [], [0]
    with options.train.open(encoding="utf-8") as lines:
        for text in tqdm(rendered(lines), desc="tokens"):
            ids = tokenizer.encode(text).ids
            tokens.extend(ids)
            wanted.extend(assistant_mask(ids, tokenizer))
            starts.append(len(tokens))
    numpy.savez(BUILD / "train.npz", tokens=numpy.array(tokens, numpy.int16), wanted=numpy.array(wanted, bool), starts=numpy.array(starts, numpy.int64))
    lengths = numpy.diff(starts)
    print(f"{len(lengths)} documents, {len(tokens)} tokens, {sum(wanted)} of the assistant, longest {lengths.max()}, 99th {numpy.percentile(lengths, 99)}, mean {lengths.mean():.0f}")


if __name__ == "__main__":
    main()
