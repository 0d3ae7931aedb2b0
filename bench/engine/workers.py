"""How is each engine started in a process of its own, and how is it asked?

A worker loads one model in one precision and answers questions, one JSON object a line: the protocol is described in
crates/engine/examples/measure.rs. All workers stay loaded through a round and only one computes at a time.
"""

import json
import os
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Failed(Exception):
    """An engine that does not answer; the others go on."""


class Worker:
    def __init__(self, engine, precision, place):
        self.name = engine["name"]
        self.log = tempfile.TemporaryFile()
        command, environment = COMMANDS[engine["kind"]](engine, precision, place)
        command = ["taskset", "-c", place.cores, *[str(part) for part in command]]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=os.environ | environment
        )
        self.about = self.read()

    def ask(self, **question):
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # Reading says why.
        return self.read()

    def read(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.log.seek(0)
        raise Failed(f"{self.name} ended with {self.process.returncode}: {self.log.read().decode(errors='replace')[-1500:].strip()}")

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ours(engine, precision, place):
    return [place.measure, place.file(engine, precision), precision, place.threads], {}


def llama(engine, precision, place):
    environment = {"PYTHONPATH": str(place.peers / "llama-cpp-python"), "LLAMA_CPP_LIB_PATH": str(place.peers / "llama.cpp/bin")}
    settings = json.dumps(engine["settings"])
    return [place.python, HERE / "llama_worker.py", place.file(engine, precision), place.threads, settings], environment


def openvino(engine, precision, place):
    settings = json.dumps(engine["settings"] | engine.get(f"settings_{precision}", {}))
    return [place.python, HERE / "openvino_worker.py", place.file(engine, precision), place.threads, settings], {}


def mistral(engine, precision, place):
    model = place.models / place.model
    return [place.mistral_python, HERE / "mistral_worker.py", place.file(engine, precision), model], {"RAYON_NUM_THREADS": str(place.threads)}


COMMANDS = {"ours": ours, "llama": llama, "openvino": openvino, "mistral": mistral}
