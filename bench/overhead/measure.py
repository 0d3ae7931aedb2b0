"""What does one contender do in one turn: latency, streams, full load, the highest good rate, memory?"""

import json
import subprocess
import sys
import time
import urllib.request

from processes import cpu_seconds, memory_mib

# Work that a gateway does after its answer belongs to that answer.
AFTERWORK_SECONDS = 0.5


class Measurement:
    def __init__(self, contender, place, definition, number):
        self.contender, self.place, self.definition, self.number = contender, place, definition, number
        self.next_id = 1

    def take(self):
        phases, taken = self.definition, {}
        has_gateway = self.contender.process is not None
        remembers = has_gateway and self.number < phases["memory"]["rounds"]
        if remembers:
            time.sleep(phases["memory"]["idle_seconds"])
            # A gateway that was never asked has not loaded what it needs: idle is after its first requests, too.
            taken["fresh"] = memory_mib(self.contender.process.pid)
        self.load("warm", {"kind": "closed", "connections": phases["warm"]["connections"]}, phases["warm"]["seconds"])
        if remembers:
            time.sleep(phases["memory"]["idle_seconds"])
            taken["idle"] = memory_mib(self.contender.process.pid)
        taken["latency"] = self.constant(phases["latency"], stream=False)
        taken["streams"] = self.constant(phases["streams"], stream=True)
        taken["busy"] = self.busy(phases["busy"]["connections"], stream=False)
        taken["busy_streams"] = self.busy(phases["busy"]["stream_connections"], stream=True)
        if has_gateway or self.number == 0:
            taken["search"] = self.search(taken["busy"]["per_second"])
        if remembers:
            taken["open_streams"] = self.hold_streams()
        taken["served"] = self.served()
        if (booked := self.contender.booked()) is not None:
            taken["booked"] = booked
        return taken

    # === phases ===

    def constant(self, phase, stream):
        return self.load("constant", {"kind": "open", "per_second": phase["per_second"], "under_way_max": 512}, phase["seconds"], phase["warm_seconds"], stream=stream)

    def busy(self, connections, stream):
        phase = self.definition["busy"]
        before = self.cpu()
        measured = self.load("busy", {"kind": "closed", "connections": connections}, phase["seconds"], phase["warm_seconds"], stream=stream)
        if before is not None:
            time.sleep(AFTERWORK_SECONDS)
            measured["cpu_seconds"] = self.cpu() - before
            measured["cpu_us_per_request"] = measured["cpu_seconds"] / max(measured["answered"], 1) * 1e6
            measured["per_cpu_second"] = measured["answered"] / max(measured["cpu_seconds"], 1e-9)
        return measured

    def search(self, reached):
        """Halves between the lowest rate and a little more than a closed loop reached."""
        phase = self.definition["search"]
        low, high, tries = 0.0, reached * 1.1, []
        for step in range(phase["steps"]):
            rate = max((low + high) / 2, phase["per_second_min"])
            kept = self.bears(rate, tries)
            low, high = (rate, high) if kept else (low, rate)
            if rate == phase["per_second_min"]:
                break
        if low == 0.0 and high > phase["per_second_min"] and self.bears(phase["per_second_min"], tries):
            low = phase["per_second_min"]
        return {"rate": low, "tries": tries}

    def bears(self, rate, tries):
        phase = self.definition["search"]
        seconds = min(max(phase["seconds"], phase["requests_min"] / rate), phase["seconds_max"])
        for _ in range(2):
            measured = self.load("search", {"kind": "open", "per_second": rate, "under_way_max": phase["under_way_max"]}, seconds, phase["warm_seconds"])
            p99 = (measured["end_ms"] or {}).get("p99")
            # What is left over at the end shows in its latency, because that counts from when it was due.
            kept = measured["wrong"] == 0 and p99 is not None and p99 < phase["p99_ms"]
            tries.append({"rate": rate, "p99_ms": p99, "wrong": measured["wrong"], "kept": kept})
            if kept:
                return True
        return False

    def hold_streams(self):
        phase = self.definition["memory"]
        load = {"kind": "held", "connections": phase["streams"], "per_second": phase["open_per_second"]}
        job = self.job(load, 1, 0, stream=True) | {"pace_us": phase["pace_us"], "tokens": phase["tokens"], "timeout_seconds": 600}
        process = self.hammer(job)
        line = process.stdout.readline().strip()
        memory = memory_mib(self.contender.process.pid)
        measured = json.loads(process.stdout.readline() if line in ("held", "not held") else line)
        process.wait()
        self.next_id += measured["asked"]
        return memory | {"held": line == "held", "asked": measured["asked"], "answered": measured["answered"], "errors": measured["errors"]}

    def served(self):
        """What the stand-in says that it served, all phases together."""
        with urllib.request.urlopen(f"{self.place.upstream}/tally") as answer:
            return json.load(answer)

    # === the generator ===

    def load(self, what, load, seconds, warm_seconds=0, stream=False):
        process = self.hammer(self.job(load, seconds, warm_seconds, stream))
        out = process.stdout.read()
        process.wait()
        if process.returncode != 0:
            raise RuntimeError(f"the load generator failed in {what}")
        measured = json.loads(out)
        self.next_id += measured["asked"] + 1000
        if measured["wrong"]:
            print(f"  {what}: {measured['wrong']} of {measured['measured']} wrong: {first(measured['errors'])}", file=sys.stderr)
        return measured

    def job(self, load, seconds, warm_seconds, stream):
        order = self.definition["order"]
        return {
            "url": self.contender.url,
            "headers": self.contender.headers,
            "model": self.contender.model,
            "stream": stream,
            "prompt_bytes": order["prompt_bytes"],
            "tokens": order["tokens"],
            "pace_us": order["stream_pace_us"] if stream else 0,
            "load": load,
            "seconds": seconds,
            "warm_seconds": warm_seconds,
            "timeout_seconds": 30,
            "first_id": self.next_id,
        }

    def hammer(self, job):
        command = ["taskset", "-c", str(self.place.load_core), "nice", "-n", str(self.place.nice), self.place.tools / "hammer"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        return process

    def cpu(self):
        return None if self.contender.process is None else cpu_seconds(self.contender.process.pid)


def first(errors):
    return next(iter(sorted(errors.items(), key=lambda item: -item[1])), ("", 0))[0][:200]
