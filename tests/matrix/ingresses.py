"""How do the real client libraries ask, and what did they understand? One class for each surface, one answer for all."""

import dataclasses
import json

import anthropic
import openai

KEY = "not-needed-on-loopback"


@dataclasses.dataclass
class Got:
    text: str = ""
    finish: str = ""
    calls: list = dataclasses.field(default_factory=list)  # (id, name, arguments)
    reasoning: str = ""
    usage: dict = dataclasses.field(default_factory=dict)
    pieces: int = 0
    # The answer as it goes back in the next request.
    turn: object = None


FINISHES = {
    "stop": "stop", "end_turn": "stop", "completed": "stop", "length": "length", "max_tokens": "length", "incomplete": "length",
    "tool_calls": "tools", "tool_use": "tools", "stop_sequence": "stop", "content_filter": "filter", "refusal": "filter",
}


class Chat:
    """OpenAI Chat Completions."""

    name = "chat"
    errors = openai

    def __init__(self, url):
        self.client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0, timeout=60)

    def body(self, model, said, wish):
        messages = [{"role": "system", "content": "Be brief."}] if wish.get("system") else []
        content = said
        if wish.get("image"):
            content = [{"type": "text", "text": said}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + wish["image"]}}]
        messages.append({"role": "user", "content": content})
        if wish.get("after"):
            messages += [wish["after"].turn, *({"role": "tool", "tool_call_id": i, "content": text} for i, text in wish.get("results", []))]
            if wish.get("more"):
                messages.append({"role": "user", "content": wish["more"]})
        body = {"model": model, "messages": messages}
        if wish.get("max_tokens"):
            body["max_completion_tokens"] = wish["max_tokens"]
        if wish.get("tools"):
            body["tools"] = [{"type": "function", "function": {"name": t, "description": "A tool", "parameters": s}} for t, s in wish["tools"]]
        if wish.get("schema"):
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": wish["schema"], "strict": True}}
        if wish.get("reasoning"):
            body["reasoning_effort"] = wish["reasoning"]
        return body

    def whole(self, model, said, **wish):
        answer = self.client.chat.completions.create(**self.body(model, said, wish))
        choice = answer.choices[0]
        message = choice.message
        calls = [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or []]
        reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or ""
        turn = {k: v for k, v in message.model_dump(exclude_none=True).items() if k not in ("annotations",)}
        return Got(message.content or "", FINISHES[choice.finish_reason], calls, reasoning, self.usage(answer.usage), 1, turn)

    def stream(self, model, said, until=None, **wish):
        got, calls, reasons = Got(), {}, []
        with self.client.chat.completions.create(**self.body(model, said, wish), stream=True, stream_options={"include_usage": True}) as chunks:
            for chunk in chunks:
                if chunk.usage:
                    got.usage = self.usage(chunk.usage)
                for choice in chunk.choices:
                    delta = choice.delta
                    if delta.content:
                        got.text += delta.content
                        got.pieces += 1
                    got.reasoning += getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None) or ""
                    for part in delta.tool_calls or []:
                        call = calls.setdefault(part.index, ["", "", ""])
                        call[0] = part.id or call[0]
                        call[1] = part.function.name or call[1]
                        call[2] += part.function.arguments or ""
                        got.pieces += 1
                    if choice.finish_reason:
                        reasons.append(FINISHES[choice.finish_reason])
                if until and got.pieces >= until:
                    return got
        assert len(reasons) == 1, f"finish reasons: {reasons}"
        got.finish, got.calls = reasons[0], [tuple(call) for call in calls.values()]
        return got

    @staticmethod
    def usage(usage):
        if usage is None:
            return {}
        cached = (usage.prompt_tokens_details.cached_tokens or 0) if usage.prompt_tokens_details else 0
        details = usage.completion_tokens_details
        return {"input": usage.prompt_tokens, "cache_read": cached, "output": usage.completion_tokens,
                "reasoning": details.reasoning_tokens if details else None}


class Responses:
    """OpenAI Responses."""

    name = "responses"
    errors = openai

    def __init__(self, url):
        self.client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0, timeout=60)

    def body(self, model, said, wish):
        content = said
        if wish.get("image"):
            content = [{"type": "input_text", "text": said},
                       {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64," + wish["image"]}]
        items = [{"role": "user", "content": content}]
        if wish.get("after"):
            items += wish["after"].turn
            items += [{"type": "function_call_output", "call_id": i, "output": text} for i, text in wish.get("results", [])]
            if wish.get("more"):
                items.append({"role": "user", "content": wish["more"]})
        body = {"model": model, "input": items, "store": False}
        if wish.get("system"):
            body["instructions"] = "Be brief."
        if wish.get("max_tokens"):
            body["max_output_tokens"] = max(16, wish["max_tokens"])
        if wish.get("tools"):
            body["tools"] = [{"type": "function", "name": t, "description": "A tool", "parameters": s, "strict": False} for t, s in wish["tools"]]
        if wish.get("schema"):
            body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": wish["schema"], "strict": True}}
        if wish.get("reasoning"):
            body["reasoning"] = {"effort": wish["reasoning"], "summary": "auto"}
            body["include"] = ["reasoning.encrypted_content"]
        return body

    def whole(self, model, said, **wish):
        return self.read(self.client.responses.create(**self.body(model, said, wish)), 1)

    def stream(self, model, said, until=None, **wish):
        text, arguments, pieces, last = "", {}, 0, None
        with self.client.responses.create(**self.body(model, said, wish), stream=True) as events:
            for event in events:
                if event.type == "response.output_text.delta":
                    text += event.delta
                    pieces += 1
                elif event.type == "response.function_call_arguments.delta":
                    arguments[event.output_index] = arguments.get(event.output_index, "") + event.delta
                    pieces += 1
                elif event.type in ("response.completed", "response.incomplete"):
                    last = event.response
                elif event.type in ("response.failed", "error"):
                    raise AssertionError(f"the stream failed: {event}")
                if until and pieces >= until:
                    return Got(text, pieces=pieces)
        assert last, "no terminal event"
        got = self.read(last, pieces)
        assert got.text == text, f"deltas say {text!r}, the end says {got.text!r}"
        assert [c[2] for c in got.calls] == [arguments[place] for place in sorted(arguments)], "arguments differ from their deltas"
        return got

    def read(self, response, pieces):
        calls = [(i.call_id, i.name, i.arguments) for i in response.output if i.type == "function_call"]
        reasoning = "".join(s.text for i in response.output if i.type == "reasoning" for s in i.summary)
        reasoning = reasoning or "".join(c.text for i in response.output if i.type == "reasoning" for c in i.content or [])
        turn = [item.model_dump(exclude_none=True) for item in response.output]
        finish = "tools" if calls else FINISHES[response.status]
        usage = {}
        if response.usage:
            used = response.usage
            usage = {"input": used.input_tokens, "cache_read": used.input_tokens_details.cached_tokens, "output": used.output_tokens,
                     "reasoning": used.output_tokens_details.reasoning_tokens}
        return Got(response.output_text, finish, calls, reasoning, usage, pieces, turn)


class Messages:
    """Anthropic Messages."""

    name = "messages"
    errors = anthropic

    def __init__(self, url):
        self.client = anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0, timeout=60)

    def body(self, model, said, wish):
        content = [{"type": "text", "text": said}]
        if wish.get("mark"):
            content = [{"type": "text", "text": said, "cache_control": {"type": "ephemeral", "ttl": wish["mark"]}}, {"type": "text", "text": "So?"}]
        if wish.get("image"):
            content.append({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": wish["image"]}})
        messages = [{"role": "user", "content": content}]
        if wish.get("after"):
            messages.append({"role": "assistant", "content": wish["after"].turn})
            results = [{"type": "tool_result", "tool_use_id": i, "content": text} for i, text in wish.get("results", [])]
            more = [{"type": "text", "text": wish["more"]}] if wish.get("more") else []
            messages.append({"role": "user", "content": results + more})
        body = {"model": model, "messages": messages, "max_tokens": wish.get("max_tokens", 4096)}
        if wish.get("system"):
            body["system"] = "Be brief."
        if wish.get("tools"):
            body["tools"] = [{"name": t, "description": "A tool", "input_schema": s} for t, s in wish["tools"]]
        if wish.get("schema"):
            body["output_config"] = {"format": {"type": "json_schema", "schema": wish["schema"]}}
        if wish.get("reasoning"):
            body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        return body

    def whole(self, model, said, **wish):
        return self.read(self.client.messages.create(**self.body(model, said, wish)), 1)

    def stream(self, model, said, until=None, **wish):
        text, pieces = "", 0
        with self.client.messages.stream(**self.body(model, said, wish)) as stream:
            for event in stream:
                if event.type == "content_block_delta":
                    if event.delta.type == "text_delta":
                        text += event.delta.text
                        pieces += 1
                    elif event.delta.type == "input_json_delta":
                        pieces += 1
                if until and pieces >= until:
                    return Got(text, pieces=pieces)
            got = self.read(stream.get_final_message(), pieces)
        assert got.text == text, f"deltas say {text!r}, the end says {got.text!r}"
        return got

    def read(self, message, pieces):
        text = "".join(block.text for block in message.content if block.type == "text")
        calls = [(b.id, b.name, json.dumps(b.input)) for b in message.content if b.type == "tool_use"]
        reasoning = "".join(block.thinking for block in message.content if block.type == "thinking")
        turn = []
        for block in message.content:
            shown = block.model_dump(exclude_none=True)
            turn.append({k: v for k, v in shown.items() if k not in ("parsed_output", "citations", "caller", "toolset_name")})
        used = message.usage
        read, made = used.cache_read_input_tokens or 0, used.cache_creation_input_tokens or 0
        details = used.output_tokens_details
        usage = {"input": used.input_tokens + read + made, "cache_read": read, "cache_write": made, "output": used.output_tokens,
                 "reasoning": details.thinking_tokens if details else None}
        return Got(text, FINISHES[message.stop_reason], calls, reasoning, usage, pieces, turn)


INGRESSES = [Chat, Responses, Messages]
