"""Settings of a training run as a whole, of its losses, and of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zipasr.base.config import flag, flag_name


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """Fine-tuning: which model to begin with, and what to take from it."""

    do_finetune: bool = flag(False, "begin with the weights of --finetune-ckpt, not at random")
    finetune_ckpt: Path | None = flag(
        None, "model to fine-tune: a checkpoint, an average, or a published pretrained.pt"
    )
    init_modules: tuple[str, ...] | None = flag(
        None, "comma list of its modules to take, such as encoder_embed,encoder; none: all"
    )
    finetune_tokenizer: Literal["keep", "new"] = flag(
        "keep",
        "tokens: keep those of --finetune-ckpt; or new: those of --bpe-model, for which the "
        "layers that know tokens begin anew",
    )
    use_mux: bool = flag(
        False, "mix other corpora into the training set: those of --extra-manifest"
    )
    freeze: tuple[str, ...] | None = flag(
        None, "comma list of modules or parameters that stay as they are; * is any text"
    )
    lora_rank: int = flag(0, "train adapters of this rank on linear layers alone; 0: no adapters")
    lora_alpha: float | None = flag(
        None, "weight of an adapter times its rank; none: the rank, a weight of 1"
    )
    lora_modules: tuple[str, ...] | None = flag(
        None,
        "comma list of the linear layers to adapt; none: projections of self-attention, and "
        "feed-forward modules",
    )

    def __post_init__(self) -> None:
        self._check_adapters()
        if self.finetune_ckpt is not None:
            return
        if self.lora_rank > 0:
            raise ValueError("--lora-rank adapts a model: add --finetune-ckpt FILE.")
        if self.do_finetune:
            raise ValueError("--do-finetune 1 needs a model to begin with: --finetune-ckpt FILE.")
        if self.init_modules is not None:
            raise ValueError("--init-modules says what to take from --finetune-ckpt FILE: add it.")
        if self.finetune_tokenizer == "new":
            raise ValueError("--finetune-tokenizer new goes with --finetune-ckpt FILE: add it.")

    def _check_adapters(self) -> None:
        if self.lora_rank < 0:
            raise ValueError("--lora-rank must not be negative.")
        if self.lora_alpha is not None and self.lora_alpha <= 0:
            raise ValueError("--lora-alpha must be positive.")
        for name in ("lora_alpha", "lora_modules"):
            if self.lora_rank == 0 and getattr(self, name) is not None:
                raise ValueError(f"{flag_name(name)} goes with --lora-rank: add it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the losses and how they change at the start."""

    simple_loss_scale: float = flag(0.5, "final weight of the simple transducer loss")
    ctc_loss_scale: float = flag(0.2, "weight of the CTC loss; 1 where CTC is the only head")
    attention_decoder_loss_scale: float = flag(0.8, "weight of the attention decoder's loss")
    cr_loss_scale: float = flag(0.2, "final weight of the consistency loss")
    warm_step: int = flag(2000, "batches until the weights of transducer and consistency are final")
    ctc_only_batches: int = flag(0, "batches at the start that train the CTC head alone")

    def __post_init__(self) -> None:
        if self.warm_step < 1 or self.ctc_only_batches < 0:
            raise ValueError("--warm-step must be at least 1, --ctc-only-batches at least 0.")
        for name in ("simple", "ctc", "attention_decoder", "cr"):
            if getattr(self, f"{name}_loss_scale") < 0:
                raise ValueError(f"--{name.replace('_', '-')}-loss-scale must not be negative.")
