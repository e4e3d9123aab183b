"""From the flags of decode.py to the words that a search may find: a lexicon and grammars."""

from __future__ import annotations

from pathlib import Path

from zipasr.base.errors import DataError
from zipasr.cli.flags import Run, data_dir
from zipasr.cli.lm_sources import lm_dir
from zipasr.lm.config import GrammarConfig, LmConfig
from zipasr.lm.ngram import NgramLm, read_arpa
from zipasr.search.components import Vocabulary
from zipasr.text.lexicon import read_lexicon
from zipasr.text.timed_words import WORD_START
from zipasr.text.tokenizer import Tokenizer

# Where the published language models are, by the order of their n-grams.
_DOWNLOADS = Path("download/lm")
_PUBLISHED = {3: "3-gram.pruned.1e-7.arpa", 4: "4-gram.arpa"}
_SEARCHED, _JUDGING = 3, 4


def check_vocabulary_files(run: Run, uses: tuple[str, ...]) -> None:
    """Refuse a search over words whose grammars are not there, before anything is read.

    Raises:
        DataError: says how to get them.
    """
    if "words" in uses:
        grammar_path(run, _SEARCHED)
    if "large" in uses:
        grammar_path(run, _JUDGING)


def vocabulary_of(run: Run, uses: tuple[str, ...], tokenizer: Tokenizer) -> Vocabulary | None:
    """Read the lexicon and the grammars that a method uses; ``None`` if it uses none.

    Raises:
        DataError: one is missing, damaged, or of other words or tokens.
    """
    if "words" not in uses:
        return None
    lexicon = read_lexicon(run[LmConfig].lang_dir, tokenizer)
    words = {word for word, _ in lexicon}
    paths = [grammar_path(run, _SEARCHED)]
    paths += [grammar_path(run, _JUDGING)] if "large" in uses else []
    grammars = [read_arpa(path) for path in paths]
    about = [_coverage(one, path, words) for one, path in zip(grammars, paths, strict=True)]
    exact = run[GrammarConfig].exact_backoff
    return Vocabulary(lexicon, grammars[0], grammars[-1], tuple(about), exact)


def grammar_path(run: Run, order: int) -> Path:
    """Return the file of the word n-gram of an order: given by its flag, or where it usually is.

    Raises:
        DataError: there is none; says how to get one.
    """
    config = run[GrammarConfig]
    flag, given = {
        _SEARCHED: ("--grammar", config.grammar),
        _JUDGING: ("--large-grammar", config.large_grammar),
    }[order]
    if given is not None:
        return given
    folders = [config.lm_dir, lm_dir(run.recipe), data_dir(run.recipe) / "lm", _DOWNLOADS]
    names = [f"G_{order}_gram.arpa", _PUBLISHED[order]]
    for path in (folder / name for folder in folders for name in names):
        for file in (path, path.with_name(f"{path.name}.gz")):
            if file.is_file():
                return file
    graph = config.lm_dir / f"G_{order}_gram.fst.txt"
    what = f"there is no word n-gram: no G_{order}_gram.arpa in {config.lm_dir} or {folders[1]}"
    if graph.is_file():
        what = f"{graph} is a graph; the ARPA file is needed that it was made from"
    raise DataError(
        f"{what}.",
        f"give {flag}, an ARPA file over words, or make one: ./train_lm.py --recipe "
        f"{run.recipe.name} --lm-type ngram --ngram-unit word --ngram-order {order}",
    )


def _coverage(grammar: NgramLm, path: Path, words: set[str]) -> str:
    """Say how many of the words a grammar knows; refuse one that knows none."""
    if any(word.startswith(WORD_START) for word in grammar.words):
        raise DataError(
            f"{path} is an n-gram over tokens, not over words.",
            "make one over words: ./train_lm.py --lm-type ngram --ngram-unit word --ngram-order 3",
        )
    known = len(words & grammar.words)
    if not known:
        raise DataError(
            f"{path} knows none of the {len(words)} words of the lexicon, such as {min(words)!r}.",
            "give a grammar over words, spelt as the transcripts are.",
        )
    return (
        f"{path}: {grammar.order}-grams, {known} of {len(words)} words of the lexicon; the others "
        "count as <unk>"
    )
