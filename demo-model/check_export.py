"""Does `transformers` load the exported folders, and does it agree with `model.py` and `chat.py`?"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from chat import render
from train import load_weights

sys.path.insert(0, str(Path(__file__).parent / "corpus"))
from tasks import TOOLS, call_message  # noqa: E402

HERE = Path(__file__).parent
CHAT = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "What is the weather in Oslo?"},
    call_message("get_weather", {"city": "Oslo"}),
    {"role": "tool", "content": '{"temperature": 3, "sky": "clear"}'},
    {"role": "assistant", "content": "In Oslo it is 3 degrees and clear."},
    {"role": "user", "content": "What is a KV cache?"},
]


def check(name: str):
    tokenizer = AutoTokenizer.from_pretrained(HERE / name)
    tools = [TOOLS["get_weather"][0], TOOLS["get_time"][0]]
    for offered in (None, tools):
        theirs = tokenizer.apply_chat_template(CHAT, tools=offered, tokenize=False, add_generation_prompt=True)
        assert theirs == render(CHAT, offered, answer_next=True), "the chat templates differ"
    ours = Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
    for text in (render(CHAT, tools, answer_next=True), "Überall 1234 tokens,  two spaces\n\tand a tab: don't 日本"):
        assert tokenizer(text).input_ids == ours.encode(text).ids, "the tokenizers differ"
        assert tokenizer.decode(ours.encode(text).ids) == text, "decoding does not give the text back"
    model = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32)
    ids = tokenizer(render(CHAT, tools, answer_next=True), return_tensors="pt").input_ids
    with torch.no_grad():
        difference = (model(ids).logits - load_weights(name)(ids)).abs().max().item()
        answer = model.generate(ids, max_new_tokens=60)[0, ids.shape[1]:]
    assert difference < 1e-3, f"{name}: logits differ by {difference}"
    print(f"{name}: transformers agrees within {difference:.1e}; it says: {tokenizer.decode(answer)!r}")


if __name__ == "__main__":
    for folder in ("main", "small"):
        check(folder)
