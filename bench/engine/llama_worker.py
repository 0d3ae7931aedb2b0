#!/usr/bin/env python3
"""How fast is llama.cpp, asked in its own process through its C interface? Answers the questions of crates/engine/examples/measure.rs.

  llama_worker.py MODEL.gguf THREADS     with LLAMA_CPP_LIB_PATH and PYTHONPATH set as engines.py does

Times are those of `llama_decode` and reading the scores' address; no token is drawn, which favours llama.cpp.
"""

import ctypes
import json
import sys
import time

import numpy

# A worker speaks JSON on what was standard output; whatever the library prints goes elsewhere.
import os

ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

from llama_cpp import llama_cpp as lib  # noqa: E402

# A stream's context in a crowd: 128 tokens of prompt and room for the steps. Rounded up by llama.cpp to 256.
CROWD_TOKENS = 256
ALONE_TOKENS = 4608
UBATCH = 512


class Llama:
    def __init__(self, path, threads):
        start = time.perf_counter()
        self.threads = threads
        lib.llama_backend_init()
        self.quiet = lib.llama_log_callback(lambda level, text, data: None)
        lib.llama_log_set(self.quiet, ctypes.c_void_p(0))
        self.model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.contexts = {}
        self.say(
            load_seconds=time.perf_counter() - start,
            resident_bytes=lib.llama_model_size(self.model),
            parameters=lib.llama_model_n_params(self.model),
            machine=lib.llama_print_system_info().decode(),
        )

    def say(self, **answer):
        print(json.dumps(answer), file=ANSWERS)

    def context(self, streams):
        """One for each number of streams, with separate caches, as llama-batched-bench has them by default."""
        if streams not in self.contexts:
            settings = lib.llama_context_default_params()
            settings.n_ctx = ALONE_TOKENS if streams == 1 else CROWD_TOKENS * streams
            settings.n_batch, settings.n_ubatch, settings.n_seq_max = 2048, UBATCH, streams
            settings.n_threads = settings.n_threads_batch = self.threads
            settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
            settings.type_k = settings.type_v = lib.GGML_TYPE_F16
            settings.kv_unified = False
            self.contexts[streams] = lib.llama_init_from_model(self.model, settings)
        context = self.contexts[streams]
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        return context

    def prefill(self, prompt):
        context = self.context(1)
        start = time.perf_counter()
        self.run(context, Rows.of_prompt(prompt, stream=0))
        lib.llama_get_logits(context)
        return {"seconds": time.perf_counter() - start}

    def decode(self, prompts, steps):
        context = self.context(len(prompts))
        for stream, prompt in enumerate(prompts):
            self.run(context, Rows.of_prompt(prompt, stream))
        position = len(prompts[0])
        token = prompts[0][0]
        for step in range(steps + 1):
            if step == 1:
                # The first step is not measured: it sizes buffers.
                start = time.perf_counter()
            self.run(context, Rows.of_step(token, position + step, len(prompts)))
            lib.llama_get_logits(context)
        return {"seconds": time.perf_counter() - start, "tokens": steps * len(prompts)}

    def scores(self, prompt):
        context = self.context(1)
        self.run(context, Rows.of_prompt(prompt, stream=0, scored=True))
        raw = lib.llama_get_logits(context)
        logits = numpy.ctypeslib.as_array(raw, (len(prompt), self.vocabulary))[:-1].astype(numpy.float64)
        top = logits.max(axis=1, keepdims=True)
        logits -= top + numpy.log(numpy.exp(logits - top).sum(axis=1, keepdims=True))
        return {"logprobs": logits[numpy.arange(len(prompt) - 1), prompt[1:]].tolist()}

    def run(self, context, rows):
        result = lib.llama_decode(context, rows.batch)
        if result != 0:
            sys.exit(f"llama_decode says {result}")

    def answer(self, question):
        match question["do"]:
            case "prefill":
                return self.prefill(question["prompt"])
            case "decode":
                return self.decode(question["prompts"], question["steps"])
            case "scores":
                return self.scores(question["prompt"])


class Rows:
    """A batch over memory of ours."""

    def __init__(self, tokens, positions, streams, scored):
        count = len(tokens)
        self.tokens, self.positions = numpy.array(tokens, numpy.int32), numpy.array(positions, numpy.int32)
        self.streams, self.scored = numpy.array(streams, numpy.int32), numpy.array(scored, numpy.int8)
        self.counts = numpy.ones(count, numpy.int32)
        stream_places = self.streams.ctypes.data + 4 * numpy.arange(count, dtype=numpy.uint64)
        self.stream_places = stream_places.astype(numpy.uint64)
        self.batch = lib.llama_batch()
        self.batch.n_tokens = count
        self.batch.token = self.tokens.ctypes.data_as(type(self.batch.token))
        self.batch.pos = self.positions.ctypes.data_as(type(self.batch.pos))
        self.batch.n_seq_id = self.counts.ctypes.data_as(type(self.batch.n_seq_id))
        self.batch.seq_id = self.stream_places.ctypes.data_as(type(self.batch.seq_id))
        self.batch.logits = self.scored.ctypes.data_as(type(self.batch.logits))

    @classmethod
    def of_prompt(cls, prompt, stream, scored=False):
        count = len(prompt)
        return cls(prompt, range(count), [stream] * count, [scored] * (count - 1) + [True])

    @classmethod
    def of_step(cls, token, position, streams):
        return cls([token] * streams, [position] * streams, range(streams), [True] * streams)


def main():
    llama = Llama(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        llama.say(**llama.answer(json.loads(line)))


if __name__ == "__main__":
    main()
