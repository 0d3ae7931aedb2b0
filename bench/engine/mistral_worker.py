#!/usr/bin/env python3
"""How fast is mistral.rs, asked in its own process? Answers the questions of crates/engine/examples/measure.rs as far as it can.

  mistral_worker.py MODEL.gguf TOKENIZER_FOLDER

It takes text, not tokens: what it is given are the words of the tokens asked for, and what it counts is what is divided by time. It
does not score a given text either: what it produced, and how likely it found that, is returned with the text for others to score.
"""

import os
import pathlib
import sys
import time

from asked import Asked

import jinja2  # noqa: E402
import mistralrs  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

SCORED_TOKENS = 8


class Mistral(Asked):
    def __init__(self, file, folder):
        start = time.perf_counter()
        which = mistralrs.Which.GGUF(quantized_model_id=str(file.parent), quantized_filename=file.name, tok_model_id=str(folder))
        # No prompt is found again: their times count.
        self.runner = mistralrs.Runner(which=which, prefix_cache_n=0)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.template = jinja2.Template((folder / "chat_template.jinja").read_text())
        self.say(load_seconds=time.perf_counter() - start, machine=f"RAYON_NUM_THREADS={os.environ['RAYON_NUM_THREADS']}")

    def ask(self, prompt, tokens, **more):
        request = mistralrs.ChatCompletionRequest(
            model="default", messages=self.tokenizer.decode(prompt), max_tokens=tokens, temperature=0.0, ignore_eos=True, **more
        )
        return self.runner.send_chat_completion_request(request)

    def prefill(self, prompt):
        start = time.perf_counter()
        answer = self.ask(prompt, 1)
        return {"seconds": time.perf_counter() - start, "tokens": answer.usage.prompt_tokens}

    def decode(self, prompts, steps):
        (prompt,) = prompts
        times = [time.perf_counter() for chunk in self.ask(prompt, steps + 1, stream=True) if chunk.choices[0].delta.content]
        return {"seconds": times[-1] - times[0], "tokens": len(times) - 1}

    def scores(self, prompt):
        answer = self.ask(prompt, SCORED_TOKENS, logprobs=True, top_logprobs=1)
        found = answer.choices[0].logprobs.content
        # A prompt passes the model's chat template on its way.
        message = {"role": "user", "content": self.tokenizer.decode(prompt)}
        known = self.tokenizer.encode(self.template.render(messages=[message], add_generation_prompt=True), add_special_tokens=False).ids
        produced = [one.top_logprobs[0].token for one in found]
        return {"text": known + produced, "logprobs": [one.logprob for one in found]}


def main():
    Mistral(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
