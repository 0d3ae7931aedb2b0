#!/usr/bin/env python3
"""How fast is llama.cpp, asked in its own process through its C interface? Answers the questions of crates/engine/examples/measure.rs.

  llama_worker.py MODEL.gguf THREADS SETTINGS     with LLAMA_CPP_LIB_PATH and PYTHONPATH set as workers.py does

Times are those of `llama_decode` and reading the scores' address; no token is drawn, which favours llama.cpp.
"""

import ctypes
import json
import sys
import time

import numpy

from asked import Asked

from llama_cpp import llama_cpp as lib  # noqa: E402

# llama.cpp's caches grow in steps of this many tokens.
CACHE_GRAIN = 256
# The longest prompt that is read in at once; only it bounds buffers.
BATCH = 2048


class Llama(Asked):
    def __init__(self, path, threads, settings):
        start = time.perf_counter()
        self.threads, self.settings = threads, settings
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

    def context(self, streams, tokens):
        """One for each number of streams and length, with separate caches, as llama-batched-bench has them by default."""
        tokens = -(-tokens // CACHE_GRAIN) * CACHE_GRAIN
        if (streams, tokens) not in self.contexts:
            wanted = lib.llama_context_default_params()
            wanted.n_ctx, wanted.n_seq_max = tokens * streams, streams
            wanted.n_batch, wanted.n_ubatch = BATCH, self.settings["ubatch"]
            wanted.n_threads = wanted.n_threads_batch = self.threads
            wanted.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED if self.settings["flash_attention"] else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
            wanted.type_k = wanted.type_v = {"f16": lib.GGML_TYPE_F16, "q8_0": lib.GGML_TYPE_Q8_0}[self.settings["kv"]]
            wanted.kv_unified = False
            self.contexts[streams, tokens] = Context(lib.llama_init_from_model(self.model, wanted))
        return self.contexts[streams, tokens]

    def prefill(self, prompt):
        context = self.context(1, BATCH)
        context.clear()
        start = time.perf_counter()
        context.read_in(prompt, stream=0)
        lib.llama_get_logits(context.raw)
        return {"seconds": time.perf_counter() - start}

    def decode(self, prompts, steps):
        position, token = len(prompts[0]), prompts[0][0]
        context = self.context(len(prompts), position + steps + 1)
        context.hold(prompts)
        for step in range(steps + 1):
            if step == 1:
                # The first step is not measured: it sizes buffers.
                start = time.perf_counter()
            context.run(Rows.of_step(token, position + step, len(prompts)))
            lib.llama_get_logits(context.raw)
        return {"seconds": time.perf_counter() - start, "tokens": steps * len(prompts)}

    def scores(self, prompt):
        context = self.context(1, BATCH)
        context.clear()
        context.read_in(prompt, stream=0, scored=True)
        raw = lib.llama_get_logits(context.raw)
        logits = numpy.ctypeslib.as_array(raw, (len(prompt), self.vocabulary))[:-1].astype(numpy.float64)
        top = logits.max(axis=1, keepdims=True)
        logits -= top + numpy.log(numpy.exp(logits - top).sum(axis=1, keepdims=True))
        return {"logprobs": logits[numpy.arange(len(prompt) - 1), prompt[1:]].tolist()}


class Context:
    """A cache, and which prompts are in it."""

    def __init__(self, raw):
        self.raw, self.held = raw, None

    def clear(self):
        self.held = None
        lib.llama_memory_clear(lib.llama_get_memory(self.raw), True)

    def hold(self, prompts):
        """Prompts that are there already lose only what was decoded behind them."""
        if self.held == prompts:
            for stream, prompt in enumerate(prompts):
                lib.llama_memory_seq_rm(lib.llama_get_memory(self.raw), stream, len(prompt), -1)
            return
        self.clear()
        for stream, prompt in enumerate(prompts):
            self.read_in(prompt, stream)
        self.held = prompts

    def read_in(self, prompt, stream, scored=False):
        for first in range(0, len(prompt), BATCH):
            self.run(Rows.of_prompt(prompt[first : first + BATCH], first, stream, scored))

    def run(self, rows):
        result = lib.llama_decode(self.raw, rows.batch)
        if result != 0:
            sys.exit(f"llama_decode says {result}")


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
    def of_prompt(cls, prompt, position, stream, scored):
        count = len(prompt)
        return cls(prompt, range(position, position + count), [stream] * count, [scored] * (count - 1) + [True])

    @classmethod
    def of_step(cls, token, position, streams):
        return cls([token] * streams, [position] * streams, range(streams), [True] * streams)


def main():
    Llama(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])).serve()


if __name__ == "__main__":
    main()
