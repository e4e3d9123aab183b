"""train.py --finetune-ckpt: other defaults, and a model whose settings the file knows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from zipasr.base.config import add_flags, parse_bool
from zipasr.base.errors import CheckpointError, UserError
from zipasr.checkpoint.average import ChooseCheckpoint, LoadedWeights, read_chosen
from zipasr.checkpoint.model_file import stored_model
from zipasr.cli.commands import COMMANDS, TRAIN, CorporaConfig, read
from zipasr.cli.corpora_of_training import with_subset
from zipasr.cli.flags import Parser, Run, parse, tell_notes
from zipasr.cli.recognition_flags import token_source
from zipasr.data.augment import AugmentConfig
from zipasr.data.loaders import DataConfig
from zipasr.encoder.registry import ENCODER_TYPES
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import TransducerConfig
from zipasr.recognition.token_sources import check_vocab_size, tokenizer_of
from zipasr.text.tokenizer import Tokenizer, TokenizerConfig
from zipasr.training.config import FinetuneConfig, LossConfig, TrainConfig
from zipasr.training.finetune import check_heads

# A tenth of the usual learning rate, that hardly falls and begins at half of its height; and all
# losses from the first batch on: the model knows already where the tokens are.
DEFAULTS = {
    "base_lr": 0.0045,
    "lr_batches": 100_000.0,
    "lr_epochs": 100.0,
    "warmup_start": 0.5,
    "ctc_only_batches": 0,
}
# The lattice says what the weights mean: where they stand still and where they emit. A recipe's is
# for a training from the beginning; published models are of the usual one, which is the default.
LATTICE = "--rnnt-type"
FINETUNE = replace(
    TRAIN,
    configs=tuple(c for c in TRAIN.configs if c not in (*ENCODER_TYPES.values(), ModelConfig)),
    stored=(*ENCODER_TYPES.values(), ModelConfig),
    # The recipe's are for a training from the beginning.
    own=(*(name.replace("_", "-") for name in DEFAULTS), LATTICE[2:]),
    defaults=DEFAULTS,
    presets={},
)


def read_training(argv: Sequence[str] | None) -> tuple[Run, Tokenizer | None]:
    """Read the flags of train.py and, for a fine-tuning, the settings of the model to begin with.

    Returns:
        The run, and the tokenizer to fine-tune with; None for a training from the beginning.

    Raises:
        UserError: flags are wrong, alone or together.
        CheckpointError: the file is missing or damaged, or flags contradict it.
        DataError: there is no tokenizer.
    """
    if not _is_finetuning(argv):
        run = read(TRAIN, argv)
        if run[FinetuneConfig].finetune_ckpt is not None:
            raise UserError("--finetune-ckpt is typed on the command line, not set in a recipe.")
        return _checked(run), None
    run = _checked(read_finetuning(argv))
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
    transducer = _with_lattice(run[TransducerConfig], chosen, _words(argv))
    return run.having(stored.zipformer, stored.model, transducer), tokenizer


def read_finetuning(argv: Sequence[str] | None) -> Run:
    """Read the flags of a fine-tuning, without the file that it begins with.

    A recipe is for a training from the beginning, so its learning rates do not count; unless it
    says ``do-finetune`` itself.

    Raises:
        UserError: flags are wrong.
    """
    run = parse(FINETUNE, argv, COMMANDS)
    if parse_bool(str(run.recipe.flags.get("do-finetune", "0"))):
        run = parse(replace(FINETUNE, own=(LATTICE[2:],)), argv, COMMANDS)
    tell_notes(run)
    return with_subset(run, run[CorporaConfig].subset)


def _is_finetuning(argv: Sequence[str] | None) -> bool:
    """Say whether the model comes from a file: its flags are other ones then."""
    words = _words(argv)
    if {"-h", "--help"} & {*words}:
        return False
    first = Parser(prog=TRAIN.name, add_help=False, allow_abbrev=False)
    add_flags(first, FinetuneConfig)
    return first.parse_known_args(words)[0].finetune_ckpt is not None


def _words(argv: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if argv is None else argv)


def _with_lattice(
    config: TransducerConfig, chosen: LoadedWeights, words: Sequence[str]
) -> TransducerConfig:
    """Return the settings of the loss with the lattice of the file, unless one is typed."""
    stored = chosen.checkpoint.get("configs", {}).get("TransducerConfig", {}).get("rnnt_type")
    is_typed = any(word.partition("=")[0] == LATTICE for word in words)
    return config if is_typed or stored is None else replace(config, rnnt_type=stored)


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
