"""Write the average of checkpoints as one file that every command and icefall can load."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zipasr.base.errors import UserError
from zipasr.checkpoint.average import ChooseCheckpoint, read_chosen
from zipasr.checkpoint.files import save_checkpoint
from zipasr.checkpoint.stored import plain_flags
from zipasr.cli.commands import AVERAGE, ExpConfig, read
from zipasr.cli.flags import guarded

# What a model needs beside its weights; icefall's flags are kept too, under their own names.
KEPT = ("configs", "tokenizer", "vocab_size", "blank_id", "env_info")


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``epoch-E-avg-A.pt`` or ``iter-I-avg-A.pt`` next to the checkpoints.

    Raises:
        UserError: --checkpoint was typed.
        CheckpointError: checkpoints are missing, damaged, or not those of one model.
    """
    run = read(AVERAGE, argv)
    choose, exp_dir = run[ChooseCheckpoint], run[ExpConfig].exp_dir
    if choose.checkpoint is not None:
        raise UserError(
            f"--checkpoint {choose.checkpoint}: one file has no average.", "leave --checkpoint out."
        )
    start = f"iter-{choose.iter}" if choose.iter > 0 else f"epoch-{choose.epoch}"
    path = exp_dir / f"{start}-avg-{choose.avg}.pt"
    chosen = read_chosen(exp_dir, choose)
    kept = (*KEPT, *plain_flags(chosen.checkpoint))
    about = {name: chosen.checkpoint[name] for name in kept if name in chosen.checkpoint}
    save_checkpoint(path, {"model": chosen.weights, **about})
    sys.stdout.write(f"{path}\n")
    return 0
