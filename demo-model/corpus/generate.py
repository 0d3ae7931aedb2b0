"""What does the model read in training, and which questions are kept away from it?

    python generate.py --out ../build --documents 130000 --seed 7

writes train.jsonl (conversations) and heldout.jsonl (single questions with the expected
answer). Every choice follows from the seed; what is held out follows from the item alone,
so that another seed or size never moves an item from one side to the other.
"""

import argparse
import hashlib
import json
import random
import tomllib
from collections import Counter
from pathlib import Path

from tasks import NAME_QUESTIONS, SKILLS, TOOL_NAMES, name_given, tool_conversation, tool_item
from vary import roughen

HERE = Path(__file__).parent


def read(name: str) -> dict:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def held_out(key: str, one_in: int = 8) -> bool:
    """Returns whether an item belongs to the held-out set: a pure function of its key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") % one_in == 0


def split_questions(fact_id: str, questions: list[str], share: int) -> tuple[list[str], list[str]]:
    """Returns (train, held-out) questions of one fact: about one in `share` is held out, at least one."""
    ranked = sorted(dict.fromkeys(questions), key=lambda question: hashlib.sha256(f"{fact_id}|{question}".encode()).digest())
    count = max(1, len(ranked) // share)
    return ranked[count:], ranked[:count]


class Facts:
    """All facts with their questions, split once into those seen and those held out."""

    def __init__(self):
        templates = read("templates.toml")
        self.wraps, self.follow_ups = templates["wrap"], templates["follow_up"]
        self.systems = templates["system"]
        self.facts = []
        for term in read("glossary.toml")["term"]:
            self._add(term["id"], "glossary", term["answer"], *self._term_questions(term, templates["term"]))
            self.facts[-1]["names"] = term["names"]
        for answer in read("answers.toml")["answer"]:
            self._add(answer["id"], answer["task"], answer["text"], *split_questions(answer["id"], answer["questions"], 6))
        self.unknown_text = templates["unknown_text"]
        self.unknown_train, self.unknown_held = self._unknown(templates)
        self.terms = [fact for fact in self.facts if "names" in fact]

    def _add(self, fact_id, task, text, train, held):
        self.facts.append({"id": fact_id, "task": task, "text": text, "train": train, "held": held})

    @staticmethod
    def _term_questions(term: dict, templates: list[str]):
        """Whole templates are held out for each term, under all of its names."""
        train_templates, held_templates = split_questions(term["id"], templates, 5)
        fill = lambda chosen: [template.replace("{x}", name) for template in chosen for name in term["names"]]
        return fill(train_templates), fill(held_templates)

    @staticmethod
    def _unknown(templates: dict):
        """Nouns are held out whole; so is a part of the free questions."""
        train, held = [], []
        for noun in templates["unknown_noun"]:
            side = held if held_out("noun " + noun) else train
            side.extend(template.replace("{x}", noun) for template in templates["unknown_topic"])
        for question in templates["unknown_question"]:
            (held if held_out("question " + question) and "sky" not in question else train).append(question)
        # The broad free questions are few beside the noun templates, so they are listed several times.
        free = [question for question in templates["unknown_question"] if question not in held]
        return train + free * 12, held

    def ask(self, fact: dict, rng: random.Random) -> dict:
        question = rng.choice(fact["train"])
        if fact["task"] != "small_talk":
            question = rng.choice(self.wraps).replace("{q}", question)
        return turn(fact["task"], roughen(question, rng), fact["text"])

    def ask_again(self, fact: dict, rng: random.Random) -> dict:
        question = rng.choice(self.follow_ups).replace("{x}", rng.choice(fact["names"]))
        return turn("glossary", roughen(question, rng), fact["text"])

    def ask_unknown(self, rng: random.Random) -> dict:
        return turn("unknown", roughen(rng.choice(self.unknown_train), rng), self.unknown_text)


def turn(task: str, question: str, answer: str) -> dict:
    return {"task": task, "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def skill_turn(facts: Facts, rng: random.Random, wanted_held: bool, name: str | None = None) -> dict:
    """Returns an instance of a skill from the wanted side of the split."""
    name = name or rng.choices(list(SKILLS), [skill.share for skill in SKILLS.values()])[0]
    while True:
        item = SKILLS[name].make(rng)
        if held_out(item["key"]) == wanted_held:
            return {**turn(name, item["question"], item["answer"]), "judge": item["judge"], "key": item["key"]}


def next_turn(facts: Facts, rng: random.Random, earlier: list[dict]) -> dict:
    name = name_given([message for each in earlier for message in each["messages"]])
    if name and rng.random() < 0.5:
        return turn("memory", roughen(rng.choice(NAME_QUESTIONS), rng), f"Your name is {name}.")
    # A third of the turns is enough to keep 164 facts; copying and arithmetic need the practice.
    draw = rng.random()
    if draw < 0.30:
        if earlier and earlier[-1]["task"] == "glossary" and rng.random() < 0.3:
            return facts.ask_again(rng.choice(facts.terms), rng)
        return facts.ask(rng.choice(facts.facts), rng)
    if draw < 0.35:
        return facts.ask_unknown(rng)
    return skill_turn(facts, rng, wanted_held=False)


def system_message(facts: Facts, rng: random.Random) -> list[dict]:
    return [{"role": "system", "content": rng.choice(facts.systems)}] if rng.random() < 0.4 else []


def drill(facts: Facts, rng: random.Random) -> dict:
    """Returns a chat of sums alone: carrying and borrowing take more practice than a mixed chat gives."""
    turns = [skill_turn(facts, rng, wanted_held=False, name="arithmetic") for _ in range(rng.randint(5, 9))]
    return {"task": "arithmetic", "messages": [message for each in turns for message in each["messages"]]}


def conversation(facts: Facts, rng: random.Random) -> dict:
    """Returns one training document: a chat of one to six turns, a few of them with tools, or a drill."""
    kind = rng.random()
    if kind < 0.13:
        return tool_conversation(rng, facts, lambda key: not held_out(key), next_turn, system_message)
    if kind < 0.25:
        return drill(facts, rng)
    turns: list[dict] = []
    for _ in range(rng.choices([1, 2, 3, 4, 6], [40, 25, 15, 12, 8])[0]):
        turns.append(next_turn(facts, rng, turns))
    messages = system_message(facts, rng) + [message for each in turns for message in each["messages"]]
    return {"task": turns[-1]["task"], "messages": messages}


def long_conversation(facts: Facts, rng: random.Random) -> dict:
    """Returns a chat of some 600 to 1,150 tokens, so that far positions are seen in training too."""
    messages, turns, wanted_size = system_message(facts, rng), [], rng.randint(1600, 2900)
    while sum(len(message["content"]) for message in messages) < wanted_size:
        turns.append(next_turn(facts, rng, turns))
        messages += turns[-1]["messages"]
    return {"task": turns[-1]["task"], "messages": messages}


def training_set(seed: int, documents: int, long_documents: int = 0):
    """Yields the short chats first, so that the tokenizer, made from these, stays the same for any number of long ones."""
    facts, rng = Facts(), random.Random(seed)
    for _ in range(documents):
        yield conversation(facts, rng)
    for _ in range(long_documents):
        yield long_conversation(facts, rng)


HELD_OUT_SIZES = {"arithmetic": 150, "conversion": 100, "extract": 200, "classify": 80, "memory": 40, "copy": 40}


def held_out_set(seed: int = 11):
    """Yields single questions with the expected answer and the judge to use."""
    facts, rng = Facts(), random.Random(seed)
    for fact in facts.facts:
        for question in rng.sample(fact["held"], min(len(fact["held"]), 3)):
            yield {**turn(fact["task"], question, fact["text"]), "judge": "text", "id": f"{fact['id']}: {question}"}
    for question in rng.sample(facts.unknown_held, 80):
        yield {**turn("unknown", question, facts.unknown_text), "judge": "text", "id": f"unknown: {question}"}
    for name, size in HELD_OUT_SIZES.items():
        seen = set()
        while len(seen) < size:
            item = skill_turn(facts, rng, wanted_held=True, name=name)
            if name == "memory":
                item["messages"] += turn(name, rng.choice(NAME_QUESTIONS), f"Your name is {name_given(item['messages'])}.")["messages"]
            if item["key"] not in seen:
                seen.add(item["key"])
                yield {**item, "id": f"{name}: {item.pop('key')}"}
    for index in range(100):
        item = tool_item(rng, held_out, TOOL_NAMES[index % len(TOOL_NAMES)])
        yield {**item, "id": f"tool {index}: {item.pop('key')}"}


def write_lines(path: Path, rows) -> Counter:
    counts: Counter = Counter()
    with path.open("w", encoding="utf-8") as lines:
        for row in rows:
            counts[row["task"]] += 1
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parent / "build")
    parser.add_argument("--documents", type=int, default=130_000)
    parser.add_argument("--long-documents", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print("train", dict(write_lines(options.out / "train.jsonl", training_set(options.seed, options.documents, options.long_documents))))
    print("held out", dict(write_lines(HERE / "heldout.jsonl", held_out_set())))


if __name__ == "__main__":
    main()
