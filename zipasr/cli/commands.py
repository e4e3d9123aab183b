"""The table of commands: their flags, and icefall's flags that are refused until they are built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from zipasr.audio.loading import SAMPLING_RATE
from zipasr.base.config import flag, flag_name
from zipasr.base.errors import nearest
from zipasr.checkpoint.average import ChooseCheckpoint
from zipasr.cli.corpora_of_training import with_heads_of_corpora, with_subset
from zipasr.cli.flags import Command, Run, not_yet, parse, tell_notes
from zipasr.corpora.download import DownloadConfig
from zipasr.data.augment import AugmentConfig
from zipasr.data.corpus_mixing import GigaSpeechSubset
from zipasr.data.fbank import FbankConfig
from zipasr.data.loaders import DataConfig
from zipasr.encoder.protocol import EncoderConfig, Geometry
from zipasr.encoder.registry import DEFAULT_ENCODER, ENCODER_TYPES
from zipasr.export.exporters import Shape
from zipasr.lm.config import GrammarConfig, LmConfig
from zipasr.lm.neural import LM_SIZES
from zipasr.lm.ngram_estimation import NgramConfig
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import TransducerConfig
from zipasr.optim.config import OptimizerConfig
from zipasr.optim.eden import EdenConfig
from zipasr.recognition.config import StreamingConfig, SweepConfig, TestSetsConfig
from zipasr.recognition.exported_model import KINDS, Kind, ModelFileConfig
from zipasr.search.config import DecodingConfig, HotWordsConfig, LatticeConfig
from zipasr.text.bpe import BpeConfig
from zipasr.text.tokenizer import TokenizerConfig, TokenTableConfig
from zipasr.text.transcript_formats import FORMATS
from zipasr.training.config import FinetuneConfig, LossConfig, TrainConfig
from zipasr.training.finetune import check_heads
from zipasr.training.language_model import LmTrainConfig

EXPORT_FORMATS = ("pretrained", "torchscript", "onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusConfig:
    """Making of a corpus."""

    audio_dir: Path | None = flag(None, "folder of the audio; none: data/RECIPE/audio")
    giga_dir: Path | None = flag(
        None, "folder of GigaSpeech, with GigaSpeech.json; none: GigaSpeech in --dl-dir"
    )
    num_jobs: int = flag(2, "processes that work side by side")

    def __post_init__(self) -> None:
        if self.num_jobs < 1:
            raise ValueError("--num-jobs must be at least 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceConfig:
    """Where downloads are."""

    dl_dir: Path = flag(Path("download"), "folder of what was downloaded, and to download to")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """How a corpus of one's own is read."""

    encoding: str = flag("utf-8", "of text files")
    seed: int = flag(42, "of the splits, where the corpus has none")
    normalise: bool = flag(False, "write transcripts in upper case and without punctuation")
    num_jobs: int = flag(2, "threads that read sound files")

    def __post_init__(self) -> None:
        if self.num_jobs < 1:
            raise ValueError("--num-jobs must be at least 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpConfig:
    """Where a training run is."""

    exp_dir: Path = flag(Path("zipformer/exp"), "folder of the training run")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What is exported."""

    format: tuple[str, ...] = flag(
        ("pretrained", "onnx"), f"comma list of {', '.join(EXPORT_FORMATS)}"
    )
    jit: bool = flag(False, "export TorchScript too")
    enable_int8_quantization: bool = flag(True, "ONNX: write files with weights of 8 bits as well")
    fp16: bool = flag(False, "ONNX: write files of half precision as well")
    dynamic_axes: bool = flag(
        True, "ONNX: take any batch and length; 0: one utterance of --max-len frames"
    )
    max_len: int = flag(-1, "ONNX: frames of the utterance with which files are recorded; -1: some")
    keep_x_lens: int = flag(-1, "ONNX: 0 leaves out the lengths of utterances: all frames count")
    use_int32_inputs: bool = flag(False, "ONNX: take integers of 32 bits, else of 64")
    output_dir: Path | None = flag(None, "folder to make; none: in --exp-dir, named as the model")

    def __post_init__(self) -> None:
        for name in self.format:
            if name not in EXPORT_FORMATS:
                hint = nearest(name, EXPORT_FORMATS) or f"known: {', '.join(EXPORT_FORMATS)}."
                raise ValueError(f"--format {name} is unknown. {hint}")
        if self.fp16 and "onnx" not in self.format:
            raise ValueError("--fp16 1 is for ONNX files: add onnx to --format")
        self._check_shape()

    def _check_shape(self) -> None:
        shortest = Geometry().min_frames
        if self.max_len != -1 and self.max_len < shortest:
            raise ValueError(f"--max-len must be at least {shortest} frames, or -1")
        if not self.dynamic_axes and self.max_len == -1:
            raise ValueError("--dynamic-axes 0 settles the length of utterances: add --max-len")
        if self.shape != Shape() and "onnx" not in self.format:
            raise ValueError(
                "--dynamic-axes, --max-len, --keep-x-lens and --use-int32-inputs are for ONNX "
                "files: add onnx to --format"
            )

    @property
    def formats(self) -> set[str]:
        """All formats that are asked for."""
        return {*self.format, "torchscript"} if self.jit else {*self.format}

    @property
    def kinds(self) -> list[Kind]:
        """Precisions of the ONNX files."""
        wanted = {"": True, "int8": self.enable_int8_quantization, "fp16": self.fp16}
        return [kind for kind in KINDS if wanted[kind]]

    @property
    def shape(self) -> Shape:
        """What the ONNX files take."""
        return Shape(
            frames=None if self.max_len == -1 else self.max_len,
            is_fixed=not self.dynamic_axes,
            takes_lengths=self.keep_x_lens != 0,
            uses_int32=self.use_int32_inputs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """What a report holds."""

    compare_with: Path | None = flag(None, "folder of another training run, to compare this with")
    embed_audio_mb: float = flag(
        10.0, "megabytes of speech inside the page; what does not fit is linked"
    )

    def __post_init__(self) -> None:
        if self.embed_audio_mb < 0:
            raise ValueError("--embed-audio-mb must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscribeConfig:
    """How recordings are cut, and what is written of them."""

    format: tuple[str, ...] = flag(("txt",), f"comma list of {', '.join(FORMATS)}")
    output_dir: Path | None = flag(None, "folder to write to; none: the standard output")
    window: float = flag(25.0, "longest piece, in seconds, that is recognised at once")
    overlap: float = flag(2.0, "seconds that neighbours share where speech had to be cut")
    batch_windows: int = flag(4, "pieces that are recognised side by side")
    streaming: bool = flag(
        False, "recognise chunk by chunk, as speech comes, with a causal model; always so for -"
    )
    word_times: Literal["auto", "ctc", "transducer"] = flag(
        "auto",
        "where words begin: by alignment with the CTC head, if there is one, or when the "
        "transducer emitted them",
    )
    align: str | None = flag(
        None,
        "what is said in the recording, or a text file with it: write when each word and token of "
        "it is said, and how sure the model is, instead of recognising",
    )

    def __post_init__(self) -> None:
        if self.align is not None and self.streaming:
            raise ValueError("--align needs the whole recording: leave --streaming out")
        for name in self.format:
            if name not in FORMATS:
                hint = nearest(name, FORMATS) or f"known: {', '.join(FORMATS)}."
                raise ValueError(f"--format {name} is unknown. {hint}")
        if self.overlap < 0 or self.window <= 2 * self.overlap:
            raise ValueError("--window must be more than twice --overlap, and that not negative")
        if self.batch_windows < 1:
            raise ValueError("--batch-windows must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedConfig:
    """Flags of published programs that recognise files, and change nothing here."""

    sample_rate: int = flag(
        SAMPLING_RATE, "rate that models hear; sound files of any other rate are resampled to it"
    )
    words_file: Path | None = flag(
        None, "has no effect: the words of the searches over words are in --lang-dir"
    )

    def __post_init__(self) -> None:
        if self.sample_rate != SAMPLING_RATE:
            raise ValueError(
                f"--sample-rate {self.sample_rate}: models here hear {SAMPLING_RATE} samples a "
                "second, and sound files of any rate are resampled to that; leave it out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CorporaConfig:
    """Which corpora published commands train on."""

    subset: str | None = flag(
        None,
        "GigaSpeech: the part to train on; without --recipe it chooses the recipe gigaspeech; "
        "none: what the recipe says",
    )
    use_multidataset: bool = flag(
        False,
        "train on more corpora than that of the recipe: those of --extra-manifest; without "
        "--recipe it chooses the recipe librispeech",
    )

    def __post_init__(self) -> None:
        known = get_args(GigaSpeechSubset)
        if self.subset is not None and self.subset not in known:
            raise ValueError(f"--subset {self.subset} is unknown. Known: {', '.join(known)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedConfig:
    """Flags of published decoding commands that change nothing here."""

    attention_decoder_loss_scale: float = flag(0.8, "a weight in training, published with decoding")
    max_len: int = flag(-1, "has no effect: utterances are decoded at their own length")


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

TRAIN = Command(
    "train.py",
    "Train a transducer or a CTC model on a prepared corpus; run again to continue where it was.",
    (
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
    ),
    without_effect=_RETURN_CUTS,
    presets=DEFAULT_ENCODER.presets(),
    encoders=ENCODER_TYPES,
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
        TokenizerConfig,
        DataConfig,
        AugmentConfig,
        AcceptedConfig,
    ),
    without_effect={
        **SEARCH_WITHOUT_EFFECT,
        "--attention-decoder-loss-scale": "it is a weight in training",
        "--max-len": "utterances are decoded at their own length",
    },
    stored=(*ENCODER_TYPES.values(), ModelConfig),
    encoders=ENCODER_TYPES,
    own=("lm-scale",),
)
CTC_DECODE = replace(
    DECODE,
    name="ctc_decode.py",
    about="Transcribe the test sets through the CTC head and report word error rates.",
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
    about="Transcribe the test sets chunk by chunk with a causal model, and report error rates.",
    configs=(
        *(config for config in DECODE.configs if config is not SweepConfig),
        StreamingConfig,
    ),
    defaults={"beam": 4.0, "max_contexts": 4, "max_states": 32},
    spellings={"--num_active_paths": "--beam-size"},
)
AVERAGE = Command(
    "average.py",
    "Write the average of checkpoints as one file.",
    (ExpConfig, ChooseCheckpoint, TokenTableConfig),
    stored=(*ENCODER_TYPES.values(), ModelConfig),
    encoders=ENCODER_TYPES,
    defaults={"avg": 9},
    without_effect=_AVERAGE_WITHOUT_EFFECT,
)
DOWNLOAD = Command(
    "download_corpus",
    "Stage 0: archives of a published corpus, checked and unpacked.",
    (PlaceConfig, DownloadConfig),
)
REPORT = Command(
    "report.py",
    "Write the report on the decodings of a training run, or compare it with another run.",
    (ExpConfig, ReportConfig),
    needs_recipe=False,
)
TRANSCRIBE = Command(
    "transcribe.py",
    "Write down what is said in recordings of any length.",
    (
        ExpConfig,
        ChooseCheckpoint,
        ModelFileConfig,
        DecodingConfig,
        *AIDS,
        TokenizerConfig,
        TokenTableConfig,
        TranscribeConfig,
        PretrainedConfig,
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
    stored=(*ENCODER_TYPES.values(), ModelConfig),
    encoders=ENCODER_TYPES,
    own=("lm-scale",),
    operands=(
        "FILE",
        "sound files: WAV, FLAC, OGG, MP3, and what ffmpeg reads, if it is there; - reads raw "
        "sound from the standard input (16 kHz, 16 bit, one channel)",
    ),
    needs_recipe=False,
)
EXPORT = Command(
    "export.py",
    "Export a trained model: averaged weights, TorchScript, and ONNX as sherpa reads it.",
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
    defaults={"avg": 9},
    own=("lm-scale",),
    stored=(*ENCODER_TYPES.values(), ModelConfig),
    encoders=ENCODER_TYPES,
    refused=_EXPORT_LATER,
    without_effect=_LM_WITHOUT_EFFECT | _RETURN_CUTS,
)
CORPUS = Command(
    "prepare_corpus",
    "Stage 1: audio and transcripts to manifests.",
    (CorpusConfig, PlaceConfig),
)
FBANK = Command("compute_fbank", "Stage 2: manifests to features.", (FbankConfig,))
BPE = Command(
    "train_bpe", "Stage 3: training transcripts to a tokenizer.", (BpeConfig, PlaceConfig)
)
VALIDATE = Command(
    "validate_data",
    "Stage 4: check manifests and features, report what training would drop and why.",
    (DataConfig, TokenizerConfig, ModelConfig),
)
LM_TEXT = Command("prepare_lm_text", "Stage 5: text for a language model.", (PlaceConfig,))
TRAIN_LM = Command(
    "train_lm.py",
    "Train a language model for the search: a recurrent one, a transformer, or an n-gram.",
    (LmTrainConfig, *LM_SIZES.values(), NgramConfig, TokenizerConfig),
    own=("exp-dir", "num-epochs", "seed"),
)
COMMANDS = (
    TRAIN,
    TRAIN_LM,
    DECODE,
    CTC_DECODE,
    STREAMING_DECODE,
    AVERAGE,
    REPORT,
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


def read(command: Command, argv: Sequence[str] | None) -> Run:
    """Parse the command line of ``command``; see ``flags.parse``.

    Raises:
        UserError: flags are wrong, alone or together.
    """
    run = parse(command, argv, COMMANDS)
    tell_notes(run)
    if command is TRAIN:
        run = with_heads_of_corpora(with_subset(run, run[CorporaConfig].subset))
        check_heads(run[ModelConfig], run[LossConfig], run[AugmentConfig])
    return run
