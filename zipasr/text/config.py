"""Settings of the tokenizer and its training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zipasr.base.config import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """Tokenizer."""

    bpe_model: Path = flag(Path("data/lang_bpe_500/bpe.model"), "sentencepiece model")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTableConfig:
    """Tokenizer."""

    tokens: Path | None = flag(
        None,
        "tokens.txt (lines PIECE ID), compared with the tokenizer of the checkpoint, or used if "
        "the checkpoint has none",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BpeConfig:
    """Tokenizer."""

    lang_dir: Path = flag(
        Path("data/lang_bpe_500"),
        "folder of bpe.model, tokens.txt and the lexicon",
    )
    vocab_size: int = flag(500, "number of tokens, blank included; fewer if there is little text")

    def __post_init__(self) -> None:
        if self.vocab_size < 4:
            raise ValueError("--vocab-size must be at least 4: three ids are reserved")
