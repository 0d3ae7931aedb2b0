"""Does the server stay up, right and the same size while clients behave as badly as they can?

  python3 tests/abuse/run.py --seconds 600 --report abuse.svg

Starts a server of its own on a free loopback port with short time limits, lets good and bad clients loose on it for the stated time,
and then checks: every good answer was right, every bad request got its own error, nothing is still running, all cache blocks are home,
the ledger balances, memory is flat over the last two thirds, and SIGTERM ends the process cleanly. Needs only Python.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = """
[limits]
header_timeout_seconds = 5
body_timeout_seconds = 8
slow_reader_timeout_seconds = 6
drain_seconds = 5
[engine]
kv_mib = 64
max_waiting = 64
[log]
filter = "warn"
"""
QUESTION = {"role": "user", "content": "What is a KV cache?"}

# A body that must be refused, the status it must get, and the parameter that the error must name.
BAD_BODIES = [
    (b"", 400, None),
    (b"{", 400, None),
    (b"\xff\xfe{}", 400, None),
    (b"[" * 100_000, 400, None),
    (b"null", 400, None),
    (b'{"model":"\xc3\x28"}', 400, None),
    ({"messages": [QUESTION]}, 400, "model"),
    ({"model": "no-such-model", "messages": [QUESTION]}, 404, "model"),
    ({"messages": []}, 400, "messages"),
    ({"messages": "hello"}, 400, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages[0].role"),
    ({"messages": [QUESTION], "max_tokens": -1}, 400, "max_tokens"),
    ({"messages": [QUESTION], "max_tokens": 10**30}, 400, "max_tokens"),
    ({"messages": [QUESTION], "max_tokens": "many"}, 400, "max_tokens"),
    ({"messages": [QUESTION], "temperature": -1}, 400, "temperature"),
    ({"messages": [QUESTION], "temperature": 1e308}, 400, "temperature"),
    ({"messages": [QUESTION], "top_p": 0}, 400, "top_p"),
    ({"messages": [QUESTION], "n": 0}, 400, "n"),
    ({"messages": [QUESTION], "n": 1_000_000}, 400, "n"),
    ({"messages": [QUESTION], "stop": [""]}, 400, "stop[0]"),
    ({"messages": [QUESTION], "top_logprobs": 5}, 400, "top_logprobs"),
    ({"messages": [QUESTION], "logit_bias": {"x": 1}}, 400, "logit_bias"),
    ({"messages": [QUESTION], "logit_bias": {"1": 1000}}, 400, "logit_bias.1"),
    ({"messages": [{"role": "user", "content": "word " * 100_000}]}, 400, None),
]


class Server:
    """The process under test, and what is seen of it from outside."""

    def __init__(self, binary, work):
        config = work / "baseload.toml"
        config.write_text(CONFIG)
        self.binary, self.data = binary, work / "data"
        self.log = open(work / "log", "w+b")
        arguments = [binary, "serve", "--listen", "127.0.0.1:0", "--data", self.data, "--config", config]
        self.process = subprocess.Popen(arguments, stdout=self.log, stderr=subprocess.STDOUT)
        self.port = self.wait_for_port(work / "log")
        self.memory = []  # (seconds, resident KiB)

    def wait_for_port(self, log):
        for _ in range(600):
            found = re.search(rb"http://127\.0\.0\.1:(\d+)", log.read_bytes())
            if found:
                return int(found.group(1))
            if self.process.poll() is not None:
                sys.exit(f"the server ended at its start:\n{log.read_text()}")
            time.sleep(0.1)
        sys.exit("the server did not start within 60 s")

    def resident_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    async def watch(self, start):
        while True:
            self.memory.append((time.monotonic() - start, self.resident_kib()))
            await asyncio.sleep(0.5)


class Client:
    """Raw sockets, so that nothing is done properly unless asked to."""

    def __init__(self, port):
        self.port = port

    async def connect(self, **options):
        return await asyncio.open_connection("127.0.0.1", self.port, **options)

    async def send(self, body, path="/v1/chat/completions", method="POST"):
        reader, writer = await self.connect()
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(payload)}\r\n\r\n"
        writer.write(head.encode() + payload)
        return reader, writer

    async def whole(self, body, path="/v1/chat/completions", method="POST", seconds=60):
        """Returns status and body of one request."""
        reader, writer = await self.send(body, path, method)
        try:
            answer = await asyncio.wait_for(reader.read(), seconds)
        finally:
            writer.close()
        if not answer:
            raise ConnectionError("the connection was closed without an answer")
        head, _, rest = answer.partition(b"\r\n\r\n")
        if b"chunked" in head.lower():
            rest = unchunk(rest)
        return int(head.split(b" ", 2)[1]), rest


def unchunk(data):
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        if count == 0:
            break
        out, data = out + data[:count], data[count + 2 :]
    return out


def vanish(writer):
    """Closes with a reset, as a client does whose machine died."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Abuse:
    def __init__(self, server, model, expected, seconds):
        self.client, self.server = Client(server.port), server
        self.model, self.expected = model, expected
        self.deadline = time.monotonic() + seconds
        self.counts, self.wrong = {}, []

    def going(self):
        return time.monotonic() < self.deadline

    def count(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1

    def chat(self, **fields):
        return {"model": self.model, "messages": [QUESTION], "temperature": 0, **fields}

    async def repeat(self, name, behaviour, pause):
        while self.going():
            try:
                await behaviour()
                self.count(name)
            except (ConnectionError, asyncio.IncompleteReadError, BrokenPipeError) as error:
                # A server may close on a client that misbehaves; never on a good one.
                if name.startswith("good"):
                    self.wrong.append(f"{name}: {error!r}")
                self.count(name)
            except AssertionError as error:
                self.wrong.append(f"{name}: {error}")
            except Exception as error:
                self.wrong.append(f"{name}: {error!r}")
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    async def good_stream(self):
        status, body = await self.client.whole(self.chat(stream=True))
        if status == 429:
            return self.count("good, told to wait")
        assert status == 200, f"status {status}: {body[:200]}"
        lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
        assert lines[-1] == b"[DONE]", f"the stream ended with {lines[-1:]}"
        chunks = [json.loads(line) for line in lines[:-1]]
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
        assert text == self.expected, f"another answer than before: {text!r}"

    async def good_whole(self):
        status, body = await self.client.whole(self.chat())
        if status == 429:
            return self.count("good, told to wait")
        assert status == 200, f"status {status}: {body[:200]}"
        text = json.loads(body)["choices"][0]["message"]["content"]
        assert text == self.expected, f"another answer than before: {text!r}"

    async def vanishing(self):
        reader, writer = await self.client.send(self.chat(stream=True, max_tokens=400, ignore_eos=True))
        await asyncio.wait_for(reader.read(random.randrange(1, 2000)), 30)
        vanish(writer)

    async def slow_reader(self):
        reader, writer = await self.client.connect(limit=1024)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        body = json.dumps(self.chat(stream=True, max_tokens=400, ignore_eos=True, n=4, logprobs=True, top_logprobs=20)).encode()
        writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        for _ in range(20):
            if not await asyncio.wait_for(reader.read(1), 30) or not self.going():
                break
            await asyncio.sleep(0.5)
        vanish(writer)

    async def half_body(self):
        reader, writer = await self.client.connect()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"model\":")
        answer = await asyncio.wait_for(reader.read(), 30)
        assert answer == b"" or b" 408 " in answer.split(b"\r\n")[0], f"half a body was answered {answer[:80]}"
        writer.close()

    async def slow_header(self):
        reader, writer = await self.client.connect()
        writer.write(b"POST /v1/chat/compl")
        await asyncio.wait_for(reader.read(), 30)
        writer.close()

    async def huge_body(self):
        reader, writer = await self.client.connect()
        size = 100 << 20
        writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode())
        block, sent = b"x" * 65536, 0
        try:
            while sent < size and not reader.at_eof():
                writer.write(block)
                await asyncio.wait_for(writer.drain(), 10)
                sent += len(block)
                if reader._buffer:  # the refusal is here already
                    break
        except ConnectionError:
            pass
        answer = b""
        try:
            answer = await asyncio.wait_for(reader.read(65536), 10)
        except ConnectionError:
            pass
        # A sender so slow that the body's time is over hears that instead.
        refused = any(status in answer.split(b"\r\n")[0] for status in (b" 413 ", b" 408 "))
        assert answer == b"" or refused, f"100 MB were answered {answer[:80]}"
        vanish(writer)

    async def garbage(self):
        reader, writer = await self.client.connect()
        writer.write(random.randbytes(random.randrange(1, 4096)))
        await asyncio.wait_for(reader.read(4096), 15)
        vanish(writer)

    async def bad_body(self):
        body, status, param = random.choice(BAD_BODIES)
        if isinstance(body, dict) and param != "model":
            body = {"model": self.model, **body}
        got, answer = await self.client.whole(body)
        shown = str(body)[:100]
        assert got == status, f"{shown} was answered {got}, not {status}: {answer[:200]}"
        error = json.loads(answer)["error"]
        assert error["message"], f"{shown} got an error without a message"
        assert param is None or error["param"] == param, f"{shown} blamed {error['param']!r}, not {param!r}"

    async def wrong_path(self):
        status, answer = await self.client.whole(b"", path="/v1/no/such/path", method="GET")
        assert status == 404 and b"/v1/no/such/path" in answer, f"{status} {answer[:100]}"
        status, _ = await self.client.whole(b"", method="GET")
        assert status == 405, f"GET on a POST endpoint: {status}"

    async def crowd(self):
        """Two thousand connections that say nothing; a good client must still be served among them."""
        opened = await asyncio.gather(*(self.client.connect() for _ in range(2000)), return_exceptions=True)
        writers = [pair[1] for pair in opened if not isinstance(pair, Exception)]
        assert len(writers) > 1900, f"only {len(writers)} of 2,000 connections could be opened"
        await self.good_whole()
        await asyncio.sleep(1)
        for writer in writers:
            vanish(writer)

    async def run(self):
        behaviours = [
            (self.good_stream, 3, 0.05), (self.good_whole, 2, 0.05), (self.vanishing, 4, 0.1), (self.slow_reader, 4, 0.2),
            (self.half_body, 4, 0.2), (self.slow_header, 4, 0.2), (self.huge_body, 1, 1.0), (self.garbage, 2, 0.1),
            (self.bad_body, 2, 0.02), (self.wrong_path, 1, 0.5), (self.crowd, 1, 5.0),
        ]
        tasks = [self.repeat(b.__name__, b, pause) for b, count, pause in behaviours for _ in range(count)]
        watch = asyncio.create_task(self.server.watch(time.monotonic()))
        progress = asyncio.create_task(self.show_progress())
        await asyncio.gather(*tasks)
        watch.cancel()
        progress.cancel()

    async def show_progress(self):
        while sys.stderr.isatty():
            print(f"\r{max(0, self.deadline - time.monotonic()):5.0f} s left, {sum(self.counts.values())} done, {len(self.wrong)} wrong", end="", file=sys.stderr)
            await asyncio.sleep(1)


def growth(memory):
    """Returns how many KiB the fitted line rises over the last two thirds, and the mean there."""
    last = [(t, kib) for t, kib in memory if t > memory[-1][0] / 3]
    count = len(last)
    mean_t, mean = sum(t for t, _ in last) / count, sum(kib for _, kib in last) / count
    slope = sum((t - mean_t) * (kib - mean) for t, kib in last) / sum((t - mean_t) ** 2 for t, _ in last)
    return slope * (last[-1][0] - last[0][0]), mean


async def metric(client, name):
    """Returns the sum of a metric over its labels."""
    _, body = await client.whole(b"", path="/metrics", method="GET")
    values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? ([-\d.e+]+)$", body.decode(), re.M)
    assert values, f"/metrics has no {name}"
    return sum(map(float, values))


async def all_home(client, wrong):
    """Waits until nothing runs and all blocks are free or cached."""
    gauges = ["vllm:num_requests_running", "vllm:num_requests_waiting", "baseload_kv_blocks_in_use", "baseload_holds_open"]
    for attempt in range(40):
        values = {name: await metric(client, name) for name in gauges}
        if not any(values.values()):
            return
        await asyncio.sleep(0.5)
    wrong.append(f"20 s after the last client left: {values}")


def chart(memory, path):
    width, height, most = 900, 320, max(kib for _, kib in memory) * 1.1
    x = lambda t: 60 + t / memory[-1][0] * (width - 80)
    y = lambda kib: height - 40 - kib / most * (height - 70)
    points = " ".join(f"{x(t):.1f},{y(kib):.1f}" for t, kib in memory)
    marks = "".join(f'<text x="5" y="{y(most * f / 4):.0f}">{most * f / 4096:.0f} MiB</text>' for f in range(5))
    pathlib.Path(path).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/><text x="60" y="18" font-size="14">Resident memory under abuse, {memory[-1][0]:.0f} s</text>'
        f'{marks}<polyline points="{points}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>'
        f'<line x1="{x(memory[-1][0] / 3):.0f}" x2="{x(memory[-1][0] / 3):.0f}" y1="30" y2="{height - 40}" stroke="#999" stroke-dasharray="4"/></svg>\n'
    )


def build():
    # As `make test` builds it: another selection of packages would compile half of the dependencies once more.
    subprocess.run(["cargo", "test", "--quiet", "--locked", "--workspace", "--no-run"], cwd=ROOT, check=True)
    meta = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, check=True, capture_output=True)
    return pathlib.Path(json.loads(meta.stdout)["target_directory"]) / "debug" / "baseload"


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long the clients misbehave")
    parser.add_argument("--binary", help="the server [default: build it]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", help="write resident memory over time as .svg")
    options = parser.parse_args()
    random.seed(options.seed)
    binary = options.binary or build()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(await judge(Server(binary, pathlib.Path(folder)), options))


async def judge(server, options):
    client = Client(server.port)
    try:
        for _ in range(300):
            if (await client.whole(b"", path="/ready", method="GET"))[0] == 200:
                break
            await asyncio.sleep(0.1)
        model = json.loads((await client.whole(b"", path="/v1/models", method="GET"))[1])["data"][0]["id"]
        _, first = await client.whole({"model": model, "messages": [QUESTION], "temperature": 0})
        abuse = Abuse(server, model, json.loads(first)["choices"][0]["message"]["content"], options.seconds)
        await abuse.run()
        await all_home(client, abuse.wrong)
        await abuse.good_whole()
    finally:
        server.process.send_signal(signal.SIGTERM)
    wrong = abuse.wrong
    try:
        code = server.process.wait(30)
        if code != 0:
            wrong.append(f"SIGTERM ended the server with {code}")
    except subprocess.TimeoutExpired:
        server.process.kill()
        wrong.append("the server did not end within 30 s of SIGTERM")
    check = subprocess.run([server.binary, "usage", "--data", server.data, "--check"], capture_output=True, text=True)
    print(check.stdout.strip())
    if check.returncode != 0:
        wrong.append(f"the ledger does not balance: {check.stderr}")
    server.log.seek(0)
    panics = server.log.read().count(b"panicked")
    if panics:
        wrong.append(f"{panics} panics in the log")
    rise, mean = growth(server.memory)
    print(f"resident memory: mean {mean / 1024:.0f} MiB, change over the last two thirds {rise / 1024:+.1f} MiB")
    # Allocators settle for minutes, so that a short run can only see a gross leak. The bound on a long one: 3 % of the mean.
    allowed = 0.03 if options.seconds >= 300 else 0.25
    if rise > mean * allowed:
        wrong.append(f"memory grew by {rise / 1024:.1f} MiB, above {allowed:.0%} of {mean / 1024:.0f} MiB")
    if options.report:
        chart(server.memory, options.report)
    for name, count in sorted(abuse.counts.items()):
        print(f"{count:8} {name}")
    for line in sorted(set(wrong))[:20]:
        print("WRONG:", line)
    passed = sum(abuse.counts.values())
    print(f"abuse: {passed} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    asyncio.run(main())
