#!/usr/bin/env python3
"""How fast is OpenVINO GenAI's continuous batching, stepped in its own process? Answers the questions of crates/engine/examples/measure.rs.

  openvino_worker.py FOLDER THREADS SETTINGS

Times are those of `ContinuousBatchingPipeline.step`, which plans, computes and draws, as ours are.
"""

import json
import sys
import time

from asked import Asked

import numpy  # noqa: E402
import openvino  # noqa: E402
import openvino_genai as genai  # noqa: E402


def open_pipeline(folder, threads, settings):
    scheduling = genai.SchedulerConfig()
    # In gigabytes; enough for whatever is measured.
    scheduling.cache_size = 1
    scheduling.max_num_seqs = 64
    scheduling.max_num_batched_tokens = 2048
    scheduling.enable_prefix_caching = True
    return genai.ContinuousBatchingPipeline(folder, scheduling, "CPU", {"INFERENCE_NUM_THREADS": threads} | settings)


class OpenVino(Asked):
    def __init__(self, folder, threads, settings):
        start = time.perf_counter()
        self.pipeline = open_pipeline(folder, threads, settings)
        self.asked = 0
        self.say(load_seconds=time.perf_counter() - start, machine=f"OpenVINO {openvino.__version__}")

    def add(self, prompt, tokens, **more):
        how = genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True, do_sample=False, **more)
        self.asked += 1
        return self.pipeline.add_request(self.asked, openvino.Tensor(numpy.array([prompt], numpy.int64)), how)

    def prefill(self, prompt):
        start = time.perf_counter()
        handle = self.add(prompt, 1)
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        seconds = time.perf_counter() - start
        handle.read_all()
        return {"seconds": seconds}

    def decode(self, prompts, steps):
        handles = [self.add(prompt, steps + len(prompts) + 2) for prompt in prompts]
        begun = [False] * len(handles)
        while not all(begun):
            self.pipeline.step()
            begun = [known or produced(handle) > 0 for known, handle in zip(begun, handles)]
        self.pipeline.step()
        for handle in handles:
            produced(handle)
        start = time.perf_counter()
        for _ in range(steps):
            self.pipeline.step()
        seconds = time.perf_counter() - start
        tokens = sum(produced(handle) for handle in handles)
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        return {"seconds": seconds, "tokens": tokens}

    def scores(self, prompt):
        handle = self.add(prompt, 1, logprobs=1, echo=True)
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        (output,) = handle.read_all()
        return {"logprobs": list(output.generated_log_probs)[1 : len(prompt)]}


def produced(handle):
    """Tokens since it was last asked."""
    count = 0
    while handle.can_read():
        count += sum(len(output.generated_ids) for output in handle.read().values())
    return count


def main():
    OpenVino(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])).serve()


if __name__ == "__main__":
    main()
