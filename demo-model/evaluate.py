"""How often are the two models right on questions they never saw, and how far apart are they?

    python evaluate.py --local main --local small --agreement --write    # in process, for the card
    python evaluate.py --base-url http://127.0.0.1:8080 --model main     # any OpenAI-compatible server; stdlib only

Answers are greedy. The rules of judging are in judge.py; the questions in corpus/heldout.jsonl.
"""

import argparse
import json
import math
import os
import sys
import time
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from judge import parse_object, verdict

HERE = Path(__file__).parent
GROUPS = {"held-out paraphrases": ["glossary", "baseload", "small_talk"], "JSON": ["extract", "classify"]}
MAX_TOKENS = 96


def held_out_items() -> list[dict]:
    return [json.loads(line) for line in (HERE / "corpus" / "heldout.jsonl").open(encoding="utf-8")]


# --- answers from a server ---

def ask_server(options, item: dict) -> tuple[str, list | None]:
    body = {"model": options.model, "messages": item["messages"][:-1], "temperature": 0, "max_tokens": MAX_TOKENS}
    if item.get("tools"):
        body["tools"] = item["tools"]
    headers = {"content-type": "application/json"}
    if key := os.environ.get(options.key_variable):
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(options.base_url.rstrip("/") + "/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as reply:
        message = json.load(reply)["choices"][0]["message"]
    calls = [{"name": call["function"]["name"], "arguments": parse_object(call["function"]["arguments"])} for call in message.get("tool_calls") or []]
    return message.get("content") or "", calls or None


def answers_from_server(options, items):
    with ThreadPoolExecutor(options.parallel) as pool:
        return list(pool.map(lambda item: ask_server(options, item), items))


# --- answers in process ---

class Local:
    """A model of this folder, in float32 from its committed bf16 weights."""

    def __init__(self, name: str):
        import torch
        from tokenizers import Tokenizer

        from train import load_weights

        self.torch, self.name, self.model = torch, name, load_weights(name)
        self.tokenizer = Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
        self.end = self.tokenizer.token_to_id("<|im_end|>")

    def prompt(self, item: dict) -> list[int]:
        from chat import render

        return self.tokenizer.encode(render(item["messages"][:-1], item.get("tools"), answer_next=True)).ids

    def answer_ids(self, prompts: list[list[int]]) -> list[list[int]]:
        """Returns greedy answers of a batch of prompts of equal length."""
        from model import KeyValueCache

        with self.torch.inference_mode():
            cache, feed, written = KeyValueCache(), self.torch.tensor(prompts), []
            ended = self.torch.zeros(len(prompts), dtype=bool)
            while len(written) < MAX_TOKENS and not ended.all():
                last = self.model.logits(self.model.hidden(feed, cache=cache)[:, -1:])
                feed = last.argmax(-1)
                written.append(feed[:, 0])
                ended |= feed[:, 0] == self.end
        rows = self.torch.stack(written, 1).tolist()
        return [row[:row.index(self.end)] if self.end in row else row for row in rows]

    def expected_ids(self, item: dict) -> list[int]:
        """Returns the tokens of the expected answer, its end token included."""
        from chat import render

        ids = self.tokenizer.encode(render(item["messages"], item.get("tools"))).ids[len(self.prompt(item)):]
        return ids[:ids.index(self.end) + 1]

    def forced(self, items: list[dict], answers: list[list[int]]):
        """Yields for each item the log-probabilities of every next token along a given answer."""
        rows = [(self.prompt(item), answer) for item, answer in zip(items, answers)]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]) + len(rows[index][1]))
        for start in range(0, len(order), 16):
            indexes = order[start:start + 16]
            texts = [(rows[index][0] + rows[index][1])[:-1] for index in indexes]
            longest = max(map(len, texts))
            # Padding stands behind the text, where causal attention cannot see it.
            padded = self.torch.tensor([text + [self.end] * (longest - len(text)) for text in texts])
            with self.torch.inference_mode():
                hidden = self.model.hidden(padded)
                for row, index in enumerate(indexes):
                    first, length = len(rows[index][0]) - 1, len(rows[index][1])
                    yield index, self.model.logits(hidden[row, first:first + length]).log_softmax(-1)

    def examine(self, items: list[dict]) -> tuple[list[list[int]], float]:
        """Returns the greedy answers and the perplexity of the expected ones.

        Where every expected token is the likeliest one, the greedy answer is the expected one and
        need not be generated; this makes the evaluation several times faster and changes nothing.
        """
        expected = [self.expected_ids(item) for item in items]
        answers: list[list[int] | None] = [None] * len(items)
        loss = 0.0
        for index, rows in self.forced(items, expected):
            wanted = self.torch.tensor(expected[index])
            loss -= rows.gather(1, wanted[:, None]).sum().item()
            if bool((rows.argmax(-1) == wanted).all()):
                answers[index] = expected[index][:-1]
        by_length = defaultdict(list)
        for index, item in enumerate(items):
            if answers[index] is None:
                by_length[len(self.prompt(item))].append(index)
        for indexes in by_length.values():
            for index, ids in zip(indexes, self.answer_ids([self.prompt(items[index]) for index in indexes])):
                answers[index] = ids
        return answers, math.exp(loss / sum(map(len, expected)))

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def agreement(main: Local, draft: Local, items: list[dict], answers: list[list[int]]) -> dict:
    """Returns per task how often the draft's likeliest token is main's own, along main's greedy answers."""
    same, total = defaultdict(int), defaultdict(int)
    answers = [answer + [main.end] for answer in answers]
    for index, rows in draft.forced(items, answers):
        hits = int((rows.argmax(-1) == draft.torch.tensor(answers[index])).sum())
        for task in (items[index]["task"], "all"):
            same[task] += hits
            total[task] += len(answers[index])
    return {task: round(same[task] / total[task], 4) for task in total}


# --- counting ---

def score(items: list[dict], texts: list[tuple[str, list | None]]) -> dict:
    """Returns per task and per group: how many, valid share, right share."""
    tally = defaultdict(lambda: {"items": 0, "valid": 0, "right": 0})
    for item, (text, calls) in zip(items, texts):
        judged = verdict(item["judge"], item["messages"][-1], text, calls)
        for name in [item["task"]] + [group for group, tasks in GROUPS.items() if item["task"] in tasks] + ["all"]:
            tally[name]["items"] += 1
            tally[name]["valid"] += judged["valid"]
            tally[name]["right"] += judged["right"]
    return {name: {"items": row["items"], "valid": round(row["valid"] / row["items"], 4), "right": round(row["right"] / row["items"], 4)} for name, row in tally.items()}


def misses(items, texts, limit: int):
    """Yields (task, question, expected, got) of wrong answers."""
    for item, (text, calls) in zip(items, texts):
        if limit and not verdict(item["judge"], item["messages"][-1], text, calls)["right"]:
            limit -= 1
            expected = item["messages"][-1]
            yield item["task"], item["messages"][-2]["content"], expected["content"] or expected["tool_calls"][0]["function"], text


def table(report: dict) -> str:
    """Returns the report as a markdown table with a column for each model."""
    models = list(report["models"])
    order = [*GROUPS, *sorted({task for scores in report["models"].values() for task in scores["tasks"]} - set(GROUPS) - {"all"}), "all"]
    head = ["task", "items"] + [f"{model} {what}" for model in models for what in ("right", "valid")] + (["agreement"] if "agreement" in report else [])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for task in order:
        rows = [report["models"][model]["tasks"].get(task) for model in models]
        if not all(rows):
            continue
        cells = [task, str(rows[0]["items"])] + [f"{100 * row[what]:.1f} %" for row in rows for what in ("right", "valid")]
        if "agreement" in report:
            cells.append(f"{100 * report['agreement'][task]:.1f} %" if task in report["agreement"] else "")
        lines.append("| " + " | ".join(cells) + " |")
    for model in models:
        if "perplexity" in report["models"][model]:
            lines.append(f"\nPerplexity of {model} on the expected held-out answers: {report['models'][model]['perplexity']:.4f}")
    return "\n".join(lines) + "\n"


def evaluate_local(options, items, report):
    loaded = {name: Local(name) for name in options.local}
    answers = {}
    for name, local in loaded.items():
        answers[name], perplexity = local.examine(items)
        texts = [(local.decode(ids), None) for ids in answers[name]]
        report["models"][name] = {"tasks": score(items, texts), "perplexity": round(perplexity, 5)}
        show_misses(options, name, items, texts)
    if options.agreement:
        report["agreement"] = agreement(loaded["main"], loaded["small"], items, answers["main"])


def show_misses(options, name, items, texts):
    for miss in misses(items, texts, options.misses):
        print(name, "missed", *miss, sep=" | ", file=sys.stderr)


def put_into_card(text: str):
    """Replaces the table in README.md, so that the card never shows figures of other weights."""
    card = HERE / "README.md"
    before, rest = card.read_text(encoding="utf-8").split("<!-- evaluation -->\n")
    after = rest.split("<!-- end of evaluation -->")[1]
    card.write_text(f"{before}<!-- evaluation -->\n{text}<!-- end of evaluation -->{after}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url")
    parser.add_argument("--model", default="main")
    parser.add_argument("--key-variable", default="BASELOAD_API_KEY", help="environment variable with the API key, if the server wants one")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--local", action="append", default=[], choices=["main", "small"])
    parser.add_argument("--agreement", action="store_true", help="needs --local main --local small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--misses", type=int, default=0, help="print this many wrong answers per model")
    parser.add_argument("--every", type=int, default=1, help="take only one item in so many")
    parser.add_argument("--write", action="store_true", help="write runs/evaluation.json, runs/evaluation.md and the table in README.md")
    options = parser.parse_args()
    items = held_out_items()[::options.every]
    report: dict = {"models": {}}
    began = time.monotonic()
    if options.base_url:
        texts = answers_from_server(options, items)
        report["models"][options.model] = {"tasks": score(items, texts)}
        show_misses(options, options.model, items, texts)
    if options.local:
        import torch
        torch.set_num_threads(options.threads)
        evaluate_local(options, items, report)
    print(table(report))
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    if options.write:
        (HERE / "runs" / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
        (HERE / "runs" / "evaluation.md").write_text(table(report))
        put_into_card(table(report))


if __name__ == "__main__":
    main()
