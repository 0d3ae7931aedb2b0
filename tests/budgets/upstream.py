"""What would a slow provider produce, and how much of it was it asked to throw away?

An OpenAI-compatible stand-in: it streams the answer that the prompt asks for (`answer=200 id=r17`: 200 tokens, remembered as r17), a few tokens
at a time, with a usage chunk at the end, and stops when its client leaves. What it produced is what a provider would bill: the truth that a
proxy's books are measured against.
"""

import asyncio
import json
import re
import socket
import time

from aiohttp import web

PROMPT_TOKENS = 20


class Upstream:
    """`produced[id]` is [tokens, whether the answer was whole]."""

    def __init__(self, chunk_tokens, chunk_seconds):
        self.chunk_tokens, self.chunk_seconds = chunk_tokens, chunk_seconds
        self.produced = {}

    async def start(self):
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self.chat)
        # Without `handler_cancellation` a handler learns of a lost client at its next write; a real provider does, too.
        self.runner = web.AppRunner(application, access_log=None)
        await self.runner.setup()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        await web.SockSite(self.runner, listener, backlog=1024).start()
        return self

    async def stop(self):
        await self.runner.cleanup()

    async def chat(self, request):
        body = await request.json()
        said = body["messages"][-1]["content"]
        name, length = re.search(r"id=(\S+)", said).group(1), int(re.search(r"answer=(\d+)", said).group(1))
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or length
        tokens, whole = min(length, limit), False
        record = self.produced.setdefault(name, [0, False])
        head = {"id": f"chatcmpl-{name}", "object": "chat.completion.chunk", "created": int(time.time()), "model": body["model"]}
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        try:
            await response.prepare(request)
            sent = 0
            while sent < tokens:
                some = min(self.chunk_tokens, tokens - sent)
                # Produced first: what was computed is billed, whether or not it could still be delivered.
                record[0] += some
                sent += some
                await write(response, head | {"choices": [{"index": 0, "delta": {"content": " word" * some}, "finish_reason": None}]})
                await asyncio.sleep(self.chunk_seconds)
            reason = "stop" if length <= limit else "length"
            await write(response, head | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": sent, "total_tokens": PROMPT_TOKENS + sent}
            await write(response, head | {"choices": [], "usage": usage})
            await response.write(b"data: [DONE]\n\n")
            record[1] = True
        except (ConnectionError, asyncio.CancelledError):
            pass
        return response


async def write(response, chunk):
    await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
