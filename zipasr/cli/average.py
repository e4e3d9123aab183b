"""Write the average of checkpoints as one file that every command and icefall can load."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zipasr.base.errors import UserError
from zipasr.base.files import sweep
from zipasr.checkpoint.averaging import LoadedWeights, read_chosen
from zipasr.checkpoint.checkpoint_file import save_checkpoint
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.model_file import kept_entries, stored_model, stored_tokenizer
from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.model_commands import AVERAGE
from zipasr.cli.recognition_commands import recognition_config
from zipasr.recognition.best_average import with_checkpoints
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.token_sources import check_table, check_vocab_size
from zipasr.text.tokenizer import PieceTokenizer, read_tokens


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``epoch-E-avg-A.pt`` or ``iter-I-avg-A.pt`` next to the checkpoints.

    Raises:
        UserError: --checkpoint was typed.
        DataError: --auto-avg, and there is no dev set.
        CheckpointError: checkpoints are missing, damaged, or not those of one model, or flags
            contradict them.
    """
    run = read(AVERAGE, argv)
    if (file := run[ChooseCheckpoint].checkpoint) is not None:
        raise UserError(f"--checkpoint {file}: one file has no average.", "leave --checkpoint out.")
    # What goes to stdout is the path alone.
    config = with_checkpoints(recognition_config(run), sys.stderr)
    choose, exp_dir = config.checkpoint, config.exp_dir
    sweep(exp_dir)
    path = exp_dir / f"{choose.name}.pt"
    chosen = read_chosen(exp_dir, choose)
    check_typed(chosen, config)
    save_checkpoint(path, {"model": chosen.weights, **kept_entries(chosen.checkpoint)})
    sys.stdout.write(f"{path}\n")
    return 0


def check_typed(chosen: LoadedWeights, config: RecognitionConfig) -> None:
    """Compare what is typed of the model with the checkpoints: its sizes, and its tokens.

    Raises:
        CheckpointError: they are those of another model.
        DataError: --tokens is missing or damaged.
    """
    table = config.tokens.tokens
    if not config.model_flags and table is None:
        return
    stored = stored_model(chosen, config.model_flags)
    if table is None:
        return
    if "tokenizer" in chosen.checkpoint:
        tokenizer = stored_tokenizer(chosen.checkpoint)
        check_table(config.tokens, tokenizer, chosen.path)
    tokenizer = PieceTokenizer(read_tokens(table))
    check_vocab_size(chosen.path, stored.vocab_size, tokenizer, config.tokens)
