"""How does a client see its answer end: whole, refused, broken by name, cut, or as a lie?"""

import asyncio
import itertools
import json
import random
import time
from dataclasses import dataclass, field

import aiohttp

NONCES = itertools.count(1)


@dataclass
class Answer:
    nonce: int
    route: str
    expected: str
    verdict: str = ""
    why: str = ""
    status: int = 0
    text: str = ""
    request: str = ""
    unit: str = ""
    attempts: str = ""
    usage: dict | None = None
    first_seconds: float | None = None
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)


async def ask(session, url, key, route, numbers, leave_after=None, timeout=60):
    """Streams `1 2 3 …`, which the stand-ins say when they are asked to count, and judges how it ended."""
    nonce = next(NONCES)
    answer = Answer(nonce, route, " ".join(map(str, range(1, numbers + 1))))
    body = {
        "model": route,
        "messages": [{"role": "user", "content": f"[nonce {nonce}] count to {numbers}"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 4 * numbers + 50,
    }
    try:
        async with asyncio.timeout(timeout):
            async with session.post(f"{url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}) as response:
                await read(response, answer, leave_after)
    except TimeoutError:
        answer.verdict, answer.why = "endless", f"no end within {timeout} s"
    except (aiohttp.ClientError, OSError) as error:
        answer.verdict = "cut" if answer.status else "unreachable"
        answer.why = f"{type(error).__name__}: {error}"
    answer.seconds = time.monotonic() - answer.began
    return answer


async def read(response, answer, leave_after):
    answer.status = response.status
    header = response.headers.get
    answer.request, answer.unit, answer.attempts = header("x-request-id", ""), header("x-baseload-unit", ""), header("x-baseload-attempts", "")
    if response.status != 200:
        text = await response.text()
        try:
            error = json.loads(text)["error"]
            answer.verdict, answer.why = "refused", f"{error.get('code')}: {error['message']}"[:400]
        except (ValueError, KeyError, TypeError):
            answer.verdict, answer.why = "nameless", f"status {response.status}: {text[:120]}"
        return
    finish, done = None, False
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            done = True
            continue
        event = json.loads(data)
        if event.get("error"):
            answer.verdict, answer.why = "broken", str(event["error"].get("code") or event["error"].get("message"))[:120]
            continue
        answer.usage = event.get("usage") or answer.usage
        for choice in event.get("choices") or []:
            said = (choice.get("delta") or {}).get("content")
            if said:
                if answer.first_seconds is None:
                    answer.first_seconds = time.monotonic() - answer.began
                answer.text += said
            finish = choice.get("finish_reason") or finish
        if leave_after is not None and len(answer.text) > leave_after:
            answer.verdict = "left"
            response.close()
            return
    is_right = answer.text == answer.expected
    if answer.verdict == "broken":
        if finish or done and is_right:
            # An error and a clean end in one stream: a client may believe either.
            answer.verdict, answer.why = "lie", f"an error ({answer.why}) and a clean end"
    elif done and finish == "stop" and is_right:
        answer.verdict = "whole"
    elif done and is_right:
        answer.verdict, answer.why = "unfinished", "[DONE] without a finish reason"
    elif done or finish:
        answer.verdict, answer.why = "lie", f"a clean end ({finish}) after {len(answer.text)} of {len(answer.expected)} characters"
    else:
        answer.verdict, answer.why = "cut", "no [DONE], no error"


async def crowd(url, key, concurrent, until, choose, seed=1, answers=None):
    """So many clients that always have one request under way, until a moment; returns all answers, also while it goes on."""
    answers, dice = [] if answers is None else answers, random.Random(seed)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def client():
            while time.monotonic() < until:
                route, numbers, leave_after = choose(dice)
                answer = await ask(session, url, key, route, numbers, leave_after)
                answers.append(answer)
                if answer.verdict in ("refused", "nameless", "unreachable"):
                    # As a client would: not in a tight loop.
                    await asyncio.sleep(0.2)

        await asyncio.gather(*(client() for _ in range(concurrent)))
    return answers
