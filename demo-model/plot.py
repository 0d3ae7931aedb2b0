"""How did the loss fall? Draws runs/*.csv as runs/loss.svg and runs/loss.png."""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

RUNS = Path(__file__).parent / "runs"


def smooth(values: list[float], share: float = 0.97) -> list[float]:
    """Returns an exponential average, corrected for its start."""
    result, average = [], 0.0
    for index, value in enumerate(values, 1):
        average = share * average + (1 - share) * value
        result.append(average / (1 - share ** index))
    return result


def main():
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for path in sorted(RUNS.glob("*.csv")):
        rows = list(csv.DictReader(path.open()))
        tokens = [int(row["tokens"]) / 1e6 for row in rows]
        losses = [float(row["answer_loss"]) for row in rows]
        line, = axes.plot(tokens, smooth(losses), label=f"{path.stem}: {rows[-1]['step']} steps")
        axes.plot(tokens, losses, color=line.get_color(), alpha=0.15, linewidth=0.7)
    axes.set(xlabel="million tokens read", ylabel="cross-entropy of the assistant's tokens (nat)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.tight_layout()
    for ending in ("svg", "png"):
        figure.savefig(RUNS / f"loss.{ending}", dpi=120)


if __name__ == "__main__":
    main()
