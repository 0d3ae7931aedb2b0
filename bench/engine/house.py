"""What does our own server take when nobody asks, how does it start again, and does speculation pay?"""

import json
import pathlib
import statistics
import subprocess
import tempfile
import time
import urllib.request

from processes import cpu_seconds, memory_mib
from servers import Server
from workers import Failed


def house(place):
    """First and second start in one data folder, memory after the first answer, processor time of an idle server."""
    wanted = place.definition["house"]
    precision, server = wanted["precision"], {"engine": "baseload"}
    file = place.models / place.model
    found = {"precision": precision, "file_mib": sum(path.stat().st_size for path in file.glob("*.safetensors")) / 2**20}
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        with Server(server, precision, place, pathlib.Path(folder)) as running:
            found["first_start_seconds"] = running.start_seconds
        with Server(server, precision, place, pathlib.Path(folder)) as running:
            found["second_start_seconds"] = running.start_seconds
            found["memory_fresh"] = memory_mib(running.process.pid)
            chat(running.url, "one", 16)
            found["memory_used"] = memory_mib(running.process.pid)
            time.sleep(1)
            before, start = cpu_seconds(running.process.pid), time.monotonic()
            time.sleep(wanted["idle_seconds"])
            found["idle_cpu"] = (cpu_seconds(running.process.pid) - before) / (time.monotonic() - start)
    return found


def speculation(place):
    """Each variant against `off`, in turn, on each text: the answers must be the same, greedy ones."""
    wanted = place.definition["speculation"]
    known = subprocess.run([place.binary, "serve", "--help"], capture_output=True, text=True).stdout
    variants = [variant for variant in wanted["variant"] if all(flag in known for flag in variant["flags"] if flag.startswith("--"))]
    found = {"left_out": [variant["name"] for variant in wanted["variant"] if variant not in variants], "texts": {}}
    for number in range(wanted["rounds"] if len(variants) > 1 else 0):
        for variant in variants[number % len(variants) :] + variants[: number % len(variants)]:
            with tempfile.TemporaryDirectory(prefix="engine-") as folder, Bundled(variant["flags"], place, folder) as running:
                chat(running.url, "one", 16)
                for name, text in wanted["prompts"].items():
                    before = accepted(running.url)
                    answer = chat(running.url, text, wanted["output_tokens"])
                    after = accepted(running.url)
                    answer |= {key: after[key] - before.get(key, 0) for key in after}
                    found["texts"].setdefault(name, {}).setdefault(variant["name"], []).append(answer)
    for name, by_variant in found["texts"].items():
        for variant, answers in by_variant.items():
            if any(answer["text"] != by_variant["off"][0]["text"] for answer in answers):
                raise Failed(f"speculation by {variant} changed the answer to the {name} text")
    return found


class Bundled(Server):
    """A server of the model that ships, with a variant's flags."""

    def __init__(self, flags, place, folder):
        self.flags = flags
        super().__init__({"engine": "baseload", "flags": flags}, "int8", BundledPlace(place), pathlib.Path(folder))


class BundledPlace:
    def __init__(self, place):
        self.place = place

    def __getattr__(self, name):
        return getattr(self.place, name)

    def file(self, engine, precision):
        return "bundled:main"


def chat(url, text, tokens):
    body = {"model": model(url), "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    start = time.monotonic()
    with urllib.request.urlopen(request, timeout=300) as answer:
        answer = json.load(answer)
    seconds = time.monotonic() - start
    return {"text": answer["choices"][0]["message"]["content"], "tokens_per_second": answer["usage"]["completion_tokens"] / seconds}


def model(url):
    with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as answer:
        return json.load(answer)["data"][0]["id"]


def accepted(url):
    """The counters of speculation, by their last words, where the metrics have any."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    counters = {}
    for line in lines:
        if "spec_decode" in line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            counters[name.partition("{")[0]] = counters.get(name.partition("{")[0], 0) + float(value)
    return counters


def gain(answers, off):
    """The ratios of turns, in pairs."""
    return [mine["tokens_per_second"] / theirs["tokens_per_second"] for mine, theirs in zip(answers, off)]


def middle(values):
    return statistics.median(values)
