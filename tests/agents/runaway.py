"""What happens to an agent that never stops by itself? Real client, real server, real tools; the server is at $BASELOAD_URL."""

import json
import os
import re
import subprocess
import time
import unittest
from decimal import Decimal

import openai

BASE = os.environ["BASELOAD_URL"] + "/v1"
TURNS_MAX = 400  # far beyond every budget here: whoever comes so far was not stopped
CITIES = ["Oslo", "Lima", "Rome", "Cairo", "Paris", "Tokyo", "Berlin", "Madrid", "Dublin", "Vienna"]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def baseload(*arguments):
    """Runs a command of the binary beside the server; returns what it printed."""
    done = subprocess.run([os.environ["BASELOAD_BINARY"], *arguments], capture_output=True, text=True, check=True)
    return done.stdout


class Agent:
    """Asks for the weather, forever. Every turn streams; history is kept short, as careful agents do."""

    def __init__(self, task, budget=None, tool=None):
        headers = {"x-baseload-task": task}
        if budget:
            headers["x-baseload-task-budget"] = budget
        self.client = openai.OpenAI(base_url=BASE, api_key="x", max_retries=0, default_headers=headers)
        self.tool = tool or (lambda turn, city: json.dumps({"temperature": turn, "sky": "clear"}))
        self.turns, self.tokens, self.models, self.headers, self.answers, self.ends = 0, 0, [], [], [], []

    def turn(self, messages, **options):
        """One call; returns the assistant's message, put together from its stream."""
        request = dict(model="main", messages=messages, tools=[WEATHER], temperature=0, stream=True,
                       stream_options={"include_usage": True}, max_tokens=40)
        with self.client.chat.completions.with_streaming_response.create(**{**request, **options}) as response:
            self.headers.append({name: value for name, value in response.headers.items()})
            text, calls = "", []
            for chunk in response.parse():
                if chunk.usage:
                    self.tokens += chunk.usage.total_tokens
                    self.models.append(chunk.model)
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    calls += choice.delta.tool_calls or []
                    self.ends += [choice.finish_reason] if choice.finish_reason else []
        self.turns += 1
        self.answers.append((text, calls))
        return text, calls

    def run(self):
        while self.turns < TURNS_MAX:
            city = CITIES[self.turns % len(CITIES)]
            messages = [{"role": "user", "content": f"What is the weather in {city}?"}]
            _, calls = self.turn(messages)
            if not calls:
                continue
            call = {"id": calls[0].id, "type": "function",
                    "function": {"name": calls[0].function.name, "arguments": calls[0].function.arguments}}
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": self.tool(self.turns, city)})
            self.turn(messages)
        raise AssertionError("nobody stopped this agent")


class Runaway(unittest.TestCase):
    def cost(self, task):
        """Cost and calls of a whole tree, as `tasks show` draws it."""
        shown = baseload("tasks", "show", task)
        print("\n" + shown)
        row = re.search(rf"^\S*{task}\s.*?([0-9.]+) USD\s+(\d+)\s+(\d+)", shown, re.M)
        return Decimal(row[1]), int(row[2]), int(row[3])

    def test_a_loop_is_stopped_inside_its_budget_of_money_after_one_turn_without_tools(self):
        agent = Agent("loop-1", "usd=0.0004")
        with self.assertRaises(openai.PermissionDeniedError) as caught:
            agent.run()
        self.assertEqual(caught.exception.code, "task_handed_back")
        for words in ("has had its last turn", "its budget is nearly used", "baseload tasks approve"):
            self.assertIn(words, str(caught.exception))
        last = agent.headers[-1]
        self.assertEqual(last["x-baseload-task-state"], "handing_back")
        self.assertEqual(agent.answers[-1][1], [], "a last turn has no tools to call")
        self.assertEqual(len([h for h in agent.headers if "x-baseload-task-state" in h]), 1)
        self.assertTrue(any("x-baseload-task-warning" in headers for headers in agent.headers))
        cost, tokens, calls = self.cost("loop-1")
        self.assertLessEqual(cost, Decimal("0.0004"))
        self.assertGreater(cost, Decimal("0.0002"), "and most of the budget was of use")
        self.assertEqual((tokens, calls), (agent.tokens, agent.turns))

    def test_near_the_end_a_cheaper_model_answers(self):
        agent = Agent("loop-2", "calls=40")
        with self.assertRaises(openai.PermissionDeniedError):
            agent.run()
        self.assertEqual(agent.turns, 40)
        self.assertEqual((agent.models[0], agent.models[-2]), ("main", "small"))

    def test_sub_agents_share_the_budget_of_their_run_and_the_tree_shows_where_it_went(self):
        planner = Agent("loop-3/plan", None)
        root = Agent("loop-3", "calls=12")
        root.turn([{"role": "user", "content": "What is the weather in Oslo?"}])
        with self.assertRaises(openai.PermissionDeniedError):
            planner.run()
        self.assertEqual(planner.turns, 11)
        shown = baseload("tasks", "show", "loop-3")
        self.assertRegex(shown, r"└─ plan\s+handing back")
        self.assertEqual(self.cost("loop-3")[2], 12)

    def test_a_person_lets_it_go_on(self):
        agent = Agent("loop-4", "calls=4")
        with self.assertRaises(openai.PermissionDeniedError):
            agent.run()
        self.assertEqual(agent.turns, 4)
        print(baseload("tasks", "approve", "loop-4", "--calls", "4"))
        until_heard(lambda: agent.turn([{"role": "user", "content": "What is the weather in Oslo?"}]))
        with self.assertRaises(openai.PermissionDeniedError):
            agent.run()
        self.assertEqual(agent.turns, 8)

    def test_a_stopped_task_is_refused_with_the_reason(self):
        agent = Agent("loop-5")
        agent.turn([{"role": "user", "content": "What is the weather in Oslo?"}])
        baseload("tasks", "stop", "loop-5", "--reason", "the night shift is over")
        time.sleep(1.1)  # heard within a second
        with self.assertRaises(openai.PermissionDeniedError) as caught:
            agent.run()
        self.assertEqual(caught.exception.code, "task_stopped")
        self.assertIn("the night shift is over", str(caught.exception))

    def test_an_answer_that_never_ends_is_ended_in_the_middle(self):
        agent = Agent("loop-6", "tokens=300")
        question = [{"role": "user", "content": "What is a KV cache?"}]
        text, _ = agent.turn(question, max_tokens=3000, extra_body={"ignore_eos": True})
        self.assertEqual(agent.ends, ["budget_exhausted"], "a reason that the agent can read")
        self.assertGreater(len(text), 100, "and all that was paid for was delivered")
        _, tokens, _ = self.cost("loop-6")
        self.assertLessEqual(tokens, 300)
        self.assertGreater(tokens, 150)

    def test_a_tool_that_says_the_same_again_and_again_is_a_loop(self):
        agent = Agent("loop-7")
        call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
        turn = [{"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "no answer"}]
        question = [{"role": "user", "content": "What is the weather in Oslo?"}]
        agent.turn(question + 2 * turn)
        agent.turn(question + 3 * turn)
        warnings = [headers.get("x-baseload-task-warning") for headers in agent.headers]
        self.assertIsNone(warnings[0])
        self.assertIn("loop same_call: the tool get_weather was called 3 times in a row", warnings[1])


def until_heard(begin):
    """Tries for two seconds: what a person says is heard by the server within one."""
    for _ in range(20):
        try:
            return begin()
        except openai.PermissionDeniedError:
            time.sleep(0.1)
    return begin()


if __name__ == "__main__":
    unittest.main()
