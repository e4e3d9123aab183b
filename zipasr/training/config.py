"""Settings of a run as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zipasr.base.config import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Length, place, processes, precision and bookkeeping of a training run."""

    world_size: int = flag(1, "number of processes: GPUs, or CPU cores without a GPU")
    master_port: int = flag(12354, "port of the process group; another is taken when it is busy")
    tensorboard: bool = flag(True, "write TensorBoard scalars to exp-dir/tensorboard")
    num_epochs: int = flag(30, "last epoch, inclusive")
    start_epoch: int = flag(1, "first epoch; above 1 continues from epoch-{n-1}.pt")
    start_batch: int = flag(0, "above 0 continues from checkpoint-{n}.pt")
    allow_data_change: bool = flag(
        False, "go on with other training data than before; the epoch in progress starts again"
    )
    resume: bool = flag(True, "continue from the newest checkpoint in exp-dir, if there is one")
    exp_dir: Path = flag(Path("zipformer/exp"), "folder of checkpoints, logs and results")
    seed: int = flag(42, "of everything random")
    accumulate: int = flag(
        1, "batches that make one update; all that counts batches counts them as one"
    )
    memory_budget_gb: float = flag(
        0.0, "GiB that a batch may take beside the model, as estimated; 0: no limit but seconds"
    )
    rehearse: bool = flag(True, "see before the first epoch that the largest batches fit in memory")
    save_every_n: int = flag(4000, "batches between two checkpoint-*.pt")
    keep_last_k: int = flag(30, "how many checkpoint-*.pt stay")
    average_period: int = flag(200, "batches between two updates of the running model average")
    use_fp16: bool = flag(False, "train in mixed precision with float16 (GPU)")
    use_bf16: bool | None = flag(
        None,
        "train in mixed precision with bfloat16; ignored where it is slow; none: on a GPU that has "
        "it, unless --use-fp16",
    )
    ref_duration: float = flag(600.0, "seconds of audio that count as one batch for schedules")
    inf_check: bool = flag(False, "warn of each module whose output or gradient is not finite")
    print_diagnostics: bool = flag(
        False, "print statistics of all tensors over six batches, and stop without a checkpoint"
    )
    dry_run: bool = flag(False, "say what the run would take, write nothing, and stop")
    log_interval: int = flag(50, "batches between two log lines")
    valid_interval: int = flag(3000, "batches between validations; one follows each epoch anyway")
    valid_wer_cuts: int = flag(
        300, "dev utterances that greedy search transcribes after each epoch; 0 for none"
    )
    curves: bool = flag(True, "draw curves.png in exp-dir after each epoch")

    def __post_init__(self) -> None:
        if self.use_fp16 and self.use_bf16:
            raise ValueError("--use-fp16 and --use-bf16 exclude each other.")
        for name in (
            "num_epochs",
            "start_epoch",
            "accumulate",
            "save_every_n",
            "keep_last_k",
            "average_period",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1.")
        for name in ("log_interval", "valid_interval", "ref_duration"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')} must be positive.")
        for name in ("start_batch", "valid_wer_cuts", "memory_budget_gb"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name.replace('_', '-')} must not be negative.")
