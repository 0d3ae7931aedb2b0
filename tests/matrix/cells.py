"""What must hold in each cell of the matrix?"""

import base64
import json
import time

from upstreams import PICO

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SEEN = f"I see image/png of {len(base64.b64decode(PNG))} bytes"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
TOOLS = [("weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})]
ASK_TOOLS = 'call weather {"city": "Oslo"} and call weather {"city": "Rome"}'
LONG = " ".join(f"word{number}" for number in range(1500))
QUANTITIES = ["input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output"]
NEEDS = {"tools": "tools", "tool_stream": "tools", "structured": "structured", "image": "images", "reasoning": "reasoning"}


class NotOffered(Exception):
    """The upstream lacks it, and the door said so by name."""


class NotPlayed(Exception):
    """Nobody plays this upstream, so its streams cannot be broken on purpose."""


class World:
    """One cell's surroundings."""

    def __init__(self, ingress, upstream, standins, door):
        self.ingress, self.up, self.standins, self.door = ingress, upstream, standins, door
        self.model, self.thinker = f"m-{upstream.name}", f"r-{upstream.name}"
        if upstream.standin:
            standins.forget(upstream.standin)

    def tallies(self):
        answered = [r for r in self.standins.requests(self.up.standin) if r["path"] != "/token"]
        return [r["tally"] for r in answered if r["tally"]]

    def agrees(self, got, model, before):
        """The client, the provider and the ledger counted the same."""
        after = self.door.booked(model)
        delta = {name: after.get(name, 0) - before.get(name, 0) for name in after}
        assert delta["open"] == 0, f"the hold is still open: {delta}"
        assert delta["requests"] == 1, f"the ledger has {delta['requests']} requests for one"
        if not self.up.standin:
            assert got.usage.get("output", 0) > 0, f"usage: {got.usage}"
            assert delta["output"] == got.usage["output"], f"the ledger has {delta['output']} output tokens, the client {got.usage['output']}"
            return
        tally = self.tallies()[-1]
        for name in QUANTITIES:
            assert delta[name] == tally[name], f"{name}: the ledger has {delta[name]}, the provider counted {tally[name]}"
        if self.up.counts_reasoning:
            assert delta["reasoning"] == tally["reasoning"], f"reasoning: ledger {delta['reasoning']}, provider {tally['reasoning']}"
        whole = sum(tally[name] for name in QUANTITIES[:4])
        said = {"input": whole, "cache_read": tally["cache_read"], "output": tally["output"]}
        for name, value in said.items():
            assert got.usage.get(name) == value, f"{name}: the client was told {got.usage.get(name)}, the provider counted {value}"
        if self.up.counts_reasoning and tally["reasoning"]:
            assert got.usage["reasoning"] == tally["reasoning"], f"reasoning: client {got.usage['reasoning']}, provider {tally['reasoning']}"
        cost = sum(tally[name] * PICO[name] for name in QUANTITIES)
        assert delta["pico"] == cost, f"cost: {delta['pico']} picodollars in the ledger, {cost} by the price list"


def text(world, streams=False):
    before = world.door.booked(world.model)
    ask = world.ingress.stream if streams else world.ingress.whole
    got = ask(world.model, "Hello there", system=True, max_tokens=64)
    if world.up.standin:
        expected = 'Told "Be brief.". You said: Hello there'
        assert got.text == expected, f"said {got.text!r}"
        assert got.finish == "stop", f"finish {got.finish}"
    else:
        assert got.text.strip() and got.finish in ("stop", "length"), f"{got.finish}: {got.text!r}"
    if streams:
        assert got.pieces >= 2, f"{got.pieces} pieces are no stream"
    world.agrees(got, world.model, before)


def stream(world):
    text(world, streams=True)


def tools(world, streams=False):
    before = world.door.booked(world.model)
    ask = world.ingress.stream if streams else world.ingress.whole
    got = ask(world.model, ASK_TOOLS, tools=TOOLS, max_tokens=96)
    if not world.up.standin:
        # A small model may call or talk; that it takes the tools and ends well is what can be asked of it.
        assert got.finish in ("stop", "length", "tools"), got.finish
        return
    assert [(name, json.loads(arguments)) for _, name, arguments in got.calls] == [("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})], got.calls
    assert got.finish == "tools", f"finish {got.finish}"
    assert len({call[0] for call in got.calls}) == 2, "calls share an id"
    world.agrees(got, world.model, before)
    if streams:
        return
    before = world.door.booked(world.model)
    results = [(call[0], f"{place} degrees") for place, call in enumerate(got.calls)]
    after = world.ingress.whole(world.model, ASK_TOOLS, tools=TOOLS, after=got, results=results)
    assert after.text == "The tools said: 0 degrees; 1 degrees", f"said {after.text!r}"
    world.agrees(after, world.model, before)


def tool_stream(world):
    tools(world, streams=True)


def structured(world):
    before = world.door.booked(world.model)
    got = world.ingress.whole(world.model, "Sunny Oslo today", schema=SCHEMA)
    assert json.loads(got.text) == {"city": "Sunny Oslo today", "degrees": 7}, f"said {got.text!r}"
    world.agrees(got, world.model, before)


def image(world):
    before = world.door.booked(world.model)
    got = world.ingress.whole(world.model, "What is this?", image=PNG)
    assert SEEN in got.text, f"said {got.text!r}"
    world.agrees(got, world.model, before)


def reasoning(world):
    if not world.up.standin:
        got = world.ingress.whole(world.thinker, "Hello", reasoning="low", max_tokens=2048 if world.ingress.name == "messages" else 64)
        assert got.finish in ("stop", "length"), got.finish
        return
    for ask in world.ingress.whole, world.ingress.stream:
        before = world.door.booked(world.thinker)
        got = ask(world.thinker, "Hello there", reasoning="low")
        assert got.text == "You said: Hello there", f"said {got.text!r}"
        if world.up.shows_reasoning or world.ingress.name == "responses" and world.up.name == "openai":
            assert "I weigh each of them" in got.reasoning, f"reasoning {got.reasoning!r}"
        world.agrees(got, world.thinker, before)
        if got.turn is not None:
            # What proves the reasoning comes back to its maker untouched, or is left out: both are well-formed.
            again = world.ingress.whole(world.thinker, "Hello there", after=got, more="And more", reasoning="low")
            assert again.text == "You said: And more", f"said {again.text!r}"
    # Through a call, where makers insist on their proofs.
    got = world.ingress.whole(world.thinker, ASK_TOOLS, tools=TOOLS, reasoning="low")
    results = [(call[0], f"{place} degrees") for place, call in enumerate(got.calls)]
    after = world.ingress.whole(world.thinker, ASK_TOOLS, tools=TOOLS, after=got, results=results, reasoning="low")
    assert after.text == "The tools said: 0 degrees; 1 degrees", f"said {after.text!r}"


def error(world):
    errors = world.ingress.errors
    model = f"e-{world.ingress.name}-{world.up.name}"
    before = world.door.booked(model)
    if not world.up.standin:
        refused(errors.BadRequestError, lambda: world.ingress.whole(model, "many words " * 20_000))
        return
    world.standins.behave(world.up.standin, context_tokens=3)
    refused(errors.BadRequestError, lambda: world.ingress.whole(model, "far too long a prompt for this"))
    world.standins.behave(world.up.standin, {"kind": "rate_limited", "retry": "seconds", "seconds": 1})
    said = refused(errors.RateLimitError, lambda: world.ingress.whole(model, "Hello"))
    wait = said.response.headers.get("retry-after")
    assert wait and 0 < float(wait) <= 60, f"retry-after: {wait}"
    time.sleep(1.2)
    world.standins.behave(world.up.standin, {"kind": "server_error", "status": 500, "body": "html"})
    said = refused(errors.APIStatusError, lambda: world.ingress.stream(model, "Hello"))
    assert said.status_code >= 500, f"status {said.status_code}"
    assert "<html" not in str(said).lower(), f"the provider's page came through: {said}"
    after = world.door.booked(model)
    assert after["pico"] == before["pico"], "a refusal was charged"
    assert after["open"] == before["open"], "a hold is still open"


def refused(kind, ask):
    try:
        got = ask()
    except kind as said:
        return said
    raise AssertionError(f"answered: {got}")


def cancel(world):
    before = world.door.booked(world.model)
    if world.up.standin:
        world.standins.behave(world.up.standin, tokens_per_second=25)
    got = world.ingress.stream(world.model, "count to 400", until=3, max_tokens=2000)
    assert got.pieces >= 3
    for _ in range(100):
        after = world.door.booked(world.model)
        if after["requests"] == before["requests"] + 1 and after["open"] == 0:
            break
        time.sleep(0.1)
    assert after["open"] == 0, "the hold is still open after ten seconds"
    booked = after.get("output", 0) - before.get("output", 0)
    assert booked >= 3, f"{booked} output tokens are booked, and the client saw {got.pieces}"
    if world.up.standin:
        last = world.standins.last(world.up.standin)
        assert not last["is_complete"], "the provider was left to finish"
        assert booked < 400, f"{booked} output tokens are booked"


def usage(world):
    """Twice the same long beginning: what the cache did is told and booked in its own quantities."""
    if not world.up.standin:
        text(world)
        return
    marks = {"mark": "1h"} if world.ingress.name == "messages" and not world.up.caches_by_itself else {}
    for turn in range(2):
        before = world.door.booked(world.model)
        got = world.ingress.whole(world.model, LONG, **marks)
        world.agrees(got, world.model, before)
        tally = world.tallies()[-1]
        if turn == 0 and marks:
            assert tally["cache_write_1h"] > 1024, f"the mark did not reach the provider: {tally}"
        if turn == 1 and (marks or world.up.caches_by_itself):
            assert tally["cache_read"] >= 1024, f"nothing was read from the cache: {tally}"


HARMLESS = [
    {"kind": "tiny_writes", "bytes": 1}, {"kind": "cut", "at_byte": 700}, {"kind": "carriage_returns"}, {"kind": "comments"},
    {"kind": "packed"}, {"kind": "gzip"}, {"kind": "usage", "how": "twice"},
]
HARMFUL = [
    {"kind": "end_early"}, {"kind": "end_early", "after_events": 4}, {"kind": "done_without_finish"}, {"kind": "error_after", "events": 4},
    {"kind": "reset", "at_byte": 900, "how": "reset"}, {"kind": "reset", "at_byte": 900, "how": "close"},
]


def shapes(world):
    """However a provider cuts and wraps its stream, the answer and the bill are the same."""
    if not world.up.standin:
        raise NotPlayed
    for ugly in HARMLESS:
        world.standins.behave(world.up.standin, ugly)
        before = world.door.booked(world.model)
        try:
            got = world.ingress.stream(world.model, "Hello there")
            assert (got.text, got.finish) == ("You said: Hello there", "stop"), f"{got.finish}: {got.text!r}"
            world.agrees(got, world.model, before)
        except Exception as failure:
            raise AssertionError(f"{ugly}: {failure}") from failure


def damage(world):
    """A stream that broke never looks like one that ended well, and nothing stays held."""
    if not world.up.standin:
        raise NotPlayed
    model = f"e-{world.ingress.name}-{world.up.name}"
    for ugly in HARMFUL:
        world.standins.behave(world.up.standin, ugly)
        before = world.door.booked(model)
        try:
            got = world.ingress.stream(model, "count to 60")
        except Exception:  # noqa: BLE001: any error will do; an answer will not
            got = None
        assert got is None or got.finish != "stop", f"{ugly}: it looks well: {got.text[-30:]!r}, {got.finish}"
        for _ in range(50):
            after = world.door.booked(model)
            if after["open"] == before["open"]:
                break
            time.sleep(0.1)
        assert after["open"] == before["open"], f"{ugly}: the hold is still open after five seconds"
        world.standins.behave(world.up.standin)
        settle_down(world, model)


def settle_down(world, model):
    """Waits until the unit is asked again after its failures."""
    for _ in range(100):
        try:
            world.ingress.whole(model, "Hello")
            return
        except world.ingress.errors.APIStatusError as said:
            last = said
            time.sleep(0.3)
    raise AssertionError(f"the unit is not asked again, half a minute after it recovered: {last}")


CELLS = {cell.__name__: cell for cell in (text, stream, tools, tool_stream, structured, image, reasoning, error, cancel, usage, shapes, damage)}


def judge(name, world):
    """Runs a cell; a capability that the upstream lacks must be refused by name."""
    needed = NEEDS.get(name)
    if needed is None or needed in world.up.capabilities:
        CELLS[name](world)
        return
    try:
        CELLS[name](world)
    except (world.ingress.errors.BadRequestError, world.ingress.errors.NotFoundError, world.ingress.errors.UnprocessableEntityError) as said:
        stem = {"images": "imag", "structured": "struct"}.get(needed, needed)
        if stem in str(said).lower() or "schema" in str(said).lower() and needed == "structured":
            raise NotOffered from said
        raise AssertionError(f"refused, but not by name: {said}") from said
    raise AssertionError(f"{world.up.name} cannot do {needed}, and it was answered")
