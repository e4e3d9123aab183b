"""Settings of recognition: what the command line or a program says before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from zipasr.base.config import check_numbers, flag
from zipasr.base.errors import UserError
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.data.config import DataConfig
from zipasr.lm.config import GrammarConfig, LmConfig, LmSizes
from zipasr.search.config import DecodingConfig, HotWordsConfig, LatticeConfig

# Where the published language models are.
_DOWNLOADS = Path("download/lm")


Kind: TypeAlias = Literal["", "int8", "fp16"]
"""Precision of a file as it is in its name; nothing for float32."""

KINDS: tuple[Kind, ...] = ("", "int8", "fp16")

PARTS = ("encoder", "decoder", "joiner")
PART_FLAGS = tuple(f"--{part}-model-filename" for part in PARTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFileConfig:
    """Exported model."""

    nn_model_filename: Path | None = flag(
        None,
        "TorchScript file (jit_script*.pt), or ONNX file of a CTC model (model*.onnx)",
    )
    encoder_model_filename: Path | None = flag(None, "ONNX file of the encoder of a transducer")
    decoder_model_filename: Path | None = flag(None, "ONNX file of the decoder")
    joiner_model_filename: Path | None = flag(None, "ONNX file of the joiner")
    model: Path | None = flag(
        None,
        "folder of ONNX files from export.py; the float32 files are used",
    )

    def __post_init__(self) -> None:
        given = [self.nn_model_filename, self.model, next(filter(None, self.parts), None)]
        if sum(one is not None for one in given) > 1:
            raise ValueError(
                "give one model: --nn-model-filename, --model, or the three files of a transducer"
            )
        lacking = [name for name, path in zip(PART_FLAGS, self.parts, strict=True) if not path]
        if lacking and len(lacking) < len(PARTS):
            raise ValueError(
                f"a transducer in ONNX files has three: {', '.join(lacking)} is missing"
            )

    @property
    def parts(self) -> tuple[Path | None, Path | None, Path | None]:
        """The files of a transducer."""
        return self.encoder_model_filename, self.decoder_model_filename, self.joiner_model_filename

    @property
    def is_given(self) -> bool:
        """Whether a model is named."""
        return self.place is not None

    @property
    def place(self) -> Path | None:
        """The file or folder that stands for the model."""
        return self.nn_model_filename or self.model or self.encoder_model_filename


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSetsConfig:
    """Test sets."""

    test_sets: tuple[str, ...] | None = flag(
        None,
        "comma list of splits to decode; none: the recipe's test sets",
    )
    score_normalised: bool = flag(
        False,
        "compare words in upper case and without punctuation; 0: as they are written",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceConfig:
    """Test sets."""

    calibrate: bool = flag(
        False,
        "first decode the dev set, and fit the confidence of words to how often they are right; "
        "kept in the folder of the run",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingConfig:
    """Streaming."""

    num_decode_streams: int = flag(2000, "utterances that are decoded in parallel")
    label: str = flag("", "suffix of the names of the result files")

    def __post_init__(self) -> None:
        check_numbers(self, "must be at least 1", "num_decode_streams")
        if "/" in self.label:
            raise ValueError(f"--label {self.label}: it is a part of names of files, without /")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """End of utterance."""

    enable_endpoint: bool | None = flag(
        None,
        "begin a new utterance where one of the three rules says that one has ended; "
        "none: for sound from the standard input",
    )
    rule1_min_trailing_silence: float = flag(
        2.4, "silence that ends an utterance, whether or not anything was recognised", unit="s"
    )
    rule2_min_trailing_silence: float = flag(
        1.2, "silence that ends an utterance after something was recognised", unit="s"
    )
    rule3_min_utterance_length: float = flag(
        20.0, "length at which an utterance ends without any silence", unit="s"
    )

    def __post_init__(self) -> None:
        check_numbers(self, "must be above 0", " ".join(RULES))


RULES = (
    "rule1_min_trailing_silence",
    "rule2_min_trailing_silence",
    "rule3_min_utterance_length",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongFormConfig:
    """Transcription."""

    window: float = flag(25.0, "longest piece of audio that is recognised at once", unit="s")
    overlap: float = flag(
        2.0,
        "overlap of neighbouring pieces, where no silence was found to cut at",
        unit="s",
    )
    word_times: Literal["auto", "ctc", "transducer"] = flag(
        "auto",
        "source of word times: alignment with the CTC head, or emission by the transducer; "
        "auto: the head that the method reads, with --align the CTC head if there is one",
    )

    def __post_init__(self) -> None:
        if self.overlap < 0 or self.window <= 2 * self.overlap:
            raise ValueError("--window must be more than twice --overlap, and that not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """Comparison of decoding methods."""

    methods: tuple[str, ...] | None = flag(
        None,
        "methods to compare on the dev set, comma list or all; the best decodes the test sets",
    )
    lm_scales: tuple[float, ...] = flag(
        (0.1, 0.2, 0.3, 0.5),
        "weights that --methods tries in place of --lm-scale, if the method uses a language model",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSource:
    """Files that say what the tokens of a model are, beside its checkpoint.

    Attributes:
        bpe_model: sentencepiece model, used where a checkpoint has no tokenizer.
        is_bpe_model_given: whether it was asked for, so that another one in a checkpoint is an
            error; else it is only where the tokenizer usually is.
        tokens: table of tokens, ``tokens.txt``, or ``None``.
    """

    bpe_model: Path = Path("data/lang_bpe_500/bpe.model")
    is_bpe_model_given: bool = False
    tokens: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationData:
    """Prepared sets of a recipe, and how they are read and scored.

    Attributes:
        corpus: first part of the names of manifests.
        splits: purpose (valid, test) to names of splits of the corpus.
        loading: where the manifests are, and how batches are made of them.
        test_sets: splits to decode; ``None`` for those of the purpose test.
        score_normalised: whether words are compared in one spelling.
    """

    corpus: str
    splits: Mapping[str, Sequence[str]]
    loading: DataConfig
    test_sets: tuple[str, ...] | None = None
    score_normalised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionConfig:
    """All that recognition depends on.

    Attributes:
        exp_dir: folder of the training run; also of the results.
        checkpoint: which checkpoints make up the model.
        is_avg_typed: whether their number was asked for; else it may be lowered to fit the epoch.
        model_flags: settings of the model that were asked for, field to value; they must agree
            with the checkpoint, or be among those that any use of a model may change.
        tokens: where the tokens come from if the checkpoint does not say.
        decoding: method, beam, precision.
        lattice: limits of the searches that keep a lattice.
        hot_words: file of phrases that the search prefers.
        phrases: more of them, as the lines of that file.
        lm: language models over tokens.
        lm_sizes: by ``lm.lm_type``, sizes that were asked for.
        grammar: language models over words.
        grammar_folders: where word n-grams are looked for after ``grammar.lm_dir``, at least one.
        recipe: name of the recipe, for commands that messages propose.
        evaluation: sets with transcripts; ``None`` where there are none.
        sweep: comparison of decoding methods on the dev set.
        streaming: how sets are decoded as streams.
        device: where the model computes, as torch writes it; ``None``: on the first GPU, if any.
    """

    exp_dir: Path
    checkpoint: ChooseCheckpoint
    is_avg_typed: bool = True
    model_flags: Mapping[str, Any] = field(default_factory=dict)
    tokens: TokenSource = field(default_factory=TokenSource)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    lattice: LatticeConfig = field(default_factory=LatticeConfig)
    hot_words: HotWordsConfig = field(default_factory=HotWordsConfig)
    phrases: tuple[str, ...] = ()
    lm: LmConfig = field(default_factory=LmConfig)
    lm_sizes: Mapping[str, LmSizes] = field(default_factory=dict)
    grammar: GrammarConfig = field(default_factory=GrammarConfig)
    grammar_folders: tuple[Path, ...] = (_DOWNLOADS,)
    recipe: str = ""
    evaluation: EvaluationData | None = None
    sweep: SweepConfig = field(default_factory=SweepConfig)
    streaming: StreamingConfig = field(default_factory=StreamingConfig)
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    device: str | None = None

    @property
    def sets(self) -> EvaluationData:
        """The sets with transcripts.

        Raises:
            UserError: there are none.
        """
        if self.evaluation is None:
            raise UserError("there are no sets with transcripts to measure error rates on.")
        return self.evaluation
