"""How fast is each engine as a server, over real sockets? All are put under the same load generator, `baseload bench`."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.request

from door import free_port
from processes import end
from workers import HERE, Failed

START_SECONDS = 300


def measure(server, row, precision, place):
    """One wave of clients against a fresh server; a request that fails, or answers too little, makes the row fail."""
    with tempfile.TemporaryDirectory(prefix="engine-") as folder, Server(server, precision, place, pathlib.Path(folder)) as running:
        out = pathlib.Path(folder) / "bench.json"
        command = [place.binary, "bench", "--url", running.url, "--concurrency", row["clients"], "--requests", row["requests"]]
        command += ["--prompt-tokens", row["prompt_tokens"], "--output-tokens", row["output_tokens"], "--warmup", 2, "--json", out]
        command = ["taskset", "-c", place.cores, *map(str, command)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{(done.stdout + done.stderr)[-1500:]}\nThe server: {running.last_words()}")
        (run,) = json.loads(out.read_text())["runs"]
        check(run, row)
        return {
            "tokens_per_second": run["output_tokens_per_second"],
            "total_tokens_per_second": sum(sample["input_tokens"] + sample["output_tokens"] for sample in run["samples"]) / run["seconds"],
            "ttft_p95_ms": run["ttft_ms"]["p95"],
            "prompt_tokens": sum(sample["input_tokens"] for sample in run["samples"]) / len(run["samples"]),
        }


def check(run, row):
    for sample in run["samples"]:
        asked, wanted = row["prompt_tokens"], row["output_tokens"]
        if sample["output_tokens"] != wanted:
            raise Failed(f"an answer has {sample['output_tokens']} tokens instead of {wanted}")
        # The generator makes prompts from words by each server's own count, so lengths are near and not the same.
        if not 0.9 * asked <= sample["input_tokens"] <= 1.1 * asked or sample["cached_tokens"] > asked // 4:
            raise Failed(f"a prompt has {sample['input_tokens']} tokens, {sample['cached_tokens']} of them known already, instead of {asked}")


class Server:
    def __init__(self, server, precision, place, folder):
        self.engine = next(engine for engine in place.definition["engine"] if engine["name"] == server["engine"])
        self.port, self.folder = free_port(), folder
        self.url = f"http://127.0.0.1:{self.port}"
        file, flags = place.file(self.engine, precision), server.get("flags", [])
        command, environment = COMMANDS[self.engine["kind"]](self, file, precision, flags, place)
        self.log = open(folder / "server.log", "w+b")
        command = ["taskset", "-c", place.cores, *map(str, command)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, env=os.environ | environment, cwd=folder)

    def __enter__(self):
        start = time.monotonic()
        while time.monotonic() - start < START_SECONDS:
            try:
                with urllib.request.urlopen(f"{self.url}/v1/models", timeout=5) as answer:
                    answer.read()
                if self.engine["kind"] != "llama" or self.healthy():
                    self.start_seconds = time.monotonic() - start
                    return self
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.__exit__()
        raise Failed(f"{self.engine['name']} did not start: {self.last_words()}")

    def last_words(self):
        status = self.process.poll()
        log = pathlib.Path(self.log.name).read_text(errors="replace")[-1500:]
        return log if status is None else f"{log}\n(it ended with {status})"

    def healthy(self):
        """llama-server answers before its model is there; this path does not."""
        with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            return answer.status == 200

    def __exit__(self, *_):
        end(self.process)


def ours(server, file, precision, flags, place):
    data = server.folder / "data"
    return [place.binary, "serve", "--listen", f"127.0.0.1:{server.port}", "--data", data, "--model", file, "--precision", precision, *flags], {}


def llama(server, file, precision, flags, place):
    binary = place.peers / "llama.cpp/bin/llama-server"
    return [binary, "--model", file, "--host", "127.0.0.1", "--port", server.port, "--threads", place.threads, *flags], {"LD_LIBRARY_PATH": str(binary.parent)}


def openvino(server, file, precision, flags, place):
    settings = json.dumps(server.engine["settings"] | server.engine.get(f"settings_{precision}", {}))
    return [place.python, HERE / "openvino_server.py", file, place.models / place.model, place.threads, settings, server.port], {}


COMMANDS = {"ours": ours, "llama": llama, "openvino": openvino}
