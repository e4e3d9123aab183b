"""Settings of a training run as a whole, of its losses, and of fine-tuning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zipasr.base.config import check_numbers, flag, flag_name
from zipasr.base.errors import UserError
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.data.real_epochs import RealEpochs, copies_per_epoch
from zipasr.model.config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Training run."""

    world_size: int = flag(
        1,
        "number of processes; one for each GPU, or CPU processes where there is no GPU",
    )
    master_port: int = flag(
        12354,
        "TCP port of the process group; another one is taken if it is busy",
    )
    tensorboard: bool = flag(
        True,
        "write TensorBoard scalars to EXP_DIR/tensorboard",
        group="Logging and validation",
    )
    num_epochs: int = flag(30, "number of the last epoch")
    min_copies: int = flag(
        1,
        "copies of each utterance in a batch, at the beginning",
        group="Several copies per batch",
    )
    max_copies: int = flag(
        1,
        "copies of each utterance in a batch, at the end; --max-duration is for all of them",
        group="Several copies per batch",
    )
    num_real_epochs: int | None = flag(
        None,
        "epochs where one of N copies counts as N, in place of --num-epochs; none: --num-epochs",
        group="Several copies per batch",
    )
    start_epoch: int = flag(
        1,
        "number of the first epoch; above 1: continue from epoch-{N-1}.pt",
        group="Checkpoints",
    )
    start_batch: int = flag(0, "above 0: continue from checkpoint-{N}.pt", group="Checkpoints")
    allow_data_change: bool = flag(
        False,
        "continue although the training data differ from those of the checkpoint; the epoch in "
        "progress is restarted",
        group="Checkpoints",
    )
    resume: bool = flag(
        True,
        "continue from the newest checkpoint in --exp-dir, if there is one",
        group="Checkpoints",
    )
    exp_dir: Path = flag(Path("zipformer/exp"), "folder of checkpoints, logs and results")
    seed: int = flag(42, "seed of initial weights, batches and augmentation")
    accumulate: int = flag(
        1,
        "batches per update (gradient accumulation); everything that counts batches counts updates",
    )
    memory_budget_gb: float = flag(
        0.0,
        "estimated memory that one batch may need beside the model; 0: only --max-duration "
        "limits a batch",
        unit="GiB",
        group="Precision and memory",
    )
    gpu_memory: str | None = flag(
        None,
        "GiB of each GPU, or auto, to size the batches by; chooses --max-duration, --accumulate "
        "and --world-size, where they are not typed, for the updates of the published training; "
        "auto: the GPUs of this machine",
        group="Precision and memory",
    )
    rehearse: bool = flag(
        True,
        "run the largest batches before the first epoch, to see that they fit in memory",
        group="Precision and memory",
    )
    save_every_n: int = flag(4000, "batches between two checkpoint-N.pt", group="Checkpoints")
    keep_last_k: int = flag(30, "number of checkpoint-N.pt to keep", group="Checkpoints")
    save_every_epochs: int = flag(
        1,
        "epochs between two epoch-N.pt, counted back from the last, which is always saved",
        group="Checkpoints",
    )
    keep_last_epochs: int = flag(
        0,
        "number of newest epoch-N.pt to keep, beside those that longer averages of the last epoch "
        "begin with; 0: all",
        group="Checkpoints",
    )
    average_period: int = flag(
        200,
        "batches between two updates of the running average of the weights",
        group="Checkpoints",
    )
    use_fp16: bool = flag(False, "mixed precision with float16 (GPU)", group="Precision and memory")
    use_bf16: bool | None = flag(
        None,
        "mixed precision with bfloat16, unless the device is slow at it; none: yes on a GPU "
        "that supports it, unless --use-fp16 1",
        group="Precision and memory",
    )
    ref_duration: float = flag(
        600.0,
        "amount of audio that counts as one batch in the schedules",
        unit="s",
    )
    inf_check: bool = flag(
        False,
        "warn of every module whose output or gradient is not finite",
        group="Diagnostics",
    )
    print_diagnostics: bool = flag(
        False,
        "print statistics of activations, gradients and weights over six batches, then stop",
        group="Diagnostics",
    )
    dry_run: bool = flag(
        False,
        "print the time, memory and disk that the run would need; nothing is written",
        group="Diagnostics",
    )
    log_interval: int = flag(50, "batches between two log lines", group="Logging and validation")
    valid_interval: int = flag(
        3000,
        "batches between two validations, in addition to the one after each epoch",
        group="Logging and validation",
    )
    valid_wer_cuts: int = flag(
        300,
        "dev utterances that are decoded by greedy search after each epoch; 0: none",
        group="Logging and validation",
    )
    curves: bool = flag(
        True,
        "draw EXP_DIR/curves.png after each epoch",
        group="Logging and validation",
    )
    wandb: str | None = flag(
        None,
        "project of Weights & Biases that gets the scalars, too; it needs the package wandb",
        group="Logging and validation",
    )

    def __post_init__(self) -> None:
        if self.use_fp16 and self.use_bf16:
            raise ValueError("--use-fp16 and --use-bf16 exclude each other.")
        counts = "num_epochs start_epoch accumulate save_every_n keep_last_k save_every_epochs"
        check_numbers(self, "must be at least 1", f"{counts} average_period num_real_epochs")
        check_numbers(self, "must be positive", "log_interval valid_interval ref_duration")
        counts = "start_batch keep_last_epochs valid_wer_cuts memory_budget_gb"
        check_numbers(self, "must not be negative", counts)
        self._check_copies()
        self._check_gpu_memory()

    def _check_gpu_memory(self) -> None:
        if self.gpu_memory in (None, "auto"):
            return
        try:
            is_size = 0.0 < float(self.gpu_memory) < math.inf
        except ValueError:
            is_size = False
        if not is_size:
            raise ValueError(
                f"--gpu-memory must be auto or a number of GiB, such as 24, not {self.gpu_memory}"
            )

    def _check_copies(self) -> None:
        if not 1 <= self.min_copies <= self.max_copies:
            raise ValueError("--min-copies must be from 1 to --max-copies.")

    @property
    def epochs(self) -> RealEpochs:
        """The epochs of the run, and how many copies their batches hold."""
        real = self.num_epochs if self.num_real_epochs is None else self.num_real_epochs
        return RealEpochs(copies_per_epoch(self.min_copies, self.max_copies, real))

    def saves_epoch(self, epoch: int) -> bool:
        """Say whether an epoch gets a file of its own when it ends."""
        return (len(self.epochs) - epoch) % self.save_every_epochs == 0

    def epoch_files_from(self, epoch: int) -> int:
        """Return how many files of epochs the run will add, from ``epoch`` on."""
        return sum(map(self.saves_epoch, range(epoch, len(self.epochs) + 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """Fine-tuning."""

    do_finetune: bool = flag(False, "initialise the weights from --finetune-ckpt")
    finetune_ckpt: Path | None = flag(
        None,
        "model to fine-tune; a checkpoint, an average, or a published pretrained.pt",
    )
    init_modules: tuple[str, ...] | None = flag(
        None,
        "comma list of modules to initialise from it, such as encoder_embed,encoder; none: all",
    )
    finetune_tokenizer: Literal["keep", "new"] = flag(
        "keep",
        "keep: tokenizer of --finetune-ckpt; new: --bpe-model, and layers whose size is the "
        "vocabulary are initialised at random",
    )
    use_mux: bool = flag(False, "mix the corpora of --extra-manifest into the training data")
    freeze: tuple[str, ...] | None = flag(
        None,
        "comma list of modules or parameters that are not trained; * matches any text",
    )
    lora_rank: int = flag(
        0,
        "rank of LoRA adapters, the only weights that are trained then; 0: no adapters",
    )
    lora_alpha: float | None = flag(
        None,
        "scale of the adapters times their rank; none: the rank, a scale of 1",
    )
    lora_modules: tuple[str, ...] | None = flag(
        None,
        "comma list of linear layers that get adapters; none: projections of self-attention and "
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
        check_numbers(self, "must not be negative", "lora_rank")
        check_numbers(self, "must be positive", "lora_alpha")
        for name in ("lora_alpha", "lora_modules"):
            if self.lora_rank == 0 and getattr(self, name) is not None:
                raise ValueError(f"{flag_name(name)} goes with --lora-rank: add it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Loss weights."""

    simple_loss_scale: float = flag(0.5, "weight of the simple transducer loss after --warm-step")
    ctc_loss_scale: float = flag(0.2, "weight of the CTC loss; 1 if CTC is the only head")
    attention_decoder_loss_scale: float = flag(0.8, "weight of the attention decoder's loss")
    cr_loss_scale: float = flag(0.2, "weight of the consistency loss (CR-CTC) after --warm-step")
    warm_step: int = flag(
        2000,
        "batches until the weights of the transducer and consistency losses are final",
    )
    ctc_only_batches: int = flag(0, "batches at the start that train only encoder and CTC head")

    def __post_init__(self) -> None:
        check_numbers(self, "must be at least 1", "warm_step")
        scales = "simple_loss_scale ctc_loss_scale attention_decoder_loss_scale cr_loss_scale"
        check_numbers(self, "must not be negative", f"ctc_only_batches {scales}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LmTrainConfig:
    """Language-model training."""

    lm_type: Literal["rnn", "transformer", "ngram"] = flag("rnn", "kind of language model")
    exp_dir: Path | None = flag(None, "folder of the checkpoints; none: TYPE_lm_exp")
    lm_data: Path | None = flag(
        None,
        "training text, one sentence per line; none: data/RECIPE/lm/train.txt, for n-grams of "
        "tokens the transcripts",
    )
    lm_data_valid: Path | None = flag(None, "validation text; none: data/RECIPE/lm/valid.txt")
    num_epochs: int = flag(30, "passes over the text")
    batch_size: int = flag(
        400, "sentences per update, of all processes together; fewer where they are long"
    )
    lr: float | None = flag(None, "learning rate of Adam; none: 0.001, for a transformer 0.0005")
    save_every_n: int = flag(2000, "updates between two checkpoints within an epoch")
    seed: int = flag(42, "seed of initial weights and batches")
    world_size: int = flag(
        1, "number of processes, which share the sentences of an update: one for each GPU"
    )
    master_port: int = flag(
        12355, "TCP port of the process group; another one is taken if it is busy"
    )
    use_fp16: bool = flag(False, "mixed precision with float16 (GPU)")
    use_bf16: bool | None = flag(
        None,
        "mixed precision with bfloat16, unless the device is slow at it; none: yes on a GPU "
        "that supports it, unless --use-fp16 1",
    )

    def __post_init__(self) -> None:
        if self.use_fp16 and self.use_bf16:
            raise ValueError("--use-fp16 and --use-bf16 exclude each other.")
        check_numbers(self, "must be positive", "num_epochs batch_size save_every_n lr")

    @property
    def folder(self) -> Path:
        """Where the checkpoints are."""
        return self.exp_dir or Path(f"{self.lm_type}_lm_exp")


def check_sound(augment: AugmentConfig, data: DataConfig) -> None:
    """Refuse augmentation of sound where the training reads stored features.

    Raises:
        UserError: so it is.
    """
    for name in ("enable_rir", "enable_codec"):
        if getattr(augment, name) and not data.from_audio:
            raise UserError(
                f"{flag_name(name)} 1 changes sound, and stored features have none.",
                "add --on-the-fly-feats 1: features are then computed from the changed sound.",
            )


def check_pauses(train: TrainConfig, augment: AugmentConfig) -> None:
    """Refuse pauses in batches of several copies, which must stay alike in length.

    Raises:
        UserError: both are asked for.
    """
    if train.max_copies > 1 and (augment.join_prob or augment.silence_prob):
        raise UserError(
            f"--max-copies {train.max_copies} does not go with --join-prob and --silence-prob.",
            "--max-copies 1, or --join-prob 0 --silence-prob 0.",
        )


def check_heads(model: ModelConfig, loss: LossConfig, augment: AugmentConfig) -> None:
    """Compare the heads with the weights of their losses and with the augmentation.

    Raises:
        UserError: they do not go together; the sentence says which flags to change.
    """
    if loss.ctc_only_batches > 0 and not model.use_ctc:
        raise UserError(
            f"--ctc-only-batches {loss.ctc_only_batches} needs a CTC head.",
            "--use-ctc 1, or --ctc-only-batches 0.",
        )
    if model.use_cr_ctc and augment.enable_spec_aug:
        raise UserError(
            "--use-cr-ctc 1 masks two views of each utterance by itself: it takes no other masks.",
            "add --enable-spec-aug 0.",
        )
    if model.use_attention_decoder and not model.use_transducer:
        ctc, attention = loss.ctc_loss_scale, loss.attention_decoder_loss_scale
        if not math.isclose(ctc + attention, 1.0):
            raise UserError(
                f"--ctc-loss-scale {ctc:g} and --attention-decoder-loss-scale {attention:g} must "
                "add up to 1 in a model without transducer.",
                "for example --ctc-loss-scale 0.1 --attention-decoder-loss-scale 0.9.",
            )
