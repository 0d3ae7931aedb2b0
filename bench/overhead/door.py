"""How is a Baseload started before stand-in providers, and what can be asked of it afterwards?"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from processes import end

STANDIN_KEY = "standin-key"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def fetch(url, method="GET", body=None, headers=None, timeout=5):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read()


class Standin:
    """One provider in a process of its own, so that it can die alone."""

    def __init__(self, binary, name, kind):
        self.binary, self.name, self.kind = binary, name, kind
        self.port, self.process, self.behaviour = free_port(), None, {}
        self.seen = {}

    @property
    def base_url(self):
        # Anthropic's clients add `/v1` themselves.
        return f"http://127.0.0.1:{self.port}" + ("" if self.kind == "anthropic" else "/v1")

    def start(self):
        command = [self.binary, f"--{self.kind}", str(self.port), "--key", STANDIN_KEY]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdout.readline()
        self.behave(self.behaviour)
        return self

    def behave(self, behaviour):
        self.behaviour = behaviour
        self.collect()
        fetch(f"http://127.0.0.1:{self.port}/__behaviour", "PUT", behaviour)

    def die(self):
        self.collect()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def collect(self):
        """Keeps what the stand-in recorded: it forgets old requests, and all of them when it dies."""
        try:
            kept = json.loads(fetch(f"http://127.0.0.1:{self.port}/__requests", timeout=20))["requests"]
        except (OSError, urllib.error.URLError):
            return
        for request in kept:
            found = re.search(r"\[nonce (\d+)\]", json.dumps(request["body"]))
            if found:
                # Numbers begin anew with each behaviour, and a retry has another one.
                key = (int(found.group(1)), request["number"])
                self.seen[key] = {name: request[name] for name in ["status", "tally", "ugly", "events_sent", "client_left", "is_complete"]}

    def of(self, nonce):
        return self.by_nonce.get(nonce, [])

    def index(self):
        self.by_nonce = {}
        for (nonce, _), request in sorted(self.seen.items()):
            self.by_nonce.setdefault(nonce, []).append(request)

    def stop(self):
        if self.process and self.process.poll() is None:
            # It ends with its standard input.
            self.process.stdin.close()
            self.process.wait(20)


class Door:
    """A Baseload with a key, on a free port."""

    def __init__(self, binary, folder, settings, environment=None, nice="0"):
        self.binary, self.folder = binary, pathlib.Path(folder)
        self.data, self.port = self.folder / "data", free_port()
        self.config = self.folder / "baseload.toml"
        self.config.write_text(f'listen = "127.0.0.1:{self.port}"\ndata = "{self.data}"\n\n{settings}')
        self.environment = os.environ | {"STANDIN_KEY": STANDIN_KEY} | (environment or {})
        self.nice = nice

    def start(self):
        self.admin("accounts", "create", "bench/door", "--parents")
        self.key = re.search(r"\bbl-[0-9a-f]+", self.admin("keys", "create", "--name", "door", "--account", "bench/door")).group()
        owner = self.admin("keys", "create", "--name", "owner", "--role", "owner")
        self.owner = re.search(r"\bbl-[0-9a-f]+", owner).group()
        self.log = open(self.folder / "baseload.log", "wb")
        command = ["nice", "-n", self.nice, str(self.binary), "serve", "--config", str(self.config)]
        self.process = subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                fetch(f"{self.url}/ready")
                return self
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"the server did not start:\n{(self.folder / 'baseload.log').read_text()[-3000:]}")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def admin(self, *words):
        done = subprocess.run([self.binary, "admin", *words, "--data", self.data], env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"baseload admin {' '.join(words)}: {done.stderr}")
        return done.stdout

    def metrics(self):
        return fetch(f"{self.url}/metrics").decode()

    def decision(self, request):
        return json.loads(fetch(f"{self.url}/admin/v1/decisions/{request}", headers={"authorization": f"Bearer {self.owner}"}))

    def usage(self, *words):
        done = subprocess.run([self.binary, "usage", "--data", self.data, *words], env=self.environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def check(self):
        code, text = self.usage("--check")
        return {"balances": code == 0, "says": text.strip().splitlines()[-6:]}

    def bookings(self, wanted):
        """What the book says of each of these requests, by its name; the book may hold many millions of others."""
        booked = {}
        command = [self.binary, "usage", "--data", self.data, "--requests", "1000000000"]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True) as listing:
            for line in listing.stdout:
                parts = re.split(r"\s{2,}", line.strip())
                if len(parts) < 5 or parts[1].partition(".")[0] not in wanted:
                    continue
                found = re.search(r"input (\d+) \(cached (\d+)\)  output (\d+)  (\S+)", line)
                entry = {"end": parts[4]}
                if found:
                    entry |= {"input": int(found.group(1)), "cached": int(found.group(2)), "output": int(found.group(3)), "cost": found.group(4)}
                booked.setdefault(parts[1], []).append(entry)
        if listing.returncode != 0:
            raise RuntimeError(f"baseload usage --requests ended with {listing.returncode}")
        return booked

    def settle(self, seconds=30):
        """Waits until no request is open in the book."""
        for _ in range(seconds * 2):
            _, text = self.usage("--check")
            if re.search(r"\b0 open holds", text):
                return True
            time.sleep(0.5)
        return False

    def stop(self):
        end(self.process)
