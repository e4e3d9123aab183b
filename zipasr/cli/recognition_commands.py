"""Commands that recognise (decode.py and its kin, transcribe.py); from their flags to settings."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zipasr.base.config import flag_name
from zipasr.checkpoint.config import ChooseCheckpoint, ExpConfig
from zipasr.cli.config import (
    LM_WITHOUT_EFFECT,
    RETURN_CUTS,
    STORED,
    AcceptedConfig,
    PretrainedConfig,
    TranscribeConfig,
)
from zipasr.cli.flags import Command, Run, names
from zipasr.cli.recipes import data_dir, lm_dir
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.encoder.registry import ENCODER_TYPES
from zipasr.lm.config import LM_SIZES, GrammarConfig, LmConfig
from zipasr.recognition.config import (
    ConfidenceConfig,
    EndpointConfig,
    EvaluationData,
    LongFormConfig,
    ModelFileConfig,
    RecognitionConfig,
    StreamingConfig,
    SweepConfig,
    TestSetsConfig,
    TokenSource,
)
from zipasr.search.config import DecodingConfig, HotWordsConfig, LatticeConfig
from zipasr.text.config import TokenizerConfig, TokenTableConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# What helps a search beside the model.
AIDS = (LatticeConfig, HotWordsConfig, LmConfig, GrammarConfig, *LM_SIZES.values())

# Flags of published commands that change nothing here, and why.
SEARCH_WITHOUT_EFFECT = {
    **LM_WITHOUT_EFFECT,
    **RETURN_CUTS,
    **dict.fromkeys(
        (flag_name(field.name) for field in fields(AugmentConfig)),
        "noise and masks are for training alone",
    ),
    **dict.fromkeys(
        names(
            "--bucketing-sampler --num-buckets --concatenate-cuts --duration-factor --gap "
            "--shuffle --drop-last --min-cut-duration --max-cut-duration --extra-manifest "
            "--giga-prob --giga-subset"
        ),
        "every utterance of a test set is decoded once, as it is",
    ),
}

_NO_GRAPHS = (
    "{flag}: graphs of other programs are not read; leave it out, and give the lexicon in "
    "--lang-dir and --grammar, an ARPA file, with --method 1best."
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
    basic=names(
        "recipe exp_dir epoch avg auto_avg checkpoint decoding_method beam_size "
        "context_file lm_exp_dir test_sets methods"
    ),
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
    main="decode:ctc",
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
    main="decode:streaming",
    examples=(
        ("./streaming_decode.py --recipe NAME --chunk-size 16", "chunks of 320 ms"),
        ("./streaming_decode.py --recipe NAME --chunk-size 32", "chunks of 640 ms"),
        ("./streaming_decode.py --recipe NAME --decoding-method modified_beam_search", "by beam"),
    ),
    basic=names(
        "recipe exp_dir epoch avg checkpoint decoding_method beam_size "
        "chunk_size left_context_frames num_decode_streams"
    ),
    defaults={"beam": 4.0, "max_contexts": 4, "max_states": 32},
    spellings={"--num_active_paths": "--beam-size"},
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
    basic=names(
        "recipe exp_dir checkpoint tokens model decoding_method context_file "
        "format output_dir streaming align"
    ),
    refused=dict.fromkeys(("--HLG", "--G", "--H", "--HL"), ("", _NO_GRAPHS)),
    spellings={
        "--method": "--decoding-method",
        "--nn-model": "--nn-model-filename",
        "--model-filename": "--nn-model-filename",
        "--jit-filename": "--nn-model-filename",
    },
    without_effect=LM_WITHOUT_EFFECT
    | {"--words-file": "the words of searches over words are those of --lang-dir"},
    stored=STORED,
    encoders=ENCODER_TYPES,
    own=("lm-scale",),
    operands=(
        "FILE",
        "WAV, FLAC, OGG, MP3, and what ffmpeg reads if it is installed; - reads "
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


C = TypeVar("C", bound="DataclassInstance")


def recognition_config(run: Run, device: str | None = None) -> RecognitionConfig:
    """Collect the settings of a run; flags that the command does not have are at their defaults.

    Args:
        run: a parsed command line.
        device: where the model computes; ``None``: on the first GPU, if there is one.
    """
    return RecognitionConfig(
        exp_dir=_of(run, ExpConfig).exp_dir,
        checkpoint=_of(run, ChooseCheckpoint),
        is_avg_typed=run.is_typed("avg"),
        model_flags=run.typed,
        tokens=token_source(run),
        decoding=_decoding(run),
        lattice=_of(run, LatticeConfig),
        hot_words=_of(run, HotWordsConfig),
        lm=_of(run, LmConfig),
        lm_sizes={name: run[cls] for name, cls in LM_SIZES.items() if cls in run.values},
        grammar=_of(run, GrammarConfig),
        grammar_folders=(lm_dir(run.recipe), data_dir(run.recipe) / "lm", Path("download/lm")),
        recipe=run.recipe.name,
        evaluation=evaluation_data(run),
        sweep=_of(run, SweepConfig),
        streaming=_of(run, StreamingConfig),
        confidence=_of(run, ConfidenceConfig),
        device=device,
    )


def _decoding(run: Run) -> DecodingConfig:
    config = _of(run, DecodingConfig)
    # A recipe says how its checkpoints compute; exported files have their precision inside.
    if _of(run, ModelFileConfig).is_given and not run.is_typed("use_bf16"):
        return replace(config, use_bf16=False)
    return config


def token_source(run: Run) -> TokenSource:
    """Return the files that say what the tokens of a model are."""
    return TokenSource(
        bpe_model=_of(run, TokenizerConfig).bpe_model,
        is_bpe_model_given=run.is_typed("bpe_model"),
        tokens=_of(run, TokenTableConfig).tokens,
    )


def evaluation_data(run: Run) -> EvaluationData | None:
    """Return the prepared sets of the recipe; ``None`` for a command that reads none."""
    if DataConfig not in run.values:
        return None
    sets = _of(run, TestSetsConfig)
    return EvaluationData(
        corpus=run.recipe.corpus,
        splits=run.recipe.splits,
        loading=run[DataConfig],
        test_sets=sets.test_sets,
        score_normalised=sets.score_normalised,
    )


def _of(run: Run, cls: type[C]) -> C:
    return run[cls] if cls in run.values else cls()
