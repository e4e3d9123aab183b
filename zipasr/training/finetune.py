"""What a fine-tuning begins with, and what of it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zipasr.base.config import flag, flag_name


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
