"""Which stand-ins run, how do they behave, and what did they receive?"""

import json
import os
import pathlib
import subprocess
import urllib.request

KEY, SECRET, REGION = "standin-key", "standin-secret", "us-east-1"
ROOT = pathlib.Path(__file__).resolve().parents[2]


def binary(name):
    """The debug build, or what $STANDINS / $BASELOAD name."""
    named = os.environ.get(name.upper())
    if named:
        return named
    told = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, capture_output=True, check=True)
    return str(pathlib.Path(json.loads(told.stdout)["target_directory"]) / "debug" / name)


class Standins:
    def __init__(self, *arguments):
        command = [binary("standins"), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports = json.loads(self.process.stdout.readline())

    def url(self, name):
        return f"http://127.0.0.1:{self.ports[name]}"

    def behave(self, name, *ugly, **behaviour):
        rules = [rule if "do" in rule else {"do": rule} for rule in ugly]
        return call("PUT", self.url(name) + "/__behaviour", {**behaviour, "ugly": rules})

    def forget(self, name):
        self.behave(name)
        call("DELETE", self.url(name) + "/__requests")

    def requests(self, name):
        return call("GET", self.url(name) + "/__requests")["requests"]

    def last(self, name):
        return self.requests(name)[-1]

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


def call(method, url, body=None, headers=()):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **dict(headers)}, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read()
    return json.loads(text) if text else None
