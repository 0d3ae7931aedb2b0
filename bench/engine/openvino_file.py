#!/usr/bin/env python3
"""How does a GGUF file with f16 weights become OpenVINO models as OpenVINO's own guides make them?

  openvino_file.py MODEL-f16.gguf OUT

Writes OUT/f16, OUT/int8 and OUT/int4. OpenVINO GenAI reads the GGUF and saves its own graph; its compressor, NNCF, then quantizes:
int8 symmetric with one scale an output channel, int4 symmetric in groups of 128 with the output projection in int4, too. A GGUF's
own blocks of 32 would run as well, but slower: per-channel int8 is what OpenVINO's kernels are fastest at.
"""

import os
import pathlib
import shutil
import sys

import nncf
import openvino
import openvino_genai

# What llama-quantize calls Q4_0 --pure: all matrices alike.
INT4 = dict(mode=nncf.CompressWeightsMode.INT4_SYM, group_size=128, ratio=1.0, all_layers=True)
INT8 = dict(mode=nncf.CompressWeightsMode.INT8_SYM)


def main():
    source, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    whole = once(out / "f16", lambda folder: save_as_read(source, folder))
    for name, how in [("int8", INT8), ("int4", INT4)]:
        once(out / name, lambda folder, how=how: compress(whole, folder, how))


def once(folder, make):
    """A folder that exists is complete: it is made beside its place and moved there at the end."""
    if not folder.exists():
        half_done = folder.with_suffix(".part")
        shutil.rmtree(half_done, ignore_errors=True)
        half_done.mkdir(parents=True)
        make(half_done)
        half_done.rename(folder)
    return folder


def save_as_read(source, folder):
    # The pipeline saves beside the file that it reads.
    link = folder / "model.gguf"
    link.symlink_to(source)
    openvino_genai.LLMPipeline(link, "CPU", enable_save_ov_model=True)
    link.unlink()


def compress(whole, folder, how):
    model = nncf.compress_weights(openvino.Core().read_model(whole / "openvino_model.xml"), **how)
    openvino.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    for path in whole.iterdir():
        if not path.name.startswith("openvino_model."):
            os.link(path, folder / path.name)


if __name__ == "__main__":
    main()
