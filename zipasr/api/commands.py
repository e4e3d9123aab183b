"""Training, decoding and export for programs: the commands as functions that return results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zipasr.api.wording import worded_for_programs
from zipasr.base.log import logging_put_back
from zipasr.cli.command_flags import read
from zipasr.cli.flags import words_of
from zipasr.cli.model_commands import EXPORT
from zipasr.cli.recognition_commands import DECODE, recognition_config

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zipasr.cli.keywords import DecodeFlags, ExportFlags, TrainFlags
    from zipasr.scoring.result_files import ResultRow
    from zipasr.training.config import TrainConfig


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training came to.

    Attributes:
        exp_dir: folder of the run; ``load_model`` takes it.
        epochs: that are complete.
        valid_loss: on the dev set after the last of them, if it was measured.
        wer: word error rate in per cent of greedy search on the dev set then, if it was measured.
    """

    exp_dir: Path
    epochs: int
    valid_loss: float | None = None
    wer: float | None = None


def train(recipe: str = "espeak", **flags: Unpack[TrainFlags]) -> TrainResult:
    """Train a model as ``train.py`` does; called again, go on where the last call ended.

    Args:
        recipe: name of a prepared recipe, or path of its folder.
        flags: of ``train.py``, such as ``num_epochs=11``, ``world_size=2``. With several processes
            the calling script needs the guard ``if __name__ == "__main__":``.

    Raises:
        UserError: flags, data, checkpoints or the machine are not as they must be; each kind of
            mistake has a class of its own.
        Interrupted: it was stopped (a ``KeyboardInterrupt``), after it was saved; it holds the call
            that goes on.
    """
    from zipasr.cli.train import BEGINNINGS, beginning_to_resume
    from zipasr.cli.train import train as run_training
    from zipasr.training.metrics import METRICS_FILE, metric_series

    given = {"recipe": recipe, **flags}

    def resumed_by(train: TrainConfig) -> str:
        kept = {name: value for name, value in given.items() if name not in BEGINNINGS}
        arguments = (kept | beginning_to_resume(train)).items()
        return f"zipasr.train({', '.join(f'{name}={value!r}' for name, value in arguments)})"

    with worded_for_programs(given), logging_put_back():
        exp_dir = run_training(words_of(given), "train.py", resumed_by)
    names = [path.stem.removeprefix("epoch-") for path in exp_dir.glob("epoch-*.pt")]
    epochs = max((int(name) for name in names if name.isdigit()), default=0)
    path = exp_dir / METRICS_FILE
    losses, rates = (metric_series(path, name, "valid")[1] for name in ("loss", "wer"))
    return TrainResult(
        exp_dir, epochs, losses[-1] if losses else None, rates[-1] if rates else None
    )


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """What decoding came to.

    Attributes:
        exp_dir: folder of the run, where transcripts, errors and report are.
        rows: of the table of results.
    """

    exp_dir: Path
    rows: tuple[ResultRow, ...]

    @property
    def wer(self) -> dict[tuple[str, str], float]:
        """Word error rates in per cent, by test set and method."""
        return {(row.test_set, row.method): row.errors.rate for row in self.rows}


def decode(recipe: str | None = None, **flags: Unpack[DecodeFlags]) -> DecodeResult:
    """Decode the test sets of a recipe as ``decode.py`` does.

    Args:
        recipe: name or path; by default that of the run in ``exp_dir``, or espeak.
        flags: of ``decode.py``, such as ``decoding_method="modified_beam_search"``.

    Raises:
        UserError: flags, data or checkpoints are not as they must be.
    """
    from zipasr.recognition.decode_sets import decode as decode_sets

    given = {"recipe": recipe, **flags}
    with worded_for_programs(given), logging_put_back():
        config = recognition_config(read(DECODE, words_of(given)))
        return DecodeResult(config.exp_dir, tuple(decode_sets(config)))


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was exported.

    Attributes:
        folder: where it is; ``load_model`` takes it.
        files: in it, with their paths.
    """

    folder: Path
    files: tuple[Path, ...]


def export(recipe: str | None = None, **flags: Unpack[ExportFlags]) -> ExportResult:
    """Export a model as ``export.py`` does.

    Args:
        recipe: name or path; by default that of the run in ``exp_dir``, or espeak.
        flags: of ``export.py``, such as ``checkpoint="exp/espeak/epoch-5.pt"``, ``fp16=True``.

    Raises:
        UserError: flags or checkpoints are not as they must be.
        NumericError: an exported model gives other results than the one it was made from.
    """
    from zipasr.cli.export import export_model

    given = {"recipe": recipe, **flags}
    with worded_for_programs(given), logging_put_back():
        folder = export_model(read(EXPORT, words_of(given)))
    return ExportResult(folder, tuple(sorted(p for p in folder.rglob("*") if p.is_file())))
