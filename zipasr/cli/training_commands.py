"""Commands that train: train.py, from the beginning or from a model in a file, and train_lm.py."""

from __future__ import annotations

from dataclasses import replace

from zipasr.base.config import parse_bool
from zipasr.base.recipe import Recipe
from zipasr.cli.config import RETURN_CUTS, STORED, CorporaConfig
from zipasr.cli.flags import Command, Typed, names
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.encoder.registry import DEFAULT_ENCODER, ENCODER_TYPES
from zipasr.lm.config import LM_SIZES, NgramConfig
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.optim.config import IMPLIED, IMPLIED_FOR_FINETUNING, EdenConfig, OptimizerConfig
from zipasr.text.config import TokenizerConfig
from zipasr.training.config import FinetuneConfig, LmTrainConfig, LossConfig, TrainConfig

TRAINING_CONFIGS = (
    TrainConfig,
    FinetuneConfig,
    LossConfig,
    TransducerConfig,
    EdenConfig,
    OptimizerConfig,
    DEFAULT_ENCODER,
    ModelConfig,
    TokenizerConfig,
    DataConfig,
    AugmentConfig,
    CorporaConfig,
)

# A tenth of the usual learning rate, that hardly falls and begins at half of its height; and all
# losses from the first batch on: the model knows already where the tokens are.
FINETUNE_DEFAULTS = {
    "base_lr": 0.0045,
    "lr_batches": 100_000.0,
    "lr_epochs": 100.0,
    "warmup_start": 0.5,
    "ctc_only_batches": 0,
}

# The lattice says what the weights mean: where they stand still and where they emit. A recipe's is
# for a training from the beginning; published models are of the usual one, which is the default.
LATTICE = "rnnt_type"

# What only the other schedule reads.
_EDEN_ALONE = dict.fromkeys(
    ("--lr-batches", "--lr-epochs"), "the learning rate of --optimizer rubik falls over all epochs"
)

_COSINE_ALONE = {"--batches-per-epoch": "only the schedule of --optimizer rubik counts with it"}

_IDLE = {"rubik": _EDEN_ALONE, "scaled_adam": _COSINE_ALONE, "scaled_adam_v1": _COSINE_ALONE}

_TRAIN = Command(
    "train.py",
    "Train a transducer or a CTC model; the same command, given again, continues an interrupted "
    "run.",
    TRAINING_CONFIGS,
    "train:main",
    examples=(
        ("./train.py --recipe espeak", "the embedded corpus, after ./prepare.sh"),
        ("./train.py --recipe librispeech --world-size 4 --use-fp16 1", "on four GPUs"),
        (
            "./train.py --recipe espeak --dry-run 1",
            "time and memory of a run; nothing is written",
        ),
    ),
    basic=names(
        "recipe exp_dir world_size num_epochs max_duration gpu_memory base_lr use_fp16 preset "
        "causal finetune_ckpt dry_run"
    ),
    without_effect=RETURN_CUTS,
    presets=DEFAULT_ENCODER.presets(),
    encoders=ENCODER_TYPES,
    implied={"optimizer": IMPLIED},
    idle={"optimizer": _IDLE},
)

FINETUNE = replace(
    _TRAIN,
    configs=tuple(config for config in TRAINING_CONFIGS if config not in STORED),
    stored=STORED,
    # The recipe's are for a training from the beginning.
    own=(
        *(name.replace("_", "-") for name in FINETUNE_DEFAULTS),
        "optimizer",
        LATTICE.replace("_", "-"),
    ),
    defaults=FINETUNE_DEFAULTS,
    presets={},
    implied={"optimizer": IMPLIED_FOR_FINETUNING},
)


def _training(typed: Typed, recipe: Recipe) -> Command:
    """Choose between a training from the beginning and one of a model in a file.

    A recipe is for the former, so its learning rates do not count for the latter; unless it says
    ``do-finetune`` itself.
    """
    if typed.get("finetune_ckpt") is None:
        return TRAIN
    if parse_bool(str(recipe.flags.get("do-finetune", "0"))):
        return replace(FINETUNE, own=(LATTICE.replace("_", "-"),))
    return FINETUNE


TRAIN = replace(_TRAIN, variants=(FINETUNE,), choose=_training)

TRAIN_LM = Command(
    "train_lm.py",
    "Train a language model for the search: a recurrent one, a transformer, or an n-gram.",
    (LmTrainConfig, *LM_SIZES.values(), NgramConfig, TokenizerConfig),
    "train_lm:main",
    examples=(
        ("./train_lm.py --recipe espeak", "a recurrent model on data/espeak/lm"),
        ("./train_lm.py --recipe espeak --lm-type ngram --ngram-order 3", "token trigrams"),
        ("./train_lm.py --recipe espeak --lm-type transformer --lm-data text.txt", "own text"),
    ),
    basic=names(
        "recipe lm_type exp_dir lm_data lm_data_valid num_epochs batch_size lr "
        "ngram_order ngram_unit bpe_model"
    ),
    own=("exp-dir", "num-epochs", "save-every-n", "seed"),
)
