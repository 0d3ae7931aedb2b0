"""How is the real server started, asked for its ledger, and stopped?"""

import json
import os
import pathlib
import re
import subprocess
import time
import urllib.parse

from standins import KEY, SECRET, binary, call


class Baseload:
    def __init__(self, folder, name, config):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir(parents=True)
        (self.folder / "baseload.toml").write_text(config)
        self.log = self.folder / "log"
        self.data = self.folder / "data"
        environment = {**os.environ, "STANDIN_KEY": KEY, "STANDIN_SECRET": SECRET}
        command = [binary("baseload"), "serve", "--config", self.folder / "baseload.toml", "--listen", "127.0.0.1:0", "--data", self.data]
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=subprocess.STDOUT, env=environment)
        self.url = self.address()
        told = subprocess.run([binary("baseload"), "admin", "keys", "create", "--name", "matrix", "--role", "owner", "--data", str(self.data)],
                              capture_output=True, text=True)
        if told.returncode:
            raise SystemExit(f"no owner's key: {told.stderr}")
        self.owner = told.stdout.strip().split()[-1]

    def address(self):
        for _ in range(1200):
            found = re.search(r"http://127\.0\.0\.1:\d+", self.log.read_text())
            if found:
                try:
                    call("GET", found[0] + "/ready")
                    return found[0]
                except OSError:
                    pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the server did not start:\n{self.log.read_text()}")

    def admin(self, path, **query):
        query = urllib.parse.urlencode({name: value for name, value in query.items() if value})
        return call("GET", f"{self.url}/admin/v1/{path}?{query}", headers={"authorization": f"Bearer {self.owner}"})

    def booked(self, model):
        """What the ledger has for a model: quantities, requests, and cost in picodollars."""
        sums = {"requests": 0, "open": 0, "pico": 0, "saved": 0, "estimated": 0, "unknown": 0}
        for row in self.admin("usage", by="model")["rows"]:
            if row["model"] != model:
                continue
            sums["requests"] += row.get("requests", 0)
            sums["open"] += row.get("open_requests", 0)
            sums["unknown"] += row.get("unknown_requests", 0)
            for kind in "priced", "unpriced", "estimated":
                used = row.get(kind) or {}
                usage = used.get("usage", used)
                for name in "input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning":
                    sums[name] = sums.get(name, 0) + int(usage.get(name) or 0)
                cost = used.get("cost_usd")
                if cost:
                    whole, _, fraction = str(cost).partition(".")
                    sums["pico"] += int(whole) * 10**12 + int(fraction.ljust(12, "0")[:12] or 0)
            sums["estimated"] += (row.get("estimated") or {}).get("requests", 0)
        return sums

    def integrity(self):
        return self.admin("integrity")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def service_account(folder):
    """A service account of this run: its file for the door, its public key for the stand-in."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    folder = pathlib.Path(folder)
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    public = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)

    def write(url):
        account = {"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": pem,
                   "client_email": "standin@p.iam.gserviceaccount.com", "token_uri": url + "/token"}
        path = folder / "account.json"
        path.write_text(json.dumps(account))
        path.chmod(0o600)
        return path

    return folder / "public.pem", write
