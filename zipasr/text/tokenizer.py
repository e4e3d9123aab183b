"""A sentencepiece model behind three methods: encode, decode, and the size of the vocabulary."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from zipasr.base.config import flag
from zipasr.base.errors import DataError

BLANK = "<blk>"
SENTENCE_ENDS = "<sos/eos>"
BLANK_ID = 0
SENTENCE_ENDS_ID = 1
UNKNOWN_ID = 2

_NOT_TEXT = (BLANK_ID, SENTENCE_ENDS_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """Where the vocabulary is."""

    bpe_model: Path = flag(Path("data/lang_bpe_500/bpe.model"), "sentencepiece model to use")


class Tokenizer:
    """Transcripts to token ids and back.

    Args:
        model: the bytes of a sentencepiece model trained by ``train_bpe`` (or by icefall).
        origin: where the bytes come from, named in errors.

    Raises:
        DataError: the bytes are no sentencepiece model, or its id 0 is not the blank.
    """

    def __init__(self, model: bytes, origin: str = "the tokenizer in the checkpoint") -> None:
        self.model_bytes = model
        self._pieces = _processor(model, origin)
        if self._pieces.id_to_piece(BLANK_ID) != BLANK:
            raise DataError(
                f"{origin} is a sentencepiece model, but its id {BLANK_ID} is "
                f"{self._pieces.id_to_piece(BLANK_ID)!r} where {BLANK!r} is needed.",
                "train the tokenizer with ./prepare.sh --stage 3",
            )

    @classmethod
    def from_file(cls, path: Path | str) -> Tokenizer:
        """Read a ``bpe.model`` file.

        Raises:
            DataError: the file does not exist or is no model of ours.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"there is no tokenizer at {path}.", "run ./prepare.sh --stage 3 first")
        return cls(path.read_bytes(), str(path))

    @classmethod
    def from_bytes(cls, model: bytes) -> Tokenizer:
        """Use the bytes of a ``bpe.model`` file, as a checkpoint holds them."""
        return cls(model)

    @property
    def vocab_size(self) -> int:
        """V, the number of ids, blank included; read from the model, never assumed."""
        return int(self._pieces.vocab_size())

    @property
    def blank_id(self) -> int:
        """The id that the losses and searches use for "nothing new"."""
        return BLANK_ID

    @property
    def unknown_id(self) -> int:
        """The id of characters that the training text did not have."""
        return UNKNOWN_ID

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text; never 0 or 1, whatever the text contains."""
        if not texts:
            return []
        encoded: list[list[int]] = self._pieces.encode(list(texts), out_type=int)
        # A transcript may contain the characters "<blk>" by mistake; as a label, blank would
        # break the lattice of the losses.
        return [_text_ids(ids) for ids in encoded]

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of ids; 0 and 1 are skipped, unknown shows as ⁇."""
        texts = [str(self._pieces.decode(_text_ids(sequence))) for sequence in ids]
        return [" ".join(text.split()) for text in texts]

    def is_text(self, token: int) -> bool:
        """Say whether ``decode`` writes a token; it leaves out blanks and ends of sentences."""
        return token not in _NOT_TEXT

    def pieces(self) -> list[str]:
        """Return the V pieces in the order of their ids."""
        return [str(self._pieces.id_to_piece(i)) for i in range(self.vocab_size)]

    def scores(self) -> list[float]:
        """Return the log-probability of each piece, in the order of their ids."""
        return [float(self._pieces.get_score(i)) for i in range(self.vocab_size)]

    def table_hash(self) -> str:
        """Return what tells this table of tokens from others, 16 hexadecimal digits."""
        return hashlib.sha256("\n".join(self.pieces()).encode()).hexdigest()[:16]


def _text_ids(ids: Iterable[int]) -> list[int]:
    return [int(i) for i in ids if i not in _NOT_TEXT]


def _processor(model: bytes, origin: str) -> sentencepiece.SentencePieceProcessor:
    fix = "train the tokenizer again with ./prepare.sh --stage 3"
    if not model:
        raise DataError(f"{origin} is empty.", fix)
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise DataError(f"{origin} is not a sentencepiece model.", fix) from error
