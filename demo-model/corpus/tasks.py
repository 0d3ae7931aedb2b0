"""Which skills with endless instances does the model practise: sums, units, JSON, memory, tools?

A maker returns a question, the right answer, the judge that compares answers, and a key
that decides (through `held_out`) whether the instance is for training or for the test.
"""

import json
import random
import tomllib
from pathlib import Path
from typing import Callable, NamedTuple

WORDS = tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))


class Skill(NamedTuple):
    share: float
    make: Callable[[random.Random], dict]


def instance(question: str, answer: str, judge: str, key: str) -> dict:
    return {"question": question, "answer": answer, "judge": judge, "key": key}


# --- numbers ---

OPERATIONS = {
    "+": ("plus", lambda left, right: left + right),
    "-": ("minus", lambda left, right: left - right),
    "*": ("times", lambda left, right: left * right),
}
SUM_PHRASES = ["What is {s}?", "{s}", "{s} = ?", "Compute {s}.", "How much is {s}?", "Calculate {s}", "what's {s}", "{s}?"]


def arithmetic(rng: random.Random) -> dict:
    sign = rng.choice("++--*")
    top = 12 if sign == "*" else rng.choice([20, 99, 99])
    left, right = rng.randint(0, top), rng.randint(0, top)
    if sign == "-" and left < right:
        left, right = right, left
    word, apply = OPERATIONS[sign]
    shown = rng.choice([f"{left} {sign} {right}", f"{left} {sign} {right}", f"{left} {word} {right}", f"{left}{sign}{right}"])
    # A product's mirror image stays in training: times tables are learned by heart, not derived.
    return instance(rng.choice(SUM_PHRASES).replace("{s}", shown), f"{left} {sign} {right} = {apply(left, right)}.", "text", f"sum {left}{sign}{right}")


# (unit, smaller unit, factor, largest value)
UNITS = [
    ("kilometers", "meters", 1000, 60), ("meters", "centimeters", 100, 60), ("kilograms", "grams", 1000, 60), ("tons", "kilograms", 1000, 60),
    ("seconds", "milliseconds", 1000, 60), ("liters", "milliliters", 1000, 60), ("kilowatts", "watts", 1000, 60), ("megawatts", "kilowatts", 1000, 60),
    ("gigabytes", "megabytes", 1000, 60), ("terabytes", "gigabytes", 1000, 60), ("dollars", "cents", 100, 60), ("euros", "cents", 100, 60),
    ("centimeters", "millimeters", 10, 60), ("hours", "minutes", 60, 12), ("minutes", "seconds", 60, 12), ("days", "hours", 24, 10), ("weeks", "days", 7, 12),
    ("years", "months", 12, 12), ("bytes", "bits", 8, 16), ("dozens", "pieces", 12, 12),
]
UNIT_PHRASES = [
    "How many {b} are {n} {a}?", "How many {b} are in {n} {a}?", "Convert {n} {a} to {b}.", "{n} {a} in {b}", "What is {n} {a} in {b}?", "{n} {a} to {b}?", "Turn {n} {a} into {b}.", "Please convert {n} {a} into {b}.",
]


def conversion(rng: random.Random) -> dict:
    large, small, factor, top = rng.choice(UNITS)
    value, phrase = rng.randint(2, top), rng.choice(UNIT_PHRASES)
    from_unit, to_unit, shown, result = large, small, value, value * factor
    if factor in (10, 100, 1000) and rng.random() < 0.3:
        from_unit, to_unit, shown, result = small, large, value * factor, value
    # Powers of ten are a rule, so values are held out; the others are tables, so phrasings are.
    rule = f"unit {shown} {from_unit} {to_unit}" + ("" if factor in (10, 100, 1000) else f" {phrase}")
    question = phrase.replace("{n}", str(shown)).replace("{a}", from_unit).replace("{b}", to_unit)
    return instance(question, f"{shown} {from_unit} = {result} {to_unit}.", "text", rule)


# --- JSON ---

def made_up_word(rng: random.Random) -> str:
    """Returns a name nobody has, so that copying is learned and not a list of names."""
    syllables = rng.randint(2, 3)
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") + rng.choice(["", "", "n", "r", "l", "s"]) for _ in range(syllables)).capitalize()


def person(rng: random.Random) -> str:
    if rng.random() < 0.35:
        return f"{made_up_word(rng)} {made_up_word(rng)}"
    return f"{rng.choice(WORDS['first'])} {rng.choice(WORDS['last'])}"


def place(rng: random.Random) -> str:
    return made_up_word(rng) if rng.random() < 0.2 else rng.choice(WORDS["city"])


def clock(rng: random.Random) -> str:
    return f"{rng.randint(7, 19)}:{rng.choice(['00', '15', '30', '45', '10', '20', '40', '50'])}"


# Each value returns what the sentence shows and what the JSON holds; numbers stay numbers.
VALUES: dict[str, Callable[[random.Random], object]] = {
    "name": person,
    "city": place,
    "date": lambda rng: f"{rng.randint(1, 28)} {rng.choice(WORDS['month'])}",
    "time": clock,
    "item": lambda rng: rng.choice(WORDS["item"]),
    "quantity": lambda rng: rng.randint(2, 99),
    "price": lambda rng: rng.randint(1, 99) if rng.random() < 0.5 else round(rng.randint(1, 89) + rng.randint(1, 9) / 10, 1),
    "company": lambda rng: rng.choice(WORDS["company"]) if rng.random() < 0.7 else f"{made_up_word(rng)} {rng.choice(['Foods', 'Tools', 'Labs', 'Bank', 'Media'])}",
    "amount": lambda rng: rng.randint(10, 9999),
    "currency": lambda rng: rng.choice(WORDS["currency"]),
    "age": lambda rng: rng.randint(18, 90),
}
EXTRACT_PHRASES = [
    "Extract the {k} as JSON: {s}", "Return JSON with the keys {c}. Text: {s}", "{s} Give me the {k} as JSON.", "Turn this into JSON with {c}: {s}", "Extract {c} from this text as JSON: {s}", "Read the {k} from this sentence and answer in JSON: {s}", "JSON with {c} please: {s}",
]


def extract(rng: random.Random) -> dict:
    kind = WORDS["extract"][rng.choice(list(WORDS["extract"]))]
    values = {key: VALUES[key](rng) for key in kind["keys"]}
    sentence = rng.choice(kind["sentences"]).format(**values)
    keys = list(kind["keys"])
    if len(keys) > 2 and rng.random() < 0.3:
        keys.remove(rng.choice(keys))
    listed = ", ".join(keys[:-1]) + " and " + keys[-1]
    question = rng.choice(EXTRACT_PHRASES).replace("{k}", listed).replace("{c}", ", ".join(keys)).replace("{s}", sentence)
    return instance(question, json.dumps({key: values[key] for key in keys}, ensure_ascii=False), "json", f"extract {values}")


CLASSIFY_PHRASES = [
    "Classify the {l} as JSON: {s}", "What is the {l}? Answer in JSON. Text: {s}", "Return the {l} of this message as JSON: {s}", "{s} Give me the {l} as JSON.", "JSON with the {l} please: {s}", "Which {l} does this have? Reply as JSON: {s}",
]


def classify(rng: random.Random) -> dict:
    label = rng.choice(list(WORDS["classify"]))
    kind = WORDS["classify"][label]
    value, subject = rng.choice(kind["values"]), rng.choice(kind["subjects"])
    core = rng.choice(kind[value])
    if label == "sentiment":
        sentence = f"{subject} {core}{rng.choice(kind['endings'])}."
    elif label == "priority":
        sentence = core.replace("{s}", subject)
        sentence = sentence[0].upper() + sentence[1:] + "."
    else:
        sentence = rng.choice([f"{core} {subject}.", f"Hello, {core} {subject}.", f"Hi team, {core} {subject}."])
        sentence = sentence[0].upper() + sentence[1:]
    question = rng.choice(CLASSIFY_PHRASES).replace("{l}", label).replace("{s}", sentence)
    return instance(question, json.dumps({label: value}), "json", f"classify {label} {subject} {core}")


# --- looking back ---

def copy(rng: random.Random) -> dict:
    length = rng.randint(2, 6)
    words = [made_up_word(rng) if rng.random() < 0.25 else rng.choice(WORDS["copy"]) for _ in range(length)]
    text = " ".join(words)
    question = rng.choice(["Repeat: {t}", "Say this again: {t}", "Repeat after me: {t}", "Copy this text: {t}", "Please repeat: {t}"]).replace("{t}", text)
    return instance(question, text, "text", f"copy {text}")


def memory(rng: random.Random) -> dict:
    name = made_up_word(rng) if rng.random() < 0.4 else rng.choice(WORDS["first"])
    question = rng.choice(["My name is {n}.", "I am {n}.", "Hello, my name is {n}.", "Hi, I am {n}.", "Call me {n}."]).replace("{n}", name)
    return instance(question, f"Nice to meet you, {name}.", "text", f"memory {name} {question}")


NAME_QUESTIONS = ["What is my name?", "Do you remember my name?", "Who am I?", "What did I say my name was?", "Tell me my name."]


def name_given(messages: list[dict]) -> str | None:
    """Returns the name that the user gave earlier in the chat."""
    for message in reversed(messages):
        if message["content"].startswith("Nice to meet you, "):
            return message["content"].removeprefix("Nice to meet you, ").removesuffix(".")
    return None


SKILLS = {
    "arithmetic": Skill(30, arithmetic),
    "conversion": Skill(13, conversion),
    "extract": Skill(30, extract),
    "classify": Skill(14, classify),
    "copy": Skill(10, copy),
    "memory": Skill(6, memory),
}


# --- tools ---

def tool(name: str, description: str, **properties: str) -> dict:
    """Returns a function description in the form of the OpenAI API."""
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()}, "required": list(properties)}}}


def weather(rng):
    city, degrees, sky = place(rng), rng.randint(-9, 35), rng.choice(WORDS["sky"])
    question = rng.choice(["What is the weather in {c}?", "How is the weather in {c}?", "Is it cold in {c}?", "Will I need a coat in {c}?", "Weather in {c}", "Tell me the weather for {c}."])
    return question.replace("{c}", city), {"city": city}, {"temperature": degrees, "sky": sky}, f"In {city} it is {degrees} degrees and {sky}."


def local_time(rng):
    city, time = place(rng), clock(rng)
    question = rng.choice(["What time is it in {c}?", "Which time is it in {c} now?", "Tell me the time in {c}.", "Time in {c}?", "How late is it in {c}?"])
    return question.replace("{c}", city), {"city": city}, {"time": time}, f"It is {time} in {city}."


def calculate(rng):
    sign = rng.choice(["*", "+", "-", "/"])
    left, right = rng.randint(100, 9999), rng.randint(11, 999)
    expression, result = f"{left} {sign} {right}", rng.randint(100, 99999)
    question = rng.choice(["Use the calculator: {e}", "Calculate {e} with the tool.", "What is {e}?", "How much is {e}?", "Compute {e}."])
    return question.replace("{e}", expression), {"expression": expression}, {"result": result}, f"{expression} = {result}."


def model_name(rng):
    return rng.choice(WORDS["model"]) if rng.random() < 0.4 else f"{rng.choice(['chat', 'coder', 'vision', 'mini', 'pro'])}-{rng.randint(1, 99)}b"


def team_name(rng):
    return rng.choice(WORDS["team"]) if rng.random() < 0.6 else made_up_word(rng).lower()


def price(rng):
    model, amount = model_name(rng), f"{rng.randint(0, 9)}.{rng.randint(10, 99)}"
    question = rng.choice(["What does {m} cost?", "How much is the model {m}?", "Price of {m}?", "What is the price of {m}?", "Tell me the price of {m}."])
    return question.replace("{m}", model), {"model": model}, {"usd_per_million": amount}, f"{model} costs {amount} dollars per million tokens."


def team_budget(rng):
    team, left = team_name(rng), rng.randint(10, 9999)
    question = rng.choice(["How much budget has team {t} left?", "What is left in the budget of {t}?", "Budget of team {t}?", "How much can {t} still spend?", "Show the budget of {t}."])
    return question.replace("{t}", team), {"team": team}, {"left_usd": left}, f"Team {team} has {left} dollars left."


def ticket(rng):
    title = rng.choice(WORDS["ticket"]) + rng.choice(["", "", " again", " today", " in " + place(rng), " for team " + team_name(rng)])
    priority, number = rng.choice(["high", "medium", "low"]), rng.randint(100, 999)
    question = rng.choice(["Open a ticket with {p} priority: {t}", "Create a {p} priority ticket: {t}", "Please file a ticket, priority {p}: {t}", "New ticket, {p}: {t}"])
    return question.replace("{p}", priority).replace("{t}", title), {"title": title, "priority": priority}, {"ticket": number}, f"I opened ticket {number}."


TOOLS = {
    "get_weather": (tool("get_weather", "Current weather of a city", city="string"), weather),
    "get_time": (tool("get_time", "Local time of a city", city="string"), local_time),
    "calculate": (tool("calculate", "Compute an expression", expression="string"), calculate),
    "get_price": (tool("get_price", "Price of a model", model="string"), price),
    "get_budget": (tool("get_budget", "Money left for a team", team="string"), team_budget),
    "create_ticket": (tool("create_ticket", "Open a support ticket", title="string", priority="string"), ticket),
}
TOOL_NAMES = list(TOOLS)


def offered(rng: random.Random, wanted: str) -> list[dict]:
    """Returns a list of tools that has the wanted one among up to two others."""
    names = [wanted] + rng.sample([name for name in TOOL_NAMES if name != wanted], rng.choice([0, 1, 1, 2]))
    rng.shuffle(names)
    return [TOOLS[name][0] for name in names]


def call_message(name: str, arguments: dict) -> dict:
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]}


def tool_conversation(rng, facts, keep, next_turn, system_message) -> dict:
    """Returns a chat with tools: calls, results, answers, and some turns that need no tool."""
    first = rng.choice(TOOL_NAMES)
    tools = offered(rng, first)
    names = [each["function"]["name"] for each in tools]
    messages, turns = system_message(facts, rng), []
    for index in range(rng.choice([1, 2, 3, 3])):
        if rng.random() < 0.2:
            turns.append(next_turn(facts, rng, turns))
            messages += turns[-1]["messages"]
            continue
        name = first if index == 0 else rng.choice(names)
        question, arguments, result, reply = TOOLS[name][1](rng)
        if not keep(tool_key(name, arguments)):
            continue
        messages += [{"role": "user", "content": question}, call_message(name, arguments)]
        if rng.random() < 0.7:
            messages += [{"role": "tool", "content": json.dumps(result)}, {"role": "assistant", "content": reply}]
    if not any(message["role"] == "assistant" for message in messages):
        return tool_conversation(rng, facts, keep, next_turn, system_message)
    return {"task": "tool", "tools": tools, "messages": messages, "tool_style": rng.choice(["spaced", "compact", "sorted"])}


def tool_key(name: str, arguments: dict) -> str:
    return f"tool {name} {json.dumps(arguments)}"


def tool_item(rng: random.Random, held_out, name: str) -> dict:
    """Returns a held-out question that a tool must answer."""
    while True:
        question, arguments, _, _ = TOOLS[name][1](rng)
        if held_out(tool_key(name, arguments)):
            return {"task": "tool", "tools": offered(rng, name), "judge": "tool", "key": tool_key(name, arguments),
                    "messages": [{"role": "user", "content": question}, call_message(name, arguments)]}
