#!/usr/bin/env python3
"""Where does a fuzzer begin? With a request and an answer of each dialect: fuzz/seed.py TARGET FOLDER"""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}
HI = [{"role": "user", "content": "Hi"}]
ASKS = [
    {"model": "m", "messages": HI, "stream": True, "tools": [{"type": "function", "function": {"name": "f", "parameters": TOOL}}],
     "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": TOOL}}, "logit_bias": {"1": 5}, "stop": ["a"], "n": 2},
    {"model": "m", "prompt": ["a", "b"], "max_tokens": 3, "logprobs": 2, "echo": True},
    {"model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
     "messages": [*HI, {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "x"}, {"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
                  {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "r"}]}],
     "tools": [{"name": "f", "input_schema": TOOL}], "thinking": {"type": "enabled", "budget_tokens": 1024}},
    {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}]},
                             {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}, {"type": "function_call_output", "call_id": "1", "output": "r"}],
     "reasoning": {"effort": "low"}, "text": {"format": {"type": "json_object"}}, "store": False},
]


def events(*objects, named=False, done=False):
    lines = [(f"event: {o['type']}\n" if named else "") + f"data: {json.dumps(o)}\n\n" for o in objects]
    return "".join(lines).encode() + (b"data: [DONE]\n\n" if done else b"")


CHAT = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CALL = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\""}}
ANSWERS = [
    (0, events({**CHAT, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}}]}, {**CHAT, "choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]},
               {**CHAT, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}, done=True)),
    (1, json.dumps({**CHAT, "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}}).encode()),
    (2, events({"type": "response.created", "response": {"id": "r", "status": "in_progress", "model": "m"}},
               {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "i", "role": "assistant", "content": []}},
               {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "Hi"},
               {"type": "response.completed", "response": {"id": "r", "status": "completed", "model": "m", "output": [], "usage": {"input_tokens": 1, "output_tokens": 1}}}, named=True)),
    (4, events({"type": "message_start", "message": {"id": "m", "model": "m", "role": "assistant", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}},
               {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
               {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}, {"type": "content_block_stop", "index": 0},
               {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}, {"type": "message_stop"}, named=True)),
    (6, (ROOT / "crates/dialect/tests/corpus/google/tools.sse").read_bytes()),
    (7, (ROOT / "crates/dialect/tests/corpus/google/whole.json").read_bytes()),
    (8, (ROOT / "crates/dialect/tests/corpus/aws/tools.eventstream").read_bytes()),
    (9, (ROOT / "crates/dialect/tests/corpus/aws/whole.json").read_bytes()),
]

target, folder = sys.argv[1], pathlib.Path(sys.argv[2])
if target == "asks":
    seeds = [bytes([number]) + json.dumps(ask).encode() for number, ask in enumerate(ASKS)]
else:
    seeds = [bytes([kind, client, piece]) + body for kind, body in ANSWERS for client in range(3) for piece in (0, 6)]
for number, seed in enumerate(seeds):
    (folder / f"seed-{number}").write_bytes(seed)
