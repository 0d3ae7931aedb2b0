"""What does a client get, told apart by how it ended?"""

import asyncio
import dataclasses
import json
import time

import aiohttp


@dataclasses.dataclass
class Answer:
    name: str
    began: float
    status: int = 0
    # whole | refused | cut | left | broken
    end: str = "broken"
    code: str = ""
    message: str = ""
    request: str = ""
    tokens: int = 0
    prompt_tokens: int = 0
    reported_tokens: int | None = None
    ended: float = 0.0

    @property
    def admitted(self):
        return self.end != "refused"


async def ask(session, subject, url, name, user, case, leave_after=None):
    """Streams one answer to its end, or leaves after so many tokens; never raises for what a server may do."""
    answer = Answer(name, time.time())
    try:
        headers, body = subject.request(name, user, case)
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
            answer.status = response.status
            answer.request = response.headers.get("x-request-id", "")
            if response.status != 200:
                answer.end = "refused" if response.status in (400, 402, 403, 422, 429) else "broken"
                answer.code, answer.message = error_of(await response.text())
            else:
                await listen(response, subject, answer, leave_after)
    except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
        answer.end, answer.message = "broken", f"{type(error).__name__}: {error}"
    answer.ended = time.time()
    return answer


async def listen(response, subject, answer, leave_after):
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        if line.strip() == b"data: [DONE]":
            answer.end = answer.end if answer.end == "cut" else "whole"
            return
        event = json.loads(line[6:])
        if "error" in event:
            answer.end, (answer.code, answer.message) = "cut", error_of(line[6:])
            return
        usage = event.get("usage") or {}
        answer.prompt_tokens = usage.get("prompt_tokens", answer.prompt_tokens)
        answer.reported_tokens = usage.get("completion_tokens", answer.reported_tokens)
        for choice in event.get("choices", []):
            answer.tokens += subject.tokens_in(choice)
            # A finish reason of its own says that the money, and not the model, ended the answer.
            if choice.get("finish_reason") not in (None, "stop", "length"):
                answer.end, answer.code = "cut", choice["finish_reason"]
        if leave_after is not None and answer.tokens >= leave_after:
            answer.end = "left"
            response.close()
            return


def error_of(text):
    try:
        error = json.loads(text)["error"]
        return str(error.get("code") or error.get("type") or ""), str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", str(text)[:300]
