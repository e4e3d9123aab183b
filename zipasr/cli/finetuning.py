"""train.py --finetune-ckpt: other defaults, and a model whose settings the file knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from zipasr.base.errors import CheckpointError, UserError
from zipasr.checkpoint.average import LoadedWeights, read_chosen
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.model_file import stored_model
from zipasr.cli.commands import LATTICE, TRAIN, read
from zipasr.cli.config import CorporaConfig
from zipasr.cli.flags import Run
from zipasr.cli.recognition_flags import token_source
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.encoder.registry import ENCODER_TYPES
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.recognition.token_sources import check_vocab_size, tokenizer_of
from zipasr.text.config import TokenizerConfig
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.config import FinetuneConfig, LossConfig, TrainConfig, check_heads


def read_training(argv: Sequence[str] | None) -> tuple[Run, Tokenizer | None]:
    """Read the flags of train.py and, for a fine-tuning, the settings of the model to begin with.

    Returns:
        The run, and the tokenizer to fine-tune with; None for a training from the beginning.

    Raises:
        UserError: flags are wrong, alone or together.
        CheckpointError: the file is missing or damaged, or flags contradict it.
        DataError: there is no tokenizer.
    """
    run = read(TRAIN, argv)
    if run[FinetuneConfig].finetune_ckpt is None:
        return _checked(run), None
    if not run.is_typed("finetune_ckpt"):
        raise UserError("--finetune-ckpt is typed on the command line, not set in a recipe.")
    run = _checked(run)
    file = ChooseCheckpoint(checkpoint=run[FinetuneConfig].finetune_ckpt)
    chosen = read_chosen(run[TrainConfig].exp_dir, file)
    free = chain(*(cls.free_on_resume for cls in ENCODER_TYPES.values()))
    stored = stored_model(chosen, run.typed, (*free, *ModelConfig.free_on_resume))
    if run[FinetuneConfig].finetune_tokenizer == "new":
        tokenizer = Tokenizer.from_file(run[TokenizerConfig].bpe_model)
    else:
        tokenizer = _kept_tokenizer(chosen, run)
        check_vocab_size(stored.path, stored.vocab_size, tokenizer, token_source(run))
    check_heads(stored.model, run[LossConfig], run[AugmentConfig])
    transducer = _with_lattice(run, chosen)
    return run.having(stored.zipformer, stored.model, transducer), tokenizer


def _with_lattice(run: Run, chosen: LoadedWeights) -> TransducerConfig:
    """Return the settings of the loss with the lattice of the file, unless one is typed."""
    stored = chosen.checkpoint.get("configs", {}).get("TransducerConfig", {}).get(LATTICE)
    config = run[TransducerConfig]
    return config if run.is_typed(LATTICE) or stored is None else replace(config, rnnt_type=stored)


def _checked(run: Run) -> Run:
    """Refuse flags that do not go together.

    Raises:
        UserError: so it is.
    """
    config, train = run[FinetuneConfig], run[TrainConfig]
    if config.use_mux and not run[DataConfig].extras:
        raise UserError(
            "--use-mux 1 mixes nothing in: there is no other corpus.",
            "add one, for example --extra-manifest original=data/fbank/cuts.jsonl.gz:0.5",
        )
    if run[CorporaConfig].use_multidataset and not run[DataConfig].extras:
        raise UserError(
            "--use-multidataset 1 trains on no other corpus: none is named.",
            "name them, for example --extra-manifest gigaspeech=PATH:0.5,commonvoice=PATH:0.2",
        )
    goes_on = train.start_epoch > 1 or train.start_batch > 0
    if config.do_finetune and train.start_epoch > 1:
        raise UserError(
            f"--do-finetune 1 begins anew, --start-epoch {train.start_epoch} goes on.",
            "leave --start-epoch out: the same command goes on where it was; or type "
            "--do-finetune 0.",
        )
    if config.finetune_ckpt is not None and not (config.do_finetune or goes_on):
        raise UserError(
            f"--finetune-ckpt {config.finetune_ckpt} is not used without --do-finetune 1.",
            "add --do-finetune 1.",
        )
    return run


def _kept_tokenizer(chosen: LoadedWeights, run: Run) -> Tokenizer:
    """Return the tokenizer of the file; one that is typed and is another one is refused."""
    try:
        return tokenizer_of(chosen, token_source(run))
    except CheckpointError as problem:
        raise CheckpointError(
            problem.what, f"{problem.fix.rstrip('.')}; or add --finetune-tokenizer new."
        ) from problem
