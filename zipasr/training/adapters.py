"""Which parts of a model are trained: all, all but frozen ones, or adapters alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import nn

from zipasr.base.errors import UserError, nearest
from zipasr.checkpoint.init_from import begins_anew
from zipasr.nn.lora import add_adapter, is_adapter, plain_name
from zipasr.optim.param_groups import is_named
from zipasr.training.finetune import FinetuneConfig

# Where most of the weights of an encoder layer are.
USUAL_LAYERS = tuple(
    f"*{part}*.{proj}" for part in ("self_attn", "feed_forward") for proj in ("in_proj", "out_proj")
)


def adapt(model: nn.Module, config: FinetuneConfig) -> None:
    """Add the adapters that are asked for, and switch off the gradients of the rest.

    What begins anew, for want of weights in the file, is trained as a whole.

    Raises:
        UserError: --lora-modules names no linear layer.
    """
    if config.lora_rank == 0:
        return
    alpha = config.lora_rank if config.lora_alpha is None else config.lora_alpha
    chosen = _linear_layers(model, config.lora_modules)
    for name in chosen:
        add_adapter(model.get_submodule(name), config.lora_rank, alpha / config.lora_rank)
    new_tokens = config.finetune_tokenizer == "new"
    for name, parameter in model.named_parameters():
        is_new = begins_anew(plain_name(name), config.init_modules, new_tokens=new_tokens)
        parameter.requires_grad_(is_new or is_adapter(name))
    logging.info("adapters of rank %d on %d linear layers", config.lora_rank, len(chosen))


def _linear_layers(model: nn.Module, patterns: Sequence[str] | None) -> list[str]:
    """Return the names of the layers whose weight is a matrix and whom a pattern names."""
    matrices = [
        name.removesuffix(".weight")
        for name, parameter in model.named_parameters()
        if name.endswith(".weight") and parameter.dim() == 2 and "embed" not in name
    ]
    for pattern in patterns or ():
        if not any(is_named(name, pattern) for name in matrices):
            raise UserError(
                f"--lora-modules {pattern}: the model has no such linear layer.",
                nearest(pattern, matrices) or f"one is {matrices[0]}.",
            )
    wanted = patterns or USUAL_LAYERS
    return [name for name in matrices if any(is_named(name, pattern) for pattern in wanted)]
