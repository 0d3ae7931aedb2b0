"""How does a shape of `model.py` learn the text in build/train.npz?

    python train.py main                      # 1,600 steps, resumes where it stopped
    python train.py main --max-minutes 60     # the learning rate falls with the time instead
    python train.py small --teacher main      # distilled: half of the loss is the distance to main's logits

Documents are packed into windows and attend only to themselves. Matrices are trained with Muon,
embeddings and norms with AdamW.
"""

import argparse
import csv
import json
import math
import random
import signal
import time
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file
from torch.nn import functional
from tqdm import tqdm

from model import SHAPES, Qwen3, parameter_count

HERE = Path(__file__).parent
BUILD = HERE / "build"
FORBIDDEN = -30_000.0
LONG_LENGTH = 1152


class Windows:
    """An endless, seeded stream of packed windows: tokens, who wrote them, and which document they are of."""

    def __init__(self, data, length: int, shortest: int, seed: int):
        self.tokens, self.wanted, self.starts = data["tokens"], data["wanted"], data["starts"]
        self.length, self.shortest, self.random = length, shortest, random.Random(seed)
        self.queue: list[int] = []
        self.documents_read = 0

    def __iter__(self):
        while True:
            yield self._window()

    def _window(self):
        tokens = numpy.zeros(self.length + 1, numpy.int64)
        wanted = numpy.zeros(self.length + 1, bool)
        owner = numpy.full(self.length + 1, -1, numpy.int64)
        at, number = 0, 0
        while (document := self._take(self.length + 1 - at)) is not None:
            start, end = self.starts[document], self.starts[document + 1]
            span = slice(at, at + end - start)
            tokens[span], wanted[span], owner[span] = self.tokens[start:end], self.wanted[start:end], number
            at, number = at + end - start, number + 1
        return tokens, wanted, owner

    def _take(self, room: int) -> int | None:
        """Returns the first waiting document that fits; looking at 64 keeps the padding near one percent."""
        while len(self.queue) < 64:
            order = list(range(len(self.starts) - 1))
            self.random.shuffle(order)
            self.queue += [document for document in order if self.shortest <= self._size(document) <= self.length + 1]
        for place, document in enumerate(self.queue[:64]):
            if self._size(document) <= room:
                self.documents_read += 1
                return self.queue.pop(place)
        return None

    def _size(self, document: int) -> int:
        return int(self.starts[document + 1] - self.starts[document])


def batch_of(windows, size: int, device):
    tokens, wanted, owner = (torch.from_numpy(numpy.stack(part)) for part in zip(*(next(windows) for _ in range(size))))
    owner = owner[:, :-1]
    same = owner[:, :, None] == owner[:, None, :]
    past = torch.ones(owner.shape[1], owner.shape[1], dtype=torch.bool).tril()
    mask = torch.zeros(same.shape).masked_fill(~(same & past), FORBIDDEN)[:, None, None]
    return tokens.to(device), wanted.to(device), owner.to(device), mask.to(torch.bfloat16).to(device)


def loss_of(hidden, model, batch, teacher, other_share: float, generator):
    """Returns the loss on all tokens of the assistant and on a sample of the others, and the former alone."""
    tokens, wanted, owner, mask = batch
    targets, is_answer = tokens[:, 1:], wanted[:, 1:]
    inside = owner >= 0
    sampled = torch.rand(targets.shape, generator=generator).to(targets.device) < other_share
    keep = inside & (is_answer | sampled)
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16):
        logits = model.logits(hidden(tokens[:, :-1], mask)[keep])
        with torch.no_grad():
            taught = None if teacher is None else teacher.logits(teacher.hidden(tokens[:, :-1], mask)[keep])
    logits, answer = logits.float(), is_answer[keep]
    losses = functional.cross_entropy(logits, targets[keep], reduction="none")
    total = losses
    if taught is not None:
        distance = functional.kl_div(functional.log_softmax(logits, -1), functional.log_softmax(taught.float(), -1), reduction="none", log_target=True).sum(-1)
        total = 0.5 * losses + 0.5 * distance
    weights = torch.where(answer, 1.0, 0.3)
    return (total * weights).sum() / weights.sum(), losses[answer].mean().detach()


def optimizers(model, rate: float):
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "embed" not in name)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_factor(progress: float, step: int) -> float:
    """Returns a short warm-up, then a cosine down to two percent."""
    return min(1.0, (step + 1) / 40) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def load_weights(name: str) -> Qwen3:
    model = Qwen3(SHAPES[name])
    model.load_state_dict({key: value.float() for key, value in load_file(HERE / name / "model.safetensors").items()})
    return model.eval()


class Run:
    """One training run with its checkpoint and its log; both survive a stop."""

    def __init__(self, options):
        torch.manual_seed(options.seed)
        torch.set_num_threads(options.threads)
        self.options = options
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = Qwen3(SHAPES[options.name]).to(self.device)
        self.optimizers = optimizers(self.model, options.rate)
        self.checkpoint = BUILD / f"{options.name}.pt"
        self.log = HERE / "runs" / f"{options.name}.csv"
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        self.asked_to_stop = False
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        if self.checkpoint.exists() and not options.fresh:
            self._resume()
        else:
            self.log.parent.mkdir(exist_ok=True)
            self.log.write_text("step,seconds,tokens,loss,answer_loss,rate\n")
        self.teacher = load_weights(options.teacher).to(self.device) if options.teacher else None

    def _ask_to_stop(self, *_):
        self.asked_to_stop = True

    def _resume(self):
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.step, self.seconds, self.tokens = state["step"], state["seconds"], state["tokens"]

    def save(self):
        state = {"model": self.model.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers],
                 "step": self.step, "seconds": self.seconds, "tokens": self.tokens}
        torch.save(state, self.checkpoint.with_suffix(".new"))
        self.checkpoint.with_suffix(".new").replace(self.checkpoint)

    @property
    def progress(self) -> float:
        by_time = self.seconds / 60 / self.options.max_minutes if self.options.max_minutes else 0.0
        return max(self.step / self.options.steps, by_time)

    def is_long_step(self) -> bool:
        """One step in sixteen reads long chats once the basics are learned: far positions need little practice."""
        return self.progress > 0.25 and self.step % 16 == 0

    def advance(self, hidden, batch, generator) -> dict:
        factor = rate_factor(self.progress, self.step)
        loss, answer_loss = loss_of(hidden, self.model, batch, self.teacher, 0.15, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.options.rate * factor
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.tokens += int((batch[2] >= 0).sum())
        return {"step": self.step, "seconds": round(self.seconds, 1), "tokens": self.tokens, "loss": round(loss.item(), 4),
                "answer_loss": round(answer_loss.item(), 4), "rate": round(self.options.rate * factor, 6)}

    def train(self):
        options = self.options
        # A resumed run continues with other windows: the seed moves with the step.
        data = dict(numpy.load(BUILD / "train.npz"))
        short = iter(Windows(data, options.length, 0, options.seed + self.step))
        long = iter(Windows(data, LONG_LENGTH, options.length, options.seed + self.step))
        generator = torch.Generator().manual_seed(options.seed + self.step)
        # Compiled for the one usual shape; the rare long batches run uncompiled.
        fast = torch.compile(self.model.hidden, dynamic=False) if options.compile else self.model.hidden
        bar = tqdm(total=options.steps, initial=self.step, desc=options.name, mininterval=10)
        with self.log.open("a", newline="") as log:
            writer = csv.writer(log)
            while self.progress < 1.0 and not self.asked_to_stop:
                began = time.monotonic()
                if self.is_long_step():
                    batch = batch_of(long, max(1, options.batch * options.length // LONG_LENGTH), self.device)
                    row = self.advance(self.model.hidden, batch, generator)
                else:
                    row = self.advance(fast, batch_of(short, options.batch, self.device), generator)
                self.seconds += time.monotonic() - began
                writer.writerow(row.values())
                log.flush()
                bar.update(1)
                bar.set_postfix_str(f"loss {row['loss']:.3f} answer {row['answer_loss']:.3f} {self.tokens / self.seconds:.0f} tokens/s {self.progress:.0%}")
                if self.step % options.save_every == 0:
                    self.save()
        self.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SHAPES))
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--max-minutes", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--length", type=int, default=384)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--teacher", choices=list(SHAPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    options = parser.parse_args()
    run = Run(options)
    print(json.dumps({"name": options.name, "parameters": parameter_count(run.model), "device": run.device, "from_step": run.step}))
    run.train()


if __name__ == "__main__":
    main()
