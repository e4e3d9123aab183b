"""Commands of the stages of prepare.sh, and the import before them."""

from __future__ import annotations

from pathlib import Path

from zipasr.base.config import Flag
from zipasr.cli.flags import Command, names
from zipasr.corpora.config import CorpusConfig, DownloadConfig, ImportConfig, PlaceConfig
from zipasr.data.config import DataConfig, FbankConfig
from zipasr.model.config import ModelConfig
from zipasr.text.config import BpeConfig, TokenizerConfig

DOWNLOAD = Command(
    "download_corpus",
    "Stage 0 of prepare.sh: download, check and unpack a published corpus.",
    (PlaceConfig, DownloadConfig),
    "prepare:download",
    examples=(
        ("./prepare.sh --recipe librispeech --stage 0", "download LibriSpeech, and prepare it"),
        ("./prepare.sh --recipe librispeech --mini-libri 1 --stage 0", "5 h of it"),
        ("./prepare.sh --recipe librispeech --stage 0 --dry-run", "what that would take"),
    ),
    basic=names("recipe full_libri mini_libri dl_dir mirror keep_archives"),
)

CORPUS = Command(
    "prepare_corpus",
    "Stage 1 of prepare.sh: write the manifests of a corpus.",
    (CorpusConfig, PlaceConfig),
    "prepare:make_manifests",
    examples=(
        ("./prepare.sh --recipe espeak --stage 1 --stop-stage 1", "synthesise the corpus"),
        ("./prepare.sh --recipe librispeech --dl-dir /data", "a corpus that is there already"),
    ),
    basic=names("recipe audio_dir dl_dir giga_dir num_jobs"),
)

FBANK = Command(
    "compute_fbank",
    "Stage 2 of prepare.sh: compute features.",
    (FbankConfig,),
    "prepare:compute_features",
    examples=(
        ("./prepare.sh --recipe espeak --stage 2 --stop-stage 2", "features of the recipe"),
        ("python -m local.compute_fbank --recipe NAME --perturb-speed 1", "three speeds"),
        ("python -m local.compute_fbank --recipe NAME --storage shar", "for a large corpus"),
    ),
    basic=names("recipe num_jobs perturb_speed check_audio storage executor"),
)

BPE = Command(
    "train_bpe",
    "Stage 3 of prepare.sh: train the tokenizer on the training transcripts.",
    (BpeConfig, PlaceConfig),
    "prepare:train_tokenizer",
    examples=(
        ("./prepare.sh --recipe espeak --stage 3 --stop-stage 3", "tokenizer of the recipe"),
        ("./prepare.sh --recipe espeak --stage 3 --vocab-size 100", "a smaller vocabulary"),
        ("./prepare.sh --recipe my --stage 3 --unit char", "characters"),
    ),
    basic=names("recipe unit lang_dir vocab_size dl_dir"),
)

VALIDATE = Command(
    "validate_data",
    "Stage 4 of prepare.sh: check manifests and features, report hours, what training would drop, "
    "and why.",
    (DataConfig, TokenizerConfig, ModelConfig),
    "prepare:validate",
    examples=(
        ("python -m local.validate_data --recipe espeak", "check the data of the recipe"),
        ("python -m local.validate_data --recipe NAME --max-cut-duration 30", "longer utterances"),
    ),
    basic=names("recipe manifest_dir bpe_model min_cut_duration max_cut_duration"),
)

LM_TEXT = Command(
    "prepare_lm_text",
    "Stage 5 of prepare.sh: write the text that language models are trained on.",
    (PlaceConfig,),
    "prepare:write_lm_text",
    examples=(("./prepare.sh --recipe librispeech --stage 5", "normalised text in data/NAME/lm"),),
    basic=names("recipe dl_dir"),
)

IMPORT = Command(
    "import_corpus",
    "Before stage 1: examine a corpus of your own and write a recipe for it.",
    (ImportConfig,),
    "import_corpus:main",
    examples=(
        ("./prepare.sh --recipe my --from table.tsv", "a table with the columns audio and text"),
        ("./prepare.sh --recipe my --from speech/", "sound files with .txt files beside them"),
    ),
    basic=names("recipe from encoding normalise unit max_bad num_jobs"),
    extra=(
        Flag(
            "from",
            Path,
            None,
            "table, folder, Kaldi data directory, or folder of lhotse manifests",
            "Import of a corpus",
        ),
    ),
    recipe="made",
)
