#!/usr/bin/env python3
"""Do budgets hold when many clients spend one over several processes, and what does it cost in false refusals?

  tests/budgets/run.py baseload               every case of bench/definitions/budgets/crowd.toml, on a Postgres of its own
  tests/budgets/run.py litellm tight cancel   some cases, on LiteLLM proxies with a Redis of their own (see litellm_proxy.py)
  tests/budgets/run.py baseload --out bench/results

Needs `pip install -r tests/budgets/requirements.txt`; for LiteLLM also `litellm[proxy]` and Redis (REDIS_SERVER, REDIS_CLI name other binaries).

Two judgements need words. *Overshoot*: what was really produced, at the price, beyond the cap. *False refusal*: at the moment of the refusal, the cap less the true
cost of everything that was admitted before (known afterwards) had room for the true cost of the request that was refused; nobody without foresight can be at
zero, and a worst-case reservation is far from it.
"""

import argparse
import asyncio
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time
import tomllib

import aiohttp

from baseload import Baseload
from clients import ask
from litellm_proxy import LiteLLM, StrictLiteLLM

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SUBJECTS = {"baseload": Baseload, "litellm": LiteLLM, "litellm-strict": StrictLiteLLM}


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("cases", nargs="*", help="names of cases [default: all]")
    parser.add_argument("--definition", default=ROOT / "bench/definitions/budgets/crowd.toml")
    parser.add_argument("--binary", default=ROOT / "target/release/baseload")
    parser.add_argument("--out", help="folder for the result as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the servers' folders and say where")
    options = parser.parse_args()
    definition = tomllib.loads(pathlib.Path(options.definition).read_text()) | {"binary": str(pathlib.Path(options.binary).resolve())}
    results = []
    for case in definition["case"]:
        if options.cases and case["name"] not in options.cases:
            continue
        folder = tempfile.mkdtemp(prefix="budgets-")
        subject = SUBJECTS[options.subject](definition, folder)
        load_before = os.getloadavg()[0]
        try:
            await subject.start(case)
            result = await KINDS[case["kind"]](subject, definition, case)
        finally:
            await subject.stop()
            if options.keep:
                print(f"kept: {folder}", file=sys.stderr)
            else:
                subprocess.run(["rm", "-rf", folder])
        result |= {"case": case["name"], "subject": subject.name, "version": await subject.version(), "load_average": [load_before, os.getloadavg()[0]]}
        print(json.dumps(result, indent=1), flush=True)
        results.append(result)
    if options.out:
        report = {"machine": machine(), "commit": commit(), "date": time.strftime("%Y-%m-%d"), "results": results}
        path = pathlib.Path(options.out) / f"{time.strftime('%Y-%m-%d')}-budgets-{options.subject}.json"
        path.write_text(json.dumps(report, indent=1) + "\n")


async def overshoot(subject, definition, case):
    """Every client asks again and again until all money is gone: until it is refused while nothing runs any more."""
    answers, running, last_end = [], 0, time.time()
    deadline = time.time() + definition.get("seconds_max", 240)

    async def client(session, number):
        nonlocal running, last_end
        turn = 0
        while time.time() < deadline:
            turn += 1
            url = subject.urls[(number + turn) % len(subject.urls)]
            running += 1
            answer = await ask(session, subject, url, f"c{number}t{turn}", "shared", case)
            running -= 1
            answers.append(answer)
            if answer.admitted:
                last_end = time.time()
            elif running == 0 and answer.began > last_end:
                return
            elif refused_long(answers, last_end):
                return
            else:
                await asyncio.sleep(0.5)

    def refused_long(answers, since):
        return running_streams() == 0 and time.time() - since > 8

    def running_streams():
        # Those that wait for a refusal count as running for a moment; streams run for seconds.
        return 0 if time.time() - last_end > 8 else running

    async with session_for(definition) as session:
        await asyncio.gather(*(client(session, number) for number in range(definition["clients"])))
    return await judge(subject, case, answers)


async def strangers(subject, definition, case):
    """Users whom nobody has seen, each with a budget of its own, ask three times at the same moment, one process each."""
    async with session_for(definition) as session:
        asks = [
            ask(session, subject, subject.urls[side % len(subject.urls)], f"u{user}s{side}", f"user{user}", case)
            for user in range(case["users"])
            for side in range(3)
        ]
        answers = await asyncio.gather(*asks)
    result = await judge(subject, case, answers, caps=case["users"])
    by_user = {}
    for answer in answers:
        name = answer.name.split("s")[0]
        by_user[name] = by_user.get(name, 0) + (subject.cost_of(answer, case) if answer.admitted else 0)
    cap = pico(case["cap_usd"])
    return result | {
        "users_over_their_cap": sum(cost > cap for cost in by_user.values()),
        "users_without_any_answer": sum(cost == 0 for cost in by_user.values()),
    }


async def cancel(subject, definition, case):
    """Every client leaves after some tokens; what they got, and what was produced for them, should be in the book."""
    async with session_for(definition) as session:
        asks = [
            ask(session, subject, subject.urls[number % len(subject.urls)], f"l{number}", "leaver", case, case["leave_after_tokens"])
            for number in range(definition["clients"])
        ]
        answers = await asyncio.gather(*asks)
    await asyncio.sleep(5)
    return await judge(subject, case, answers)


KINDS = {"overshoot": overshoot, "strangers": strangers, "cancel": cancel}


async def judge(subject, case, answers, caps=1):
    subject.learn(answers)
    cap = pico(case["cap_usd"]) * caps
    delivered = sum(subject.cost_of(answer, case) for answer in answers if answer.admitted)
    billed, booked, counted = await subject.spent(answers)
    count = lambda end: sum(answer.end == end for answer in answers)
    codes = {}
    for answer in answers:
        if answer.end != "whole":
            key = f"{answer.end} {answer.status} {answer.code}".strip()
            codes[key] = codes.get(key, 0) + 1
    refusal_times = sorted(answer.ended - answer.began for answer in answers if answer.end == "refused")
    return {
        "cap_usd": usd(cap),
        "produced_usd": usd(billed),
        "booked_usd": usd(booked),
        "counted_usd": usd(counted),
        "delivered_usd": usd(delivered),
        "overshoot_usd": usd(max(0, billed - cap)),
        "overshoot_share": round(max(0, billed - cap) / cap, 4),
        "bound_usd": None if subject.bound(case) is None else usd(subject.bound(case) * caps),
        "unused_usd": usd(max(0, cap - billed)),
        "produced_not_booked_usd": usd(billed - booked),
        "delivered_not_booked_usd": usd(max(0, delivered - booked)),
        "answers": len(answers),
        "whole": count("whole"),
        "cut": count("cut"),
        "left": count("left"),
        "refused": count("refused"),
        "broken": count("broken"),
        "false_refusals": false_refusals(subject, case, answers) if caps == 1 else None,
        "refusal_seconds_p50_max": [round(refusal_times[len(refusal_times) // 2], 3), round(refusal_times[-1], 3)] if refusal_times else None,
        "not_whole": codes,
        "examples": sorted({answer.message[:160] for answer in answers if answer.message})[:4],
    }


def false_refusals(subject, case, answers):
    """How often an oracle would have admitted what was refused."""
    cap, wanted = pico(case["cap_usd"]), subject.answer_cost(case)
    admitted = [(answer.began, subject.cost_of(answer, case)) for answer in answers if answer.admitted]
    committed = lambda moment: sum(cost for began, cost in admitted if began <= moment)
    return sum(cap - committed(answer.ended) >= wanted for answer in answers if answer.end == "refused")


def session_for(definition):
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300))


def pico(usd_text):
    whole, _, part = usd_text.partition(".")
    return int(whole) * 10**12 + int((part + "0" * 12)[:12])


def usd(amount):
    return f"{'-' if amount < 0 else ''}{abs(amount) // 10**12}.{abs(amount) % 10**12:012}".rstrip("0").rstrip(".")


def machine():
    names = re.findall(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return f"{os.cpu_count()} cores, {names[0] if names else platform.processor()}"


def commit():
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


if __name__ == "__main__":
    asyncio.run(main())
