"""Learn the vocabulary from the training transcripts and write the language folder."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable
from typing import Any

import sentencepiece

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path, write_text
from zipasr.text.characters import TEXT_CHARACTERS
from zipasr.text.config import BpeConfig
from zipasr.text.lexicon import lang_files
from zipasr.text.scripts import Unit, choose_unit, units_of
from zipasr.text.tokenizer import (
    BLANK,
    SENTENCE_ENDS,
    UNKNOWN_ID,
    Tokenizer,
    plain_text,
    prepared_text,
)
from zipasr.text.writability import check_writable

logger = logging.getLogger(__name__)

# More lines than any corpus has: all of them take part, none is sampled.
_ALL_LINES = 100_000_000
# Bytes of the longest line that sentencepiece takes if nobody says otherwise.
_USUAL_LENGTH = 4192
# More than Unicode has.
_ALL_CHARACTERS = 2_000_000


def train_bpe(texts: Iterable[str], config: BpeConfig, more_words: Iterable[str] = ()) -> Tokenizer:
    """Train a sentencepiece model and write it to ``config.lang_dir``.

    It is a unigram model of the text, or of its UTF-8 bytes, each as a character; or a list of all
    characters. Where ``--unit`` is auto, the script of the text decides, and that is told.

    The folder gets ``transcript_words.txt`` (the text that was used), ``bpe.model``,
    ``tokens.txt`` (lines ``piece id``, ids 0 to V - 1, then the disambiguation symbols ``#0``,
    ``#1``, ... of the lexicon), ``bpe.vocab`` (lines ``piece<TAB>score``) and the words of the
    text: ``words.txt``, ``lexicon.txt``, ``lexicon_disambig.txt``. Id 0 is ``<blk>``, 1
    ``<sos/eos>``, 2 ``<unk>``. When the text does not support as many tokens as asked for, there
    are fewer and a notice says how many. Each file is written whole or not at all, ``bpe.model``
    last. Every text is encoded and decoded once, and what comes back otherwise is told.

    Args:
        texts: one transcript each, in the spelling that the model shall produce.
        config: the folder and the size.
        more_words: words beyond those of the text, for the files of words.

    Raises:
        DataError: there is no text, or it has more different characters than the vocabulary.
    """
    lines = [line for line in map(plain_text, texts) if line]
    unit, reason = choose_unit(lines) if config.unit == "auto" else (config.unit, "as set")
    logger.info("--unit %s: %s", unit, reason)
    model = _train(lines, unit, config.vocab_size)
    tokenizer = Tokenizer(model, str(config.lang_dir / "bpe.model"))
    if unit != "char" and tokenizer.vocab_size < config.vocab_size:
        logger.warning(
            "the training text supports %d tokens, not --vocab-size %d: using %d",
            tokenizer.vocab_size,
            config.vocab_size,
            tokenizer.vocab_size,
        )
    write_text(config.lang_dir / "transcript_words.txt", "".join(f"{line}\n" for line in lines))
    words = {word for line in lines for word in units_of(line)}
    for name, content in lang_files(words.union(more_words), tokenizer).items():
        write_text(config.lang_dir / name, content)
    write_text(config.lang_dir / "bpe.vocab", vocab_text(tokenizer))
    with atomic_path(config.lang_dir / "bpe.model") as temporary:
        temporary.write_bytes(tokenizer.model_bytes)
    _tell_what_changes(lines, tokenizer)
    return tokenizer


def _tell_what_changes(lines: list[str], tokenizer: Tokenizer) -> None:
    found = check_writable(lines, tokenizer)
    for line in found.lines():
        logger.warning("%s", line)
    if found.is_whole:
        logger.info("all %d transcripts come back from the tokenizer as they are", len(lines))


def vocab_text(tokenizer: Tokenizer) -> str:
    """Format the scores of the tokens as sentencepiece does: one line ``piece<TAB>score``."""
    scored = zip(tokenizer.pieces(), tokenizer.scores(), strict=True)
    return "".join(f"{piece}\t{score:g}\n" for piece, score in scored)


def _train(lines: list[str], unit: Unit, vocab_size: int) -> bytes:
    if not lines:
        raise DataError(
            "there is no text to train a tokenizer on: all transcripts are empty.",
            "check the texts of the training supervisions (./prepare.sh --stage 1)",
        )
    prepared = [prepared_text(line, unit) for line in lines]
    kinds: dict[Unit, dict[str, Any]] = {
        "bpe": {"model_type": "unigram", "vocab_size": vocab_size},
        # Blanks mark the words of other scripts, and stand where they are meant to.
        "char": {
            "model_type": "char",
            "vocab_size": _ALL_CHARACTERS,
            "add_dummy_prefix": False,
            "remove_extra_whitespaces": False,
        },
        # With every byte that text consists of, there is no text that cannot be written.
        "byte-bpe": {
            "model_type": "unigram",
            "vocab_size": vocab_size,
            "required_chars": TEXT_CHARACTERS,
        },
    }
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(prepared),
            model_writer=model,
            character_coverage=1.0,
            input_sentence_size=_ALL_LINES,
            # The usual limit leaves long transcripts out, and letters that they alone have.
            max_sentence_length=max(_USUAL_LENGTH, 1 + max(len(p.encode()) for p in prepared)),
            # Text comes back as it went in. The usual rule (NFKC) rewrites letters, and then no
            # model can write what the references have.
            normalization_rule_name="identity",
            user_defined_symbols=[BLANK, SENTENCE_ENDS],
            unk_id=UNKNOWN_ID,
            bos_id=-1,
            eos_id=-1,
            hard_vocab_limit=False,
            minloglevel=2,
            **kinds[unit],
        )
    except RuntimeError as error:
        raise _explained(error, unit, vocab_size) from error
    return model.getvalue()


def _explained(error: RuntimeError, unit: Unit, vocab_size: int) -> DataError:
    too_small = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
    if too_small and unit == "byte-bpe":
        return DataError(
            f"--vocab-size {vocab_size} is too small: the bytes of text alone are {too_small[1]} "
            "tokens.",
            "give --vocab-size 500, or another --unit",
        )
    if too_small:
        return DataError(
            f"--vocab-size {vocab_size} is too small: the text alone has "
            f"{too_small[1]} different characters and reserved tokens.",
            f"give --vocab-size {too_small[1]} or more, or clean the text of rare characters",
        )
    return DataError(
        f"sentencepiece could not be trained: {' '.join(str(error).split())}",
        "look at the training transcripts",
    )
