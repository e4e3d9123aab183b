"""Settings of single commands, and flags of published commands that change nothing here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from zipasr.base.config import check_numbers, flag
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import nearest
from zipasr.data.config import GigaSpeechSubset
from zipasr.encoder.registry import ENCODER_TYPES
from zipasr.model.config import ModelConfig
from zipasr.text.transcript_formats import FORMATS


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoConfig:
    """Facts about a model."""

    json: bool = flag(False, "all that is known, as JSON with the name of each file")


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscribeConfig:
    """Transcription."""

    format: tuple[str, ...] = flag(("txt",), f"comma list of {', '.join(FORMATS)}")
    output_dir: Path | None = flag(None, "folder for the transcripts; none: the standard output")
    batch_windows: int = flag(4, "pieces per batch")
    streaming: bool = flag(False, "recognise chunk by chunk, with a causal model; always so for -")
    align: str | None = flag(
        None,
        "transcript, or text file, to align with the audio; writes the time and "
        "confidence of each word and token, instead of recognising",
    )

    def __post_init__(self) -> None:
        if self.align is not None and self.streaming:
            raise ValueError("--align needs the whole recording: leave --streaming out")
        for name in self.format:
            if name not in FORMATS:
                hint = nearest(name, FORMATS) or f"choose from {', '.join(FORMATS)}."
                raise ValueError(f"--format {name} is unknown. Fix: {hint}")
        check_numbers(self, "must be at least 1", "batch_windows")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedConfig:
    """Accepted without effect."""

    sample_rate: int = flag(
        SAMPLING_RATE,
        "sample rate of the model; audio of any rate is resampled to it",
        unit="Hz",
    )
    words_file: Path | None = flag(None, "not used: the lexicon is read from --lang-dir")

    def __post_init__(self) -> None:
        if self.sample_rate != SAMPLING_RATE:
            raise ValueError(
                f"--sample-rate {self.sample_rate}: models here hear {SAMPLING_RATE} samples a "
                "second, and sound files of any rate are resampled to that; leave it out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CorporaConfig:
    """Data mixing."""

    subset: str | None = flag(
        None,
        "GigaSpeech: subset to train on; without --recipe it selects the recipe gigaspeech; "
        "none: that of the recipe",
    )
    use_multidataset: bool = flag(
        False,
        "also train on the corpora of --extra-manifest; without --recipe it selects the recipe "
        "librispeech",
    )

    def __post_init__(self) -> None:
        known = get_args(GigaSpeechSubset)
        if self.subset is not None and self.subset not in known:
            raise ValueError(f"--subset {self.subset} is unknown. Known: {', '.join(known)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedConfig:
    """Accepted without effect."""

    attention_decoder_loss_scale: float = flag(0.8, "not used: weight of a loss in training")
    max_len: int = flag(-1, "not used: utterances are decoded at their own length")


# Flags of published commands that change nothing, and why; it is said when one is typed.
RETURN_CUTS = {"--return-cuts": "a batch always carries the ids of its cuts"}

LM_WITHOUT_EFFECT = {
    "--use-shallow-fusion": "--decoding-method says whether a language model takes part",
    "--backoff-id": "an ARPA file needs no number for its back-off arcs",
}

# Dataclasses whose values a checkpoint has.
STORED = (*ENCODER_TYPES.values(), ModelConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """Report."""

    compare_with: Path | None = flag(None, "folder of another training run, to compare with")
    embed_audio_mb: float = flag(10.0, "audio embedded in the page; the rest is linked", unit="MB")

    watch: float = flag(
        0.0,
        "seconds between updates of the page, also of a training that runs; the page reloads "
        "itself; 0: write it once",
        unit="s",
    )

    def __post_init__(self) -> None:
        check_numbers(self, "must not be negative", "embed_audio_mb watch")
        if self.watch and self.compare_with is not None:
            raise ValueError("--watch is for the report of one run, not for a comparison")
