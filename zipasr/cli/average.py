"""Write the average of checkpoints as one file that every command and icefall can load."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zipasr.checkpoint.average import ChooseCheckpoint, averaged_model, last_file
from zipasr.checkpoint.files import load_checkpoint, save_checkpoint
from zipasr.cli.commands import AVERAGE, ExpConfig, read
from zipasr.cli.flags import guarded

KEPT = ("configs", "tokenizer", "vocab_size", "blank_id", "env_info")


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``epoch-E-avg-A.pt`` or ``iter-I-avg-A.pt`` next to the checkpoints."""
    run = read(AVERAGE, argv)
    choose, exp_dir = run[ChooseCheckpoint], run[ExpConfig].exp_dir
    start = f"iter-{choose.iter}" if choose.iter > 0 else f"epoch-{choose.epoch}"
    path = exp_dir / f"{start}-avg-{choose.avg}.pt"
    last = load_checkpoint(last_file(exp_dir, choose))
    about = {name: last[name] for name in KEPT if name in last}
    save_checkpoint(path, {"model": averaged_model(exp_dir, choose), **about})
    sys.stdout.write(f"{path}\n")
    return 0
