"""How does Baseload hold the same budgets? N servers, each with its own engine, on one Postgres."""

import asyncio
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

import aiohttp
import psycopg

from postgres import Postgres

QUESTION = "What is a KV cache, and why does it matter when many people ask at once?"


class Baseload:
    name = "Baseload"

    def __init__(self, definition, folder):
        self.definition, self.folder = definition, pathlib.Path(folder)
        self.processes, self.urls = [], []
        self.prompt_tokens = self.typical_tokens = 0

    async def start(self, case):
        self.postgres = Postgres(self.folder).start()
        scope = {"overshoot": "local", "cancel": "local", "strangers": "each end_user of local"}[case["kind"]]
        config = f"""
[ledger]
url = "{self.postgres.url}"

[[model]]
name = "small"
path = "bundled:small"
price = {{ input = "{self.definition['input_usd_per_million']}", output = "{self.definition['output_usd_per_million']}" }}

[[limit]]
name = "crowd"
scope = "{scope}"
measure = "money"
amount = "{case['cap_usd']}"
window = "total"
"""
        (self.folder / "baseload.toml").write_text(config)
        for number in range(self.definition["processes"]):
            command = [self.definition["binary"], "serve", "--config", self.folder / "baseload.toml", "--listen", "127.0.0.1:0"]
            command += ["--data", self.folder / f"data-{number}", "--threads", "1", "--kv-mib", "256"]
            log = self.folder / f"baseload-{number}.log"
            with open(log, "wb") as out:
                self.processes.append(subprocess.Popen(list(map(str, command)), stdout=out, stderr=subprocess.STDOUT))
            # One after the other: the first one makes the tables.
            self.urls.append(self.address(log))

    def address(self, log):
        for _ in range(1200):
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            if found:
                return found.group()
            if self.processes[-1].poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"a server did not start:\n{log.read_text()}")

    def request(self, name, user, case):
        body = {
            "model": "small",
            "messages": [{"role": "user", "content": QUESTION}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0,
            # Each token's log-probability comes with it: so a client can count what it was given.
            "logprobs": True,
            "user": user,
        }
        if "max_tokens" in case:
            body |= {"max_tokens": case["max_tokens"], "ignore_eos": True}
        return {}, body

    def tokens_in(self, choice):
        return len((choice.get("logprobs") or {}).get("content") or [])

    def learn(self, answers):
        """The same question has the same answer each time: its whole ones say what a prompt and an answer are."""
        self.prompt_tokens = max((answer.prompt_tokens for answer in answers), default=0)
        whole = [answer.tokens for answer in answers if answer.end == "whole"]
        self.typical_tokens = round(statistics.median(whole)) if whole else 0

    def answer_cost(self, case):
        return self.cost(self.prompt_tokens, case.get("max_tokens", self.typical_tokens))

    def cost_of(self, answer, case):
        return self.cost(self.prompt_tokens, answer.tokens) if answer.tokens else 0

    def cost(self, input_tokens, output_tokens):
        """Picodollars."""
        pico = lambda text: round(float(text) * 1e6)
        return input_tokens * pico(self.definition["input_usd_per_million"]) + output_tokens * pico(self.definition["output_usd_per_million"])

    async def spent(self, answers):
        """Picodollars that the engines have computed, that are booked, and that count against the budget (held ones too)."""
        for _ in range(150):
            if self.scalar("SELECT count(*) FROM open_hold") == 0:
                break
            await asyncio.sleep(0.2)
        computed = 0
        async with aiohttp.ClientSession() as session:
            for url in self.urls:
                async with session.get(f"{url}/metrics") as response:
                    text = await response.text()
                count = lambda name: sum(map(float, re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([\d.e+]+)$", text, re.M)))
                computed += self.cost(int(count("vllm:prompt_tokens_total")), int(count("vllm:generation_tokens_total")))
        booked = int(self.scalar("SELECT coalesce(sum(cost), 0) FROM ending"))
        counted = int(self.scalar("SELECT coalesce(sum(spent + held), 0) FROM escrow"))
        self.check()
        return computed, booked, counted

    def check(self):
        environment = os.environ | {"BASELOAD_LEDGER": self.postgres.url}
        done = subprocess.run([self.definition["binary"], "usage", "--check"], env=environment, capture_output=True, text=True)
        print(done.stdout.strip(), file=sys.stderr)
        if done.returncode != 0:
            raise RuntimeError(f"the ledger does not balance: {done.stderr}")

    def scalar(self, sql):
        with psycopg.connect(self.postgres.url) as connection:
            return connection.execute(sql).fetchone()[0]

    def bound(self, case):
        # Nothing is delivered that is not held, and grants never sum above the cap.
        return 0

    async def version(self):
        done = subprocess.run([self.definition["binary"], "--version"], capture_output=True, text=True)
        return done.stdout.split()[-1] if done.stdout else "?"

    async def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
        if hasattr(self, "postgres"):
            self.postgres.stop("immediate")
