"""Do the text, the split, the judges and the committed files keep their promises? Standard library only: python test_corpus.py"""

import json
import random
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "corpus")]

from generate import Facts, held_out, held_out_set, training_set  # noqa: E402
from judge import normal, verdict  # noqa: E402
from tasks import SKILLS, call_message, tool_key  # noqa: E402

SHIPPED = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"]


def said(content: str) -> dict:
    return {"role": "assistant", "content": content}


class Split(unittest.TestCase):
    def test_no_held_out_question_is_read_in_training(self):
        asked = {normal(row["messages"][-2]["content"]) for row in held_out_set() if row["task"] != "memory"}
        for row in training_set(seed=3, documents=4000):
            for message in row["messages"]:
                if message["role"] == "user":
                    self.assertNotIn(normal(message["content"]), asked)

    def test_every_fact_has_questions_on_both_sides(self):
        for fact in Facts().facts:
            self.assertTrue(fact["held"], fact["id"])
            self.assertGreaterEqual(len(fact["train"]), 5, fact["id"])
            self.assertFalse(set(map(normal, fact["train"])) & set(map(normal, fact["held"])), fact["id"])

    def test_names_and_answers_are_unique(self):
        facts = Facts().facts
        self.assertEqual(len({fact["id"] for fact in facts}), len(facts))
        self.assertEqual(len({fact["text"] for fact in facts}), len(facts))

    def test_the_side_of_an_item_depends_on_the_item_alone(self):
        self.assertEqual([held_out(f"sum {n}+1") for n in range(12)], [held_out(f"sum {n}+1") for n in range(12)])
        self.assertAlmostEqual(sum(held_out(str(n)) for n in range(8000)) / 8000, 1 / 8, delta=0.015)


class Seeds(unittest.TestCase):
    def test_the_same_seed_gives_the_same_text(self):
        self.assertEqual(list(training_set(5, 200)), list(training_set(5, 200)))
        self.assertNotEqual(list(training_set(5, 20)), list(training_set(6, 20)))

    def test_the_committed_held_out_set_is_the_generated_one(self):
        committed = [json.loads(line) for line in (HERE / "corpus" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()]
        self.assertEqual(committed, list(held_out_set()))
        self.assertEqual(len({row["id"] for row in committed}), len(committed))


class Skills(unittest.TestCase):
    def test_every_expected_answer_is_right_by_its_own_judge(self):
        for name, skill in SKILLS.items():
            for seed in range(50):
                item = skill.make(random.Random(seed))
                self.assertTrue(verdict(item["judge"], said(item["answer"]), item["answer"])["right"], name)

    def test_sums_are_right(self):
        for row in held_out_set():
            if row["task"] == "arithmetic":
                left, right = row["messages"][-1]["content"].rstrip(".").split(" = ")
                self.assertEqual(eval(left), int(right))


class Judges(unittest.TestCase):
    def check(self, judge, expected, text, valid, right, calls=None):
        self.assertEqual(verdict(judge, expected, text, calls), {"valid": valid, "right": right}, text)

    def test_text_ignores_case_and_punctuation_only(self):
        self.check("text", said("7 + 2 = 9."), "7 + 2 = 9", True, True)
        self.check("text", said("No, I am."), "no i am", True, True)
        self.check("text", said("7 - 2 = 5."), "7 + 2 = 5.", True, False)
        self.check("text", said("It is kept."), "It is kept, mostly.", True, False)

    def test_json_must_parse_whole_and_be_equal(self):
        expected = said('{"name": "Ana Silva", "age": 30}')
        self.check("json", expected, '{"age": 30, "name": "Ana Silva"}', True, True)
        self.check("json", expected, '{"age": "30", "name": "Ana Silva"}', True, False)
        self.check("json", expected, '{"name": "Ana Silva"}', True, False)
        self.check("json", expected, 'Here: {"name": "Ana Silva", "age": 30}', False, False)
        self.check("json", expected, '["Ana Silva", 30]', False, False)

    def test_a_tool_call_must_be_the_only_thing(self):
        expected = call_message("get_weather", {"city": "Oslo"})
        call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
        self.check("tool", expected, call, True, True)
        self.check("tool", expected, "Let me see. " + call, True, False)
        self.check("tool", expected, call + call, True, False)
        self.check("tool", expected, call.replace("Oslo", "Rome"), True, False)
        self.check("tool", expected, "It is cold.", False, False)
        self.check("tool", expected, "", True, True, calls=[{"name": "get_weather", "arguments": {"city": "Oslo"}}])


class Files(unittest.TestCase):
    def test_all_shipped_files_together_stay_under_30_mebibytes(self):
        sizes = [(HERE / folder / name).stat().st_size for folder in ("main", "small") for name in SHIPPED]
        self.assertLess(sum(sizes), 30 * 1024 * 1024)

    def test_both_models_share_the_tokenizer_and_the_template(self):
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            self.assertEqual((HERE / "main" / name).read_bytes(), (HERE / "small" / name).read_bytes())


if __name__ == "__main__":
    unittest.main()
