"""Settings of the tokenizer and its training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zipasr.base.config import flag

#: Token id of the blank.
BLANK_ID = 0

#: Id of the token before and after a transcript, which attention decoder and language models use.
SENTENCE_ENDS_ID = 1

UnitChoice = Literal["auto", "bpe", "char", "byte-bpe"]
UNIT_HELP = (
    "tokens: bpe, pieces of words; char, characters; byte-bpe, pieces of bytes; auto: char for "
    "Chinese and Japanese, byte-bpe where they are mixed with other scripts, else bpe"
)


def lang_name(unit: str, size: object) -> str:
    """Return the usual name of a language folder, as icefall's recipes have it.

    Args:
        unit: of the tokens.
        size: how many there are.
    """
    if unit == "char":
        return "lang_char"
    return f"lang_{'bbpe' if unit == 'byte-bpe' else 'bpe'}_{size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """Tokenizer."""

    bpe_model: Path = flag(Path("data/lang_bpe_500/bpe.model"), "sentencepiece model")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTableConfig:
    """Tokenizer."""

    tokens: Path | None = flag(
        None,
        "tokens.txt (lines PIECE ID); compared with the tokenizer of the checkpoint, or used if "
        "the checkpoint has none",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BpeConfig:
    """Tokenizer."""

    lang_dir: Path = flag(
        Path("data/lang_bpe_500"),
        "folder of bpe.model, tokens.txt and the lexicon",
    )
    unit: UnitChoice = flag("auto", UNIT_HELP)
    vocab_size: int = flag(
        500,
        "number of tokens, blank included; fewer if there is little text; of characters there are "
        "always all",
    )

    def __post_init__(self) -> None:
        if self.vocab_size < 4:
            raise ValueError("--vocab-size must be at least 4: three ids are reserved")
