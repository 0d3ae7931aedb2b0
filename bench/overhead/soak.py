#!/usr/bin/env python3
"""Does Baseload stay the same under 70 % load with faults: memory flat, the book balanced, no unexplained error?

  bench/overhead/soak.py --binary target/release/baseload --tools target/release                30 minutes
  bench/overhead/soak.py --seconds 180

Three loads at once: whole answers at 70 % of what a closed loop reaches here, streams, and a crowd at a provider that fails in every
way, with a second one to fall back to and clients that leave. Needs aiohttp.
"""

import argparse
import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import judge  # noqa: E402
from callers import crowd  # noqa: E402
from door import Door, Standin, fetch, free_port  # noqa: E402
from processes import cpu_seconds, memory_mib  # noqa: E402

# One in eight requests meets one of these.
FAULTS = [
    {"when": {"fraction": 0.02}, "do": {"kind": "rate_limited", "retry": "seconds", "seconds": 1.0}},
    {"when": {"fraction": 0.02}, "do": {"kind": "server_error", "status": 500, "body": "partial"}},
    {"when": {"fraction": 0.02}, "do": {"kind": "reset", "at_byte": 2000}},
    {"when": {"fraction": 0.01}, "do": {"kind": "stall", "before_event": 5, "milliseconds": 20000}},
    {"when": {"fraction": 0.02}, "do": {"kind": "end_early", "after_events": 6}},
    {"when": {"fraction": 0.02}, "do": {"kind": "error_after", "events": 5}},
    {"when": {"fraction": 0.02}, "do": {"kind": "usage", "how": "missing"}},
]
PIECE_SECONDS = 20
# Caches fill and allocators settle in the first part, which is not judged.
WARM_SHARE = 0.25


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="soak-", dir=options.folder) as folder:
        soak = Soak(options, folder)
        try:
            result = asyncio.run(soak.run())
        finally:
            soak.stop()
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{time.strftime('%Y-%m-%d')}-soak.json").write_text(json.dumps(result, indent=1))
    sys.exit(0 if result["kept"] else 1)


class Soak:
    def __init__(self, options, folder):
        self.options, self.tools = options, pathlib.Path(options.tools)
        self.faulty = Standin(self.tools / "standins", "faulty", "openai")
        self.spare = Standin(self.tools / "standins", "spare", "openai")
        self.mock_port, self.mock = free_port(), None
        self.pieces, self.memory, self.next_id = [], [], 1
        self.door = Door(options.binary, folder, self.settings(), {"MOCK_KEY": "sk-mock"})

    def settings(self):
        price = 'price = { input = "1", output = "2" }'
        text = f'[log]\nfilter = "warn"\n\n[[provider]]\nname = "mock"\nkind = "openai_compatible"\nbase_url = "http://127.0.0.1:{self.mock_port}/v1"\nkey = {{ env = "MOCK_KEY" }}\n\n'
        text += f'[[model]]\nname = "mock"\nprovider = "mock"\n{price}\n\n[[route]]\nname = "door"\nmodels = ["mock"]\n\n'
        for standin in (self.faulty, self.spare):
            text += f'[[provider]]\nname = "{standin.name}"\nkind = "openai"\nbase_url = "{standin.base_url}"\nkey = {{ env = "STANDIN_KEY" }}\n'
            text += f'first_byte_timeout_seconds = 3\nstall_timeout_seconds = 3\n\n[[model]]\nname = "count-{standin.name}"\nprovider = "{standin.name}"\nid = "standin"\n{price}\n\n'
        return text + '[[route]]\nname = "faulty"\nmodels = ["count-faulty", "count-spare"]\norder = "listed"\n'

    async def run(self):
        for standin in (self.faulty, self.spare):
            standin.start().behave({"tokens_per_second": 100})
        self.mock = subprocess.Popen([self.tools / "mock_upstream", f"127.0.0.1:{self.mock_port}"], stdout=subprocess.PIPE)
        self.mock.stdout.readline()
        self.door.start()
        reached = self.hammer({"kind": "closed", "connections": 16}, 5, False)["per_second"]
        rate = min(reached * self.options.share, self.options.rate_max)
        print(f"a closed loop reaches {reached:.0f} requests/s; the soak asks {rate:.0f}/s for {self.options.seconds} s")
        self.faulty.behave({"tokens_per_second": 100, "ugly": FAULTS})
        until = time.monotonic() + self.options.seconds
        self.begin = time.monotonic()
        choose = lambda dice: ("faulty", dice.randint(10, 60), dice.randint(5, 40) if dice.random() < 0.05 else None)
        crowding = crowd(self.door.url, self.door.key, self.options.crowd, until, choose)
        answers, *_ = await asyncio.gather(
            crowding,
            asyncio.to_thread(self.load, {"kind": "open", "per_second": rate, "under_way_max": self.under_way_max(rate)}, until, False),
            asyncio.to_thread(self.load, {"kind": "open", "per_second": self.options.streams_per_second, "under_way_max": 512}, until, True),
            asyncio.to_thread(self.watch, until),
        )
        settled = await asyncio.to_thread(self.door.settle)
        for standin in (self.faulty, self.spare):
            standin.collect()
            standin.index()
        # What half an hour has shown is not lost with what is asked afterwards.
        out = pathlib.Path(self.options.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "soak-seen.json").write_text(json.dumps({"memory": self.memory, "pieces": self.pieces}))
        return self.verdict(answers, settled, reached, rate)

    def under_way_max(self, rate):
        """As many as come in half a second: what a disk that is busy with a checkpoint makes wait is not left unsent."""
        return max(512, int(rate / 2))

    def load(self, load, until, stream):
        while time.monotonic() < until - 1:
            self.pieces.append(self.hammer(load, min(PIECE_SECONDS, until - time.monotonic()), stream))

    def hammer(self, load, seconds, stream):
        first_id, self.next_id = self.next_id, self.next_id + 10_000_000
        job = {
            "url": f"{self.door.url}/v1/chat/completions",
            "headers": {"authorization": f"Bearer {self.door.key}"},
            "model": "door",
            "stream": stream,
            "prompt_bytes": 2000,
            "tokens": 32,
            "pace_us": 5000 if stream else 0,
            "load": load,
            "seconds": seconds,
            "timeout_seconds": 30,
            "first_id": first_id,
        }
        done = subprocess.run([self.tools / "hammer"], input=json.dumps(job), capture_output=True, text=True)
        return json.loads(done.stdout) | {"stream": stream}

    def watch(self, until):
        while time.monotonic() < until:
            self.memory.append((time.monotonic() - self.begin, memory_mib(self.door.process.pid)["rss_mib"], cpu_seconds(self.door.process.pid)))
            for standin in (self.faulty, self.spare):
                standin.collect()
            time.sleep(2)

    def verdict(self, answers, settled, reached, rate):
        standins = [self.faulty, self.spare]
        served = json.loads(fetch(f"http://127.0.0.1:{self.mock_port}/tally"))
        answered = sum(piece["answered"] for piece in self.pieces)
        errors = {}
        for piece in self.pieces:
            for name, count in piece["errors"].items():
                errors[name] = errors.get(name, 0) + count
        bills = judge.bills(answers, self.door.bookings({answer.request for answer in answers}), standins)
        total = json.loads(self.door.usage("--by", "model", "--format", "json")[1])
        check = self.door.check()
        warm = [sample for sample in self.memory if sample[0] > self.options.seconds * WARM_SHARE]
        slope = slope_of([(seconds, rss) for seconds, rss, _ in warm])
        unexplained = judge.unexplained(answers, standins, [])
        lies = [f"{a.request}: {a.why}" for a in answers if a.verdict == "lie"]
        refused = [f"{a.request} {a.verdict}: {a.why}" for a in answers if a.verdict in ("refused", "nameless", "unreachable", "endless")]
        growth = slope * 1800
        tests = {
            "the ledger balances and no request is open": check["balances"] and settled,
            "no wrong bill where providers failed": not bills["faults"],
            "no wrong answer where they did not": not errors,
            "no clean end for a broken answer": not lies,
            "fallback where promised": not refused,
            "every bad end has a known cause": not unexplained,
            f"memory grows by less than {self.options.growth_mib_max} MiB in half an hour": growth < self.options.growth_mib_max,
        }
        print(f"{answered} right answers at the healthy provider ({served['requests']} served), {len(answers)} at the failing one: {json.dumps(judge.by_verdict(answers))}")
        print(f"resident memory {warm[0][1]:.1f} MiB after warm-up, {warm[-1][1]:.1f} MiB at the end, slope {growth:+.2f} MiB in half an hour")
        print(f"the book: {'; '.join(check['says'])}")
        for text, kept in tests.items():
            print(f"{'kept' if kept else 'NOT KEPT'}: {text}")
        for faults in (bills["faults"], lies, refused, unexplained, [f"{count} × {name}" for name, count in errors.items()]):
            judge.tell(faults)
        return {
            "kept": all(tests.values()),
            "tests": tests,
            "seconds": self.options.seconds,
            "closed_loop_per_second": reached,
            "rate": rate,
            "load_average": os.getloadavg()[0],
            "answered": answered,
            "served": served,
            "errors": errors,
            "verdicts": judge.by_verdict(answers),
            "bills": bills,
            "unexplained": unexplained,
            "memory": self.memory,
            "growth_mib_in_half_an_hour": growth,
            "usage": total,
            "check": check,
        }

    def stop(self):
        for process in (self.faulty, self.spare, self.door):
            if getattr(process, "process", None):
                process.stop()
        if self.mock:
            self.mock.terminate()
            self.mock.wait()


def slope_of(points):
    """Least squares, per second."""
    count = len(points)
    if count < 2:
        return 0.0
    x_mean, y_mean = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / max(sum((x - x_mean) ** 2 for x, _ in points), 1e-9)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=ROOT / "target/release/baseload")
    parser.add_argument("--tools", default=ROOT / "target/release", help="folder of standins, mock_upstream and hammer")
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--share", type=float, default=0.7, help="of what a closed loop reaches")
    parser.add_argument("--rate-max", type=float, default=1e9, help="requests/s at most, on a machine that others use")
    parser.add_argument("--streams-per-second", type=float, default=20)
    parser.add_argument("--crowd", type=int, default=20, help="clients at the failing provider")
    parser.add_argument("--growth-mib-max", type=float, default=8)
    parser.add_argument("--folder", help="where the ledger lies meanwhile")
    parser.add_argument("--out", default=ROOT / "build/bench")
    return parser.parse_args()


if __name__ == "__main__":
    main()
