"""How does build/train.jsonl become a tokenizer and arrays of tokens?

The committed tokenizer is kept where there is one, so that token numbers stay what others rely on;
`--new-tokenizer` learns one from the text.
"""

import argparse
import json
import shutil
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


def tokenizer_for(train: Path, renew: bool) -> Tokenizer:
    path, committed = BUILD / "tokenizer.json", BUILD.parent / "main" / "tokenizer.json"
    if committed.exists() and not renew:
        shutil.copy(committed, path)
    else:
        with train.open(encoding="utf-8") as lines:
            train_tokenizer(text for _, text in zip(range(20_000), rendered(lines))).save(str(path))
    return Tokenizer.from_file(str(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, default=BUILD / "train.jsonl")
    parser.add_argument("--new-tokenizer", action="store_true")
    options = parser.parse_args()
    tokenizer = tokenizer_for(options.train, options.new_tokenizer)
    tokens, wanted, starts = [], [], [0]
    with options.train.open(encoding="utf-8") as lines:
        for text in tqdm(rendered(lines), desc="tokens", mininterval=5):
            ids = tokenizer.encode(text).ids
            tokens.extend(ids)
            wanted.extend(assistant_mask(ids, tokenizer))
            starts.append(len(tokens))
    numpy.savez(BUILD / "train.npz", tokens=numpy.array(tokens, numpy.int16), wanted=numpy.array(wanted, bool), starts=numpy.array(starts, numpy.int64))
    lengths = numpy.diff(starts)
    print(f"{len(lengths)} documents, {len(tokens)} tokens, {sum(wanted)} of the assistant, longest {lengths.max()}, 99th {numpy.percentile(lengths, 99)}, mean {lengths.mean():.0f}")


if __name__ == "__main__":
    main()
