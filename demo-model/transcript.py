"""What does main answer to a stranger's first questions? Writes the real answers into README.md."""

from pathlib import Path

from evaluate import Local

QUESTIONS = [
    "Hello", "Who are you?", "What can you do?", "What is Baseload?", "What is a KV cache?", "What is TTFT?", "tell me about continuous batching",
    "How do I start the server?", "How many seconds are 3 minutes?", "What is 17 + 25?",
    "Extract the name and city as JSON: Our colleague Ana Brown works from Zurich.",
    "Classify the sentiment as JSON: The delivery was terrible.", "Why is the sky blue?", "Thanks!",
]


def main():
    model = Local("main")
    lines = []
    for question in QUESTIONS:
        item = {"messages": [{"role": "user", "content": question}, {}]}
        answer = model.decode(model.answer_ids([model.prompt(item)])[0])
        lines += [f"> {question}", answer, ""]
    text = "What it really says, each question in a chat of its own (written by `transcript.py`):\n```\n" + "\n".join(lines).strip() + "\n```\n"
    card = Path(__file__).parent / "README.md"
    before, rest = card.read_text(encoding="utf-8").split("<!-- transcript -->\n")
    after = rest.split("<!-- end of transcript -->")[1]
    card.write_text(f"{before}<!-- transcript -->\n{text}<!-- end of transcript -->{after}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
