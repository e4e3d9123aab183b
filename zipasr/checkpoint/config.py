"""Settings: folder of the training run, selection of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zipasr.base.config import check_numbers, flag


@dataclass(frozen=True, slots=True, kw_only=True)
class ChooseCheckpoint:
    """Checkpoint selection."""

    epoch: int | None = flag(None, "last epoch to use; none: the last complete one in --exp-dir")
    iter: int = flag(0, "above 0: use checkpoint-N.pt up to this N instead of epochs")
    avg: int = flag(
        15,
        "number of checkpoints to average; with --use-averaged-model the length of the window "
        "in checkpoints",
    )
    use_averaged_model: bool = flag(
        True,
        "average over all batches of the window, from the running averages of two checkpoints; "
        "0: mean of the checkpoints",
    )
    checkpoint: Path | None = flag(
        None,
        "use this file, such as a pretrained.pt; it takes the place of checkpoints in --exp-dir",
    )
    auto_avg: bool = flag(
        False,
        "choose checkpoint and --avg by the WER on the dev set",
    )
    auto_avg_cuts: int = flag(0, "dev utterances that --auto-avg decodes; 0: all")

    def __post_init__(self) -> None:
        check_numbers(self, "must be at least 1", "epoch avg")
        check_numbers(self, "must not be negative", "iter auto_avg_cuts")
        if self.auto_avg and self.checkpoint is not None:
            raise ValueError(
                f"--auto-avg 1 has nothing to choose from in one file: leave it out, or "
                f"--checkpoint {self.checkpoint}"
            )

    @property
    def number(self) -> int:
        """The number of batches with ``--iter``, else the epoch.

        Raises:
            ValueError: the epoch is the last one, which ``selection.with_last_epoch`` looks up.
        """
        if self.iter > 0:
            return self.iter
        if self.epoch is None:
            raise ValueError("the epoch is not settled: see zipasr.checkpoint.selection")
        return self.epoch

    @property
    def name(self) -> str:
        """``epoch-E-avg-A`` or ``iter-I-avg-A``; the stem of the one file, if it is one."""
        if self.checkpoint is not None:
            return self.checkpoint.stem
        return f"{'iter' if self.iter > 0 else 'epoch'}-{self.number}-avg-{self.avg}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpConfig:
    """Checkpoint selection."""

    exp_dir: Path = flag(Path("zipformer/exp"), "folder of the training run")
