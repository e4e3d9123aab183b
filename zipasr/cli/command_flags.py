"""Table of the commands: their flags, examples, and flags that are refused until they are built."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

from zipasr.base.config import Flag, flag_name, parse_bool, unknown_value
from zipasr.base.errors import UserError
from zipasr.base.log import is_first
from zipasr.base.recipe import NO_RECIPE, Recipe
from zipasr.checkpoint.config import ChooseCheckpoint, ExpConfig
from zipasr.cli.config import (
    AcceptedConfig,
    CorporaConfig,
    InfoConfig,
    PretrainedConfig,
    TranscribeConfig,
)
from zipasr.cli.flags import (
    CHECKPOINT_CHOICES,
    Command,
    Run,
    Typed,
    not_yet,
    read_words,
    resolve,
    settings_of,
    settled,
)
from zipasr.cli.help import config_text, long_help, meanings_text, short_help
from zipasr.cli.mixing_flags import with_heads_of_corpora, with_subset
from zipasr.cli.recipes import RECIPE_FLAGS, load_chosen, recipe_flags_in
from zipasr.cli.verbs import as_typed
from zipasr.corpora.config import CorpusConfig, DownloadConfig, ImportConfig, PlaceConfig
from zipasr.data.config import AugmentConfig, DataConfig, FbankConfig
from zipasr.encoder.protocol import EncoderConfig
from zipasr.encoder.registry import DEFAULT_ENCODER, ENCODER_TYPES
from zipasr.exporting.config import ExportConfig
from zipasr.lm.config import LM_SIZES, GrammarConfig, LmConfig, NgramConfig
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.optim.config import IMPLIED, IMPLIED_FOR_FINETUNING, EdenConfig, OptimizerConfig
from zipasr.recognition.config import (
    ConfidenceConfig,
    EndpointConfig,
    LongFormConfig,
    ModelFileConfig,
    StreamingConfig,
    SweepConfig,
    TestSetsConfig,
)
from zipasr.scoring.config import ReportConfig
from zipasr.search.config import DecodingConfig, HotWordsConfig, LatticeConfig
from zipasr.text.config import BpeConfig, TokenizerConfig, TokenTableConfig
from zipasr.training.config import (
    FinetuneConfig,
    LmTrainConfig,
    LossConfig,
    TrainConfig,
    check_heads,
    check_pauses,
    check_sound,
)

# What helps a search beside the model.
AIDS = (LatticeConfig, HotWordsConfig, LmConfig, GrammarConfig, *LM_SIZES.values())

# Flags of published commands that change nothing, and why; it is said when one is typed.
_RETURN_CUTS = {"--return-cuts": "a batch always carries the ids of its cuts"}
_LM_WITHOUT_EFFECT = {
    "--use-shallow-fusion": "--decoding-method says whether a language model takes part",
    "--backoff-id": "an ARPA file needs no number for its back-off arcs",
}
SEARCH_WITHOUT_EFFECT = {
    **_LM_WITHOUT_EFFECT,
    **_RETURN_CUTS,
    **dict.fromkeys(
        (flag_name(field.name) for field in fields(AugmentConfig)),
        "noise and masks are for training alone",
    ),
    **dict.fromkeys(
        (
            "--bucketing-sampler",
            "--num-buckets",
            "--concatenate-cuts",
            "--duration-factor",
            "--gap",
            "--shuffle",
            "--drop-last",
            "--min-cut-duration",
            "--max-cut-duration",
            "--extra-manifest",
            "--giga-prob",
            "--giga-subset",
        ),
        "every utterance of a test set is decoded once, as it is",
    ),
}
_AVERAGE_WITHOUT_EFFECT = dict.fromkeys(
    [flag_name(name) for cls in ENCODER_TYPES.values() for name in cls.free_when_decoding],
    "it is chosen when the average is used",
)

# What no export has, with what there is instead.
_EXPORT_LATER = {
    "--dynamic-batch": ("1", not_yet("files take any number of streams, one too")),
    "--use-external-data": (
        "0",
        not_yet("onnx.save of a file with save_as_external_data=True puts its weights aside"),
    ),
    "--use-whisper-features": (
        "0",
        not_yet("models here hear log-mel features of 80 bands, from ./prepare.sh --stage 2"),
    ),
}

_NO_GRAPHS = (
    "{flag}: graphs of other programs are not read; leave it out, and give the lexicon in "
    "--lang-dir and --grammar, an ARPA file, with --method 1best."
)

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
STORED = (*ENCODER_TYPES.values(), ModelConfig)

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
    "Train a transducer or a CTC model on a prepared corpus. The same command, given again, "
    "continues an interrupted run.",
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
    basic=(
        "recipe",
        "exp_dir",
        "world_size",
        "num_epochs",
        "max_duration",
        "base_lr",
        "use_fp16",
        "preset",
        "encoder_type",
        "causal",
        "use_transducer",
        "use_ctc",
        "bpe_model",
        "finetune_ckpt",
        "dry_run",
    ),
    without_effect=_RETURN_CUTS,
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
    own=(*(name.replace("_", "-") for name in FINETUNE_DEFAULTS), LATTICE.replace("_", "-")),
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

_DECODE_BASIC = (
    "recipe",
    "exp_dir",
    "epoch",
    "avg",
    "auto_avg",
    "checkpoint",
    "decoding_method",
    "beam_size",
    "context_file",
    "lm_exp_dir",
    "test_sets",
    "max_duration",
    "chunk_size",
    "left_context_frames",
)
DECODE = Command(
    "decode.py",
    "Transcribe the test sets of a recipe and report word error rates.",
    (
        ExpConfig,
        ChooseCheckpoint,
        DecodingConfig,
        *AIDS,
        SweepConfig,
        TestSetsConfig,
        ConfidenceConfig,
        TokenizerConfig,
        DataConfig,
        AugmentConfig,
        AcceptedConfig,
    ),
    "decode:main",
    examples=(
        ("./decode.py --recipe espeak", "the last epoch, averaged, by greedy search"),
        ("./decode.py --recipe espeak --decoding-method modified_beam_search", "by beam search"),
        ("./decode.py --recipe espeak --auto-avg 1", "choose the average on the dev set first"),
    ),
    basic=(*_DECODE_BASIC, "methods"),
    without_effect={
        **SEARCH_WITHOUT_EFFECT,
        "--attention-decoder-loss-scale": "it is a weight in training",
        "--max-len": "utterances are decoded at their own length",
    },
    stored=STORED,
    encoders=ENCODER_TYPES,
    own=("lm-scale",),
)
CTC_DECODE = replace(
    DECODE,
    name="ctc_decode.py",
    about="Transcribe the test sets through the CTC head and report word error rates.",
    main="ctc_decode:main",
    examples=(
        ("./ctc_decode.py --recipe espeak", "the last epoch, averaged, by greedy search"),
        ("./ctc_decode.py --recipe espeak --decoding-method 1best", "with lexicon and word n-gram"),
        ("./ctc_decode.py --recipe espeak --auto-avg 1", "choose the average on the dev set first"),
    ),
    defaults={
        "decoding_method": "ctc-decoding",
        "context_score": 0.0,
        "lm_scale": 0.0,
        "ngram_lm_scale": 0.0,
        "num_paths": 100,
        "nbest_scale": 1.0,
    },
    spellings={
        "--nnlm-type": "--lm-type",
        "--nnlm-scale": "--lm-scale",
        "--lodr-ngram": "--ngram-lm",
        "--lodr-lm-scale": "--ngram-lm-scale",
    },
)
STREAMING_DECODE = replace(
    DECODE,
    name="streaming_decode.py",
    about="Transcribe the test sets chunk by chunk with a causal model; report error rates and "
    "latency.",
    configs=(
        *(c for c in DECODE.configs if c not in (SweepConfig, ConfidenceConfig)),
        StreamingConfig,
    ),
    main="streaming_decode:main",
    examples=(
        ("./streaming_decode.py --recipe NAME --chunk-size 16", "chunks of 320 ms"),
        ("./streaming_decode.py --recipe NAME --chunk-size 32", "chunks of 640 ms"),
        ("./streaming_decode.py --recipe NAME --decoding-method modified_beam_search", "by beam"),
    ),
    basic=(*_DECODE_BASIC, "num_decode_streams"),
    defaults={"beam": 4.0, "max_contexts": 4, "max_states": 32},
    spellings={"--num_active_paths": "--beam-size"},
)


def _with_search(command: Command) -> Command:
    """Return a command that does not decode itself, with the flags of a search for --auto-avg."""
    searching = (c for c in DECODE.configs if c not in (AcceptedConfig, ConfidenceConfig))
    search = replace(
        command,
        configs=tuple(dict.fromkeys((*command.configs, *searching))),
        stored=DECODE.stored,
        encoders=DECODE.encoders,
        own=DECODE.own,
        without_effect=SEARCH_WITHOUT_EFFECT,
    )

    def choose(typed: Typed, recipe: Recipe) -> Command:
        of_recipe = parse_bool(str(recipe.flags.get("auto-avg", "0")))
        is_chosen = any(typed.get(name) for name in CHECKPOINT_CHOICES)
        return search if "auto_avg" in typed or (of_recipe and not is_chosen) else command

    return replace(command, variants=(search,), choose=choose)


AVERAGE = _with_search(
    Command(
        "average.py",
        "Write the average of checkpoints as one file.",
        (ExpConfig, ChooseCheckpoint, TokenTableConfig),
        "average:main",
        examples=(
            ("./average.py --recipe espeak", "as the recipe says"),
            ("./average.py --recipe espeak --epoch 10 --avg 3", "epochs 8 to 10"),
            ("./average.py --recipe espeak --auto-avg 1", "what is best on the dev set"),
        ),
        basic=(
            "recipe",
            "exp_dir",
            "epoch",
            "iter",
            "avg",
            "use_averaged_model",
            "auto_avg",
            "tokens",
        ),
        stored=STORED,
        encoders=ENCODER_TYPES,
        defaults={"avg": 9},
        without_effect=_AVERAGE_WITHOUT_EFFECT,
    )
)
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
    basic=("recipe", "full_libri", "mini_libri", "dl_dir", "mirror", "keep_archives"),
)
REPORT = Command(
    "report.py",
    "Write the report on the decodings of a training run, or compare it with another run.",
    (ExpConfig, ReportConfig),
    "report:main",
    examples=(
        ("./report.py --recipe espeak", "report.html and report.md in the folder of the run"),
        ("./report.py --exp-dir exp/b --compare-with exp/a", "what b recognises better than a"),
        (
            "./report.py --exp-dir exp/a --watch 10",
            "of a run in training: a page that reloads",
        ),
        ("./report.py --exp-dir exp/a --embed-audio-mb 0", "without speech in the page"),
    ),
    basic=("recipe", "exp_dir", "compare_with", "watch", "embed_audio_mb"),
    recipe="optional",
)
DOCTOR = Command(
    "doctor.py",
    "Examine this machine: versions, memory, disk, GPU, compilers, decoders, a self-test.",
    (),
    "doctor:main",
    examples=(("./doctor.py", "what is there, what is missing, and what to do about it"),),
    recipe="optional",
)
INFO = Command(
    "info.py",
    "Tell what a checkpoint, a run or an exported model is, and how it was made.",
    (InfoConfig,),
    "info:main",
    examples=(
        ("./info.py exp/espeak", "the last checkpoint of a run, and what it was trained on"),
        ("./info.py pretrained.pt exp/my/onnx", "a file, and a folder of export.py"),
        ("./info.py exp/espeak/epoch-11.pt --json 1", "all settings, for programs"),
    ),
    operands=("FILE", "checkpoints, ONNX files, and folders of runs or of export.py"),
    recipe="optional",
)
TRANSCRIBE = Command(
    "transcribe.py",
    "Transcribe recordings of any length.",
    (
        ExpConfig,
        ChooseCheckpoint,
        ModelFileConfig,
        DecodingConfig,
        *AIDS,
        TokenizerConfig,
        TokenTableConfig,
        TranscribeConfig,
        EndpointConfig,
        LongFormConfig,
        PretrainedConfig,
    ),
    "transcribe:main",
    examples=(
        ("./transcribe.py --exp-dir exp/espeak talk.mp3", "print what is said"),
        ("./transcribe.py --exp-dir exp/espeak --format srt,json --output-dir out *.wav", "files"),
        ("./transcribe.py --checkpoint pretrained.pt --tokens tokens.txt a.wav", "published model"),
    ),
    basic=(
        "recipe",
        "exp_dir",
        "epoch",
        "avg",
        "checkpoint",
        "tokens",
        "model",
        "decoding_method",
        "context_file",
        "format",
        "output_dir",
        "streaming",
        "window",
        "align",
    ),
    refused=dict.fromkeys(("--HLG", "--G", "--H", "--HL"), ("", _NO_GRAPHS)),
    spellings={
        "--method": "--decoding-method",
        "--nn-model": "--nn-model-filename",
        "--model-filename": "--nn-model-filename",
        "--jit-filename": "--nn-model-filename",
    },
    without_effect=_LM_WITHOUT_EFFECT
    | {"--words-file": "the words of searches over words are those of --lang-dir"},
    stored=STORED,
    encoders=ENCODER_TYPES,
    own=("lm-scale",),
    operands=(
        "FILE",
        "audio files: WAV, FLAC, OGG, MP3, and whatever ffmpeg reads if it is installed; - reads "
        "raw audio from the standard input (16 kHz, 16 bit, one channel)",
    ),
    recipe="optional",
)
#: What ``zipasr.load_model`` takes: the flags of transcribe.py that are about the model.
LOAD_MODEL = replace(
    TRANSCRIBE,
    name="load_model",
    configs=tuple(
        cls
        for cls in TRANSCRIBE.configs
        if cls not in (ModelFileConfig, TranscribeConfig, EndpointConfig, PretrainedConfig)
    ),
    operands=(),
    spellings={},
)
EXPORT = _with_search(
    Command(
        "export.py",
        "Export a trained model: averaged weights, TorchScript, and ONNX as sherpa-onnx reads it.",
        (
            ExpConfig,
            ChooseCheckpoint,
            ExportConfig,
            LmConfig,
            *LM_SIZES.values(),
            TokenizerConfig,
            TokenTableConfig,
            DataConfig,
        ),
        "export:main",
        examples=(
            ("./export.py --recipe espeak", "pretrained.pt and ONNX files"),
            ("./export.py --recipe espeak --format torchscript", "TorchScript"),
            ("./export.py --recipe espeak --fp16 1 --chunk-size 32", "half precision as well"),
        ),
        basic=(
            "recipe",
            "exp_dir",
            "epoch",
            "avg",
            "auto_avg",
            "checkpoint",
            "tokens",
            "format",
            "enable_int8_quantization",
            "fp16",
            "output_dir",
            "chunk_size",
            "left_context_frames",
        ),
        defaults={"avg": 9},
        own=("lm-scale",),
        stored=STORED,
        encoders=ENCODER_TYPES,
        refused=_EXPORT_LATER,
        without_effect=_LM_WITHOUT_EFFECT | _RETURN_CUTS,
    )
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
    basic=("recipe", "audio_dir", "dl_dir", "giga_dir", "num_jobs"),
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
    basic=("recipe", "num_jobs", "perturb_speed", "check_audio", "storage", "executor"),
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
    basic=("recipe", "unit", "lang_dir", "vocab_size", "dl_dir"),
)
VALIDATE = Command(
    "validate_data",
    "Stage 4 of prepare.sh: check manifests and features, report what training would drop and why.",
    (DataConfig, TokenizerConfig, ModelConfig),
    "prepare:validate",
    examples=(
        ("./prepare.sh --recipe espeak --stage 4", "check the data of the recipe"),
        ("python -m local.validate_data --recipe NAME --max-cut-duration 30", "longer utterances"),
    ),
    basic=("recipe", "manifest_dir", "bpe_model", "min_cut_duration", "max_cut_duration"),
)
LM_TEXT = Command(
    "prepare_lm_text",
    "Stage 5 of prepare.sh: write the text that language models are trained on.",
    (PlaceConfig,),
    "prepare:write_lm_text",
    examples=(("./prepare.sh --recipe librispeech --stage 5", "normalised text in data/NAME/lm"),),
    basic=("recipe", "dl_dir"),
)
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
    basic=(
        "recipe",
        "lm_type",
        "exp_dir",
        "lm_data",
        "lm_data_valid",
        "num_epochs",
        "batch_size",
        "lr",
        "ngram_order",
        "ngram_unit",
        "bpe_model",
    ),
    own=("exp-dir", "num-epochs", "seed"),
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
    basic=("recipe", "from", "encoding", "normalise", "unit", "max_bad", "num_jobs"),
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
COMMANDS = (
    TRAIN,
    TRAIN_LM,
    DECODE,
    CTC_DECODE,
    STREAMING_DECODE,
    AVERAGE,
    REPORT,
    DOCTOR,
    INFO,
    TRANSCRIBE,
    EXPORT,
    DOWNLOAD,
    CORPUS,
    FBANK,
    BPE,
    VALIDATE,
    LM_TEXT,
)


def encoder_config(run: Run) -> EncoderConfig:
    """Return the settings of the encoder that ``--encoder-type`` chose."""
    config: EncoderConfig = next(run[cls] for cls in ENCODER_TYPES.values() if cls in run.values)
    return config


def read(command: Command, argv: Sequence[str] | None, *, tells: bool = True) -> Run:
    """Read the command line of ``command``; see ``flags.resolve``.

    Args:
        command: whose flags are read.
        argv: the words after the command's name; None reads the process's own.
        tells: say on the error stream, once per machine, which typed flags have no effect.

    Raises:
        UserError: flags are wrong, alone or together.
        SystemExit: help or settings were asked for, and are printed.
    """
    typed = read_typed(command, list(sys.argv[1:] if argv is None else argv))
    is_made = command.recipe == "made"
    recipe = NO_RECIPE if is_made else load_chosen(typed, is_needed=command.recipe == "needed")
    run = resolve(command, typed, recipe, COMMANDS)
    if TrainConfig in run.values:
        run = with_subset(run, run[CorporaConfig].subset)
    if TrainConfig in run.values and ModelConfig in run.values:
        run = with_heads_of_corpora(run)
        check_heads(run[ModelConfig], run[LossConfig], run[AugmentConfig])
        check_sound(run[AugmentConfig], run[DataConfig])
        check_pauses(run[TrainConfig], run[AugmentConfig])
    if "print_config" in typed:
        _print_and_end(config_text(run))
    if command.operands and not run.operands:
        raise UserError(f"{command.name}: the following arguments are required: FILE.")
    if tells and is_first():
        sys.stderr.write("".join(f"{line}\n" for line in run.notes))
    return run


def read_typed(command: Command, words: Sequence[str]) -> dict[str, Any]:
    """Return the values of the flags that are typed, by field; see ``flags.read_words``.

    Raises:
        UserError: a flag is unknown, or a value is none that it takes.
        SystemExit: help was asked for, and is printed.
    """
    if HELP & {*words}:
        _print_and_end(_help(command, words))
    typed = read_words(command, words)
    for one in command.flags:
        if one.meanings and one.field in typed and typed[one.field] not in one.meanings:
            if typed[one.field] == "help":
                _print_and_end(meanings_text(one))
            more = f"./decode.py {one.name} help"
            raise unknown_value(one.name, typed[one.field], one.meanings, more)
    return typed


HELP = {"-h", "--help", "--help-all"}


def _help(command: Command, words: Sequence[str]) -> str:
    """Return the help for the encoder and the recipe that are typed, right or wrong."""
    try:
        typed = read_words(command, [word for word in words if word not in HELP])
    except UserError:
        typed = recipe_flags_in(words)
    chosen, recipe = None, NO_RECIPE
    try:
        if {flag_name(name) for name in typed} & RECIPE_FLAGS:
            recipe = load_chosen(typed, is_needed=True)
            chosen = recipe.name
        settings = settings_of(settled(command, typed, recipe), {}, recipe, COMMANDS)
    except UserError:
        chosen, recipe = None, NO_RECIPE
        settings = settings_of(settled(command, typed, recipe), {}, recipe, COMMANDS)
    text = long_help if "--help-all" in words else short_help
    return text(settled(command, typed, recipe), settings, chosen)


def _print_and_end(text: str) -> NoReturn:
    sys.stdout.write(as_typed(text))
    raise SystemExit(0)
