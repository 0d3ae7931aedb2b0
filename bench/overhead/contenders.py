"""How is each gateway started, with which settings, and how is it asked?

Each runs on one core, before the same stand-in. Every setting that differs from a gateway's default is here, with its reason.
"""

import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import time

from door import free_port

MOCK_KEY = "sk-mock"


class Direct:
    """No gateway at all: what everything else is compared with."""

    settings = "no gateway"

    def __init__(self, place):
        self.place = place
        self.process, self.helpers = None, []

    def start(self):
        return self

    @property
    def url(self):
        return f"{self.place.upstream}/v1/chat/completions"

    model = "mock"
    headers = {"authorization": f"Bearer {MOCK_KEY}"}

    def version(self):
        return ""

    def booked(self):
        """What the gateway's own book says was used, where it has one."""
        return None

    def stop(self):
        for process in [self.process, *self.helpers]:
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def spawn(self, command, environment=None, core=None):
        log = open(self.place.folder / f"{type(self).__name__.lower()}-{len(self.helpers)}.log", "wb")
        core = self.place.gateway_core if core is None else core
        command = ["taskset", "-c", core, "nice", "-n", self.place.nice, *command]
        return subprocess.Popen([str(part) for part in command], env=os.environ | (environment or {}), stdout=log, stderr=subprocess.STDOUT, cwd=self.place.folder)

    def wait_for(self, path, seconds=120, headers=None):
        """Until it answers at all."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
                connection.request("GET", path, headers=headers or {})
                if connection.getresponse().status < 500:
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        logs = "\n".join(log.read_text(errors="replace")[-1500:] for log in self.place.folder.glob(f"{type(self).__name__.lower()}*.log"))
        self.stop()
        raise RuntimeError(f"{type(self).__name__} did not start:\n{logs}")


class Nginx(Direct):
    settings = "one worker, kept connections to the stand-in, no buffering (streams need that), no access log"

    def start(self):
        self.port = free_port()
        (self.place.folder / "nginx.conf").write_text(f"""
worker_processes 1;
daemon off;
pid {self.place.folder}/nginx.pid;
error_log {self.place.folder}/nginx-error.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {self.place.folder}/nginx-body;
    proxy_temp_path {self.place.folder}/nginx-proxy;
    upstream mock {{ server {self.place.upstream.removeprefix("http://")}; keepalive 1024; }}
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{self.port};
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
""")
        self.process = self.spawn(["nginx", "-c", self.place.folder / "nginx.conf"])
        return self.wait_for("/tally")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    def version(self):
        done = subprocess.run(["nginx", "-v"], capture_output=True, text=True)
        return done.stderr.strip().rpartition("/")[2]


class Portkey(Nginx):
    settings = "as it comes, without its console; it keeps no keys and no book: the provider and its key come in headers"

    def start(self):
        self.port = free_port()
        self.package = pathlib.Path(self.place.options.node_modules) / "@portkey-ai/gateway"
        # `NODE_ENV=production` is what its container sets.
        self.process = self.spawn(["node", self.package / "build/start-server.js", f"--port={self.port}", "--headless"], {"NODE_ENV": "production"})
        return self.wait_for("/")

    @property
    def headers(self):
        return {"authorization": f"Bearer {MOCK_KEY}", "x-portkey-provider": "openai", "x-portkey-custom-host": f"{self.place.upstream}/v1"}

    def version(self):
        node = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
        return f"{json.loads((self.package / 'package.json').read_text())['version']} (Node {node})"


class Litellm(Nginx):
    settings = (
        "one worker (its advice: one for each core), `LITELLM_MODE=PRODUCTION`, logs at ERROR, master key, Redis for its router's counters (on the load's core, not counted), "
        "prices for its own cost of each request. No database: what `prisma generate` downloads was out of reach, so it looks up no key and writes no spend logs"
    )
    KEY = "sk-bench"

    def start(self):
        self.port, redis = free_port(), free_port()
        self.helpers.append(self.spawn(["redis-server", "--port", redis, "--bind", "127.0.0.1", "--save", "", "--dir", self.place.folder], core=self.place.load_core))
        config = {
            "model_list": [
                {
                    "model_name": "mock",
                    "litellm_params": {
                        "model": "openai/mock",
                        "api_base": f"{self.place.upstream}/v1",
                        "api_key": MOCK_KEY,
                        "input_cost_per_token": 0.000001,
                        "output_cost_per_token": 0.000002,
                    },
                }
            ],
            "router_settings": {"redis_host": "127.0.0.1", "redis_port": redis},
            "general_settings": {"master_key": self.KEY},
        }
        # JSON is YAML.
        (self.place.folder / "litellm.yaml").write_text(json.dumps(config, indent=2))
        self.bin = pathlib.Path(self.place.options.venv) / "bin"
        command = [self.bin / "litellm", "--config", self.place.folder / "litellm.yaml", "--host", "127.0.0.1", "--port", self.port, "--num_workers", "1"]
        # Without the cost map's setting it would first try to fetch one.
        self.process = self.spawn(command, {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
        return self.wait_for("/health/liveliness")

    @property
    def headers(self):
        return {"authorization": f"Bearer {self.KEY}"}

    def version(self):
        code = "import importlib.metadata as m, sys; print(m.version('litellm'), '(Python ' + sys.version.split()[0] + ')')"
        return subprocess.run([self.bin / "python", "-c", code], capture_output=True, text=True).stdout.strip()


class Baseload(Nginx):
    settings = "a key looked up for each request, a hold and its settlement in SQLite (durable), a route that picks the unit, prices; no embedded model"
    model = "door"
    more = ""

    def start(self):
        self.port = free_port()
        self.data = self.place.folder / f"baseload-data-{time.time_ns()}"
        config = self.place.folder / "baseload.toml"
        config.write_text(f"""
listen = "127.0.0.1:{self.port}"
data = "{self.data}"

[[provider]]
name = "mock"
kind = "openai_compatible"
base_url = "{self.place.upstream}/v1"
key = {{ env = "MOCK_KEY" }}

[[model]]
name = "mock"
provider = "mock"
price = {{ input = "1", output = "2" }}

[[route]]
name = "door"
models = ["mock"]
{self.more}""")
        self.binary = self.place.options.binary
        self.admin("accounts", "create", "bench/load", "--parents")
        self.secret = re.search(r"\bbl-[0-9a-f]+", self.admin("keys", "create", "--name", "bench", "--account", "bench/load")).group()
        self.process = self.spawn([self.binary, "serve", "--config", config], {"MOCK_KEY": MOCK_KEY})
        return self.wait_for("/ready")

    def admin(self, *words):
        done = subprocess.run([self.binary, "admin", *words, "--data", self.data], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"baseload admin {' '.join(words)}: {done.stderr}")
        return done.stdout

    @property
    def headers(self):
        return {"authorization": f"Bearer {self.secret}"}

    def booked(self):
        done = subprocess.run([self.binary, "usage", "--data", self.data, "--format", "json"], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"baseload usage: {done.stderr}")
        total = json.loads(done.stdout)["total"]
        sums = {"requests": total["requests"], "open": total["open_requests"], "estimated": total["estimated"]["requests"], "unpriced": total["unpriced"]["requests"]}
        priced = total["priced"]
        sums |= {"prompt_tokens": priced["input_uncached"] + priced["cache_read"], "completion_tokens": priced["output"], "cost_usd": priced["cost_usd"]}
        checked = subprocess.run([self.binary, "usage", "--data", self.data, "--check"], capture_output=True, text=True)
        return sums | {"balances": checked.returncode == 0, "check": (checked.stdout + checked.stderr).strip()}

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.strip()


class BaseloadSwift(Baseload):
    settings = Baseload.settings.replace("(durable)", "(that survive the process, and not a power cut)")
    more = '\n[ledger]\nsurvives = "process_loss"\n'


KINDS = {"direct": Direct, "nginx": Nginx, "baseload": Baseload, "baseload-swift": BaseloadSwift, "portkey": Portkey, "litellm": Litellm}
