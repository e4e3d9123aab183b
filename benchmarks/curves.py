"""Draw loss and WER against training time for one or several runs, and print the final rates.

The loss comes from TensorBoard; the WER from decoding the validation set with the running average
of each epoch (greedy search). The test set is not touched.

    .venv/bin/python -m benchmarks.curves --recipe espeak --runs exp/seed-1,exp/seed-2 \
        --picture egs/espeak/curves.png
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple

import matplotlib
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zipasr.cli.command_flags import read
from zipasr.cli.recognition_commands import DECODE, recognition_config
from zipasr.data.config import DataConfig
from zipasr.data.loaders import load_cuts, test_loader
from zipasr.recognition.recogniser import load_recogniser, recognise
from zipasr.scoring.word_errors import count_errors

matplotlib.use("Agg")
from matplotlib import pyplot as plt

LOSSES = {"train/tot_loss": "training (running mean)", "train/valid_loss": "validation"}


class Curve(NamedTuple):
    """Values against batches."""

    batches: list[int]
    values: list[float]


def loss_curve(run: Path, tag: str) -> Curve:
    """Read one scalar of a run; steps that a resumed run repeated are read once."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    scalars = events.Scalars(tag)
    return Curve([s.step for s in scalars], [s.value for s in scalars])


def wer_curve(recipe: str, run: Path) -> Curve:
    """Decode the validation set with every epoch's average."""
    epochs = sorted(int(re.findall(r"\d+", p.name)[0]) for p in run.glob("epoch-?*.pt"))
    ends = loss_curve(run, "train/valid_loss").batches
    rates = [word_error_rate(recipe, run, epoch) for epoch in epochs]
    return Curve(ends[-len(rates) :], rates)


def word_error_rate(recipe: str, run: Path, epoch: int) -> float:
    """Return the greedy WER (percent) on the validation set after ``epoch``."""
    flags = ["--recipe", recipe, "--exp-dir", str(run), "--epoch", str(epoch), "--avg", "1"]
    average = ["--use-averaged-model", "1" if epoch > 1 else "0"]
    parsed = read(DECODE, [*flags, *average])
    data = parsed[DataConfig]
    cuts = load_cuts(data.manifest_dir, parsed.recipe.corpus, parsed.recipe.splits["valid"])
    found = recognise(
        load_recogniser(recognition_config(parsed)), test_loader(cuts, data), "dev", None
    )
    return count_errors((t.ref, t.hyp) for t in found.by_setting[""]).rate


def draw(recipe: str, runs: list[Path], picture: Path) -> None:
    """Write the picture: losses above, WER below, one line a run."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 8), sharex=True)
    for index, run in enumerate(runs):
        colour = f"C{index}"
        for (tag, label), style in zip(LOSSES.items(), ("-", "o--"), strict=True):
            curve = loss_curve(run, tag)
            above.plot(*curve, style, color=colour, label=f"{run.name}, {label}", markersize=4)
        rates = wer_curve(recipe, run)
        below.plot(*rates, "o-", color=colour, label=run.name, markersize=4)
        print(run, "dev WER by epoch:", " ".join(f"{rate:.2f}" for rate in rates.values))
    above.set(ylabel="loss per 40 ms frame", yscale="log", title="weighted sum of the losses")
    below.set(xlabel="batches", ylabel="WER, %", yscale="log", title="dev, greedy search")
    for axes in (above, below):
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=100)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="espeak")
    parser.add_argument("--runs", required=True, help="exp folders, separated by commas")
    parser.add_argument("--picture", type=Path, required=True)
    args = parser.parse_args()
    draw(args.recipe, [Path(run) for run in args.runs.split(",")], args.picture)


if __name__ == "__main__":
    main()
