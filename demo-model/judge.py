"""When is an answer right? One stated rule per kind of task, strict and without a model as a judge.

text  the answer equals the expected one after lower-casing and after dropping everything
      but letters, digits and the signs of arithmetic
json  the whole answer parses as a JSON object (valid) and equals the expected one, keys,
      types and values alike (right); the order of keys is free
tool  the answer is exactly one call, with the expected name and equal arguments, and no text
"""

import json
import re


def normal(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+|[-+*/=]", text.lower()))


def parse_object(text: str):
    """Returns the JSON object that the text is, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def same(left, right) -> bool:
    """Returns whether two JSON values are equal, where true is not 1 but 3 is 3.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def calls_in(text: str):
    """Returns the calls that a raw answer holds and the text around them."""
    found = re.findall(r"<tool_call>\s*(.*?)\s*</tool_call>", text, re.DOTALL)
    return [parse_object(call) for call in found], re.sub(r"<tool_call>.*?</tool_call>", "", text, flags=re.DOTALL).strip()


def verdict(judge: str, expected: dict, text: str, calls=None) -> dict:
    """Returns {"valid", "right"}; `expected` is the assistant message, `calls` those the server parsed."""
    if judge == "text":
        right = normal(text) == normal(expected["content"])
        return {"valid": True, "right": right}
    if judge == "json":
        value = parse_object(text.strip())
        return {"valid": value is not None, "right": value is not None and same(value, json.loads(expected["content"]))}
    if judge == "tool":
        if calls is None:
            calls, text = calls_in(text)
        wanted = expected["tool_calls"][0]["function"]
        valid = len(calls) > 0 and all(call and isinstance(call.get("arguments"), dict) for call in calls)
        right = valid and len(calls) == 1 and not text.strip() and calls[0].get("name") == wanted["name"] and same(calls[0]["arguments"], wanted["arguments"])
        return {"valid": valid, "right": right}
    raise ValueError(f"no judge is named {judge}")
