"""Resources of a search beside the model: language models, hot-words, lexicon.

What reads and holds them is imported when a method needs them: most recognitions need none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch

from zipasr.base.errors import CheckpointError, DataError, UserError
from zipasr.lm.config import LM_SIZES, LmConfig
from zipasr.recognition.config import RecognitionConfig
from zipasr.search.components import DecodingResources, Vocabulary
from zipasr.search.hot_words import ContextGraph
from zipasr.search.methods import MethodSpec, Need, check_takes_hot_words, method_of
from zipasr.text.phrases import phrases_of, read_phrases
from zipasr.text.timed_words import WORD_START
from zipasr.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from zipasr.lm.neural import NeuralLm
    from zipasr.lm.ngram import NgramLm
    from zipasr.search.language_models import LanguageModel, NgramTokens
    from zipasr.search.lexicon_graph import WordGraph

R = TypeVar("R")

Lexicon: TypeAlias = Sequence[tuple[str, Sequence[int]]]
"""Words with the token ids of each."""

# File names of the published language models, by the order of their n-grams.
_PUBLISHED = {3: "3-gram.pruned.1e-7.arpa", 4: "4-gram.arpa"}
_SEARCHED, _RESCORING = 3, 4


def check_resources(config: RecognitionConfig) -> None:
    """Refuse a method that cannot be run, or cannot use what shall help it, before any reading.

    Raises:
        UserError: says what is missing, or which methods there are.
    """
    method, lm = method_of(config.decoding.decoding_method), config.lm
    if config.hot_words.path is not None or config.phrases:
        check_takes_hot_words(method)
    grammar_paths(config, method.needs)
    if Need.REFERENCE in method.needs and config.evaluation is None:
        raise UserError(
            f"--decoding-method {method.name} needs to know what was said.",
            "it is for test sets: ./decode.py.",
        )
    if "ngram_lm_scale" in method.key_fields and lm.ngram_lm_scale < 0:
        raise UserError(
            f"--ngram-lm-scale {lm.ngram_lm_scale}: {method.name} adds the grammar.",
            "give a positive scale.",
        )
    if Need.LM in method.needs:
        _check_language_models(method, lm)


def _check_language_models(method: MethodSpec, lm: LmConfig) -> None:
    subtracts = Need.TOKEN_NGRAM in method.needs
    if lm.lm_type != "ngram" and lm.exp_dir is None:
        raise UserError(
            f"--decoding-method {method.name} needs a language model.",
            "give --lm-exp-dir, the folder of a model from train_lm.py"
            f"{'.' if subtracts else ', or --lm-type ngram.'}",
        )
    if subtracts and lm.lm_type == "ngram":
        raise UserError(
            f"--decoding-method {method.name} subtracts the token n-gram from another model.",
            "use --lm-type rnn or transformer, or a method without LODR.",
        )
    if method.lm_weight == "tuned":
        return
    if lm.lm_scale == 0:
        raise UserError(
            "the weight of the language model is 0, so that it has no say.",
            "give --lm-scale (in ctc_decode.py also spelt --nnlm-scale); 0.3 is usual.",
        )
    if Need.TOKEN_NGRAM in models_of(method, lm) and lm.ngram_lm_scale >= 0:
        raise UserError(
            f"--ngram-lm-scale {lm.ngram_lm_scale}: LODR subtracts the n-gram.",
            "give a negative scale; -0.26 is published with --lm-scale 0.52 and --beam-size 12.",
        )


def models_of(method: MethodSpec, lm: LmConfig) -> frozenset[Need]:
    """Return what a decoding method uses with these settings."""
    is_given = lm.ngram_lm is not None and lm.lm_type != "ngram"
    return method.needs | (method.optional if is_given else frozenset())


class ResourceReader:
    """Reads what searches need beside the model; each file once, for however many searches.

    Args:
        tokenizer: of the model, whose tokens all files must have.
        device: where neural language models compute.
    """

    def __init__(self, tokenizer: Tokenizer, device: torch.device) -> None:
        self.tokenizer = tokenizer
        self._device = device
        self._known: dict[Hashable, Any] = {}

    def read(self, config: RecognitionConfig) -> DecodingResources:
        """Read the files that the settings name and the method uses.

        Raises:
            CheckpointError: a language model is missing, damaged, or of other tokens.
            DataError: another file is missing, damaged, or of other tokens.
        """
        lm = config.lm
        uses = models_of(method_of(config.decoding.decoding_method), lm)
        return DecodingResources(
            config.lattice,
            self.hot_words(config),
            self.language_model(config) if Need.LM in uses else None,
            lm.lm_scale,
            self.token_ngram(config) if Need.TOKEN_NGRAM in uses else None,
            lm.ngram_lm_scale,
            self.vocabulary(config, uses) if Need.LEXICON in uses else None,
        )

    def hot_words(self, config: RecognitionConfig) -> ContextGraph | None:
        """Return the graph of the phrases in ``--context-file`` and ``phrases``, if there are any.

        Raises:
            DataError: the file is missing, or has no phrases; or the model can write none.
        """
        path = config.hot_words.path
        parts = [] if path is None else [read_phrases(path, self.tokenizer)]
        if config.phrases:
            parts.append(phrases_of(config.phrases, "hot_words", self.tokenizer))
        if not parts:
            return None
        tokens = [one for part in parts for one in part.tokens]
        scores = [one for part in parts for one in part.scores]
        return ContextGraph(tokens, config.hot_words.context_score, scores)

    def language_model(self, config: RecognitionConfig) -> LanguageModel:
        """Return the language model over tokens that the settings name.

        Raises:
            CheckpointError: it is missing, damaged, or of other tokens.
            DataError: it is an n-gram, and that is missing, damaged, or of other tokens.
        """
        lm = config.lm
        if lm.lm_type == "ngram":
            return self.token_ngram(config)
        key = (lm.lm_type, lm.exp_dir, lm.lm_epoch, lm.lm_avg)
        return self._once(key, lambda: self._neural_lm(config))

    def token_ngram(self, config: RecognitionConfig) -> NgramTokens:
        """Return the n-gram over tokens that the settings name.

        Raises:
            DataError: it is missing, damaged, or of other tokens.
        """
        key = ("token n-gram", config.lm.ngram_path, config.grammar.exact_backoff)
        return self._once(key, lambda: _read_token_ngram(config, self.tokenizer))

    def vocabulary(self, config: RecognitionConfig, needs: frozenset[Need]) -> Vocabulary:
        """Return the lexicon and the grammars that a method needs.

        Raises:
            DataError: one is missing, damaged, or of other words or tokens.
        """
        from zipasr.text.lexicon import read_lexicon

        folder = config.lm.lang_dir
        lexicon = self._once(("lexicon", folder), lambda: read_lexicon(folder, self.tokenizer))
        exact = config.grammar.exact_backoff
        read = [
            self._once((folder, path, exact), partial(_read_graph, lexicon, path, exact))
            for path in grammar_paths(config, needs)
        ]
        graphs, about = zip(*read, strict=True)
        return Vocabulary(graphs[0], graphs[1] if len(graphs) > 1 else None, about)

    def _neural_lm(self, config: RecognitionConfig) -> LanguageModel:
        from zipasr.search.language_models import NeuralTokens

        return NeuralTokens(neural_lm(config, self.tokenizer).to(self._device))

    def _once(self, key: Hashable, read: Callable[[], R]) -> R:
        if key not in self._known:
            self._known[key] = read()
        found: R = self._known[key]
        return found


def neural_lm(config: RecognitionConfig, tokenizer: Tokenizer) -> NeuralLm:
    """Return the trained language model that the flags name, in evaluation mode on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or of other tokens.
    """
    from zipasr.checkpoint.language_model_file import read_lm

    lm = config.lm
    assert lm.exp_dir is not None, "check_resources comes first"
    stored = read_lm(lm.exp_dir, lm.lm_type, lm.lm_epoch, lm.lm_avg)
    sizes = config.lm_sizes.get(lm.lm_type) or LM_SIZES[lm.lm_type]()
    stored.check_sizes(sizes, lm.lm_vocab_size)
    if stored.token_table not in (None, tokenizer.table_hash()):
        raise CheckpointError(
            f"{stored.path} was trained on other tokens than the model: its token table is "
            f"{stored.token_table}, that of the model {tokenizer.table_hash()}.",
            "train the language model with the tokenizer of the model: ./train_lm.py.",
        )
    if stored.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"{stored.path} knows {stored.vocab_size} tokens, the model {tokenizer.vocab_size}.",
            "train the language model with the tokenizer of the model: ./train_lm.py.",
        )
    return stored.build().eval()


def _read_token_ngram(config: RecognitionConfig, tokenizer: Tokenizer) -> NgramTokens:
    from zipasr.lm.ngram import END, START
    from zipasr.lm.ngram_file import open_ngrams
    from zipasr.search.language_models import NgramTokens

    lm = config.lm
    if lm.ngram_lm is None and not lm.ngram_path.is_file():
        raise DataError(
            f"there is no token n-gram at {lm.ngram_path}.",
            f"make it: ./train_lm.py --lm-type ngram --ngram-order {lm.tokens_ngram}, for the "
            "same --recipe; or give another by --ngram-lm.",
        )
    model, pieces = open_ngrams(lm.ngram_path), tokenizer.pieces()
    strangers = sorted(model.words - {START, END, *pieces})
    missing = [piece for piece in pieces[3:] if piece not in model.words]
    other = model.token_table not in (None, tokenizer.table_hash())
    if other or strangers or len(missing) > len(pieces) // 2:
        what = f"it has {strangers[0]!r}" if strangers else f"it lacks {missing[:1]}"
        raise DataError(
            f"{lm.ngram_path} is an n-gram of other tokens than those of the model"
            + (f" ({what})." if not other else f": its token table is {model.token_table}."),
            "make it with the tokenizer of the model: ./train_lm.py --lm-type ngram.",
        )
    # A token that the text did not have is rare, not impossible: else LODR would reward it.
    return NgramTokens(model.with_unknown(), pieces, config.grammar.exact_backoff)


def grammar_paths(config: RecognitionConfig, needs: frozenset[Need]) -> list[Path]:
    """Return the files of the word n-grams that a method needs: of the search, of rescoring.

    Raises:
        DataError: one is missing; says how to get it.
    """
    orders = {Need.LEXICON: _SEARCHED, Need.LARGE_GRAMMAR: _RESCORING}
    return [grammar_path(config, order) for need, order in orders.items() if need in needs]


def grammar_path(config: RecognitionConfig, order: int) -> Path:
    """Return the file of the word n-gram of an order: given by its flag, or where it usually is.

    Raises:
        DataError: there is none; says how to get one.
    """
    grammar = config.grammar
    flag, given = {
        _SEARCHED: ("--grammar", grammar.grammar),
        _RESCORING: ("--large-grammar", grammar.large_grammar),
    }[order]
    if given is not None:
        return given
    folders = [grammar.lm_dir, *config.grammar_folders]
    names = [f"G_{order}_gram.arpa", _PUBLISHED[order]]
    for path in (folder / name for folder in folders for name in names):
        for file in (path, path.with_name(f"{path.name}.gz")):
            if file.is_file():
                return file
    graph = grammar.lm_dir / f"G_{order}_gram.fst.txt"
    what = f"there is no word n-gram: no G_{order}_gram.arpa in {grammar.lm_dir} or {folders[1]}"
    if graph.is_file():
        what = f"{graph} is a graph; the ARPA file is needed that it was made from"
    raise DataError(
        f"{what}.",
        f"give {flag}, an ARPA file over words, or make one: ./train_lm.py --recipe "
        f"{config.recipe or 'NAME'} --lm-type ngram --ngram-unit word --ngram-order {order}",
    )


def _read_graph(lexicon: Lexicon, path: Path, exact_backoff: bool) -> tuple[WordGraph, str]:
    """Read a grammar, and say what it covers."""
    from zipasr.lm.ngram_file import open_ngrams
    from zipasr.search.lexicon_graph import word_graph

    grammar = open_ngrams(path)
    about = _coverage(grammar, path, {word for word, _ in lexicon})
    return word_graph(lexicon, grammar, exact_backoff=exact_backoff), about


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
