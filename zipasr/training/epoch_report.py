"""Report at the end of an epoch: word errors on dev, course of the run, curves."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lhotse import CutSet

from zipasr.base.distributed import all_reduce_sum
from zipasr.base.errors import NumericError
from zipasr.base.files import atomic_path
from zipasr.base.seed import seeded
from zipasr.data.dataset import Batch
from zipasr.data.loaders import valid_loader
from zipasr.data.manifests import evenly_spread
from zipasr.recognition.recogniser import greedy_recogniser, texts_of
from zipasr.scoring.training_facts import CURVES_FILE
from zipasr.scoring.word_errors import WordErrors, count_errors
from zipasr.text.scripts import units_of
from zipasr.training.best_epochs import note_best
from zipasr.training.epoch_progress import write_scalar
from zipasr.training.feeding import copied_ahead
from zipasr.training.metrics import METRICS_FILE, metric_series
from zipasr.training.session import Session

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

REFERENCE_FILE, CAUSAL_REFERENCE = "reference.jsonl", "reference-causal.jsonl"
BARS = "▁▂▃▄▅▆▇█"
BLUE, RED, GREY, REFERENCE_GREY = "#0072B2", "#D55E00", "#777777", "#999999"
FEW = 40  # points of a curve that are marked one by one, epochs that get a line


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve of a plot: metric, label and style."""

    name: str
    split: str
    label: str
    colour: str = BLUE


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: title, curves, and whether its axis is logarithmic."""

    title: str
    curves: tuple[Curve, ...]
    is_log: bool = False


PANELS = (
    Panel(
        "loss per frame",
        (Curve("tot_loss", "train", "training"), Curve("loss", "valid", "validation", RED)),
        is_log=True,
    ),
    Panel("word error rate on dev, %", (Curve("wer", "valid", "greedy search", RED),)),
    Panel("learning rate", (Curve("learning_rate", "train", ""),)),
    Panel("gradient norm", (Curve("grad_norm", "train", ""),), is_log=True),
)


def draw_curves(exp_dir: Path) -> None:
    """Draw the numbers of ``metrics.jsonl`` to ``curves.png``; a failure is logged, no more.

    Where there is a ``reference.jsonl``, from the recipe or the ``metrics.jsonl`` of any other run,
    its numbers are thin grey lines beside them.
    """
    try:
        _draw(exp_dir / METRICS_FILE, exp_dir / REFERENCE_FILE, exp_dir / CURVES_FILE)
    except Exception as problem:
        logger.warning("%s is not drawn: %s", exp_dir / CURVES_FILE, problem)


def sparkline(values: Sequence[float], width: int = 30) -> str:
    """Return the last ``width`` values as bars between the lowest and the highest of them."""
    shown = values[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    steps = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * steps)] for value in shown)


def copy_reference(recipe: Path, exp_dir: Path, *, causal: bool) -> None:
    """Copy the curves of the reference run of a recipe, if it has one, into the folder of a run.

    Args:
        recipe: its folder.
        exp_dir: of the run; a reference that is there stays.
        causal: whether the run is of a causal model.
    """
    source = recipe / (CAUSAL_REFERENCE if causal else REFERENCE_FILE)
    if source.is_file() and not (exp_dir / REFERENCE_FILE).exists():
        with atomic_path(exp_dir / REFERENCE_FILE) as temporary:
            shutil.copyfile(source, temporary)


def _draw(metrics: Path, reference: Path, picture: Path) -> None:
    # Imported here: it takes a second, and drawing is not what training is for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    epochs = metric_series(metrics, "epoch")[0]
    for panel, axes in zip(PANELS, figure.subplots(2, 2).flat, strict=True):
        _draw_panel(panel, axes, metrics, reference, epochs)
    if reference.is_file() and (about := _about(reference)):
        figure.supxlabel(f"reference run: {about}", fontsize=8, color=GREY)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, format="png")


def _draw_reference(panel: Panel, axes: Axes, reference: Path) -> None:
    for curve in panel.curves:
        steps, values = metric_series(reference, curve.name, curve.split)
        if steps:
            style = ":" if curve.split == "train" else "-"
            label = f"reference run, {curve.label}".removesuffix(", ")
            axes.plot(steps, values, color=REFERENCE_GREY, lw=0.9, ls=style, label=label)


def _about(reference: Path) -> str:
    """Return what the first line says of the run; nothing if that is a record like the others."""
    with reference.open(encoding="utf-8") as file:
        return str(json.loads(file.readline()).get("about", ""))


def _draw_panel(
    panel: Panel, axes: Axes, metrics: Path, reference: Path, epochs: Sequence[int]
) -> None:
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=GREY, labelsize=9)
    for step in epochs[1:] if len(epochs) <= FEW else ():
        axes.axvline(step, color="#e6e6e6", linewidth=0.8, zorder=0)
    is_empty = True
    for curve in panel.curves:
        steps, values = metric_series(metrics, curve.name, curve.split)
        if not steps:
            continue
        is_empty = False
        marker = "o" if len(steps) <= FEW else ""
        label = f"{curve.label} {values[-1]:.3g}".strip()
        axes.plot(
            steps, values, color=curve.colour, lw=1.6, marker=marker, markersize=3.5, label=label
        )
    if is_empty:
        axes.text(0.5, 0.5, "nothing yet", ha="center", color=GREY, transform=axes.transAxes)
        return
    _draw_reference(panel, axes, reference)
    if panel.is_log:
        _plain_log_scale(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("updates; vertical lines: epochs", fontsize=9, color=GREY)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=9)


def _plain_log_scale(axes: Axes) -> None:
    """Make the axis logarithmic, with ticks at 1, 2, 5, 10 and so on, written as numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


Recognise = Callable[[Session, Batch], list[str]]
"""Texts of the N utterances of a batch; the model is in evaluation mode."""


def recognise_greedily(session: Session, batch: Batch) -> list[str]:
    """Return the text of each utterance by greedy search with the best head of the model."""
    configs = session.configs
    # A transducer that has not begun to train has nothing to say.
    has_begun = session.state.batch_idx_train > configs.loss.ctc_only_batches
    use_transducer = configs.model.use_transducer and has_begun
    recogniser = greedy_recogniser(
        session.model, session.tokenizer, configs.encoder, configs.model, use_transducer
    )
    try:
        return texts_of(recogniser, batch.features, batch.feature_lens)
    except NumericError as problem:  # the guard of the training judges the model, not this
        logger.warning("nothing is recognised: %s", problem.what)
        return [""] * len(batch.texts)


def dev_errors(session: Session, cuts: CutSet, recognise: Recognise) -> WordErrors:
    """Count the errors in ``--valid-wer-cuts`` of ``cuts``; each process transcribes its share.

    Args:
        session: its model as it is now, not the average; it is left in training mode.
        cuts: the dev set.
        recognise: transcribes a batch.
    """
    world, configs = session.world, session.configs
    some = evenly_spread(cuts, configs.train.valid_wer_cuts)
    loader = valid_loader(some, configs.data, world.rank, world.size, world.device)
    pairs = []
    session.model.eval()
    # A causal model draws chunks here as well: the same ones every time.
    with torch.inference_mode(), seeded(configs.train.seed, world.rank):
        for batch in copied_ahead(loader, world.device):
            hypotheses = recognise(session, batch)
            pairs += [
                (units_of(text), units_of(found))
                for text, found in zip(batch.texts, hypotheses, strict=True)
            ]
    session.model.train()
    mine = torch.tensor(count_errors(pairs), dtype=torch.float64, device=world.device)
    return WordErrors(*(int(count) for count in all_reduce_sum(mine, world).tolist()))


#: Writes values beside the facts of the run.
Note = Callable[[dict[str, Any]], None]


def report_before_training(
    session: Session, cuts: CutSet, recognise: Recognise | None, note: Note | None
) -> None:
    """Measure the model that a fine-tuning begins with, so that the gain shows; all must call it.

    A training from the beginning, or one that goes on, has nothing to measure.

    Args:
        session: before its first batch.
        cuts: the dev set.
        recognise: how to transcribe; None measures nothing.
        note: where to write the result beside the records; None for nowhere else.
    """
    configs, begins = session.configs, session.state.batch_idx_train == 0
    if recognise is None or not (configs.finetune.do_finetune and begins):
        return
    if not configs.train.valid_wer_cuts:
        return
    errors = dev_errors(session, cuts, recognise)
    session.state.start_wer = errors.rate
    if session.writer is not None:
        session.writer.epoch = 0
    write_scalar(session, "valid_wer", errors.rate)
    if session.world.is_main:
        logger.info("before fine-tuning, %s", format_errors(errors))
        if note is not None:
            note({"start": {"wer": errors.rate, "words": errors.ref_words}})


def format_errors(errors: WordErrors) -> str:
    """Return errors as a clause of a line in the log."""
    return (
        f"greedy search on dev: {errors.metric} {errors.rate:.2f} % of {errors.ref_words} "
        f"{errors.unit} "
        f"({errors.ins} ins, {errors.dels} del, {errors.subs} sub)"
    )


def report_epoch(session: Session, cuts: CutSet, recognise: Recognise | None) -> None:
    """Measure the word error rate on the dev set and tell how the run goes; all must call it.

    Args:
        session: at the end of an epoch, after the validation.
        cuts: the dev set.
        recognise: how to transcribe; None tells of losses alone.
    """
    train = session.configs.train
    if recognise is not None and train.valid_wer_cuts:
        _record_errors(session, dev_errors(session, cuts, recognise))
    if session.world.is_main:
        logger.info("%s", course_line(session))
        if train.curves:
            draw_curves(train.exp_dir)


def course_line(session: Session) -> str:
    """Return a line with the losses and rates at the ends of the epochs, as bars and the last.

    It ends with the memory of this process and of those that load its data, as last measured.
    """
    path = session.configs.train.exp_dir / METRICS_FILE
    state, parts = session.state, []
    for name, unit, best_epoch in (
        ("loss", "", state.best_valid_epoch),
        ("wer", " %", state.best_wer_epoch),
    ):
        values = metric_series(path, name, "valid")[1]
        if values:
            best = " (best)" if len(values) > 1 and best_epoch == state.cur_epoch else ""
            parts.append(f"dev {name} {sparkline(values)} {values[-1]:.3g}{unit}{best}")
    held, loading = (metric_series(path, name)[1] for name in ("host_gib", "loading_gib"))
    if held and held[-1]:
        more = f" and {loading[-1]:.1f} in loading processes" if loading else ""
        parts.append(f"memory {held[-1]:.1f} GiB{more}")
    return f"epoch {state.cur_epoch} is over: {', '.join(parts)}"


def _record_errors(session: Session, errors: WordErrors) -> None:
    state = session.state
    note_best(session, "wer", errors.rate)
    write_scalar(session, "valid_wer", errors.rate)
    if session.world.is_main:
        start = "" if state.start_wer is None else f", {state.start_wer:.2f} % before fine-tuning"
        logger.info("epoch %d, %s%s", state.cur_epoch, format_errors(errors), start)
