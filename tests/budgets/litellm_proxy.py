"""How does a LiteLLM proxy hold the same budgets? N proxies before the slow upstream, with one Redis.

Configuration, as its documentation advises for several instances: Redis for caching and spend counters, budget reservations (on by default), and in
a second run `fail_closed_budget_enforcement`. Keys come from a `custom_auth` function with `custom_auth_run_common_checks`, because its database layer
(Prisma) downloads a binary that not every machine may reach. Budgets are then enforced by the same code on the same counters in Redis; only the spend
logs are not kept, so a callback writes down what they would say.
"""

import asyncio
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess

import aiohttp

from postgres import free_port
from upstream import PROMPT_TOKENS, Upstream

KEYS = '''
import os

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth, hash_token
from litellm.proxy.db.db_spend_update_writer import DBSpendUpdateWriter
from litellm.proxy.hooks.proxy_track_cost_callback import ProxyDBLogger


class Recorder(CustomLogger):
    """Writes down what the proxy logs as spent: what its table of spend logs would have."""

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        with open(os.environ["SPENT"], "a") as spent:
            spent.write(f"{kwargs.get('response_cost') or 0}\\n")


recorder = Recorder()

async def write_nothing(self, *_, **__):
    return True


# What the proxy itself does at its start where it has a database (`cost_tracking` in its proxy_server.py): without this,
# reservations would never be reconciled with what was used. The table's writer becomes one that always succeeds at once.
DBSpendUpdateWriter.update_database = write_nothing
for add in (litellm.logging_callback_manager.add_litellm_callback, litellm.logging_callback_manager.add_litellm_async_success_callback):
    add(ProxyDBLogger())


async def who(request, api_key):
    name, budget = api_key.removeprefix("sk-").rsplit("-", 1)
    # The budget of a key, in microdollars, is in its name: a stand-in for the row of the keys' table.
    return UserAPIKeyAuth(api_key=api_key, token=hash_token(api_key), user_id=name, max_budget=int(budget) / 1e6, spend=0.0, models=[])
'''


class LiteLLM:
    name = "LiteLLM, as it comes"
    fail_closed = False

    def __init__(self, definition, folder):
        self.definition, self.folder = definition, pathlib.Path(folder)
        self.processes, self.urls = [], []

    async def start(self, case):
        self.case = case
        self.upstream = await Upstream(self.definition["chunk_tokens"], self.definition["chunk_seconds"]).start()
        self.redis_port = free_port()
        self.spawn([os.environ.get("REDIS_SERVER", "redis-server"), "--port", self.redis_port, "--save", "", "--dir", self.folder], "redis")
        (self.folder / "keys.py").write_text(KEYS)
        price = lambda text: float(text) / 1e6
        config = {
            "model_list": [
                {
                    "model_name": "slow",
                    "litellm_params": {
                        "model": "openai/slow",
                        "api_base": self.upstream.url,
                        "api_key": "none",
                        "input_cost_per_token": price(self.definition["input_usd_per_million"]),
                        "output_cost_per_token": price(self.definition["output_usd_per_million"]),
                    },
                    "model_info": {"max_output_tokens": self.definition["model_output_tokens"], "mode": "chat"},
                }
            ],
            "litellm_settings": {
                "cache": True,
                "cache_params": {"type": "redis", "host": "127.0.0.1", "port": self.redis_port, "supported_call_types": []},
                "num_retries": 0,
                "callbacks": ["keys.recorder"],
                # Without a database nothing could be read back after a counter has expired; so none does.
                "default_redis_ttl": 86400,
                "telemetry": False,
            },
            "general_settings": {
                "master_key": f"sk-{secrets.token_hex(32)}",
                "custom_auth": "keys.who",
                "custom_auth_run_common_checks": True,
                "fail_closed_budget_enforcement": self.fail_closed,
            },
        }
        # JSON is YAML.
        (self.folder / "config.yaml").write_text(json.dumps(config, indent=1))
        for number in range(self.definition["processes"]):
            port = free_port()
            command = [self.definition["litellm"]["command"], "--config", self.folder / "config.yaml", "--host", "127.0.0.1", "--port", port, "--num_workers", 1]
            self.spawn(command, f"litellm-{number}")
            self.urls.append(f"http://127.0.0.1:{port}")
        await asyncio.gather(*map(self.ready, self.urls))

    def spawn(self, command, name):
        environment = os.environ | {"PYTHONPATH": str(self.folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "SPENT": str(self.folder / "spent")}
        with open(self.folder / f"{name}.log", "wb") as log:
            self.processes.append(subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=self.folder))

    async def ready(self, url):
        async with aiohttp.ClientSession() as session:
            for _ in range(600):
                dead = next((process for process in self.processes if process.poll() is not None), None)
                if dead:
                    raise RuntimeError(f"{dead.args[0]} ended at its start; see the logs in {self.folder} (--keep)")
                try:
                    async with session.get(f"{url}/health/liveliness") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.5)
        raise RuntimeError(f"LiteLLM did not start within 300 s; see {self.folder}")

    def request(self, name, user, case):
        cap = round(float(case["cap_usd"]) * 1e6)
        content = f"answer={case['answer_tokens']} id={name} {'x ' * 4}"
        body = {"model": "slow", "messages": [{"role": "user", "content": content}], "stream": True, "stream_options": {"include_usage": True}}
        if "max_tokens" in case:
            body["max_tokens"] = case["max_tokens"]
        return {"authorization": f"Bearer sk-{user}-{cap}"}, body

    def tokens_in(self, choice):
        return ((choice.get("delta") or {}).get("content") or "").count("word")

    def learn(self, answers):
        """Its answers are as long as they were told to be."""

    def answer_cost(self, case):
        return self.cost(PROMPT_TOKENS, min(case["answer_tokens"], case.get("max_tokens", case["answer_tokens"])))

    def cost_of(self, answer, case):
        """What was delivered; the stand-in knows what was produced."""
        return self.cost(PROMPT_TOKENS, answer.tokens) if answer.tokens else 0

    def cost(self, input_tokens, output_tokens):
        """Picodollars."""
        pico = lambda text: round(float(text) * 1e6)
        return input_tokens * pico(self.definition["input_usd_per_million"]) + output_tokens * pico(self.definition["output_usd_per_million"])

    async def spent(self, answers):
        """Picodollars that the provider would bill, that were logged as spent, and that count against the budget."""
        billed = sum(self.cost(PROMPT_TOKENS, tokens) for tokens, _ in self.upstream.produced.values())
        # Its callbacks run behind the answer; they get time.
        await asyncio.sleep(10)
        log = self.folder / "spent"
        logged = round(sum(float(line) for line in log.read_text().split()) * 1e12) if log.exists() else 0
        return billed, logged, self.counted()

    def counted(self):
        cli = os.environ.get("REDIS_CLI", "redis-cli")
        keys = subprocess.run([cli, "-p", str(self.redis_port), "--raw", "keys", "*spend:key:*"], capture_output=True, text=True).stdout.split()
        values = [subprocess.run([cli, "-p", str(self.redis_port), "--raw", "get", key], capture_output=True, text=True).stdout for key in keys]
        return round(sum(float(value) for value in values if value.strip()) * 1e12)

    def bound(self, case):
        return None

    async def version(self):
        program = pathlib.Path(shutil.which(self.definition["litellm"]["command"])).parent / "python"
        text = "from importlib.metadata import version; print(version('litellm'))"
        return subprocess.run([program, "-c", text], capture_output=True, text=True).stdout.strip()

    async def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        await self.upstream.stop()


class StrictLiteLLM(LiteLLM):
    name = "LiteLLM, fail_closed_budget_enforcement"
    fail_closed = True
