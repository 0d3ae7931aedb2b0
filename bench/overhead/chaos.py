#!/usr/bin/env python3
"""What do clients and the book see while providers die, stall, lie, drip, reset and rate-limit?

  bench/overhead/chaos.py --binary target/release/baseload --tools target/release

Fails when a bill is wrong, a broken answer ends cleanly, a promised fallback did not come, no breaker opened or one stayed open, the
healthy route's p99 suffered, or a bad end has no cause in `chaos.toml`. Needs aiohttp.
"""

import argparse
import asyncio
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import judge  # noqa: E402
from callers import crowd  # noqa: E402
from door import Door, Standin, free_port  # noqa: E402


def main():
    options = arguments()
    definition = tomllib.loads(pathlib.Path(options.definition).read_text())
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        play = Play(definition, options, folder)
        try:
            result = asyncio.run(play.run())
        finally:
            play.stop()
            if options.keep_log:
                pathlib.Path(options.keep_log).write_bytes((pathlib.Path(folder) / "baseload.log").read_bytes())
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{time.strftime('%Y-%m-%d')}-chaos.json").write_text(json.dumps(result, indent=1))
    sys.exit(0 if result["kept"] else 1)


class Play:
    def __init__(self, definition, options, folder):
        self.definition, self.options = definition, options
        self.tools = pathlib.Path(options.tools)
        self.standins = {one["name"]: Standin(self.tools / "standins", one["name"], one["kind"]) for one in definition["standin"]}
        self.speed = {one["name"]: one["tokens_per_second"] for one in definition["standin"]}
        self.calm_port, self.calm = free_port(), None
        self.deaths, self.breakers, self.recent, self.refused, self.is_over = [], [], [], [], False
        self.door = Door(options.binary, folder, self.settings(), {"MOCK_KEY": "sk-mock"})

    def settings(self):
        price = 'price = { input = "1", output = "2" }'
        text = f'[[provider]]\nname = "calm"\nkind = "openai_compatible"\nbase_url = "http://127.0.0.1:{self.calm_port}/v1"\nkey = {{ env = "MOCK_KEY" }}\n\n'
        text += f'[[model]]\nname = "calm"\nprovider = "calm"\n{price}\n\n'
        for name, standin in self.standins.items():
            kind = "openai_compatible" if standin.kind == "compatible" else standin.kind
            text += f'[[provider]]\nname = "{name}"\nkind = "{kind}"\nbase_url = "{standin.base_url}"\nkey = {{ env = "STANDIN_KEY" }}\n'
            text += "connect_timeout_ms = 1000\nfirst_byte_timeout_seconds = 3\nstall_timeout_seconds = 3\n\n"
            text += f'[[model]]\nname = "count-{name}"\nprovider = "{name}"\nid = "standin"\n{price}\n\n'
        names = [f"count-{name}" for name in self.standins]
        text += f'[[route]]\nname = "storm"\nmodels = {json.dumps(names)}\norder = "listed"\nattempts = {len(names)}\n\n'
        text += f'[[route]]\nname = "lonely"\nmodels = ["{names[0]}"]\n'
        return text

    async def run(self):
        d = self.definition
        for name, standin in self.standins.items():
            standin.start().behave({"tokens_per_second": self.speed[name]})
        self.calm = subprocess.Popen([self.tools / "mock_upstream", f"127.0.0.1:{self.calm_port}"], stdout=subprocess.PIPE)
        self.calm.stdout.readline()
        self.door.start()
        watching = threading.Thread(target=self.watch, daemon=True)
        watching.start()
        print(f"{time.strftime('%H:%M:%S')} baseline: all are well")
        baseline = await self.phase(d["baseline_seconds"], [])
        print(f"{time.strftime('%H:%M:%S')} chaos")
        chaos = await self.phase(d["chaos_seconds"], d["step"])
        after = await self.phase(d["calm_after_seconds"], [])
        self.is_over = True
        watching.join()
        settled = await asyncio.to_thread(self.door.settle)
        for standin in self.standins.values():
            standin.collect()
            standin.index()
        return self.verdict(baseline, chaos, after, settled)

    async def phase(self, seconds, steps):
        """Clients and the healthy route's load for so long, with the steps at their times."""
        low, high = self.definition["numbers"]
        leaves = self.definition["leave_share"]

        def choose(dice):
            leave_after = dice.randint(5, 40) if dice.random() < leaves else None
            return ("lonely" if dice.random() < 0.2 else "storm"), dice.randint(low, high), leave_after

        calm = asyncio.create_task(asyncio.to_thread(self.ask_calmly, seconds))
        stepping = asyncio.create_task(self.take_steps(steps))
        self.recent = answers = []
        await crowd(self.door.url, self.door.key, self.definition["concurrent"], time.monotonic() + seconds, choose, answers=answers)
        await stepping
        return {"answers": answers, "calm": await calm}

    async def take_steps(self, steps):
        start = time.monotonic()
        for step in steps:
            await asyncio.sleep(max(0, start + step["at"] - time.monotonic()))
            print(f"{time.strftime('%H:%M:%S')}   {step['text']}")
            await asyncio.to_thread(self.take_step, step)

    def take_step(self, step):
        for name in step.get("die", []):
            self.standins[name].die()
            self.deaths.append([name, time.monotonic(), float("inf")])
        for name in step.get("revive", []):
            self.standins[name].start()
            next(death for death in self.deaths if death[0] == name and death[2] == float("inf"))[2] = time.monotonic()
        for name, standin in self.standins.items():
            if name in step:
                standin.behave({"tokens_per_second": self.speed[name], "seed": step["at"], "ugly": step[name]})

    def ask_calmly(self, seconds):
        calm = self.definition["calm"]
        job = {
            "url": f"{self.door.url}/v1/chat/completions",
            "headers": {"authorization": f"Bearer {self.door.key}"},
            "model": "calm",
            "stream": True,
            "prompt_bytes": 1000,
            "tokens": calm["tokens"],
            "pace_us": calm["pace_us"],
            "load": {"kind": "open", "per_second": calm["per_second"], "under_way_max": 512},
            "seconds": seconds - 2,
            "warm_seconds": 1,
            "timeout_seconds": 20,
            "first_id": time.monotonic_ns() % 10**11,
        }
        done = subprocess.run([self.tools / "hammer"], input=json.dumps(job), capture_output=True, text=True)
        return json.loads(done.stdout)

    def watch(self):
        """Breakers as decisions tell of them, and the stand-ins' memories before they overflow."""
        start = time.monotonic()
        while not self.is_over:
            for standin in self.standins.values():
                standin.collect()
            resting = set()
            for answer in [answer for answer in self.recent[-60:] if answer.route == "storm" and answer.verdict == "refused"][-1:]:
                try:
                    self.refused.append(self.door.decision(answer.request))
                except (OSError, ValueError):
                    pass
            for answer in [answer for answer in self.recent[-40:] if answer.route == "storm" and answer.request][-4:]:
                try:
                    candidates = self.door.decision(answer.request)["candidates"]
                except (OSError, KeyError, ValueError):
                    continue
                # In the words of fleet's reasons: resting, or asked by one request that finds out.
                resting |= {one["unit"] for one in candidates if re.search(r"rests for|is finding out", one.get("reason") or "")}
            self.breakers.append((round(time.monotonic() - start, 1), sorted(resting)))
            time.sleep(1)

    def verdict(self, baseline, chaos, after, settled):
        answers = baseline["answers"] + chaos["answers"] + after["answers"]
        standins = list(self.standins.values())
        bills = judge.bills(answers, self.door.bookings({answer.request for answer in answers}), standins)
        check = self.door.check()
        p99 = lambda phase: (phase["calm"]["first_ms"] or {}).get("p99")
        limit = self.definition["calm"]
        harmed = p99(chaos) is None or p99(chaos) > max(p99(baseline) * limit["p99_factor_max"], p99(baseline) + limit["p99_added_ms_max"])
        promised = [answer for answer in answers if answer.route == "storm"]
        no_fallback = [f"{a.request} {a.verdict}: {a.why}" for a in promised if a.verdict in ("refused", "nameless", "unreachable") or a.verdict in ("broken", "cut", "endless") and not a.text]
        lies = [f"{a.request} {a.route} {a.unit}: {a.why} {[r['ugly'] for s in standins for r in s.of(a.nonce)]}" for a in answers if a.verdict == "lie"]
        cuts = [f"{a.request} {a.route} {a.unit}: {a.why}" for a in answers if a.verdict in ("cut", "endless", "nameless", "unreachable")]
        opened, closed = self.breaker_moves()
        calm_wrong = {name: phase["calm"]["errors"] for name, phase in [("baseline", baseline), ("chaos", chaos), ("after", after)] if phase["calm"]["errors"]}
        tests = {
            "the ledger balances and no request is open": check["balances"] and settled,
            "no wrong bill": not bills["faults"],
            "no clean end for a broken answer": not lies,
            "a named error for every other bad end": not cuts,
            "fallback where promised": not no_fallback,
            "breakers opened, and closed again (seen in /admin/decisions)": opened and closed,
            "the healthy route gave no wrong answer": not calm_wrong,
            "the healthy route's p99 is unharmed": not harmed,
        }
        unexplained = judge.unexplained(answers, standins, self.deaths)
        tests["every bad end has a known cause"] = not unexplained
        print(f"\n{self.definition['title']}: {len(answers)} answers; {json.dumps(judge.by_verdict(answers))}")
        print(f"healthy route, first token p99: {p99(baseline):.2f} ms before, {p99(chaos):.2f} ms in the chaos, {p99(after):.2f} ms after")
        print(f"bills: {json.dumps(bills['compared'])}; whole answers booked {bills['booked_tokens_of_whole_answers']} tokens, served {bills['served_tokens_of_whole_answers']}")
        for text, kept in tests.items():
            print(f"{'kept' if kept else 'NOT KEPT'}: {text}")
        for faults in (bills["faults"], lies, cuts, no_fallback, unexplained):
            judge.tell(faults)
        return {
            "definition": self.definition,
            "kept": all(tests.values()),
            "tests": tests,
            "verdicts": {name: judge.by_verdict(phase["answers"]) for name, phase in [("baseline", baseline), ("chaos", chaos), ("after", after)]},
            "bills": bills,
            "lies": lies,
            "cuts": cuts,
            "no_fallback": no_fallback,
            "decisions_of_refused": self.refused[:40],
            "unexplained": unexplained,
            "calm": {name: phase["calm"] for name, phase in [("baseline", baseline), ("chaos", chaos), ("after", after)]},
            "breakers": self.breakers,
            "check": check,
        }

    def breaker_moves(self):
        """Whether some breaker was seen open, and none in the last seconds, when all had been well for a while."""
        opened = any(resting for _, resting in self.breakers)
        return opened, opened and not any(resting for _, resting in self.breakers[-5:])

    def stop(self):
        self.is_over = True
        for process in [*self.standins.values(), self.door]:
            if getattr(process, "process", None):
                process.stop()
        if self.calm:
            self.calm.terminate()
            self.calm.wait()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--definition", default=HERE / "chaos.toml")
    parser.add_argument("--binary", default=ROOT / "target/release/baseload")
    parser.add_argument("--tools", default=ROOT / "target/release", help="folder of standins, mock_upstream and hammer")
    parser.add_argument("--out", default=ROOT / "build/bench")
    parser.add_argument("--keep-log", help="copy the server's log here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
